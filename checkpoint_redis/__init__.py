"""LangGraph checkpoints in Redis and Valkey, through redis-py."""
