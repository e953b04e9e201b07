"""Creating the schema: by the application, by many at once, and by an administrator."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from langgraph.types import Interrupt
from psycopg import Connection

from checkpoint_base import SchemaMismatch, UnsupportedOperation, open_saver
from checkpoint_base.cli import main
from checkpoint_postgres import AsyncPostgresSaver, PostgresSaver
from checkpoint_postgres.schema import MIGRATIONS
from tests.postgres.conftest import CONFIG, URL_VARIABLE, Place, eventually, put_values
from tests.servers.pgbouncer import pgbouncer
from tests.servers.postgres import installations
from tests.servers.processes import Server, ServerUnavailable

TABLES = ["channel_values", "checkpoints", "chunks", "schema_version", "threads", "waiting", "writes"]

LAYOUT = """
SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = %(s)s
UNION ALL SELECT tablename, indexname, replace(indexdef, %(s)s, 'SCHEMA'), '' FROM pg_indexes WHERE schemaname = %(s)s
UNION ALL SELECT proname, pg_get_function_arguments(pg_proc.oid), replace(prosrc, %(s)s, 'SCHEMA'), ''
          FROM pg_proc JOIN pg_namespace ON pronamespace = pg_namespace.oid WHERE nspname = %(s)s
ORDER BY 1, 2, 3
"""


def layout(place: Place) -> list[Any]:
    return place.query(LAYOUT, {"s": place.schema})


def versions(place: Place) -> list[Any]:
    return place.query("SELECT application, version FROM {s}.schema_version")


def test_set_up_again_changes_nothing(place: Place) -> None:
    with open_saver(place.url) as saver:
        put_values(saver, {"a": 1})
        first = layout(place)
        [(migrated_at,)] = place.query("SELECT migrated_at FROM {s}.schema_version")
        saver.setup()
        asyncio.run(saver.asetup())
    with open_saver(place.url) as again:
        assert again.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}
    assert sorted(place.tables) == TABLES
    assert layout(place) == first
    assert place.query("SELECT migrated_at FROM {s}.schema_version") == [(migrated_at,)]
    assert versions(place) == [("checkpoint-backends", max(MIGRATIONS))]


# Forked, because forty interpreters that start take a minute of a small machine; each connects for itself.
MANY = """
import os, sys
from checkpoint_base import open_saver

ready, go = os.pipe()
children = []
for _ in range(40):
    if (child := os.fork()) == 0:
        os.close(go)
        os.read(ready, 1)
        try:
            with open_saver(sys.argv[1], max_size=1, min_size=0, deadline=90) as saver:
                assert list(saver.threads()) == []
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(go)
print(sum(os.waitpid(child, 0)[1] == 0 for child in children))
"""


def test_forty_processes_set_up_at_once_also_while_another_transaction_is_open(place: Place) -> None:
    with Connection.connect(place.server_url) as other:
        # It has read and written, holds a snapshot, and would stop CREATE INDEX CONCURRENTLY for ever.
        other.execute("CREATE TABLE IF NOT EXISTS public.somebody_s (a int)")
        other.execute("SELECT txid_current(), count(*) FROM pg_class")
        ran = subprocess.run([sys.executable, "-c", MANY, place.url], capture_output=True, text=True, timeout=110)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "40\n", "")
        assert other.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        other.rollback()
    assert sorted(place.tables) == TABLES
    assert versions(place) == [("checkpoint-backends", max(MIGRATIONS))]


@pytest.mark.parametrize("autocommit", [True, False])
def test_set_up_does_not_depend_on_autocommit(place: Place, autocommit: bool) -> None:
    with Connection.connect(place.server_url, autocommit=autocommit) as given:
        PostgresSaver(given, schema=place.schema).setup()
        assert sorted(place.tables) == TABLES
        given.rollback()
    assert sorted(place.tables) == TABLES


def test_a_set_up_that_is_cut_off_has_made_nothing(place: Place) -> None:
    with waiting_for_setup(place) as program:
        assert place.terminate() == 1
        out, _ = program.communicate(timeout=60)
        assert out == "StoreUnavailable\n"
    assert place.tables == []
    with open_saver(place.url):
        assert sorted(place.tables) == TABLES


SETTING_UP = """
import sys
from psycopg import Connection
from checkpoint_base import StoreUnavailable
from checkpoint_postgres import PostgresSaver

try:
    PostgresSaver(Connection.connect(sys.argv[1]), schema=sys.argv[2], deadline=0).setup()
except StoreUnavailable as error:
    print("StoreUnavailable")
"""


@contextmanager
def waiting_for_setup(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of setting up: it has begun, and waits to see whether another makes the same schema."""
    url = place.url.partition("&schema=")[0]
    with Connection.connect(place.server_url) as other:
        other.execute(f'CREATE SCHEMA "{place.schema}"')
        with subprocess.Popen(
            [sys.executable, "-c", SETTING_UP, url, place.schema], stdout=subprocess.PIPE, text=True
        ) as program:
            try:
                eventually(place.waiting)
            except AssertionError:
                program.kill()
                raise
            yield program
        other.rollback()


def test_a_newer_schema_is_refused_and_left_alone(place: Place) -> None:
    with open_saver(place.url) as saver:
        put_values(saver, {"a": 1})
    place.query("UPDATE {s}.schema_version SET version = version + 100")
    before = layout(place)
    for _ in range(2):
        with pytest.raises(SchemaMismatch, match=r"layout 2, this version .* up to 1: upgrade it"):
            open_saver(place.url).__enter__()
    with closing(open_saver(place.url)) as saver, pytest.raises(SchemaMismatch, match="upgrade it"):
        put_values(saver, {"a": 2})
    assert layout(place) == before
    assert place.query("SELECT count(*) FROM {s}.checkpoints") == [(1,)]


def test_a_renamed_schema_is_refused_because_its_functions_work_on_the_one_of_its_old_name(place: Place) -> None:
    with open_saver(place.url) as saver:
        put_values(saver, {"a": "kept for later"})
    place.query(f'ALTER SCHEMA {{s}} RENAME TO "{place.schema}_old"')
    try:
        with open_saver(place.url) as live, closing(open_saver(f"{place.url}_old")) as old:
            put_values(live, {"a": "live"})
            for call in (lambda: old.get_tuple(CONFIG), lambda: old.delete_thread("thread"), old.setup):
                with pytest.raises(SchemaMismatch, match=r"was renamed, .* rename it back"):
                    call()
            assert live.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": "live"}
        place.query("DROP SCHEMA {s} CASCADE")
    finally:
        place.query(f'ALTER SCHEMA "{place.schema}_old" RENAME TO {{s}}')
    with open_saver(place.url) as saver:
        assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": "kept for later"}


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE {s}.schema_version (application text, version int)",
        "CREATE TABLE {s}.schema_version (v text)",
        "CREATE TABLE {s}.checkpoints (a int)",
    ],
)
def test_another_program_s_tables_are_refused_and_left_alone(place: Place, theirs: str) -> None:
    place.query("CREATE SCHEMA {s}")
    place.query(theirs)
    before = layout(place)
    with pytest.raises(SchemaMismatch, match=r"another program|lacks what this version needs"):
        open_saver(place.url).__enter__()
    assert layout(place) == before


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "EUC_JP"])
def test_a_database_of_another_encoding_is_refused_whoever_has_set_it_up(place: Place, encoding: str) -> None:
    with place.database(f"TEMPLATE template0 LOCALE 'C' ENCODING '{encoding}'") as url:
        saver = PostgresSaver.from_conn_string(url, schema=place.schema)
        with closing(saver), pytest.raises(UnsupportedOperation, match=f"encoding is {encoding}, and ids need UTF8"):
            saver.setup()
        with psycopg.connect(url, autocommit=True, client_encoding="UTF8") as admin:
            admin.execute(printed(place.schema))  # type: ignore[call-overload]  # ours
        with (
            psycopg.connect(url, client_encoding="UTF8") as given,
            pytest.raises(UnsupportedOperation, match=f"encoding is {encoding}, and ids need UTF8"),
        ):
            put_values(PostgresSaver(given, schema=place.schema), {"a": 1})


# What an administrator does


def printed(schema: str, *more: str) -> str:
    result = CliRunner().invoke(main, ["schema", "postgres", "--schema", schema, *more])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_printed_sql_makes_what_set_up_makes(place: Place) -> None:
    with open_saver(place.url):
        made = layout(place)
    place.query("DROP SCHEMA {s} CASCADE")
    with psycopg.connect(place.server_url, autocommit=True) as admin:
        admin.execute(printed(place.schema))  # type: ignore[call-overload]  # ours
    assert layout(place) == made
    assert versions(place) == [("checkpoint-backends", max(MIGRATIONS))]


def test_a_dump_of_the_schema_is_restored_in_place_of_the_lost_one_and_in_another_database(
    place: Place, tmp_path: Path
) -> None:
    try:
        programs = installations()[0].folder  # those of the server
    except ServerUnavailable:
        programs = Path()
    if URL_VARIABLE in os.environ or not (programs / "pg_dump").exists():
        pytest.skip("a server that a URL names, or in Docker, has no pg_dump of its version here")
    file = tmp_path / "checkpoints.dump"

    def do(program: str, *arguments: object) -> None:
        subprocess.run([programs / program, *map(str, arguments)], check=True, capture_output=True)

    with open_saver(place.url) as saver:
        put_values(saver, {"a": ["long " * 1000]})
    do("pg_dump", f"--schema={place.schema}", "--format=custom", f"--file={file}", place.server_url)
    place.query("DROP SCHEMA {s} CASCADE")
    with place.database() as url:
        for database in (place.server_url, url):
            do("pg_restore", "--dbname", database, file)
            with PostgresSaver.from_conn_string(database, schema=place.schema) as saver:
                assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": ["long " * 1000]}
                put_values(saver, {"a": ["and on"]})


def test_the_printed_sql_runs_once_and_in_one_transaction(place: Place) -> None:
    with psycopg.connect(place.server_url, autocommit=True) as admin:
        place.query("CREATE SCHEMA {s}")
        place.query("CREATE TABLE {s}.writes (a int)")
        with pytest.raises(psycopg.errors.DuplicateSchema):
            admin.execute(printed(place.schema))  # type: ignore[call-overload]
        admin.execute("ROLLBACK")
    assert place.tables == ["writes"]


def test_the_sql_is_printed_without_a_store_and_for_the_schema_that_was_named() -> None:
    text = printed('Tenant\'s "own"')
    assert text.startswith("BEGIN;")
    assert text.rstrip().endswith("COMMIT;")
    assert 'CREATE SCHEMA "Tenant\'s ""own"""' in text
    assert "CONCURRENTLY" not in text
    assert CliRunner().invoke(main, ["schema", "postgres"]).stdout.count("checkpoint_backends") > 50
    assert CliRunner().invoke(main, ["schema", "redis"]).exit_code == 2
    refused = CliRunner().invoke(main, ["schema", "postgres", "--schema", "pg_x"])
    assert refused.exit_code == 1
    assert "does not begin with pg_" in refused.output


def test_a_role_that_may_create_nothing_works_in_what_an_administrator_made(place: Place) -> None:
    with place.role() as url:
        with pytest.raises(
            UnsupportedOperation, match=r"permission denied .* what `checkpoints schema postgres` prints"
        ):
            open_saver(url).__enter__()
        with psycopg.connect(place.server_url, autocommit=True) as admin:
            admin.execute(printed(place.schema, "--grant-to", place.schema))  # type: ignore[call-overload]
        with open_saver(url) as saver:
            config = put_values(saver, {"a": ["x" * 3000]}, run_id="run")
            saver.put_writes(config, [("b", 1)], "task")
            saver.copy_thread("thread", "copy")
            saver.prune(["thread"])
            saver.delete_for_runs(["run"])
            saver.delete_thread("thread")
            assert list(saver.threads()) == list(saver.interrupts()) == []
        with psycopg.connect(url.partition("&schema=")[0], autocommit=True) as theirs:
            for forbidden in (
                "DROP TABLE {s}.writes",
                "TRUNCATE {s}.writes",
                "UPDATE {s}.schema_version SET version = 9",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    theirs.execute(psycopg.sql.SQL(forbidden).format(s=psycopg.sql.Identifier(place.schema)))


def test_the_grants_are_enough_where_functions_are_nobody_s_by_default(place: Place) -> None:
    with place.role() as url:
        try:
            with psycopg.connect(place.server_url, autocommit=True) as admin:
                admin.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
                admin.execute(printed(place.schema, "--grant-to", place.schema))  # type: ignore[call-overload]
            with open_saver(url) as saver:
                put_values(saver, {"a": ["x" * 3000]}, run_id="run")
                assert [each.thread_id for each in saver.threads()] == ["thread"]
                saver.delete_for_runs(["run"])
            assert place.query("SELECT count(*) FROM {s}.checkpoints") == [(0,)]
        finally:
            place.query("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC")


def test_a_role_that_is_granted_what_the_page_says_works_in_what_another_set_up(place: Place) -> None:
    page = Path("docs/postgres.md").read_text(encoding="utf-8")
    [grants] = re.findall(r"```sql\n(GRANT .*?)```", page, re.DOTALL)
    grants = grants.replace("checkpoint_backends", f'"{place.schema}"').replace(" app;", f' "{place.schema}";')
    with place.role() as url:
        with open_saver(place.url):
            pass
        with pytest.raises(UnsupportedOperation, match=r"(?s)permission denied .* Have an administrator grant"):
            open_saver(url).__enter__()
        with psycopg.connect(place.server_url, autocommit=True) as admin:
            admin.execute(grants)
        with open_saver(url) as saver:
            put_values(saver, {"a": ["x" * 3000]}, run_id="run")
            saver.prune(["thread"])
            saver.delete_for_runs(["run"])
            assert list(saver.threads()) == []


def test_the_async_class_sets_up_when_awaited(place: Place) -> None:
    async def use() -> None:
        saver = AsyncPostgresSaver(place.url.partition("&schema=")[0], schema=place.schema)
        await saver.setup()
        await saver.aclose()

    asyncio.run(use())
    assert sorted(place.tables) == TABLES


@pytest.mark.parametrize("kind", [PostgresSaver, AsyncPostgresSaver])
def test_a_saver_that_cannot_be_set_up_leaves_no_connection(place: Place, kind: type[PostgresSaver]) -> None:
    with open_saver(place.url):
        pass
    place.query("UPDATE {s}.schema_version SET version = version + 100")
    before = set(threading.enumerate())
    kept = kind.from_conn_string(place.url)
    with pytest.raises(SchemaMismatch, match="upgrade it"):
        kept.__enter__()
    assert set(threading.enumerate()) <= before
    with pytest.raises(UnsupportedOperation, match="the saver is closed"):
        kept.get_tuple(CONFIG)


def test_an_administrator_may_partition_every_table_by_thread(place: Place) -> None:
    script = CliRunner().invoke(main, ["schema", "postgres", "--schema", place.schema]).output
    for table in TABLES:
        if table != "schema_version":
            script, found = re.subn(
                rf'(CREATE TABLE ("{place.schema}"\.{table}) \(.*?\n\))( WITH \([^)]*\))?;',
                r"\1 PARTITION BY HASH (thread_id);"
                r" CREATE TABLE \2_0 PARTITION OF \2 FOR VALUES WITH (MODULUS 2, REMAINDER 0)\3;"
                r" CREATE TABLE \2_1 PARTITION OF \2 FOR VALUES WITH (MODULUS 2, REMAINDER 1)\3;",
                script,
                flags=re.DOTALL,
            )
            assert found == 1
    with psycopg.connect(place.server_url, autocommit=True) as administrator:
        administrator.execute(script.encode())
    threads = [str(number) for number in range(20)]
    with open_saver(place.url) as saver:
        for thread in threads:
            config = put_values(saver, {"a": ["x" * 1000] * 20}, {"configurable": {"thread_id": thread}})
            saver.put_writes(config, [("__interrupt__", (Interrupt("sure?", id=thread),))], "task")
        saver.copy_thread("1", "copy")
        saver.prune(threads)
        saver.delete_thread("2")
    with open_saver(place.url) as again:
        assert {each.thread_id for each in again.interrupts()} == {*threads, "copy"} - {"2"}
        assert (
            again.get_tuple({"configurable": {"thread_id": "copy"}}).checkpoint["channel_values"]["a"][19] == "x" * 1000
        )
    for table in ("checkpoints", "chunks", "waiting"):
        counts = [place.query(f"SELECT count(*) FROM {{s}}.{table}_{part}")[0][0] for part in (0, 1)]
        assert all(counts), table


def test_behind_pgbouncer_in_statement_mode_a_saver_works_once_it_is_set_up(place: Place, server: Server) -> None:
    with (
        pgbouncer(server, mode="statement") as bouncer,
        closing(open_saver(f"{bouncer.url}?schema={place.schema}", prepare=False)) as saver,
    ):
        with pytest.raises(UnsupportedOperation, match=r"statement pooling.*transaction mode"):
            saver.setup()
        with closing(open_saver(place.url)) as direct:
            direct.setup()
        put_values(saver, {"a": 1})
        assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}
