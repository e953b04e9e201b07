"""The first upgrade: schemas that an earlier or a later version has set up, perhaps while others use them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from checkpoint_base import CheckpointError, SchemaMismatch, StoreUnavailable, UnsupportedOperation, open_saver
from checkpoint_base.cli import main
from checkpoint_postgres import PostgresSaver
from checkpoint_postgres.schema import MIGRATIONS
from tests.postgres.conftest import Place, eventually
from tests.upgrades import ANSWERED, CONFIG, answers, asks, assert_told_to_upgrade, graph

TABLES = ("threads", "checkpoints", "channel_values", "writes", "chunks", "waiting")

ADDITION = "".join(
    f"ALTER TABLE {{schema}}.{table} ADD COLUMN kind text NOT NULL DEFAULT 'usual';\n" for table in TABLES
)
"""What a later version adds; it fails if it is done twice."""


def version_of(place: Place) -> int:
    [(version,)] = place.query("SELECT version FROM {s}.schema_version")
    return int(version)


def add(place: Place) -> None:
    """Do what a later version does."""
    place.query(ADDITION.replace("{schema}", "{s}") + "UPDATE {s}.schema_version SET version = 101")


@pytest.fixture
def later(tmp_path: Path) -> Any:
    """Makes this process one of a later version, which brings schemas to version 101 by the given statements."""

    def upgrade(patch: pytest.MonkeyPatch, statements: str = ADDITION) -> None:
        file = tmp_path / "addition.sql"
        file.write_text(statements, encoding="utf-8")
        patch.setitem(MIGRATIONS, 101, (str(file),))

    return upgrade


def test_what_a_later_version_adds_is_no_obstacle_to_those_who_use_the_schema_or_open_it(place: Place) -> None:
    with open_saver(place.url) as before:
        asks(before)
        for _ in range(8):  # the server keeps the plans of what a connection executes often
            graph(before).get_state(CONFIG)
        add(place)
        assert answers(before) == ANSWERED
        with open_saver(place.url) as after:
            for saver, other in ((after, before), (before, after)):
                graph(saver).invoke({"log": ["more"]}, CONFIG)
                assert [each.value for each in other.interrupts()] == ["go on?"]
                assert answers(other)[-2:] == ["yes", "x" * 2000]
            before.copy_thread("thread", "copy")
            before.prune(["copy"])
            assert {each.thread_id for each in after.threads()} == {"thread", "copy"}
            assert len(list(before.list(CONFIG))) == 9
    assert version_of(place) == 101


def test_a_schema_of_an_earlier_version_is_brought_up_to_date_once_while_a_graph_waits(
    place: Place, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_saver(place.url) as before:
        asks(before)
        later(monkeypatch)
        savers = [open_saver(place.url, max_size=1) for _ in range(20)]
        with ThreadPoolExecutor(20) as threads:
            list(threads.map(PostgresSaver.setup, savers))
        for saver in savers:
            saver.close()
        assert version_of(place) == 101
        assert answers(before) == ANSWERED


def test_who_waits_to_set_up_while_a_later_version_does_leaves_it_at_that(place: Place) -> None:
    with open_saver(place.url):
        pass
    schema: Any = open_saver(place.url).store._schema  # type: ignore[attr-defined]
    place.query("DROP SCHEMA {s} CASCADE")
    with psycopg.connect(place.server_url) as other, ThreadPoolExecutor(1) as thread:
        for statement in (schema.statements.setup_lock, schema.statements.create_schema):
            other.execute(statement)
        saver = open_saver(place.url)
        setting_up = thread.submit(saver.setup)
        eventually(place.waiting)
        for statement in (schema.statements.create_version, *schema.lacking(0), schema.statements.set_version):
            other.execute(statement)
        other.execute(f'UPDATE "{place.schema}".schema_version SET version = 101'.encode())
        other.commit()
        setting_up.result(timeout=30)
        saver.close()
    assert version_of(place) == 101


KILLED = """
import sys
from checkpoint_base import open_saver
from checkpoint_postgres.schema import MIGRATIONS

MIGRATIONS[101] = (sys.argv[2],)
open_saver(sys.argv[1]).setup()
"""


def test_an_upgrade_that_is_killed_half_way_has_changed_nothing(
    place: Place, later: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open_saver(place.url) as before:
        asks(before)
        slow = tmp_path / "slow.sql"
        slow.write_text(ADDITION + "SELECT pg_sleep(60);", encoding="utf-8")
        with subprocess.Popen([sys.executable, "-c", KILLED, place.url, slow]) as program:
            eventually(lambda: place.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
            os.kill(program.pid, signal.SIGKILL)
        place.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        assert version_of(place) == 100
        assert answers(before) == ANSWERED
        later(monkeypatch)
        with open_saver(place.url):
            assert version_of(place) == 101


def test_an_upgrade_that_has_to_wait_for_a_lock_keeps_nobody_waiting_behind_it(
    place: Place, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_saver(place.url) as before, psycopg.connect(place.server_url) as dump, ThreadPoolExecutor(1) as thread:
        asks(before)
        dump.execute(f'LOCK TABLE "{place.schema}".checkpoints IN ACCESS SHARE MODE'.encode())  # as pg_dump does
        later(monkeypatch)
        opening = thread.submit(open_saver(place.url, deadline=0).__enter__)
        eventually(lambda: place.waiting() or opening.done())
        assert answers(before) == ANSWERED
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            opening.result(timeout=30)
        assert version_of(place) == 100
        dump.rollback()
        with open_saver(place.url):
            assert version_of(place) == 101


def test_an_upgrade_takes_nothing_of_others_for_the_server_s_own(
    place: Place, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_saver(place.url):
        pass
    later(monkeypatch, "CREATE TABLE {schema}.seen AS SELECT current_setting('search_path') AS path;")
    with open_saver(f"{place.url}&options=-csearch_path%3Dpublic"):
        assert place.query("SELECT path FROM {s}.seen") == [("pg_catalog, pg_temp",)]


def test_an_upgrade_that_fails_is_an_error_that_changes_nothing(
    place: Place, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_saver(place.url) as before:
        asks(before)
        with monkeypatch.context() as patch:
            later(patch, ADDITION + "SELECT 1 / 0;")
            with pytest.raises(CheckpointError, match="division by zero"):
                open_saver(place.url).__enter__()
        assert version_of(place) == 100
        assert answers(before) == ANSWERED


def test_a_function_that_returns_something_else_is_no_reason_to_guess(place: Place) -> None:
    with open_saver(place.url, max_size=1) as before:
        asks(before)
        for _ in range(12):  # now the server has prepared it
            graph(before).get_state(CONFIG)
        [(definition,)] = place.query("SELECT pg_get_functiondef('{s}.load'::regproc)")
        changed = definition.replace("TABLE(thread_id text,", "TABLE(kind text, thread_id text,")
        place.query("DROP FUNCTION {s}.load")
        with psycopg.connect(place.server_url, autocommit=True) as other:
            other.execute(changed.encode())
        with pytest.raises(SchemaMismatch, match=r"changed while it was in use .* upgrade"):
            graph(before).get_state(CONFIG)


def test_a_role_that_may_create_nothing_has_its_schema_s_owner_upgrade(
    place: Place, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.role() as url:
        printing = ["schema", "postgres", "--schema", place.schema, "--grant-to", place.schema]
        script = CliRunner().invoke(main, printing).stdout
        with psycopg.connect(place.server_url, autocommit=True) as admin:
            admin.execute(script.encode())
        with open_saver(url) as before:
            asks(before)
            later(monkeypatch)
            for _ in range(2):
                with pytest.raises(UnsupportedOperation, match=r"must be owner .* once as the owner of its schema"):
                    open_saver(url).__enter__()
            assert version_of(place) == 100
            with open_saver(place.url), open_saver(url) as after:
                assert answers(after) == ANSWERED
                assert before.get_tuple(CONFIG).checkpoint["channel_values"]["log"][1] == "yes"  # type: ignore[union-attr]


def test_whoever_uses_a_schema_that_a_later_version_takes_over_is_told_to_upgrade(place: Place) -> None:
    with open_saver(place.url) as before:
        asks(before)
        for _ in range(8):
            graph(before).get_state(CONFIG)
        place.query("".join(f"ALTER TABLE {{s}}.{table} RENAME TO {table}_2;" for table in TABLES))
        place.query("UPDATE {s}.schema_version SET version = 200")
        assert_told_to_upgrade(before)
