"""A store as bytes, and back: taken and restored by raw clients, as a backup is."""

from __future__ import annotations

import json
import lzma
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql

from checkpoint_postgres.schema import Schema
from tests.faults.backends import Backend, raw_s3
from tests.servers.s3 import BUCKET

FOLDER = Path(__file__).parent

PLACE = "place_of_the_store"
"""Stands for the schema or prefix, which is another one wherever the store is restored."""


def kept(version: str, backend: str) -> Path:
    return FOLDER / version / f"{backend}.xz"


def taken(backend: Backend) -> bytes:
    return lzma.compress(_TAKE[backend.name](backend), preset=9 | lzma.PRESET_EXTREME)


def restore(store: bytes, backend: Backend) -> None:
    """Put a store in the place of the empty one of this backend."""
    _RESTORE[backend.name](lzma.decompress(store), backend)


# SQLite: the file


def _file(backend: Backend) -> Path:
    return Path(urlsplit(backend.url).path)


def _take_file(backend: Backend) -> bytes:
    assert not _file(backend).with_name(f"{_file(backend).name}-wal").exists(), "somebody has it open"
    return _file(backend).read_bytes()


def _restore_file(store: bytes, backend: Backend) -> None:
    _file(backend).write_bytes(store)


# PostgreSQL: the script that makes the schema, and the rows as COPY has them


def _schema(backend: Backend) -> str:
    found = re.search(r"[?&]schema=(\w+)", backend.url)
    assert found
    return found[1]


def _connected(backend: Backend) -> psycopg.Connection[Any]:
    assert backend.server is not None
    return psycopg.connect(backend.server.url, autocommit=True)


def _take_schema(backend: Backend) -> bytes:
    schema = _schema(backend)
    rows = {}
    with _connected(backend) as db:
        for table in sorted(backend.counts()):
            statement = sql.SQL("COPY {}.{} TO STDOUT").format(sql.Identifier(schema), sql.Identifier(table))
            with db.cursor().copy(statement) as copy:
                rows[table] = b"".join(map(bytes, copy)).decode()
    script = Schema(schema).script(None).replace(schema, PLACE)
    return json.dumps({"script": script, "rows": rows}).encode()


def _restore_schema(store: bytes, backend: Backend) -> None:
    schema, found = _schema(backend), json.loads(store)
    with _connected(backend) as db:
        db.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        db.execute(found["script"].replace(PLACE, schema))
        for table, rows in found["rows"].items():
            named = {"table": sql.Identifier(schema, table)}
            db.execute(sql.SQL("TRUNCATE {table}").format(**named))
            with db.cursor().copy(sql.SQL("COPY {table} FROM STDIN").format(**named)) as copy:
                copy.write(rows)


# Redis and S3: keys behind the prefix, with what they hold


def _text(value: bytes) -> str:
    return b64encode(value).decode()


def _prefix(backend: Backend) -> str:
    found = re.search(r"[?&]prefix=([\w-]+)", backend.url) or re.search(r"^s3://[^/]+/([\w-]+)", backend.url)
    assert found
    return found[1]


def _client(backend: Backend) -> Any:
    assert backend.server is not None
    return redis.Redis.from_url(backend.server.url)


def _take_keys(backend: Backend) -> bytes:
    prefix, found = _prefix(backend).encode(), {}
    with _client(backend) as client:
        for key in client.scan_iter(match=prefix + b"*", count=1000):
            kind = client.type(key).decode()
            content: Any
            if kind == "hash":
                content = {_text(name): _text(value) for name, value in client.hgetall(key).items()}
            elif kind == "zset":
                content = {_text(member): score for member, score in client.zrange(key, 0, -1, withscores=True)}
            else:
                assert kind == "string"
                content = _text(client.get(key))
            assert client.pttl(key) == -1
            found[_text(key.removeprefix(prefix))] = [kind, content]
    return json.dumps(found, sort_keys=True).encode()


def _restore_keys(store: bytes, backend: Backend) -> None:
    prefix = _prefix(backend).encode()
    with _client(backend) as client:
        for key in client.scan_iter(match=prefix + b"*", count=1000):
            client.unlink(key)
        for name, (kind, content) in json.loads(store).items():
            key = prefix + b64decode(name)
            if kind == "hash":
                client.hset(key, mapping={b64decode(field): b64decode(value) for field, value in content.items()})
            elif kind == "zset":
                client.zadd(key, {b64decode(member): score for member, score in content.items()})
            else:
                client.set(key, b64decode(content))


def _objects(backend: Backend, stack: ExitStack) -> Any:
    assert backend.server is not None
    client = raw_s3(backend.server.url)
    stack.callback(client.close)
    return client


def _take_objects(backend: Backend) -> bytes:
    cells = backend.cells()
    with ExitStack() as stack:
        client, prefix = _objects(backend, stack), _prefix(backend)
        listed = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        empty = [entry["Key"] for page in listed for entry in page["Contents"] if not entry["Size"]]
    found = {cell.place[0]: _text(cell.content) for cell in cells} | dict.fromkeys(empty, "")
    return json.dumps({key.removeprefix(prefix): found[key] for key in sorted(found)}).encode()


def _restore_objects(store: bytes, backend: Backend) -> None:
    with ExitStack() as stack:
        client = _objects(backend, stack)
        for key, body in json.loads(store).items():
            client.put_object(Bucket=BUCKET, Key=_prefix(backend) + key, Body=b64decode(body))


_TAKE: dict[str, Callable[[Backend], bytes]] = {
    "sqlite": _take_file,
    "postgres": _take_schema,
    "redis": _take_keys,
    "s3": _take_objects,
}
_RESTORE: dict[str, Callable[[bytes, Backend], None]] = {
    "sqlite": _restore_file,
    "postgres": _restore_schema,
    "redis": _restore_keys,
    "s3": _restore_objects,
}
