"""The schema that holds the tables and functions: its name, its layout, and the statements on it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from importlib.resources import files
from types import SimpleNamespace

from psycopg import sql

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.sql import statements

MIGRATIONS = {100: ("tables.sql", "functions.sql", "removal.sql")}
"""The files that lead to each version of a schema. Its hundreds are its layout (CONTRIBUTING.md)."""

_SQL = statements("checkpoint_postgres", "statements.sql")
_FRAGMENTS = statements("checkpoint_postgres", "fragments.sql")
_DIRECTIONS = {
    "newest": {"way": sql.SQL("DESC"), "beyond": sql.SQL("<")},
    "oldest": {"way": sql.SQL("ASC"), "beyond": sql.SQL(">")},
}
_FOLDER = files("checkpoint_postgres").joinpath("sql")

# The name stands in function bodies, which a dollar sign could end, and psycopg would take a percent sign for a
# parameter. Quoting takes care of everything else.
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f$%\ud800-\udfff]")


class Schema:
    """The SQL for one schema. Only its name, and that of a role in `script`, enter SQL text; psycopg quotes them.

    Raises:
        UnsupportedOperation: the name cannot be used.
    """

    def __init__(self, name: str) -> None:
        if not name or _UNUSABLE.search(name) or len(name.encode()) > 63 or name.startswith("pg_"):
            raise UnsupportedOperation(
                f"schema {name!r}: a name has 1 to 63 bytes, no control characters, no $, no %, and does not begin "
                "with pg_"
            )
        self.name = name
        self.version = max(MIGRATIONS)
        self._parts: dict[str, sql.Composable] = {
            "schema": sql.Identifier(name),
            "name": sql.Literal(name),
            "table": sql.Literal(f"{sql.Identifier(name).as_string(None)}.writes"),  # as functions name it
            # All programs of a database share one space of numbers for advisory locks.
            "lock": sql.Literal(zlib.crc32(f"checkpoint-backends {name}".encode()) - 2**31),
            "version": sql.Literal(self.version),
        }
        self._parts |= {key: sql.SQL(text).format(**self._parts) for key, text in vars(_FRAGMENTS).items()}
        self.statements = SimpleNamespace()
        for key, text in vars(_SQL).items():
            if "{matches}" in text:
                for order, direction in _DIRECTIONS.items():
                    unfiltered = self._composed(text, **direction, matches=sql.SQL("IS NOT NULL"))
                    setattr(self.statements, f"{key}_{order}", unfiltered)
                    setattr(self.statements, f"{key}_{order}_matching", self._composed(text, **direction))
            elif key != "grants":
                setattr(self.statements, key, self._composed(text))

    def lacking(self, version: int) -> Iterator[bytes]:
        """What brings a schema of an earlier version up to date."""
        for later, names in sorted(MIGRATIONS.items()):
            if later > version:
                for name in names:
                    yield self._composed(_FOLDER.joinpath(name).read_text(encoding="utf-8"))

    def script(self, role: str | None) -> str:
        """Return the SQL of `setup` on an empty database as a script for psql, with grants to the role if given."""
        statements = self.statements
        create = [statements.begin, statements.setup_lock, statements.create_schema, statements.create_version]
        parts = [b"BEGIN", *create, *self.lacking(0), statements.set_version]
        if role is not None:
            parts.append(self._composed(_SQL.grants, role=sql.Identifier(role)))
        return "".join(f"{part.decode().rstrip().rstrip(';')};\n\n" for part in [*parts, b"COMMIT"])

    def _composed(self, text: str, **more: sql.Composable) -> bytes:
        return sql.SQL(text).format(**{**self._parts, **more}).as_bytes(None)
