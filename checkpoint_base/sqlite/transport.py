"""Connections to one SQLite file, and transactions on them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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
from checkpoint_base.metadata import TERM_BYTES, has_terms

MEMORY = ":memory:"

IDLE_CONNECTIONS = 8
"""How many connections stay open between requests; as many as there are callers may be open at once."""

ASYNC_READERS = 8

BUSY_SECONDS = 5.0
"""How long one attempt waits for another writer. The saver's deadline decides how many attempts there are."""

WAL_BYTES = 64 * 1024 * 1024
"""How long the write-ahead log may be before a writer waits for readers to have it begun anew."""

WAL_SECONDS = 0.5
"""How long that writer waits at most."""

NOT_UTF8 = "a text in it is not UTF-8"


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


class _InLine:
    """A request that stands in line to be carried out, by its own caller or by another one.

    ``signal`` is held until the request is done or has the turn, for a caller who waits for that.
    """

    def __init__(self, request: Transaction | Setting) -> None:
        self.request = request
        self.is_waited_for = False
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.signal = Lock()
        self.signal.acquire()

    def settle(self, result: Any, error: BaseException | None) -> None:
        self.result, self.error, self.is_done = result, error, True
        self.wake()

    def wake(self) -> None:
        if self.is_waited_for:
            self.is_waited_for = False
            self.signal.release()

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class SQLiteTransport:
    """Executes `Transaction` and `Setting` requests on one file, or in memory when the path is ``:memory:``.

    SQLite admits one writer to a file. Writers of this process stand in line. Whoever has the turn writes for all of
    them, in one transaction in which each has all of its changes or none: many share one wait for the disk. Writers of
    other processes are waited for by SQLite itself. Readers never wait.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not os.fspath(path):
            raise UnsupportedOperation("the path of a SQLite file is empty: name a file, or :memory:")
        self._in_memory = os.fspath(path) == MEMORY
        # Absolute, because connections are made at any time, and the current folder may be another one by then.
        self._path = MEMORY if self._in_memory else os.path.abspath(path)
        self._file: tuple[int, int] | None = None  # which file it is, once it has been opened
        self._wal = f"{self._path}-wal"
        self._wal_limit = WAL_BYTES
        self._of_parent: object = None
        self._beginning = Lock()
        self._is_closed = False
        self._begin_in_this_process()

    def execute(self, request: Transaction | Setting) -> Any:
        self._check_process()
        if self._stands_in_line(request):
            return self._serve(self._in_line(request))
        try:
            with self._connection() as connection:
                return _carry_out(connection, request)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    async def aexecute(self, request: Transaction | Setting) -> Any:
        self._check_process()
        if self._is_closed:
            raise self._closed()
        if not self._stands_in_line(request):
            return await self._on_a_thread(self.execute, request, writes=False)
        # In line before it has a thread, so that it can be written together with others.
        waiting = self._in_line(request)
        try:
            return await self._on_a_thread(self._serve, waiting, writes=True)
        finally:
            self._cancel(waiting)

    def close(self) -> None:
        self._after_fork()
        self._is_closed = True
        for executor in [*self._executors.values()]:
            executor.shutdown()
        while self._idle:
            self._idle.pop().close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def _begin_in_this_process(self) -> None:
        self._idle: list[sqlite3.Connection] = []
        self._executors: dict[bool, ThreadPoolExecutor] = {}
        self._line: deque[_InLine] = deque()
        self._line_lock = Lock()  # held for moments only, never while anything is waited for
        self._has_turn: _InLine | None = None
        self._making_executors = Lock()
        self._process = os.getpid()  # last: other threads rely on the rest as soon as they see it

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

    def _check_process(self) -> None:
        self._after_fork()
        if self._in_memory and self._of_parent is not None:
            raise UnsupportedOperation(
                "a store in memory belongs to the process that opened it: open another one in a forked process, "
                "or use a file, which processes share"
            )

    def _after_fork(self) -> None:
        """SQLite forbids carrying a connection into a forked process, even to close it: leave the parent's alone."""
        if os.getpid() == self._process:
            return
        with self._beginning:
            if os.getpid() != self._process:
                self._of_parent = (self._idle, self._executors)
                self._begin_in_this_process()

    async def _on_a_thread(self, call: Callable[[Any], Any], argument: Any, *, writes: bool) -> Any:
        try:
            future = self._executor(writes).submit(call, argument)
        except RuntimeError as error:  # closed since we looked
            raise self._closed() from error
        return await asyncio.wrap_future(future)

    def _stands_in_line(self, request: Transaction | Setting) -> bool:
        return request.writes or self._in_memory  # memory is one connection

    def _in_line(self, request: Transaction | Setting) -> _InLine:
        waiting = _InLine(request)
        with self._line_lock:  # others go through the line, which must not change meanwhile
            self._line.append(waiting)
        return waiting

    def _serve(self, waiting: _InLine) -> Any:
        """Wait until a request is done, or until it has the turn; then carry out what stands in line, until it is."""
        try:
            self._wait_in_line(waiting)
            while self._has_turn is waiting and self._is_in_line(waiting):
                self._carry_out_line()
        finally:  # also when a signal's handler has raised anywhere above: a turn that is kept blocks every writer
            self._leave(waiting)
        if not waiting.is_done:
            raise self._ended()
        return waiting.outcome()

    def _is_in_line(self, waiting: _InLine) -> bool:
        with self._line_lock:
            return waiting in self._line

    def _wait_in_line(self, waiting: _InLine) -> None:
        with self._line_lock:
            if waiting.is_done:
                return
            if self._has_turn is None:
                self._has_turn = waiting
                return
            waiting.is_waited_for = True
        if not waiting.signal.acquire(timeout=BUSY_SECONDS):
            with self._line_lock:
                if waiting.is_waited_for:
                    raise StoreUnavailable(
                        f"{self._path}: other threads have kept the file busy for {BUSY_SECONDS} seconds"
                    )

    def _leave(self, waiting: _InLine) -> None:
        """Pass the turn on if a request has it, also one that was given it just now, and take it out of the line."""
        with self._line_lock:
            waiting.is_waited_for = False
            if self._has_turn is waiting:
                self._has_turn = next((each for each in self._line if each.is_waited_for), None)
                if self._has_turn:
                    self._has_turn.wake()
            if not waiting.is_done:
                with suppress(ValueError):  # it is being written just now
                    self._line.remove(waiting)

    def _cancel(self, waiting: _InLine) -> None:
        """Take a request out of the line whose caller has given up; a thread that serves it passes its turn on."""
        with self._line_lock, suppress(ValueError):
            self._line.remove(waiting)
            waiting.settle(None, asyncio.CancelledError())

    def _carry_out_line(self) -> None:
        """Carry out the first of the line, and with a transaction those behind it in the same one."""
        batch: list[_InLine] = []
        outcomes: Sequence[tuple[Any, BaseException | None]] = ()
        try:
            with self._line_lock:
                while self._line and (not batch or self._can_join(batch[0], self._line[0])):
                    batch.append(self._line[0])  # before it leaves the line: a signal may end this thread in between
                    self._line.popleft()
            if not batch:  # the call that has the turn was cancelled just now
                return
            with self._connection() as connection:
                outcomes = _carry_out_together(connection, [waiting.request for waiting in batch])
                self._shorten_wal(connection)
        except Exception as error:  # noqa: BLE001  # each of them raises it to its caller
            outcomes = [(None, error)] * len(batch)
        finally:
            if not outcomes:  # this thread is being ended, which is no reason for the others to end
                outcomes = [(None, self._ended())] * len(batch)
            with self._line_lock:
                for waiting, (result, failure) in zip(batch, outcomes, strict=True):
                    waiting.settle(result, self._failure(failure))

    def _can_join(self, first: _InLine, other: _InLine) -> bool:
        return isinstance(first.request, Transaction) and isinstance(other.request, Transaction)

    def _ended(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._path}: another thread was ended while it wrote for this one")

    def _failure(self, error: BaseException | None) -> BaseException | None:
        if not isinstance(error, sqlite3.Error):
            return error
        failure = self._translated(error)
        failure.__cause__ = error
        return failure

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = self._take()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        if self._is_closed:
            raise self._closed()
        self._check_file()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _check_file(self) -> None:
        """Raise when the path leads to another file than the one that was opened, or to none.

        SQLite goes on writing to a file that has been removed, where nobody finds it. A look at the file takes a
        few microseconds.
        """
        if self._file is not None and self._file_at_path() != self._file:
            raise UnsupportedOperation(
                f"{self._path} has been removed or replaced while it was open: close this saver and open another one. "
                "To restore a backup into a file in use, let SQLite copy it, as docs/sqlite.md shows"
            )

    def _file_at_path(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
        return (found.st_dev, found.st_ino)

    def _connect(self) -> sqlite3.Connection:
        # Made once at most: what is missing later has been removed.
        mode = "rwc" if self._file is None else "rw"
        connection = sqlite3.connect(
            MEMORY if self._in_memory else f"{Path(self._path).as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            if self._file is None and not self._in_memory:
                self._file = self._file_at_path() or (-1, -1)  # removed already: no file has these numbers
                self._wal = f"{os.path.realpath(self._path)}-wal"  # where SQLite has it if the path is a link
            self._check_file()  # replaced since the last look, perhaps
            # Builds of SQLite differ in their default; FULL alone has a commit on the disk before it is acknowledged.
            connection.execute("PRAGMA synchronous = FULL")
            # What is longer goes back to the disk when the log begins anew.
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
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

    def _shorten_wal(self, connection: sqlite3.Connection) -> None:
        """Empty the write-ahead log if it has become long, as far as readers allow it.

        SQLite begins it anew by itself, but only at a moment at which nobody reads what is in it. While readers overlap
        there is none, and it would grow for as long as they do. This waits for those who read what is not the latest.
        """
        try:
            size = os.stat(self._wal).st_size
        except OSError:  # in memory there is none
            return
        if size <= self._wal_limit:
            if size <= WAL_BYTES:
                self._wal_limit = WAL_BYTES
            return
        with suppress(sqlite3.Error):  # what was written is safe as it is
            connection.execute(f"PRAGMA busy_timeout = {int(WAL_SECONDS * 1000)}")
            try:
                is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
            if is_busy:  # while somebody reads for long, a backup say, not every writer is to wait
                self._wal_limit = 2 * size

    def _translated(self, error: sqlite3.Error) -> CheckpointError:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary == sqlite3.SQLITE_NOTADB:
            return SchemaMismatch(f"{self._path} is not a SQLite database: choose another file, nothing was changed")
        if primary == sqlite3.SQLITE_CORRUPT:
            return CorruptCheckpoint(f"{self._path} is damaged: {error}. Restore it from a backup")
        if is_undecodable(error):
            return CorruptCheckpoint(f"{self._path} is damaged: {NOT_UTF8}. Restore it from a backup")
        if primary == sqlite3.SQLITE_READONLY:
            return UnsupportedOperation(f"{self._path} cannot be written: check the permissions of file and folder")
        if primary == sqlite3.SQLITE_CANTOPEN:
            return self._not_opened(error)
        if primary in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_PROTOCOL,
        ):
            return StoreUnavailable(f"{self._path}: {error}")
        return CheckpointError(f"{self._path}: {error}")

    def _not_opened(self, error: sqlite3.Error) -> CheckpointError:
        path = os.path.realpath(self._path)  # where a link leads
        folder = os.path.dirname(path)
        if os.path.isdir(path):
            return UnsupportedOperation(f"{path} is a folder: name a file in it")
        if not os.path.isdir(folder):
            return UnsupportedOperation(f"{path} cannot be opened: create its folder first")
        if os.path.exists(path) and not os.access(path, os.R_OK):
            return UnsupportedOperation(f"{path} cannot be read: check the permissions of the file")
        if not os.path.exists(path) and not os.access(folder, os.W_OK | os.X_OK):
            return UnsupportedOperation(f"{path} cannot be made: check the permissions of its folder")
        return StoreUnavailable(f"{self._path}: {error}")


def is_undecodable(error: Exception) -> bool:
    """Whether stored text is not UTF-8. The error comes from `sqlite3`, without a code, and shows the whole text."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode to UTF-8")


def attempt(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> tuple[Any, Exception | None]:
    """Do work within a transaction: its result, or the error, which has undone this work alone."""
    db.execute("SAVEPOINT attempt")
    try:
        result = work(db)
    except Exception as error:
        if not db.in_transaction:  # SQLite has undone everything: a full disk, say
            raise
        db.execute("ROLLBACK TO attempt")
        db.execute("RELEASE attempt")
        return None, error
    db.execute("RELEASE attempt")
    return result, None


def _carry_out(connection: sqlite3.Connection, request: Transaction | Setting) -> Any:
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


def _carry_out_together(
    connection: sqlite3.Connection, requests: Sequence[Transaction | Setting]
) -> Sequence[tuple[Any, BaseException | None]]:
    """Carry out requests in one transaction: the result of each, or the error, which has undone that one alone."""
    if len(requests) == 1:
        return [(_carry_out(connection, requests[0]), None)]

    def work(db: sqlite3.Connection) -> Sequence[tuple[Any, BaseException | None]]:
        return [attempt(db, request.work) for request in requests if isinstance(request, Transaction)]

    done: Sequence[tuple[Any, BaseException | None]] = _carry_out(connection, Transaction(work, writes=True))
    return done


def _has_terms(terms: bytes, wanted: bytes) -> bool:
    return has_terms(terms, [wanted[at : at + TERM_BYTES] for at in range(0, len(wanted), TERM_BYTES)])
