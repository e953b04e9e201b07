"""How the statements find their rows."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from checkpoint_base import SQLiteSaver
from checkpoint_base.sqlite import store as sqlite_store
from tests.sqlite.conftest import put

# Statements that walk a namespace or a thread on purpose still find it by an index.
READS = {
    name: statement
    for name, statement in vars(sqlite_store._SQL).items()
    if statement.startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT INTO waiting"))
}


@pytest.mark.parametrize("name", READS)
def test_a_statement_finds_its_rows_by_an_index(name: str, path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    db = sqlite3.connect(path)
    for statement in READS[name].split(";\n"):
        named = set(re.findall(r":(\w+)", statement))
        parameters: Any = dict.fromkeys(named, "") if named else ("",) * statement.count("?")
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        read = [step for step in plan if step.startswith(("SCAN", "MATERIALIZE")) and "VIRTUAL TABLE" not in step]
        given = ("SCAN chain", "SCAN named", "SCAN CONSTANT ROW")  # ancestors found, and ids that were asked for
        assert [step for step in read if step not in given] == []
    db.close()
