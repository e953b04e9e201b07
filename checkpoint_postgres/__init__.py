"""LangGraph checkpoints in PostgreSQL, through psycopg 3."""

from checkpoint_base.extras import extra

with extra("postgres"):
    from checkpoint_postgres.saver import AsyncPostgresSaver, PostgresSaver

__all__ = ["AsyncPostgresSaver", "PostgresSaver"]
