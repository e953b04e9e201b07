"""The errors of every store: one class for each way in which a caller can react."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_REMEDY = "restore it from a backup, or delete the thread"


class CheckpointError(Exception):
    """The base of every error that this package raises on purpose."""


class StoreUnavailable(CheckpointError):
    """The store did not answer in time, or refuses for now, because it is full, for example.

    Nothing is known to be lost: try again later.
    """


class ConflictError(CheckpointError):
    """Another caller wrote first, removed what the call relies on, or keeps changing the thread.

    Read the new state, then decide.
    """


class CorruptCheckpoint(CheckpointError):
    """Stored data is missing or damaged. Restore it from a backup, or delete the thread that the message names."""


class InvalidKey(CheckpointError, ValueError):
    """An id in the call cannot be used. Correct the call; nothing was changed."""


class SerializationError(CheckpointError, TypeError):
    """A value cannot be stored or rebuilt exactly as it is. Nothing was changed.

    The message names the value's place, its type, and what to store instead.
    """


class UnsupportedOperation(CheckpointError):
    """The call asks for something that does not exist or cannot be done here."""


class SchemaMismatch(CheckpointError):
    """The store's layout is not this version's: upgrade this package, or point it at another store."""


def damage(found: str) -> CorruptCheckpoint:
    """The error for a thread's data that is lost or damaged: what was found, and what to do."""
    return CorruptCheckpoint(f"{found}: {_REMEDY}")


UNREADABLE = (CorruptCheckpoint, SerializationError, SchemaMismatch)
"""What reading a value raises: it is damaged, nobody here can rebuild it, or a later version has stored it."""


def kept_changing(thread_id: str) -> ConflictError:
    """The error of an operation of several requests if others changed its thread in between each time."""
    return ConflictError(f"thread {thread_id!r} kept changing meanwhile: call again")


@contextmanager
def damage_of(thread_id: str | None) -> Iterator[None]:
    """Make `CorruptCheckpoint` raised in here name the thread and what to do; without one, leave it as it is."""
    try:
        yield
    except CorruptCheckpoint as error:
        said = str(error)
        if thread_id is None:
            raise
        if f"thread {thread_id!r}" not in said:
            said = f"thread {thread_id!r}: {said}"
        if "from a backup" not in said:
            said = f"{said}: {_REMEDY}"
        if said == str(error):
            raise
        raise CorruptCheckpoint(said) from error
