"""Checks a bucket before it is used: is its prefix ours, and does its store have what everything else relies on?"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from checkpoint_base.errors import SchemaMismatch, UnsupportedOperation
from checkpoint_base.transport import Operation
from checkpoint_s3.format import FORMAT
from checkpoint_s3.housekeeping import housekeeping
from checkpoint_s3.layout import Keys, nonce
from checkpoint_s3.transport import Batch, Delete, Get, List, Put

APPLICATION = "checkpoint-backends"

_PROBES = "ca-fdbge0"
"""Names of objects, not in sorted order, to detect a store that does not sort its listings."""


def prepare(keys: Keys, bucket: str) -> Operation[None]:
    """Mark a prefix as ours if it is new, after checking that the store has what is needed.

    Raises:
        SchemaMismatch: the prefix belongs to something else, or to a newer version.
        UnsupportedOperation: the store lacks something that is needed.
    """
    if bucket.endswith("--x-s3"):
        raise UnsupportedOperation(
            f"bucket {bucket!r} is an S3 directory bucket, whose listings are not sorted: use a general purpose bucket"
        )
    found = yield Get(keys.format)
    if found is None:
        yield from _probe(keys, bucket)
        # Another process may have been faster, but writes the same.
        yield Put(keys.format, orjson.dumps({"application": APPLICATION, "format": FORMAT}), if_absent=True)
        found = yield Get(keys.format)
    _check(found.body if found else b"", f"{bucket}/{keys.format}")


def _check(content: bytes, where: str) -> None:
    try:
        marked = orjson.loads(content)
        application, version = marked["application"], int(marked["format"])
    except (ValueError, TypeError, KeyError) as error:
        raise SchemaMismatch(f"{where} is not ours: choose another prefix, nothing was changed") from error
    if application != APPLICATION:
        raise SchemaMismatch(f"{where} belongs to {application!r}: choose another prefix, nothing was changed")
    if version > FORMAT:
        raise SchemaMismatch(
            f"{where} has format {version}, this version of checkpoint-backends knows up to {FORMAT}: upgrade it, or "
            "choose another prefix"
        )


def _probe(keys: Keys, bucket: str) -> Operation[None]:
    folder = keys.probe(nonce())
    probes = [folder + name for name in _PROBES]
    try:
        for key in probes:
            yield Put(key, b"")
        if (yield Put(probes[0], b"again", if_absent=True)) is not None:
            raise UnsupportedOperation(
                f"the store of bucket {bucket!r} ignores `If-None-Match: *`: two processes could overwrite each "
                "other's writes. Use a store with conditional writes (docs/s3.md)"
            )
        written = yield Get(probes[0])
        if (yield Put(probes[0], b"again", if_match="0" * 32)) is not None:
            raise UnsupportedOperation(
                f"the store of bucket {bucket!r} ignores `If-Match`: two processes could overwrite each other's "
                "removals. Use a store with conditional writes (docs/s3.md)"
            )
        if written is not None:
            yield Put(probes[0], b"again", if_match=written.etag)
        replaced = yield Get(probes[0])
        if replaced is None or replaced.body != b"again":
            raise UnsupportedOperation(
                f"the store of bucket {bucket!r} does not accept `If-Match` with its own ETag. Use a store with "
                "conditional writes (docs/s3.md)"
            )
        page = yield List(folder)
        if [entry.key for entry in page.entries] != sorted(probes):
            raise UnsupportedOperation(
                f"the store of bucket {bucket!r} does not list all keys in order: the newest checkpoint could not be "
                "found. Use a general purpose bucket (docs/s3.md)"
            )
    finally:
        yield from housekeeping(_deleted(probes))


def _deleted(keys: Sequence[str]) -> Operation[None]:
    yield Batch(Delete(key) for key in keys)
