"""The saver on S3, and its URL."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf, isfinite
from typing import Any, Self, Unpack
from urllib.parse import unquote

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.saver import CheckpointSaver, SaverOptions
from checkpoint_base.urls import OptionReader, refuse_rest, seconds, split_url, take_options, text
from checkpoint_s3.connections import GivenClient, OwnClients
from checkpoint_s3.layout import MAX_PREFIX_BYTES
from checkpoint_s3.memory import LEASE
from checkpoint_s3.store import S3Store
from checkpoint_s3.transport import S3Transport

GRACE_SECONDS = 120.0
"""How long removed objects stay stored, out of sight, for those who have just read them."""

_EXAMPLE = "s3://bucket/prefix?endpoint_url=https://…&region_name=…"

_URL_OPTIONS: Mapping[str, OptionReader] = {
    "endpoint_url": text,
    "region_name": text,
    "profile_name": text,
    "sse": text,
    "sse_kms_key_id": text,
    "grace": seconds,
}


class S3Saver(CheckpointSaver):
    """A `CheckpointSaver` in a bucket of S3, or of any store that speaks its protocol and has conditional writes.

    Args:
        bucket: an existing bucket.
        prefix: what every key begins with. Several savers may share a bucket, each with its own prefix.
        client: a boto3 client to use, from any number of threads at once; it is never closed, and cannot be used after
            a fork. It should not retry on its own, because the time it takes counts towards ``grace``.
        session: the boto3 session to make a client from, instead of one that finds credentials and region by itself.
        endpoint_url: the endpoint of a store other than AWS.
        region_name: the bucket's region, unless boto3 finds it.
        profile_name: a profile in boto3's configuration files.
        sse: how the store encrypts objects: ``"AES256"``, ``"aws:kms"`` or ``"aws:kms:dsse"``; by default as the bucket
            is configured.
        sse_kms_key_id: the key for ``aws:kms`` and ``aws:kms:dsse``.
        grace: seconds for which removed objects stay stored, out of sight, before they are deleted. It must be the same
            in all savers of a bucket, and at least 1.2 times ``deadline`` and the client's timeout together
            (`docs/s3.md`); or 0, where no other saver works on the bucket.
        options: those of `CheckpointSaver`.

    Raises:
        UnsupportedOperation: one of these cannot be used.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: Any = None,
        session: Any = None,
        endpoint_url: str | None = None,
        region_name: str | None = None,
        profile_name: str | None = None,
        sse: str | None = None,
        sse_kms_key_id: str | None = None,
        grace: float = GRACE_SECONDS,
        **options: Unpack[SaverOptions],
    ) -> None:
        if not bucket:
            raise UnsupportedOperation(f"no bucket is named: write {_EXAMPLE}")
        prefix = prefix.strip("/")
        if not prefix.isprintable() or len(prefix.encode()) > MAX_PREFIX_BYTES:
            raise UnsupportedOperation(
                f"a prefix has up to {MAX_PREFIX_BYTES} bytes of UTF-8, all printable: {prefix!r}"
            )
        if not (isfinite(grace) and grace >= 0):
            raise UnsupportedOperation(f"grace={grace!r}: give a number of seconds, 0 or more")
        if endpoint_url is not None and "@" in endpoint_url:
            # Not shown: it may be a secret.
            raise UnsupportedOperation("endpoint_url has no credentials: take them out, and let boto3 find them")
        if client is not None and (session, profile_name, endpoint_url, region_name) != (None,) * 4:
            raise UnsupportedOperation(
                "client= has its own session, profile, endpoint and region: leave those arguments out"
            )
        if session is not None and profile_name is not None:
            raise UnsupportedOperation("session= has a profile already: pass one of the two")

        clients = (
            OwnClients(session, profile_name=profile_name, endpoint_url=endpoint_url, region_name=region_name)
            if client is None
            else GivenClient(client)
        )
        transport = S3Transport(bucket, clients, encryption=_encryption(sse, sse_kms_key_id))
        super().__init__(S3Store(transport, prefix, grace), **options)
        _check_grace(grace, self.deadline, clients.timeout)

    @classmethod
    def from_conn_string(cls, conn_string: str, **options: Any) -> Self:
        """Return a saver to use in ``with`` or ``async with``, which set it up and close it.

        Args:
            conn_string: ``s3://bucket/prefix?endpoint_url=…&region_name=…``. The query takes the arguments of `S3Saver`
                that are texts or numbers.
            options: the other arguments of `S3Saver`.
        """
        url, options = take_options(conn_string, _URL_OPTIONS, options)
        parts = split_url(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise UnsupportedOperation(f"not a URL of a bucket: write {_EXAMPLE}")
        if "@" in parts.netloc or ":" in parts.netloc:
            # Not shown: it may be a secret.
            raise UnsupportedOperation(
                f"the URL of a bucket has no credentials or port: write {_EXAMPLE}, and let boto3 find them"
            )
        refuse_rest(parts, _URL_OPTIONS, "the prefix")
        return cls(parts.netloc, unquote(parts.path), **options)


def _check_grace(grace: float, deadline: float, timeout: float) -> None:
    """Refuse a grace period that may end before a request arrives that relies on what has been removed since."""
    needed = (deadline + timeout) / (1 - LEASE)
    if grace and needed == inf:
        raise UnsupportedOperation("the client has no timeouts: give it a connect_timeout and a read_timeout")
    if 0 < grace < needed * (1 - 1e-9):
        raise UnsupportedOperation(
            f"grace={grace:g} is too short for deadline={deadline:g} and a timeout of {timeout:g} seconds: what was "
            "removed could be deleted before a request that relies on it has arrived. Give a shorter deadline, or "
            f"grace={ceil(needed - 1e-9)} or more in all savers of the bucket"
        )


def _encryption(sse: str | None, sse_kms_key_id: str | None) -> Mapping[str, str]:
    if sse is None and sse_kms_key_id is None:
        return {}
    if sse not in ("AES256", "aws:kms", "aws:kms:dsse"):
        raise UnsupportedOperation(f"sse={sse!r}: write AES256, aws:kms or aws:kms:dsse")
    if sse_kms_key_id is not None and sse == "AES256":
        raise UnsupportedOperation("sse_kms_key_id is for sse='aws:kms'")
    return {"ServerSideEncryption": sse} | ({"SSEKMSKeyId": sse_kms_key_id} if sse_kms_key_id else {})
