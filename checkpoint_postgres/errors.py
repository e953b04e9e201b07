"""Turns the errors of PostgreSQL and psycopg into those of `checkpoint_base.errors`."""

from __future__ import annotations

import re
import socket

import psycopg
from psycopg_pool import PoolClosed

from checkpoint_base.errors import (
    CheckpointError,
    CorruptCheckpoint,
    SchemaMismatch,
    StoreUnavailable,
    UnsupportedOperation,
)


class NotSetUp(SchemaMismatch):
    """The schema lacks all or some of what this version needs."""


class TooLarge(UnsupportedOperation):
    """The answer is larger than a row of PostgreSQL can be. Asking for less at once may succeed."""


_SET_UP = (
    "call setup(), or have an administrator run what `checkpoints schema postgres` prints. If all was there before, a "
    "later version of checkpoint-backends has taken the schema over: upgrade"
)

_UNKNOWN_HOST = ("could not translate host name", "failed to resolve host")

# Words of refusals that a retry would only meet again. When a connection is refused, there is no SQLSTATE to go by.
_REFUSALS = (
    "authentication failed",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "method requirement",
    "channel binding required",
    "does not exist",
    "is not permitted to log in",
    "permission denied",
    "no password supplied",
    *_UNKNOWN_HOST,
    "invalid value",
    ' value: "',  # invalid sslmode value: "on"
    "invalid integer value",
    "invalid port number",
    "certificate",
    "server does not support SSL",
    "no such user",
    "unrecognized configuration parameter",
    "unsupported startup parameter",
    "definition of service",
)

# What libpq quotes is the user's, a host or the path of a socket, and may have any of these words in it.
_QUOTED = re.compile('"[^"]*"')

# psycopg's message, and libpq's, for a resolver that may know the name in a minute.
_NOT_RESOLVED_YET = (f"[Errno {int(socket.EAI_AGAIN)}]", "Temporary failure in name resolution")


def names_unknown_host(trouble: str) -> bool:
    """Whether connecting failed because the host's name is unknown."""
    return any(words in trouble for words in _UNKNOWN_HOST)


def translated(error: Exception) -> CheckpointError:
    """Return our error to raise from one of psycopg, its pool or the operating system."""
    code = getattr(error, "sqlstate", None)
    text = _said(error)
    if isinstance(error, PoolClosed):
        return UnsupportedOperation(f"the connection pool is closed: {text}")
    if code is None and isinstance(error, psycopg.OperationalError):
        unquoted = _QUOTED.sub('""', text)
        is_passing = any(words in unquoted for words in _NOT_RESOLVED_YET)
        if not is_passing and any(refusal in unquoted for refusal in _REFUSALS):
            return UnsupportedOperation(f"PostgreSQL refuses the connection: {text}")
        return StoreUnavailable(f"PostgreSQL: {text}")
    if "ProactorEventLoop" in text:
        return UnsupportedOperation(f"PostgreSQL: {text}")
    if code is None:
        if isinstance(error, (OSError, psycopg.InterfaceError)):
            return StoreUnavailable(f"PostgreSQL: {text}")
        return CheckpointError(f"PostgreSQL: {type(error).__name__}: {text}")
    # Told by where it was raised, because its words depend on the server's language.
    if code == "0A000" and isinstance(error, psycopg.Error) and error.diag.source_function == "RevalidateCachedQuery":
        return NotSetUp(f"the schema was changed while it was in use ({text}): {_SET_UP}")
    return _by_sqlstate(code, text)


def _said(error: Exception) -> str:
    """What went wrong. The context, statements within functions, is left to the cause."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        parts = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
        return ". ".join(part.rstrip(".") for part in parts if part)
    return str(error).strip()


def _by_sqlstate(code: str, text: str) -> CheckpointError:
    if code in ("42P01", "42883", "3F000", "42703", "42P02"):  # no such table, function, schema or column
        return NotSetUp(f"the schema lacks what this version needs ({text}): {_SET_UP}")
    if code in ("42P07", "42723", "42710"):  # such a table, function or object exists
        return SchemaMismatch(f"the schema holds another program's tables ({text}): choose another schema")
    if code == "42501":
        return UnsupportedOperation(
            f"PostgreSQL: {text}. Have an administrator grant the permission or, if nothing is set up yet, run what "
            "`checkpoints schema postgres` prints or, after an upgrade, open the store once as the owner of its schema"
        )
    if code == "CKP01":
        return UnsupportedOperation(
            f"{text}: do not change default_transaction_isolation for these connections, their role or their database"
        )
    if code in ("26000", "42P05"):
        return UnsupportedOperation(
            f"PostgreSQL: {text}. The pooler in front of it does not keep track of prepared statements: "
            "open the saver with prepare=False"
        )
    if code == "54000" or (code == "XX000" and "invalid memory alloc request size" in text):
        return TooLarge(
            f"PostgreSQL: {text}: a checkpoint with its values and writes is larger than the 1 GB that a row may have. "
            "history() and threads() read it without them; store such data elsewhere, and its address in the state"
        )
    if code in ("XX001", "XX002"):
        return CorruptCheckpoint(f"PostgreSQL found damage: {text}. Restore the database from a backup")
    if "statement pooling mode" in text:  # PgBouncer's words, as for a lost connection
        return UnsupportedOperation(
            f"PostgreSQL: {text}. Setting up the schema is a transaction: let setup() reach the server directly once, "
            "or through a pool in transaction mode"
        )
    if code in ("28000", "28P01", "3D000"):
        return UnsupportedOperation(f"PostgreSQL refuses the connection: {text}")
    unavailable = (
        "08",  # connections
        "23505",  # meanwhile, REINDEX CONCURRENTLY: of two inserts at once, one may meet the other in the new index
        "25006",  # read-only: a standby, or a server during a failover
        "25P03",  # idle in a transaction for too long
        "25P04",  # in a transaction for too long
        "40",  # serialization failures and deadlocks
        "53",  # out of connections, memory or disk
        "55P03",  # a lock was not available in time
        "57",  # cancelled, shutting down, starting, idle for too long
        "58",  # input and output
    )
    if code.startswith(unavailable):
        return StoreUnavailable(f"PostgreSQL: {text}")
    return CheckpointError(f"PostgreSQL: {text} ({code})")
