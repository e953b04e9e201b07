"""Connections to one SQLite file, and transactions on them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from checkpoint_base.errors import (
    CheckpointError,
    CorruptCheckpoint,
    SchemaMismatch,
    StoreUnavailable,
    UnsupportedOperation,
)
from checkpoint_base.metadata import TERM_BYTES

MEMORY = ":memory:"

IDLE_CONNECTIONS = 8
"""How many connections stay open between requests; as many as there are callers may be open at once."""

ASYNC_READERS = 8

BUSY_SECONDS = 5.0
"""How long one attempt waits for another writer. The saver's deadline decides how many attempts there are."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A request: work to be done on a connection, all of it or nothing.

    ``writes`` takes the file's write lock first, so that what the work reads cannot change before it writes.
    """

    work: Callable[[sqlite3.Connection], Any]
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """A request: one statement that SQLite refuses inside a transaction."""

    statement: str
    writes: bool = True


class SQLiteTransport:
    """Executes `Transaction` and `Setting` requests on one file, or in memory when the path is ``:memory:``.

    SQLite admits one writer to a file. Writers of this process queue for it here, in turn; writers of other processes
    are waited for by SQLite itself. Readers never wait.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not os.fspath(path):
            raise UnsupportedOperation("the path of a SQLite file is empty: name a file, or :memory:")
        self._in_memory = os.fspath(path) == MEMORY
        # Absolute, because connections are made at any time, and the current folder may be another one by then.
        self._path = MEMORY if self._in_memory else os.path.abspath(path)
        self._is_closed = False
        self._begin_in_this_process()

    def execute(self, request: Transaction | Setting) -> Any:
        with self._turn(request):
            try:
                connection = self._take()
                try:
                    return self._transact(connection, request)
                finally:
                    self._give_back(connection)
            except sqlite3.Error as error:
                raise self._translated(error) from error

    async def aexecute(self, request: Transaction | Setting) -> Any:
        self._after_fork()
        if self._is_closed:
            raise self._closed()
        try:
            future = self._executor(request.writes).submit(self.execute, request)
        except RuntimeError as error:  # closed since we looked
            raise self._closed() from error
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        self._is_closed = True
        for executor in [*self._executors.values()]:
            executor.shutdown()
        while self._idle:
            self._idle.pop().close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def _begin_in_this_process(self) -> None:
        self._process = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._executors: dict[bool, ThreadPoolExecutor] = {}
        self._writing = Lock()
        self._making_executors = Lock()

    def _executor(self, writes: bool) -> ThreadPoolExecutor:
        """Readers have threads of their own, so that they never stand in line behind writers that wait."""
        with self._making_executors:
            if writes not in self._executors:
                self._executors[writes] = ThreadPoolExecutor(
                    1 if writes else ASYNC_READERS, thread_name_prefix="checkpoint-sqlite"
                )
            return self._executors[writes]

    def _closed(self) -> UnsupportedOperation:
        return UnsupportedOperation(f"the saver on {self._path} is closed: open another one")

    def _after_fork(self) -> None:
        """SQLite forbids carrying a connection into a forked process, even to close it: leave the parent's alone."""
        if os.getpid() != self._process and not self._in_memory:
            self._of_parent = (self._idle, self._executors)
            self._begin_in_this_process()

    @contextmanager
    def _turn(self, request: Transaction | Setting) -> Iterator[None]:
        self._after_fork()
        if not (request.writes or self._in_memory):
            yield
            return
        lock = self._writing
        if not lock.acquire(timeout=BUSY_SECONDS):
            raise StoreUnavailable(f"{self._path}: other threads have kept on writing for {BUSY_SECONDS} seconds")
        try:
            yield
        finally:
            lock.release()

    def _take(self) -> sqlite3.Connection:
        if self._is_closed:
            raise self._closed()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            # Builds of SQLite differ in their default; FULL alone has a commit on the disk before it is acknowledged.
            connection.execute("PRAGMA synchronous = FULL")
            connection.create_function("has_terms", 2, _has_terms, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        usable = not connection.in_transaction and not self._is_closed
        if usable and (self._in_memory or len(self._idle) < IDLE_CONNECTIONS):
            self._idle.append(connection)
        else:
            connection.close()

    def _transact(self, connection: sqlite3.Connection, request: Transaction | Setting) -> Any:
        if isinstance(request, Setting):
            return connection.execute(request.statement).fetchall()
        connection.execute("BEGIN IMMEDIATE" if request.writes else "BEGIN")
        try:
            result = request.work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _translated(self, error: sqlite3.Error) -> CheckpointError:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary == sqlite3.SQLITE_NOTADB:
            return SchemaMismatch(f"{self._path} is not a SQLite database: choose another file, nothing was changed")
        if primary == sqlite3.SQLITE_CORRUPT:
            return CorruptCheckpoint(f"{self._path} is damaged: {error}. Restore it from a backup")
        if primary == sqlite3.SQLITE_READONLY:
            return UnsupportedOperation(f"{self._path} cannot be written: check the permissions of file and folder")
        if primary == sqlite3.SQLITE_CANTOPEN and Path(self._path).is_dir():
            return UnsupportedOperation(f"{self._path} is a folder: name a file in it")
        if primary == sqlite3.SQLITE_CANTOPEN and not Path(self._path).absolute().parent.is_dir():
            return UnsupportedOperation(f"{self._path} cannot be opened: create its folder first")
        if primary in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_PROTOCOL,
        ):
            return StoreUnavailable(f"{self._path}: {error}")
        return CheckpointError(f"{self._path}: {error}")


def _has_terms(terms: bytes, wanted: bytes) -> bool:
    stored = {terms[at : at + TERM_BYTES] for at in range(0, len(terms), TERM_BYTES)} if wanted else set()
    return all(wanted[at : at + TERM_BYTES] in stored for at in range(0, len(wanted), TERM_BYTES))
