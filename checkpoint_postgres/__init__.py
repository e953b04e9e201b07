"""LangGraph checkpoints in PostgreSQL, through psycopg 3."""
