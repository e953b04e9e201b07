"""What is in a bucket, seen and changed past the savers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from checkpoint_s3.connections import make_client
from tests.servers import s3


@contextmanager
def opened_bucket(url: str) -> Iterator[tuple[Any, str]]:
    """A client for the store of a saver's URL, and the prefix with its slash."""
    parts = urlsplit(url)
    with closing(make_client(endpoint_url=parse_qs(parts.query)["endpoint_url"][0])) as client:
        yield client, parts.path.strip("/") + "/"


def keys(url: str, folder: str) -> list[str]:
    """The keys of the objects in a folder below the prefix."""
    with opened_bucket(url) as (client, root):
        found = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=root + folder)
    return [entry["Key"].removeprefix(root) for entry in found.get("Contents", ())]


def content(url: str, key: str) -> bytes:
    with opened_bucket(url) as (client, root):
        body: bytes = client.get_object(Bucket=s3.BUCKET, Key=root + key)["Body"].read()
    return body


def overwrite(url: str, key: str, body: bytes) -> None:
    with opened_bucket(url) as (client, root):
        client.put_object(Bucket=s3.BUCKET, Key=root + key, Body=body)


def move(url: str, key: str, target: str) -> None:
    overwrite(url, target, content(url, key))
    with opened_bucket(url) as (client, root):
        client.delete_object(Bucket=s3.BUCKET, Key=root + key)
