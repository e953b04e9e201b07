"""LangGraph checkpoints in Redis and Valkey, through redis-py."""

from checkpoint_base.extras import extra

with extra("redis"):
    from checkpoint_redis.saver import RedisSaver

__all__ = ["RedisSaver"]
