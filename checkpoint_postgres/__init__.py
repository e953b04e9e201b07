"""LangGraph checkpoints in PostgreSQL, through psycopg 3."""

from checkpoint_postgres.saver import AsyncPostgresSaver, PostgresSaver, open_postgres
from checkpoint_postgres.store import PostgresStore

__all__ = ["AsyncPostgresSaver", "PostgresSaver", "PostgresStore", "open_postgres"]
