"""SQLite's errors, as those of every store."""

from __future__ import annotations

import os
import re
import sqlite3

from checkpoint_base.errors import (
    CheckpointError,
    CorruptCheckpoint,
    SchemaMismatch,
    StoreUnavailable,
    UnsupportedOperation,
    damage,
)

RAISED = (sqlite3.Error, UnicodeDecodeError)
"""What `sqlite3` raises: the latter if SQLite's message quotes a damaged schema."""

NOT_UTF8 = "a text in it is not UTF-8"

_OTHER_TABLES = re.compile(r"no such (table|column|index)\b|table \S+ has ")

_UNAVAILABLE = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PROTOCOL,
    )
)


def is_undecodable(error: Exception) -> bool:
    """Whether stored text is not UTF-8. The error comes from `sqlite3`, without a code, and shows the whole text."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode to UTF-8")


def translated(error: sqlite3.Error | UnicodeDecodeError, path: str) -> CheckpointError:
    """What an error on the file at ``path`` means to a caller."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_NOTADB:
        return SchemaMismatch(f"{path} is not a SQLite database: choose another file, nothing was changed")
    if primary == sqlite3.SQLITE_CORRUPT:
        return CorruptCheckpoint(f"{path} is damaged: {error}. Restore it from a backup")
    if isinstance(error, UnicodeDecodeError):
        return CorruptCheckpoint(f"{path} is damaged: {NOT_UTF8}. Restore it from a backup")
    if is_undecodable(error):
        return damage(f"{path} is damaged: {NOT_UTF8}")
    if primary == sqlite3.SQLITE_ERROR and _OTHER_TABLES.match(str(error)):
        return SchemaMismatch(
            f"the tables of {path} were changed while it was open ({error}), by a later version of checkpoint-backends "
            "unless somebody else did: upgrade, or open another file"
        )
    if primary == sqlite3.SQLITE_READONLY:
        return UnsupportedOperation(f"{path} cannot be written: check the permissions of file and folder")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return _not_opened(error, path)
    if primary in _UNAVAILABLE:
        return StoreUnavailable(f"{path}: {error}")
    return CheckpointError(f"{path}: {error}")


def _not_opened(error: Exception, path: str) -> CheckpointError:
    target = os.path.realpath(path)  # where a link leads
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        return UnsupportedOperation(f"{target} is a folder: name a file in it")
    if not os.path.isdir(folder):
        return UnsupportedOperation(f"{target} cannot be opened: create its folder first")
    if os.path.exists(target) and not os.access(target, os.R_OK):
        return UnsupportedOperation(f"{target} cannot be read: check the permissions of the file")
    if not os.path.exists(target) and not os.access(folder, os.W_OK | os.X_OK):
        return UnsupportedOperation(f"{target} cannot be made: check the permissions of its folder")
    return StoreUnavailable(f"{path}: {error}")
