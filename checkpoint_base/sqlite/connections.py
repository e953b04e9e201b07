"""Connections to one SQLite file."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from threading import get_ident

from checkpoint_base.errors import StoreUnavailable, UnsupportedOperation
from checkpoint_base.sqlite import forks
from checkpoint_base.transport import Closable

MEMORY = ":memory:"

_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+://")

IDLE_CONNECTIONS = 8
"""How many connections stay open between requests. There may be as many open ones as there are callers."""

BUSY_SECONDS = 5.0
"""How long one attempt waits for another writer. The saver's deadline decides how many attempts there are."""

PAUSE = 0.0005, 0.003
"""The shortest and the longest time in seconds between two looks for the write lock."""

_CHANCE = SystemRandom()  # not the module's generator, whose sequence a node may have seeded and rely on

WAL_BYTES = 64 * 1024 * 1024
"""How long the write-ahead log may become before a writer waits for readers, so that it can be emptied."""

WAL_SECONDS = 0.5
"""How long that writer waits at most."""


class File:
    """The file at a path, or memory; once it was opened, the path must go on leading to the same one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise UnsupportedOperation(
                f"a SQLiteSaver is made from the path of a file, not from a {type(path).__name__}: it makes its own "
                "connections"
            )
        if isinstance(path, str) and _URL.match(path):  # not shown: it may hold a password
            raise UnsupportedOperation(
                "a SQLiteSaver is made from the path of a file, not from a URL: open_saver opens URLs"
            )
        if not os.fspath(path):
            raise UnsupportedOperation("the path of a SQLite file is empty: name a file, or :memory:")
        self.in_memory = os.fspath(path) == MEMORY
        # Absolute, because connections are made at any time, and the current folder may be another one by then.
        self.path = MEMORY if self.in_memory else os.path.abspath(path)
        self.wal = f"{self.path}-wal"
        self._identity: tuple[int, int] | None = None

    @property
    def address(self) -> str:
        """Where SQLite finds it. The file is made once at most: if it is missing later, it has been removed."""
        mode = "rwc" if self._identity is None else "rw"
        return MEMORY if self.in_memory else f"{Path(self.path).as_uri()}?mode={mode}"

    def opened(self) -> None:
        """Take note of which file it is, when it is opened for the first time."""
        if self._identity is None and not self.in_memory:
            self._identity = self._identity_at_path() or (-1, -1)  # removed already: no file has these numbers
            self.wal = f"{os.path.realpath(self.path)}-wal"  # where SQLite has it if the path is a link

    def check(self) -> None:
        """Raise when the path leads to another file than the one that was opened, or to none.

        SQLite goes on writing to a file that has been removed, where nobody finds it. A look at the file takes a
        few microseconds.
        """
        if self._identity is not None and self._identity_at_path() != self._identity:
            raise UnsupportedOperation(
                f"{self.path} has been removed or replaced while it was open: close this saver and open another one. "
                "To restore a backup into a file in use, let SQLite copy it, as docs/sqlite.md shows"
            )

    def _identity_at_path(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"{self.path}: {error}") from error
        return (found.st_dev, found.st_ino)


class Connections(Closable):
    """The connections of one process, each of which is lent to one caller at a time."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._idle: list[sqlite3.Connection] = []
        self._users: list[int] = []
        self._wal_limit = WAL_BYTES
        if not file.in_memory:  # that would be lost
            forks.close_before_forks(self)

    @contextmanager
    def lent(self) -> Iterator[sqlite3.Connection]:
        self._check_open()
        self._file.check()
        thread = get_ident()
        try:
            with forks.GATE:
                self._users.append(thread)
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            with suppress(ValueError):  # a signal handler raised before it was noted
                self._users.remove(thread)

    def close(self) -> None:
        self._is_closed = True
        self.close_idle()

    def close_idle(self) -> None:
        with suppress(IndexError):  # until there is none left, whoever else takes some
            while True:
                self._idle.pop().close()

    def is_used_elsewhere(self, thread: int) -> bool:
        return any(user != thread for user in self._users)

    def shorten_wal(self, connection: sqlite3.Connection) -> None:
        """Empty the write-ahead log if it has become long, as far as readers allow it.

        SQLite empties it only at a moment at which nobody reads from it. While readers overlap there is no such moment,
        and the log would grow for as long as they do. This waits for those who read an older state than the latest.
        """
        try:
            size = os.stat(self._file.wal).st_size
        except OSError:  # in memory there is none
            return
        if size <= self._wal_limit:
            if size <= WAL_BYTES:
                self._wal_limit = WAL_BYTES
            return
        with suppress(sqlite3.Error):  # what was written is safe as it is
            with _patience(connection, WAL_SECONDS):
                is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if is_busy:  # somebody reads for long, a backup perhaps: not every writer is to wait for that
                self._wal_limit = 2 * size

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file.address,
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            self._file.opened()
            self._file.check()  # it may have been replaced since the last look
            # Builds of SQLite differ in their default. Only with FULL is a commit on the disk when it is acknowledged.
            connection.execute("PRAGMA synchronous = FULL")
            # On macOS, the disk may keep in memory what it is not asked for in this way. It changes nothing elsewhere.
            connection.execute("PRAGMA fullfsync = ON")
            # A longer log gives the rest back to the disk when it is emptied.
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        usable = not connection.in_transaction and not self._is_closed
        if usable and (self._file.in_memory or len(self._idle) < IDLE_CONNECTIONS):
            self._idle.append(connection)
            if self._is_closed:  # since we looked
                self.close_idle()
        else:
            connection.close()


def begin_writing(connection: sqlite3.Connection) -> None:
    """Begin a transaction with the file's write lock, waiting for other processes while they have it.

    Whoever writes in a loop frees the lock for a fraction of a millisecond each time. SQLite's own waiting soon sleeps
    100 ms between two looks and misses nearly all of these moments. Its timeout stays in force for everything else.
    """
    give_up_at = time.monotonic() + BUSY_SECONDS
    with _patience(connection, 0):
        while not _has_begun(connection, give_up_at):
            time.sleep(_CHANCE.uniform(*PAUSE))  # so as not to keep step with the other


@contextmanager
def _patience(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Let SQLite itself wait for locks for this long in the block, and for `BUSY_SECONDS` afterwards."""
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def _has_begun(connection: sqlite3.Connection, give_up_at: float) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
            raise
        return False
    return True
