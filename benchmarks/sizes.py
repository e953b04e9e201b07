"""How many bytes a storage holds, as its server counts them."""

from __future__ import annotations

from itertools import islice
from typing import Any


def rows_of_postgres(url: str) -> int:
    """All tables of a database, with their indexes and TOAST tables."""
    import psycopg

    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
            "WHERE relkind IN ('r', 'm') AND relnamespace NOT IN "
            "(SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_%' OR nspname = 'information_schema')"
        ).fetchone()
    return int(found[0]) if found else 0


def rows_of_redis(url: str) -> int:
    """All keys of a numbered database, by the memory that Redis counts for each; search indexes are not included."""
    from redis import Redis

    total = 0
    with Redis.from_url(url) as client:
        keys = client.scan_iter(count=1000)
        while batch := list(islice(keys, 1000)):
            pipeline = client.pipeline(transaction=False)
            for key in batch:
                pipeline.memory_usage(key, samples=0)
            total += sum(size or 0 for size in pipeline.execute())
    return total


def objects_of_s3(client: Any, bucket: str) -> int:
    """All objects of a bucket."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return sum(found["Size"] for page in pages for found in page.get("Contents", ()))
