"""Transactions on one SQLite file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.per_process import PerProcess
from checkpoint_base.sqlite.connections import Connections, File, begin_writing
from checkpoint_base.sqlite.errors import RAISED, translated
from checkpoint_base.sqlite.line import Line, Outcome
from checkpoint_base.transport import Closable

ASYNC_READERS = 8


@dataclass(frozen=True, slots=True)
class Transaction:
    """A request: work to be done on a connection, all of it or nothing.

    ``writes`` takes the file's write lock first, so that what the work reads cannot change before it writes.
    """

    work: Callable[[sqlite3.Connection], Any]
    writes: bool = False

    is_shared: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Setting:
    """A request: one statement that SQLite refuses inside a transaction."""

    statement: str

    writes: ClassVar[bool] = True
    is_shared: ClassVar[bool] = False


class _Here:
    """What one process uses. SQLite forbids carrying a connection into a forked process, even to close it there."""

    def __init__(self, file: File) -> None:
        self.connections = Connections(file)
        self.line = Line(self._carry_out_together, file.path)
        self._path = file.path
        self._executors: dict[bool, ThreadPoolExecutor] = {}
        self._making_executors = Lock()

    def executor(self, writes: bool) -> ThreadPoolExecutor:
        """Threads for async calls. Readers have their own, so that they never wait behind writers."""
        with self._making_executors:
            if writes not in self._executors:
                self._executors[writes] = ThreadPoolExecutor(
                    1 if writes else ASYNC_READERS, thread_name_prefix="checkpoint-sqlite"
                )
            return self._executors[writes]

    def close(self) -> None:
        for executor in [*self._executors.values()]:
            executor.shutdown()
        self.connections.close()

    def _carry_out_together(self, requests: Sequence[Transaction | Setting]) -> Sequence[Outcome]:
        """Carry out requests in one transaction: the result of each, or the error, which has undone that one alone."""
        try:
            with self.connections.lent() as connection:
                if len(requests) == 1:
                    outcomes: Sequence[Outcome] = [(_carry_out(connection, requests[0]), None)]
                else:
                    works = [request.work for request in requests if isinstance(request, Transaction)]
                    together = Transaction(lambda db: [attempt(db, work) for work in works], writes=True)
                    outcomes = _carry_out(connection, together)
                self.connections.shorten_wal(connection)
        except Exception as error:  # noqa: BLE001  # each of them raises it to its caller
            outcomes = [(None, error)] * len(requests)
        return [(result, self._failure(error)) for result, error in outcomes]

    def _failure(self, error: BaseException | None) -> BaseException | None:
        if not isinstance(error, RAISED):
            return error
        failure = translated(error, self._path)
        failure.__cause__ = error
        return failure


class SQLiteTransport(Closable):
    """Executes `Transaction` and `Setting` requests on one file, or in memory when the path is ``:memory:``.

    SQLite admits one writer to a file. Writers of this process stand in line (`Line`), and the one that has the turn
    waits for those of other processes (`begin_writing`). Readers never wait.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = File(path)
        self._opened_by = os.getpid()
        self._here = PerProcess(lambda: _Here(self._file))

    @property
    def path(self) -> str:
        return self._file.path

    def execute(self, request: Transaction | Setting) -> Any:
        self._check_usable()
        here = self._here.get()
        if self._stands_in_line(request):
            return here.line.serve(here.line.join(request))
        try:
            with here.connections.lent() as connection:
                return _carry_out(connection, request)
        except RAISED as error:
            raise translated(error, self.path) from error

    async def aexecute(self, request: Transaction | Setting) -> Any:
        self._check_usable()
        line = self._here.get().line
        if not self._stands_in_line(request):
            return await self._on_a_thread(self.execute, request, writes=False)
        # In line before it has a thread, so that it can be written together with others.
        waiting = line.join(request)
        try:
            return await self._on_a_thread(line.serve, waiting, writes=True)
        finally:
            line.cancel(waiting)

    def close(self) -> None:
        self._is_closed = True
        self._here.get().close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def _check_usable(self) -> None:
        self._check_open()
        if self._file.in_memory and os.getpid() != self._opened_by:
            raise UnsupportedOperation(
                "a store in memory belongs to the process that opened it: open another one in a forked process, "
                "or use a file, which processes share"
            )

    def _stands_in_line(self, request: Transaction | Setting) -> bool:
        return request.writes or self._file.in_memory  # memory is one connection

    async def _on_a_thread(self, call: Callable[[Any], Any], argument: Any, *, writes: bool) -> Any:
        try:
            future = self._here.get().executor(writes).submit(call, argument)
        except RuntimeError:  # closed since we looked
            self._check_open()
            raise
        return await asyncio.wrap_future(future)


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
    if request.writes:
        begin_writing(connection)
    else:
        connection.execute("BEGIN")
    try:
        result = request.work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
