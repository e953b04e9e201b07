"""Each backend as a fault sees it: a URL that any process can open, and its server's own view of what is stored.

Everything here but the URL goes through a raw client, so that it tells what is there and not what the adapter says.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """One stored value: where it is, for its backend to find it and for people to read, and its bytes."""

    place: tuple[Any, ...]
    content: bytes
    is_text: bool = False

    def __str__(self) -> str:
        return " ".join(str(part) for part in self.place)


class Backend(ABC):
    """A store for as long as a test lasts, empty at its beginning."""

    name: str
    url: str
    version: str

    @abstractmethod
    def leftovers(self) -> dict[str, int]:
        """What is stored beside what `setup` makes: a count for each kind that there is anything of."""

    @abstractmethod
    def cells(self) -> Sequence[Cell]:
        """Every stored value that holds or describes a checkpoint, a value, a chunk or a write."""

    @abstractmethod
    def overwrite(self, cell: Cell, content: bytes) -> None:
        """Put other bytes into a cell."""

    def connections(self) -> int:
        """How many connections of savers the server has; 0 where there is no server."""
        return 0


class SQLiteBackend(Backend):
    name = "sqlite"
    version = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path

    def leftovers(self) -> dict[str, int]:
        with closing(sqlite3.connect(self._path)) as raw:
            counts = {name: raw.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in self._tables(raw)}
        return {name: count for name, count in counts.items() if count}

    def cells(self) -> Sequence[Cell]:
        found = []
        with closing(sqlite3.connect(self._path)) as raw:
            for table in self._tables(raw):
                keys, others = _columns(raw, table)
                for (*values,) in raw.execute(f'SELECT {", ".join([*keys, *others])} FROM "{table}"'):
                    key, rest = values[: len(keys)], values[len(keys) :]
                    for column, value in zip(others, rest, strict=True):
                        if isinstance(value, (str, bytes)):
                            place = (table, column, tuple(zip(keys, key, strict=True)))
                            content = value.encode() if isinstance(value, str) else value
                            found.append(Cell(place, content, isinstance(value, str)))
        return found

    def overwrite(self, cell: Cell, content: bytes) -> None:
        table, column, key = cell.place
        where = " AND ".join(f"{name} IS ?" for name, _ in key)
        value = f"CAST(? AS {'TEXT' if cell.is_text else 'BLOB'})"
        with closing(sqlite3.connect(self._path)) as raw, raw:
            raw.execute(f'UPDATE "{table}" SET {column} = {value} WHERE {where}', [content, *(part for _, part in key)])

    @staticmethod
    def _tables(raw: sqlite3.Connection) -> list[str]:
        return [name for (name,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]


def _columns(raw: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """The columns of the primary key, and the others."""
    info = raw.execute(f'PRAGMA table_info("{table}")').fetchall()
    return [row[1] for row in info if row[5]], [row[1] for row in info if not row[5]]


class Servers(AbstractContextManager["Servers"]):
    """Starts each server when it is first needed, and gives out empty stores on it."""

    def __init__(self) -> None:
        self._running = ExitStack()

    @contextmanager
    def backend(self, name: str) -> Iterator[Backend]:
        """An empty store of the backend."""
        with BACKENDS[name](self) as opened:
            yield opened

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()


@contextmanager
def _sqlite(_: Servers) -> Iterator[Backend]:
    with TemporaryDirectory(prefix="faults-") as folder:
        yield SQLiteBackend(Path(folder) / "checkpoints.db")


BACKENDS: dict[str, Callable[[Servers], AbstractContextManager[Backend]]] = {"sqlite": _sqlite}
