"""LangGraph checkpoints in Redis and Valkey, through redis-py."""

from checkpoint_base.extras import extra

with extra("redis"):
    from checkpoint_redis.saver import RedisSaver, open_redis

__all__ = ["RedisSaver", "open_redis"]
