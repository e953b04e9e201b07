"""The saver on SQLite, and its URL."""

from __future__ import annotations

import os
from typing import Any, Self, Unpack
from urllib.parse import unquote, urlsplit

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.saver import CheckpointSaver, SaverOptions
from checkpoint_base.sqlite.connections import MEMORY
from checkpoint_base.sqlite.store import SQLiteStore
from checkpoint_base.sqlite.transport import SQLiteTransport
from checkpoint_base.urls import refuse_rest, take_options


class SQLiteSaver(CheckpointSaver):
    """A `CheckpointSaver` on one SQLite file that any number of processes may use at once.

    A commit reaches the disk before a call returns (``synchronous=FULL``).

    Args:
        path: the file, made when it does not exist; ``":memory:"`` keeps everything in this saver alone.
        options: those of `CheckpointSaver`.
    """

    def __init__(self, path: str | os.PathLike[str] = MEMORY, **options: Unpack[SaverOptions]) -> None:
        super().__init__(SQLiteStore(SQLiteTransport(path)), **options)

    @classmethod
    def from_conn_string(cls, conn_string: str | os.PathLike[str], **options: Any) -> Self:
        """Return a saver for ``with`` or ``async with``, which set it up and close it.

        Args:
            conn_string: a path; or ``sqlite:///relative.db``, ``sqlite:////absolute/path.db``, ``sqlite://`` in memory.
            options: those of `CheckpointSaver`. A URL may have them, too.
        """
        if isinstance(conn_string, str) and conn_string.startswith("sqlite://"):
            url, options = take_options(conn_string, {}, options)
            conn_string = _path_of(url)
        return cls(conn_string, **options)


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc:
        # Not shown where it may hold a password, as the URL of another kind of store would.
        file = "file.db" if {"@", ":"} & {*parts.netloc} else parts.netloc + parts.path
        raise UnsupportedOperation(f"the URL of a SQLite file names a host: write sqlite:///{file}, with three slashes")
    refuse_rest(parts, {}, "the file's name")
    return unquote(parts.path[1:]) or MEMORY
