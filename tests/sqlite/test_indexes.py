"""How the statements find their rows."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.types import Interrupt

from checkpoint_base import SQLiteSaver
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import ListQuery
from checkpoint_base.sqlite import store as sqlite_store
from tests.sqlite.conftest import idle_connections, put

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


LONG = """
INSERT INTO threads VALUES (:length, 'of ' || :length, 1, 1, NULL);
INSERT INTO namespaces VALUES (:length, :length, ''), (:length + 1, :length, 'sub');
WITH RECURSIVE numbers (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :length)
INSERT INTO checkpoints
    (namespace, checkpoint_id, parent_id, run_id, written_at, retired, channels, open_channels, terms, header)
SELECT :length + n % 2, printf('id %06d', n), NULL, NULL, 1, 0, '[]', '[]', x'', x'' FROM numbers
"""


def test_a_page_of_a_long_thread_takes_no_more_than_one_of_a_short_thread(path: Path, saver: SQLiteSaver) -> None:
    """Counted by SQLite, in steps of its virtual machine."""
    db = sqlite3.connect(path)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def taken(query: ListQuery, first: int) -> int:
        nonlocal steps
        steps = 0
        found = sqlite_store._list(db, replace(query, limit=20, contents=False))
        assert [each.record.key.checkpoint_id for each in found] == [f"id {first - at:06}" for at in range(20)]
        return steps

    lengths = (200, 20_000)
    for length in lengths:
        for statement in LONG.split(";\n"):
            db.execute(statement, {"length": length})
    db.set_progress_handler(step, 1)
    behind = CheckpointKey("", "sub", "id 000100")  # the root namespace has one with this id, which comes next
    for query, first in (
        (ListQuery(), None),
        (ListQuery(before="id 000100"), 99),
        (ListQuery(after=behind), 100),
    ):
        short, long = (
            taken(replace(query, thread_id=f"of {length}"), length - 1 if first is None else first)
            for length in lengths
        )
        assert long <= 1.2 * short, query
    # Nor does a page of all threads that is far from the first.
    taken(ListQuery("of 200"), 199)
    one_thread, steps = steps, 0
    after = CheckpointKey("of 20000", "sub", "id 000100")
    found = sqlite_store._list(db, ListQuery(after=after, limit=20, contents=False))
    assert found[0].record.key == CheckpointKey("of 20000", "", "id 000100")
    assert steps <= 1.2 * one_thread
    db.close()


def test_the_questions_of_a_thread_are_each_read_for_one_page(path: Path, saver: SQLiteSaver) -> None:
    def steps_for(questions: int) -> int:
        config = put(saver, {"n": 1}, {"configurable": {"thread_id": f"{questions}", "checkpoint_ns": ""}})
        for number in range(questions):
            saver.put_writes(config, [(INTERRUPT, [Interrupt(f"{number}?", id=f"{number}")])], f"task-{number}")
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection = idle_connections(saver)[-1]
        connection.set_progress_handler(step, 1)
        found = [each.value for each in saver.interrupts(thread_id=f"{questions}", order="oldest")]
        connection.set_progress_handler(None, 1)
        assert found == [f"{number}?" for number in range(questions)]
        return steps

    # A page looks at the times of all, a few steps for each, and reads its own questions only. Otherwise, 14 times.
    few, many = steps_for(400), steps_for(1600)
    assert many < 9 * few
