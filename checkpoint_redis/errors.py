"""Translates redis-py's errors into those of `checkpoint_base.errors`."""

from __future__ import annotations

import re
import traceback

from redis.exceptions import (
    AskError,  # MovedError is a subclass
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ClusterError,
    ConnectionError,  # redis-py's own, not an OSError
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from checkpoint_base.errors import (
    CheckpointError,
    CorruptCheckpoint,
    SchemaMismatch,
    StoreUnavailable,
    UnsupportedOperation,
    damage,
)

_TRANSIENT = (
    ConnectionError, RedisTimeoutError, OSError, ClusterError, TryAgainError, ReadOnlyError, RedisClusterException,
)  # fmt: skip

# A failing script reports its command's error code: at the start of the message or, before Redis 7, inside it.
_CODE = re.compile(r"(?:^|[ -])([A-Z]{4,}|OOM)\b")
_TRANSIENT_CODES = frozenset(
    (
        "ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOREPLICAS", "OOM", "READONLY",
        "TRYAGAIN", "UNBLOCKED",
    )
)  # fmt: skip
# These end a script, but a retry may succeed: its slot is moving to another server, or an administrator ended it.
_TRANSIENT_INSIDE = re.compile("access a non local key|killed by user")
_NOT_A_CLUSTER = re.compile("[Cc]luster mode is not enabled|cluster support disabled")
# Commands can be renamed or switched off, and some proxies have no scripts.
_NOT_OFFERED = re.compile("[Uu]nknown (?:Redis )?command")

_REPORTS = {
    "LOSTTHREAD": (
        "thread {!r} is gone from Redis although nobody removed it and it has not expired, so it was probably evicted "
        "(set maxmemory-policy to noeviction)"
    ),
    "LOSTINDEX": (
        "the index {!r} is gone from Redis, so nobody knows which threads it had. If the database was emptied, open "
        "the saver again, which sets the database up; if the index was evicted (set maxmemory-policy to noeviction) or "
        "lost: restore it from a backup, or replace it as docs/redis.md says"
    ),
    "UNREADABLETHREAD": "a record of thread {!r} is damaged",
    "DAMAGEDTHREAD": "thread {!r} and its index no longer agree, so one of them was damaged",
}
"""What our scripts report with an error code, and with the name of a thread or an index (`lua/index.lua`)."""

_REPORTED = re.compile(rf"({'|'.join(_REPORTS)}) (.*)", re.DOTALL)

_NO_SOCKET = re.compile(r"have a fileno\(\) method|file descriptor cannot be")

_IN_SCRIPT = re.compile(r".*user_script:\d+: (.*?)(?: script: .*)?$", re.DOTALL)
"""An error of Lua's own, without the place in the script."""

_FORBIDDEN = frozenset(("NOAUTH", "WRONGPASS", "NOPERM"))
# Not every refusal of a script's command has a code, and a cluster's client only quotes why it found no server.
_FORBIDDEN_INSIDE = re.compile(
    "The user executing the script can't|ACL failure in script|invalid username-password|Authentication required"
)


def translated(error: Exception, *, of_cluster: bool = False) -> CheckpointError:
    """Return the error to raise from an error of redis-py (``of_cluster``: its cluster's client), or of the system."""
    said = str(error)
    codes = _codes(error)
    if isinstance(error, ResponseError) and (reported := _REPORTED.search(said)):
        found = _REPORTS[reported[1]].format(reported[2])
        return CorruptCheckpoint(found) if reported[1] == "LOSTINDEX" else damage(found)
    refused = isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)) or codes & _FORBIDDEN
    if refused or _FORBIDDEN_INSIDE.search(said):
        return UnsupportedOperation(
            f"Redis refuses this user or password: {said.rstrip('.')}. Check the URL, and the user's permissions "
            "(docs/redis.md)"
        )
    if isinstance(error, OutOfMemoryError) or "OOM" in codes:
        return StoreUnavailable(
            f"Redis has reached maxmemory and stores nothing more: raise it, or delete threads ({said})"
        )
    if "WRONGTYPE" in codes:
        return SchemaMismatch(
            f"a key of this saver holds something else: {said}. If a later version of checkpoint-backends has taken "
            "the prefix over, upgrade; otherwise choose another prefix"
        )
    if isinstance(error, AskError) and not of_cluster:
        return UnsupportedOperation(
            f"this server is part of a Cluster, and other servers hold some of the threads ({said}): open "
            "redis+cluster://host:6379, or give the saver a RedisCluster"
        )
    if _NOT_A_CLUSTER.search(said):
        return UnsupportedOperation(f"Redis: {said}. Open redis://, or redis+sentinel:// if Sentinels watch it")
    if "DB index" in said:
        return UnsupportedOperation(f"Redis: {said}: correct the number of the database in the URL")
    if "certificate verify failed" in said:
        return UnsupportedOperation(
            f"Redis: {said} Name the certificate of the authority that signed it, with ssl_ca_certs in the URL, or "
            "correct the host"
        )
    if _NOT_OFFERED.search(said):
        return UnsupportedOperation(
            f"this server lacks a command that the saver needs: {said}. It needs EVAL, EVALSHA and those that "
            "docs/redis.md names, under these names"
        )
    if isinstance(error, (*_TRANSIENT, AskError)) or codes & _TRANSIENT_CODES or _TRANSIENT_INSIDE.search(said):
        return StoreUnavailable(f"Redis: {said or type(error).__name__}")
    # Last, because the errors above may come from within a script, too.
    if isinstance(error, ResponseError) and (failed := _IN_SCRIPT.match(said)):
        return CorruptCheckpoint(f"what is stored cannot be read ({failed[1]})")
    return CheckpointError(f"Redis: {said}")


def is_from_replica(answer: object) -> bool:
    """Whether a server says that it is not the master. A new connection to its address may lead to the master."""
    return isinstance(answer, (ReadOnlyError, MasterDownError)) or "READONLY" in _codes(answer)


def may_have_moved(answer: object) -> bool:
    """Whether another server of the cluster may own the slot by now."""
    return isinstance(answer, (ConnectionError, RedisTimeoutError, ClusterDownError))


def lost_thread_id(error: ResponseError) -> str | None:
    """Return the id of the thread that a script reports as lost, if it reports one."""
    reported = _REPORTED.search(str(error))
    return reported[2] if reported and reported[1] == "LOSTTHREAD" else None


def is_dropped_connection(error: AttributeError | TypeError | ValueError) -> bool:
    """Whether redis-py missed a connection that another thread or task closed under the call.

    It has no error of its own for that, and it is nobody's fault: a saver is closed while it works, a cluster client
    reads the slots anew, or a `BlockingConnectionPool` closes what seemed idle when the server has become a replica.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    # For example None.recv_into(…), or None or a closed socket given to poll().
    is_missing = error.obj is None if isinstance(error, AttributeError) else _NO_SOCKET.search(str(error))
    return bool(is_missing) and frame.f_globals.get("__name__", "").startswith("redis.")


def is_of_another_loop(error: RuntimeError) -> bool:
    """Whether asyncio refuses a connection, or a lock, of an event loop that is not the running one."""
    return any(words in str(error) for words in ("Event loop is closed", "different event loop", "different loop"))


def _codes(error: object) -> set[str]:
    return set(_CODE.findall(str(error))) if isinstance(error, ResponseError) else set()
