"""How a saver is opened, on what, and what it does to connections."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, Connection, IsolationLevel
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from checkpoint_base import CheckpointError, StoreUnavailable, UnsupportedOperation, open_saver
from checkpoint_postgres import AsyncPostgresSaver, PostgresSaver, connections
from checkpoint_postgres.errors import translated
from tests.faults.proxy import Proxy
from tests.postgres.conftest import CONFIG, Place, checkpoint_of, put_values

GRAPH = """
import asyncio, operator, sys
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict):
    said: Annotated[list[str], operator.add]

builder = StateGraph(State).add_node("answer", lambda state: {"said": ["yes"]}).add_edge(START, "answer")
DB_URI = sys.argv[1]
write_config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
read_config = {"configurable": {"thread_id": "1"}}
chat = {"configurable": {"thread_id": "2"}}
checkpoint = {
    "v": 4, "ts": "2024-07-31T20:14:19.804150+00:00", "id": "1ef4f797-8335-6428-8001-8a1503f9b875",
    "channel_values": {"my_key": "meow", "node": "node"},
    "channel_versions": {"__start__": 2, "my_key": 3, "start:node": 3, "node": 3},
    "versions_seen": {"__input__": {}, "__start__": {"__start__": 1}, "node": {"start:node": 2}},
}
"""

# The calls of LangGraph's own pages, whose imports name langgraph.checkpoint.postgres and its module aio.
QUICK_STARTS = {
    "sync": """
from checkpoint_postgres import PostgresSaver

with PostgresSaver.from_conn_string(DB_URI) as checkpointer:
    checkpointer.setup()
    checkpointer.put(write_config, checkpoint, {}, {})
    print(checkpointer.get(read_config)["channel_values"])
    print(len(list(checkpointer.list(read_config))))
    graph = builder.compile(checkpointer=checkpointer)
    graph.invoke({"said": ["hello"]}, chat)
    print(graph.invoke({"said": ["again"]}, chat))
""",
    "async": """
from checkpoint_postgres import AsyncPostgresSaver

async def main():
    async with AsyncPostgresSaver.from_conn_string(DB_URI) as checkpointer:
        await checkpointer.setup()
        await checkpointer.aput(write_config, checkpoint, {}, {})
        print((await checkpointer.aget(read_config))["channel_values"])
        print(len([c async for c in checkpointer.alist(read_config)]))
        graph = builder.compile(checkpointer=checkpointer)
        await graph.ainvoke({"said": ["hello"]}, chat)
        print(await graph.ainvoke({"said": ["again"]}, chat))

asyncio.run(main())
""",
}


@pytest.mark.parametrize("colour", QUICK_STARTS)
def test_langgraph_s_quick_start_runs_with_only_the_import_changed(place: Place, colour: str) -> None:
    place.query(f'CREATE DATABASE "{place.schema}"')
    try:
        ran = subprocess.run(
            [sys.executable, "-c", GRAPH + QUICK_STARTS[colour], place.in_database(place.schema)],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines() == [
            "{'my_key': 'meow', 'node': 'node'}",
            "1",
            "{'said': ['hello', 'yes', 'again', 'yes']}",
        ]
    finally:
        place.query(f'DROP DATABASE "{place.schema}" WITH (FORCE)')


def test_a_saver_from_a_connection_string_serves_both_colours_and_closes_what_it_opened(place: Place) -> None:
    async def use_async(saver: PostgresSaver) -> Any:
        return (await saver.aget_tuple(CONFIG)).checkpoint["channel_values"]

    conninfo, _, schema = place.url.rpartition("&schema=")
    with PostgresSaver.from_conn_string(f"{place.url}&max_size=3") as saver:
        put_values(saver, {"a": 1})
        assert asyncio.run(use_async(saver)) == {"a": 1}
        assert place.sessions() >= 1
    assert place.query("SELECT channel FROM {s}.channel_values") == [("a",)]

    async def within() -> None:
        async with AsyncPostgresSaver.from_conn_string(conninfo, schema=schema) as opened:
            await opened.setup()
            assert await use_async(opened) == {"a": 1}
            assert opened.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}

    asyncio.run(within())
    with pytest.raises(UnsupportedOperation, match="the saver is closed"):
        saver.get_tuple(CONFIG)


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_given_connection_stays_open_and_what_was_acknowledged_is_committed(place: Place, autocommit: bool) -> None:
    with Connection.connect(place.server_url, autocommit=autocommit, row_factory=dict_row) as given:
        with PostgresSaver(given, schema=place.schema) as saver:
            config = put_values(saver, {"a": [1]})
            saver.put_writes(config, [("b", 2)], "task")
        assert not given.closed
        assert given.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert place.query("SELECT (SELECT count(*) FROM {s}.checkpoints), (SELECT count(*) FROM {s}.writes)") == [
            (1, 1)
        ]
        given.rollback()
        with pytest.raises(UnsupportedOperation, match="the saver is closed"):
            saver.get_tuple(config)
        assert PostgresSaver(given, schema=place.schema).get_tuple(config).pending_writes == [("task", "b", 2)]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_given_async_connection_stays_open_and_what_was_acknowledged_is_committed(
    place: Place, autocommit: bool
) -> None:
    async def use() -> None:
        async with await AsyncConnection.connect(place.server_url, autocommit=autocommit) as given:
            async with AsyncPostgresSaver(given, schema=place.schema) as saver:
                checkpoint, versions = checkpoint_of(saver, {"a": [1]})
                config = await saver.aput(CONFIG, checkpoint, {}, versions)
                await asyncio.gather(*(saver.aput_writes(config, [("b", n)], f"task {n}") for n in range(5)))
            assert not given.closed
            await given.rollback()
            with pytest.raises(UnsupportedOperation, match="the saver is closed"):
                await saver.aget_tuple(config)
            again = AsyncPostgresSaver(given, schema=place.schema)
            assert len((await again.aget_tuple(config)).pending_writes) == 5

    asyncio.run(use())
    assert place.query("SELECT (SELECT count(*) FROM {s}.checkpoints), (SELECT count(*) FROM {s}.writes)") == [(1, 5)]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_given_pool_stays_open(place: Place, autocommit: bool) -> None:
    options = {"min_size": 1, "max_size": 2, "kwargs": {"autocommit": autocommit}}
    with ConnectionPool(place.server_url, **options) as given:
        with PostgresSaver(given, schema=place.schema) as saver:
            put_values(saver, {"a": 1})
        assert not given.closed
        with pytest.raises(UnsupportedOperation, match="the saver is closed"):
            saver.get_tuple(CONFIG)
        again = PostgresSaver(given, schema=place.schema)
        assert again.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}
        with pytest.raises(UnsupportedOperation, match="made from a ConnectionPool and serves sync methods only"):
            asyncio.run(again.aget_tuple(CONFIG))

    async def use() -> None:
        async with AsyncConnectionPool(place.server_url, open=False, **options) as pool:
            async with PostgresSaver(pool, schema=place.schema) as saver:
                assert (await saver.aget_tuple(CONFIG)).checkpoint["channel_values"] == {"a": 1}
                with pytest.raises(UnsupportedOperation, match="AsyncConnectionPool and serves a… methods only"):
                    saver.get_tuple(CONFIG)
            assert not pool.closed
            with pytest.raises(UnsupportedOperation, match="the saver is closed"):
                await saver.aget_tuple(CONFIG)

    asyncio.run(use())
    with pytest.raises(UnsupportedOperation, match="pool is closed"):
        again.get_tuple(CONFIG)


def test_a_given_connection_with_a_transaction_of_its_user_is_refused_and_left_alone(place: Place) -> None:
    with Connection.connect(place.server_url) as given, PostgresSaver(given, schema=place.schema) as saver:
        given.execute("CREATE TEMP TABLE mine (a int)")
        with pytest.raises(UnsupportedOperation, match="has a transaction open"):
            put_values(saver, {"a": 1})
        given.rollback()
        assert given.execute("SELECT to_regclass('mine')").fetchone() == (None,)
        given.rollback()
        put_values(saver, {"a": 1})


@pytest.mark.parametrize("autocommit", [True, False])
def test_savers_share_a_given_connection(place: Place, autocommit: bool) -> None:
    def use(saver: PostgresSaver, thread: str) -> None:
        try:
            for number in range(40):
                config = put_values(saver, {"a": number}, {"configurable": {"thread_id": thread, "checkpoint_ns": ""}})
                saver.put_writes(config, [("b", number)], "task")
        except CheckpointError as error:
            failed.append(error)

    failed: list[CheckpointError] = []
    with Connection.connect(place.server_url, autocommit=autocommit) as given:
        PostgresSaver(given, schema=place.schema).setup()
        savers = [PostgresSaver(given, schema=place.schema) for _ in range(3)]
        using = [threading.Thread(target=use, args=[saver, str(n)]) for n, saver in enumerate(savers)]
        for one in using:
            one.start()
        for one in using:
            one.join()
        assert failed == []
        assert given.autocommit == autocommit
        given.rollback()  # which takes nothing back

    async def use_async() -> None:
        async with await AsyncConnection.connect(place.server_url, autocommit=autocommit) as given:
            savers = [PostgresSaver(given, schema=place.schema) for _ in range(3)]
            checkpoint, versions = checkpoint_of(savers[0], {"a": 1})
            await asyncio.gather(
                *(
                    saver.aput(
                        {"configurable": {"thread_id": f"async {n}", "checkpoint_ns": ""}}, checkpoint, {}, versions
                    )
                    for saver in savers
                    for n in range(10)
                )
            )
            await given.rollback()

    asyncio.run(use_async())
    assert place.query("SELECT (SELECT count(*) FROM {s}.checkpoints), (SELECT count(*) FROM {s}.writes)") == [
        (130, 120)
    ]


def test_a_given_connection_that_its_user_works_with_meanwhile_is_waited_for(place: Place) -> None:
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            given.execute("SELECT pg_sleep(0.002)")

    with Connection.connect(place.server_url, autocommit=True) as given:
        saver = PostgresSaver(given, schema=place.schema)
        working = threading.Thread(target=work)
        working.start()
        try:
            for number in range(50):
                put_values(saver, {"a": number})
        finally:
            done.set()
            working.join()

    async def use() -> None:
        async with await AsyncConnection.connect(place.server_url, autocommit=True) as given:
            saver = PostgresSaver(given, schema=place.schema)
            sleeping = asyncio.ensure_future(given.execute("SELECT pg_sleep(0.2)"))
            await asyncio.sleep(0.05)
            assert (await saver.aget_tuple(CONFIG)).checkpoint["channel_values"] == {"a": 49}
            assert sleeping.done()
            await sleeping

    asyncio.run(use())
    assert place.query("SELECT count(*) FROM {s}.checkpoints") == [(50,)]


def test_a_transaction_that_is_busy_is_not_taken_part_in(place: Place) -> None:
    """On a connection with autocommit, too: what was stored within would go when it is rolled back."""

    def work() -> None:
        with given.transaction(force_rollback=True):
            begun.set()
            given.execute("SELECT pg_sleep(0.3)")
            assert tried.wait(20)

    begun, tried = threading.Event(), threading.Event()
    with Connection.connect(place.server_url, autocommit=True) as given:
        saver = PostgresSaver(given, schema=place.schema)
        saver.setup()
        working = threading.Thread(target=work)
        working.start()
        begun.wait()
        with pytest.raises(UnsupportedOperation, match="has a transaction open"):
            put_values(saver, {"a": 1})
        tried.set()
        working.join()
        put_values(saver, {"a": 2})
    assert place.query("SELECT count(*) FROM {s}.checkpoints") == [(1,)]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_given_connection_in_a_pipeline_is_refused(place: Place, autocommit: bool) -> None:
    with Connection.connect(place.server_url, autocommit=autocommit) as given:
        saver = PostgresSaver(given, schema=place.schema)
        with given.pipeline(), pytest.raises(UnsupportedOperation, match=r"in use by .* pipeline\(\)"):
            saver.setup()
        put_values(saver, {"a": 1})

    async def use() -> None:
        async with await AsyncConnection.connect(place.server_url, autocommit=autocommit) as given, given.pipeline():
            await PostgresSaver(given, schema=place.schema).aget_tuple(CONFIG)

    with pytest.raises(UnsupportedOperation, match=r"in use by .* pipeline\(\)"):
        asyncio.run(use())
    assert place.query("SELECT count(*) FROM {s}.checkpoints") == [(1,)]


def test_a_given_connection_whose_user_still_reads_rows_is_not_waited_for_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "POOL_SECONDS", 0.1)
    with Connection.connect(place.server_url, autocommit=True) as given:
        saver = PostgresSaver(given, schema=place.schema, deadline=0)
        saver.setup()
        for _ in given.cursor().stream("SELECT generate_series(1, 2)"):
            with pytest.raises(StoreUnavailable, match="has been in use for 0 seconds: give the saver one of its own"):
                saver.get_tuple(CONFIG)
        assert saver.get_tuple(CONFIG) is None

    async def use() -> None:
        async with await AsyncConnection.connect(place.server_url, autocommit=True) as given:
            saver = PostgresSaver(given, schema=place.schema, deadline=0)
            async for _ in given.cursor().stream("SELECT generate_series(1, 2)"):
                with pytest.raises(StoreUnavailable, match="has been in use for 0 seconds"):
                    await saver.aget_tuple(CONFIG)
            assert await saver.aget_tuple(CONFIG) is None

    asyncio.run(use())


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_given_connection_of_another_encoding_is_refused(place: Place, encoding: str) -> None:
    with PostgresSaver.from_conn_string(place.server_url, schema=place.schema) as saver:
        put_values(saver, {"a": 1})
    with Connection.connect(place.server_url, client_encoding=encoding) as given:
        with pytest.raises(UnsupportedOperation, match=f"speaks {encoding}: .* client_encoding=UTF8"):
            PostgresSaver(given, schema=place.schema).get_tuple(CONFIG)
        given.rollback()
        given.execute("SET client_encoding = 'UTF8'")
        given.commit()
        assert PostgresSaver(given, schema=place.schema).get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}
    options = {"min_size": 1, "max_size": 1, "kwargs": {"client_encoding": encoding}}
    with (
        ConnectionPool(place.server_url, open=True, **options) as pool,
        pytest.raises(UnsupportedOperation, match=f"speaks {encoding}: .* client_encoding=UTF8"),
    ):
        PostgresSaver(pool, schema=place.schema).get_tuple(CONFIG)

    async def use() -> None:
        async with await AsyncConnection.connect(place.server_url, client_encoding=encoding) as given:
            await PostgresSaver(given, schema=place.schema).aput_writes(CONFIG, [("a", 1)], "task")

    with pytest.raises(UnsupportedOperation, match=f"speaks {encoding}: .* client_encoding=UTF8"):
        asyncio.run(use())


def test_connections_of_our_own_have_utf8_whatever_the_url_and_the_environment_say(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Any = {"configurable": {"thread_id": "日本", "checkpoint_ns": ""}}
    with monkeypatch.context() as environment, open_saver(f"{place.url}&client_encoding=LATIN1") as saver:
        environment.setenv("PGCLIENTENCODING", "SQL_ASCII")
        put_values(saver, {"a": "é"}, config)
        assert [each.thread_id for each in saver.threads()] == ["日本"]
        assert asyncio.run(saver.aget_tuple(config)).checkpoint["channel_values"] == {"a": "é"}
    assert place.query("SELECT thread_id FROM {s}.threads") == [("日本",)]


def test_a_lost_given_connection_is_told_and_a_closed_one_is_too(place: Place) -> None:
    with PostgresSaver(Connection.connect(place.server_url), schema=place.schema, deadline=0.2) as saver:
        connection = saver.store.transport._connections._connection
        pid = connection.info.backend_pid
        place.query("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(StoreUnavailable, match=r"terminating connection|given connection is lost"):
            saver.get_tuple(CONFIG)
        with pytest.raises(StoreUnavailable, match="give the saver a pool"):
            saver.get_tuple(CONFIG)
        connection.close()
    with PostgresSaver(Connection.connect(place.server_url), schema=place.schema) as saver:
        saver.store.transport._connections._connection.close()
        with pytest.raises(UnsupportedOperation, match="given connection is closed"):
            saver.get_tuple(CONFIG)


def test_an_isolation_level_of_a_given_connection_is_its_user_s_and_stays(place: Place) -> None:
    with Connection.connect(place.server_url) as given, PostgresSaver(given, schema=place.schema) as saver:
        given.isolation_level = IsolationLevel.SERIALIZABLE
        config = put_values(saver, {"a": 1})
        saver.delete_thread("another")
        assert saver.get_tuple(config) is not None
        assert given.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        assert not given.autocommit


def test_options_stand_in_the_url_beside_those_of_libpq(place: Place) -> None:
    own = "prepare=false&min_size=2&max_size=5&deadline=7"
    url = f"{place.url}&{own}&connect_timeout=4&options=-cwork_mem%3D5MB%20-cmy.setting%3Da+b"
    with open_saver(url, compression="zstd") as saver:
        assert isinstance(saver, PostgresSaver)
        put_values(saver, {"a": 1})
        transport = saver.store.transport
        assert (transport._prepare, saver.transport.deadline) == (False, 7)
        with transport._connections.lent(takes_long=False) as connection:
            shown = connection.execute("SELECT current_setting('work_mem'), current_setting('my.setting')").fetchone()
            assert shown == ("5MB", "a+b")  # libpq's plus is no blank
            assert connection.info.get_parameters()["connect_timeout"] == "4"
        pool = transport._connections._pools.get().blocking
        assert (pool.min_size, pool.max_size) == (2, 5)
    assert place.tables


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://localhost/x?max_size=0", "max_size='0': write a whole number"),
        ("postgresql://localhost/x?max_size=2&min_size=3", "min_size=3 and max_size=2"),
        ("postgresql://localhost/x?prepare=maybe", "write true or false"),
        ("postgresql://localhost/x?schema=", "schema is empty"),
        ("postgresql://localhost/x?schema=pg_mine", "does not begin with pg_"),
        ("postgresql://localhost/x?schema=a$b", r"no \$"),
        ("postgresql://localhost/x?schema=100%25", "no %"),
        ("postgresql://localhost/x?schema=a%25sb", "no %"),
        (f"postgresql://localhost/x?schema={'é' * 32}", "1 to 63 bytes"),
        ("postgresql://localhost/x?schema=a&schema=b", "given twice"),
        ("postgresql://localhost/x?no_such_option=1", "connection string cannot be read"),
        ("postgresql://user:se cret%@localhost/x", "connection string cannot be read"),
        ("postgresql://a..b/x", "connection string cannot be read"),
        (f"postgresql://localhost,{'a' * 70}.example/x", "connection string cannot be read"),
        ("postgresql://user:my@cret@localhost/x", "characters of .* as %XX"),
        ("postgres://user:pa@cret/word@localhost:5432/x", "characters of .* as %XX"),
        ("postgresql://user:pass/cret@localhost:5432/x", "characters of .* as %XX"),
        ("postgresql://cret@tenant:pass@localhost/x", "characters of .* as %XX"),
    ],
)
def test_what_is_wrong_with_a_url_is_told_without_its_secrets(url: str, message: str) -> None:
    with pytest.raises(UnsupportedOperation, match=message) as raised:
        open_saver(url)
    assert "cret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///x?host=/tmp&user=a@b",
        "postgresql://localhost/x?options=-cmy.name%3Da@b",
        "postgresql://user%40tenant:p%40ss%2Fword@one,two:5433/x",
        "postgresql://user:a?b#c@[::1]:5432/x",
        "host=localhost password=postgres://a@b@c",
    ],
)
def test_what_only_looks_ambiguous_is_a_connection_string(url: str) -> None:
    PostgresSaver.from_conn_string(url).close()


def test_what_a_saver_cannot_be_made_of_is_told() -> None:
    with pytest.raises(UnsupportedOperation, match="1 to 63 bytes"):
        PostgresSaver("postgresql://localhost/x", schema="a\ud800")
    with pytest.raises(UnsupportedOperation, match="or connection of psycopg, not int"):
        PostgresSaver(5)  # type: ignore[arg-type]
    with (
        ConnectionPool("", open=False) as pool,
        pytest.raises(UnsupportedOperation, match="for pools that the saver makes"),
    ):
        PostgresSaver(pool, max_size=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("/postgres?", "/no_such_database?"), 'database "no_such_database" does not exist'),
        (("postgres@", "nobody@"), 'role "nobody" does not exist'),
    ],
)
def test_a_refused_connection_is_told_at_once(place: Place, change: tuple[str, str], message: str) -> None:
    with pytest.raises(UnsupportedOperation, match=message), open_saver(place.url.replace(*change, 1)):
        pass


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    "server", ["no-such-host.invalid", "localhost:99999", "127.0.0.1:99999", "localhost:none", "[::1]:none"]
)
def test_a_server_that_cannot_be_found_is_told_at_once(server: str, colour: str, caplog: Any) -> None:
    saver = PostgresSaver.from_conn_string(f"postgresql://{server}/x")
    with (
        caplog.at_level("INFO", "checkpoint_base"),
        pytest.raises(UnsupportedOperation, match="PostgreSQL refuses the connection"),
    ):
        saver.setup() if colour == "sync" else asyncio.run(saver.asetup())
    assert caplog.messages == []  # of trying again
    saver.close()


def test_a_resolver_that_fails_for_a_moment_is_asked_again() -> None:
    again = f"failed to resolve host 'there': [Errno {socket.EAI_AGAIN}] Temporary failure in name resolution"
    assert type(translated(psycopg.OperationalError(again))) is StoreUnavailable
    never = f"failed to resolve host 'there': [Errno {socket.EAI_NONAME}] Name or service not known"
    assert type(translated(psycopg.OperationalError(never))) is UnsupportedOperation


def test_a_server_that_is_not_there_is_unavailable_and_the_reason_is_told(place: Place) -> None:
    with Proxy("127.0.0.1", 9) as nowhere:
        port = nowhere.port
    with (
        pytest.raises(StoreUnavailable, match="Connection refused"),
        open_saver(f"postgresql://127.0.0.1:{port}/x", deadline=0.1),
    ):
        pass


def test_why_a_pool_could_not_connect_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "POOL_SECONDS", 0.5)
    place.query(f'CREATE ROLE "{place.schema}" LOGIN SUPERUSER')
    try:
        with open_saver(place.url.replace("postgres@", f"{place.schema}@", 1), deadline=2) as saver:
            put_values(saver, {"a": 1})
            place.query(f'ALTER ROLE "{place.schema}" NOLOGIN')
            place.terminate()
            with pytest.raises(UnsupportedOperation, match="is not permitted to log in"):
                saver.get_tuple(CONFIG)
    finally:
        place.query("DROP SCHEMA {s} CASCADE")
        place.query(f'DROP ROLE "{place.schema}"')


def test_a_pool_whose_connections_are_all_busy_says_so(
    saver: PostgresSaver, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_values(saver, {"a": 1})
    monkeypatch.setattr(connections, "POOL_SECONDS", 0.2)
    with open_saver(f"{place.url}&max_size=1", deadline=0) as narrow:
        assert isinstance(narrow, PostgresSaver)
        with (
            narrow.store.transport._connections.lent(takes_long=False),
            pytest.raises(StoreUnavailable, match="busy for 0 seconds: raise max_size=1"),
        ):
            narrow.get_tuple(CONFIG)


FORKING = """
import os, sys
from checkpoint_base import open_saver
from tests.postgres.conftest import CONFIG, put_values

with open_saver(sys.argv[1]) as saver:
    put_values(saver, {"a": "parent"})
    child = os.fork()
    if child == 0:
        put_values(saver, {"a": "child"})
        os._exit(0 if saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": "child"} else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": "child"}
    put_values(saver, {"a": "parent again"})
    print(len(list(saver.list(CONFIG))))
"""


def test_a_forked_process_opens_connections_of_its_own(place: Place) -> None:
    ran = subprocess.run([sys.executable, "-c", FORKING, place.url], capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "3\n"), ran.stderr


UNANSWERED = """
import asyncio, os, sys
from checkpoint_base import open_saver
from tests.postgres.conftest import CONFIG

async def main():
    saver = open_saver(sys.argv[1])
    await saver.asetup()
    await saver.aget_tuple(CONFIG)
    print("frozen", flush=True)
    sys.stdin.readline()
    await asyncio.wait_for(asyncio.gather(*(saver.aget_tuple(CONFIG) for _ in range(5))), 1)

try:
    asyncio.run(main())
except TimeoutError:
    print("ended", flush=True)
    os._exit(0)
"""


def test_an_event_loop_ends_while_its_pool_tries_to_connect(place: Place) -> None:
    host, _, port = place.server_url.partition("@")[2].partition("/")[0].partition(":")
    with Proxy(host, int(port)) as proxy:
        url = place.url.replace(f":{port}", f":{proxy.port}", 1)
        with subprocess.Popen(
            [sys.executable, "-c", UNANSWERED, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            assert program.stdout.readline() == "frozen\n"
            proxy.freeze()
            print(file=program.stdin, flush=True)
            try:
                assert program.wait(30) == 0
                assert program.stdout.read() == "ended\n"
            finally:
                if program.poll() is None:
                    os.kill(program.pid, signal.SIGKILL)
        proxy.thaw()


def test_an_ended_event_loop_leaves_no_connection(place: Place, put: Callable[..., Any]) -> None:
    with open_saver(place.url) as saver:
        put(saver, {"a": 1})
        before = place.sessions()
        for _ in range(3):  # each in a loop of its own, which ends without closing anything
            asyncio.run(saver.aget_tuple(CONFIG))
        asyncio.run(saver.aget_tuple(CONFIG))
        assert place.sessions() <= before + 2
