"""redis-py's errors as those of `checkpoint_base.errors`."""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,  # MOVED is one, too
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ClusterError,
    ConnectionError,  # redis-py's own, which is no OSError
    MasterDownError,
    MaxConnectionsError,
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

from checkpoint_base.errors import CheckpointError, CorruptCheckpoint, StoreUnavailable, UnsupportedOperation

_PASSING = (
    ConnectionError, RedisTimeoutError, OSError, ClusterDownError, ClusterError, TryAgainError, ReadOnlyError,
    MaxConnectionsError, RedisClusterException,
)  # fmt: skip

# A script that fails passes on the error of its command: at the beginning, or (before Redis 7) somewhere inside.
_CODE = re.compile(r"(?:^|[ -])([A-Z]{4,}|OOM)\b")
_PASSING_CODES = frozenset(
    (
        "ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOREPLICAS", "OOM", "READONLY",
        "TRYAGAIN", "UNBLOCKED",
    )
)  # fmt: skip
# What ends a script for now: a slot that is on its way to another server, or an administrator.
_PASSING_INSIDE = re.compile("access a non local key|killed by user")
_NOT_A_CLUSTER = re.compile("[Cc]luster mode is not enabled|cluster support disabled")
_OF_STREAMS = ("writelines", "drain", "read", "readline", "readexactly", "can_read")

_FORBIDDEN = frozenset(("NOAUTH", "WRONGPASS", "NOPERM"))
# A script's command that is refused has a code only sometimes.
_FORBIDDEN_INSIDE = re.compile("The user executing the script can't|ACL failure in script")


def translated(error: Exception, *, of_cluster: bool = False) -> CheckpointError:
    """Return the error to raise from an error of redis-py (``of_cluster``: its cluster's client), or of the system."""
    said = str(error)
    codes = _codes(error)
    if "LOSTTHREAD" in codes or "LOSTINDEX" in codes:
        what = said.partition("LOST")[2].partition(" ")[2]
        what = f"thread {what!r}" if "LOSTTHREAD" in codes else f"the index {what!r}"
        return CorruptCheckpoint(
            f"{what} is gone from Redis although nobody removed it and it has not expired: it was probably evicted. "
            "Set maxmemory-policy to noeviction; restore it from a backup, or delete the thread"
        )
    if "DAMAGEDTHREAD" in codes:
        thread = said.partition("DAMAGEDTHREAD ")[2]
        return CorruptCheckpoint(
            f"thread {thread!r} and its index no longer agree, so one of them was damaged: "
            "restore it from a backup, or delete the thread"
        )
    refused = isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)) or codes & _FORBIDDEN
    if refused or _FORBIDDEN_INSIDE.search(said):
        return UnsupportedOperation(
            f"Redis refuses this user or password: {said}. Check the URL, and the user's permissions (docs/redis.md)"
        )
    if isinstance(error, OutOfMemoryError) or "OOM" in codes:
        return StoreUnavailable(
            f"Redis has reached maxmemory and stores nothing more: raise it, or delete threads ({said})"
        )
    if "WRONGTYPE" in codes:
        return CorruptCheckpoint(f"a key of this saver holds something else: {said}. Choose another prefix")
    is_redirection = isinstance(error, AskError) or said.startswith(("MOVED ", "ASK "))  # the latter before redis-py 6
    if is_redirection and not of_cluster:
        return UnsupportedOperation(
            f"this server is part of a Cluster, where others keep some of the threads ({said}): open "
            "redis+cluster://host:6379, or give the saver a RedisCluster"
        )
    if _NOT_A_CLUSTER.search(said):
        return UnsupportedOperation(f"Redis: {said}. Open redis://, or redis+sentinel:// if Sentinels watch it")
    if isinstance(error, (*_PASSING, AskError)) or codes & _PASSING_CODES or _PASSING_INSIDE.search(said):
        return StoreUnavailable(f"Redis: {said or type(error).__name__}")
    # Last: a server that lets nobody write says so from within a script, too.
    if isinstance(error, ResponseError) and "user_script:" in said:
        return CorruptCheckpoint(
            f"Redis cannot read what is stored: {said}. Restore it from a backup, or delete the thread"
        )
    return CheckpointError(f"Redis: {said}")


def is_of_replica(answer: object) -> bool:
    """Whether a server says that it is not the master: where it was, a new connection may lead to the one that is."""
    return isinstance(answer, (ReadOnlyError, MasterDownError)) or "READONLY" in _codes(answer)


def is_of_old_map(answer: object) -> bool:
    """Whether a cluster may have another server for the slot by now."""
    return isinstance(answer, (ConnectionError, RedisTimeoutError, ClusterDownError))


def lost_thread(error: ResponseError) -> str | None:
    """The id of the thread of which a script says that it is lost."""
    _, said, thread_id = str(error).partition("LOSTTHREAD ")
    return thread_id if said else None


def is_of_dropped_connection(error: AttributeError) -> bool:
    """redis-py's async cluster client may drop a connection that another call is about to write to or to read from."""
    return error.obj is None and error.name in _OF_STREAMS


def _codes(error: object) -> set[str]:
    return set(_CODE.findall(str(error))) if isinstance(error, ResponseError) else set()
