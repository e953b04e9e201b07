"""How a saver is opened, on what, and what it does to connections."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random
from string import ascii_letters
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from langgraph.types import Interrupt
from psycopg import connection_async
from psycopg_pool import ConnectionPool

from checkpoint_base import (
    CorruptCheckpoint,
    InvalidKey,
    StoreUnavailable,
    UnsupportedOperation,
    open_saver,
)
from checkpoint_base.keys import version_key
from checkpoint_postgres import AsyncPostgresSaver, PostgresSaver
from checkpoint_postgres.errors import translated
from checkpoint_postgres.store import MAX_CHANNEL_BYTES
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
    with place.database() as url:
        ran = subprocess.run(
            [sys.executable, "-c", GRAPH + QUICK_STARTS[colour], url],
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


def test_a_url_may_have_a_pool_keep_no_connection_open(place: Place) -> None:
    with open_saver(f"{place.url}&min_size=0") as saver:
        put_values(saver, {"a": 1})
        found = asyncio.run(saver.aget_tuple(CONFIG))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"a": 1}


def test_options_stand_in_the_url_beside_those_of_libpq(place: Place) -> None:
    own = "prepare=false&min_size=2&max_size=5&deadline=7"
    url = f"{place.url}&{own}&connect_timeout=4&options=-cwork_mem%3D5MB%20-cmy.setting%3Da+b"
    with open_saver(url, compression="zstd") as saver:
        assert isinstance(saver, PostgresSaver)
        put_values(saver, {"a": 1})
        transport = saver.store.transport
        assert (transport._prepare, saver.deadline) == (False, 7)
        with transport._connections.lent() as connection:
            shown = connection.execute("SELECT current_setting('work_mem'), current_setting('my.setting')").fetchone()
            assert shown == ("5MB", "a+b")  # libpq's plus is no blank
            assert connection.info.get_parameters()["connect_timeout"] == "4"
        pool = transport._connections._pools.get().blocking.made
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
        (("&schema=", "&sslmode=on&schema="), 'invalid sslmode value: "on"'),
        (("&schema=", "&target_session_attrs=rw&schema="), 'invalid target_session_attrs value: "rw"'),
        (("&schema=", "&options=-cnone%3D1&schema="), 'unrecognized configuration parameter "none"'),
    ],
)
def test_a_refused_connection_is_told_at_once(place: Place, change: tuple[str, str], message: str) -> None:
    with pytest.raises(UnsupportedOperation, match=message), open_saver(place.url.replace(*change, 1)):
        pass


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    "server", ["no-such-host.invalid", "localhost:99999", "127.0.0.1:99999", "localhost:none", "[::1]:none"]
)
def test_a_server_that_cannot_be_found_is_told_at_once(
    server: str, colour: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "no-such-host.invalid":  # the network may have no server of names just now
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    saver = PostgresSaver.from_conn_string(f"postgresql://{server}/x")
    with (
        caplog.at_level("INFO", "checkpoint_base"),
        pytest.raises(UnsupportedOperation, match="PostgreSQL refuses the connection"),
    ):
        saver.setup() if colour == "sync" else asyncio.run(saver.asetup())
    assert [message for message in caplog.messages if "trying again" in message] == []
    saver.close()


def test_the_event_loop_that_psycopg_refuses_on_windows_is_told_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_async, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop, raising=False)
    saver = open_saver(place.url)
    with (
        caplog.at_level("INFO", "checkpoint_base"),
        pytest.raises(UnsupportedOperation, match="cannot use the 'ProactorEventLoop'"),
    ):
        asyncio.run(saver.aget_tuple(CONFIG))
    assert [message for message in caplog.messages if "trying again" in message] == []
    saver.close()


@pytest.mark.parametrize(
    "refused",
    [
        'connection to server at "certificates.internal" (10.0.0.1), port 5432 failed: Connection refused',
        'connection failed: connection to server on socket "/run/invalid value/.s.PGSQL.5432" failed: No such file',
    ],
)
def test_a_server_that_is_down_is_not_taken_for_a_refusal_by_its_name(refused: str) -> None:
    assert type(translated(psycopg.OperationalError(refused))) is StoreUnavailable


def test_a_socket_that_is_not_there_yet_is_waited_for_whatever_its_folder_is_called(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saver = open_saver(f"postgresql:///postgres?host={tmp_path}/certificates", deadline=0.5)
    with caplog.at_level("INFO", "checkpoint_base"), pytest.raises(StoreUnavailable, match="certificates"):
        saver.get_tuple(CONFIG)
    saver.close()
    assert any("trying again" in message for message in caplog.messages)


def test_a_resolver_that_fails_for_a_moment_is_asked_again() -> None:
    again = f"failed to resolve host 'there': [Errno {socket.EAI_AGAIN}] Temporary failure in name resolution"
    assert type(translated(psycopg.OperationalError(again))) is StoreUnavailable
    never = f"failed to resolve host 'there': [Errno {socket.EAI_NONAME}] Name or service not known"
    assert type(translated(psycopg.OperationalError(never))) is UnsupportedOperation


def test_a_server_that_is_not_there_is_unavailable_and_the_reason_is_told(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # so that nobody else listens there
        saver = open_saver(f"postgresql://127.0.0.1:{taken.getsockname()[1]}/x", deadline=0.1)
        with closing(saver), pytest.raises(StoreUnavailable, match="Connection refused"):
            saver.setup()


def test_the_name_of_a_channel_is_as_long_as_an_index_can_hold_or_refused(saver: PostgresSaver) -> None:
    random = Random(1)  # or the server would compress it
    config: Any = {"configurable": {"thread_id": "".join(random.choices(ascii_letters, k=512)), "checkpoint_ns": ""}}
    checkpoint, versions = checkpoint_of(saver, {"a": 1})
    name = "".join(random.choices(ascii_letters, k=MAX_CHANNEL_BYTES - len(version_key(versions["a"]))))
    for channel in (name, name[:-2] + "é"):
        checkpoint.update(channel_values={channel: 1}, channel_versions={channel: versions["a"]})
        saver.put(config, checkpoint, {}, {channel: versions["a"]})
        assert saver.get_tuple(config).checkpoint["channel_values"] == {channel: 1}
    for channel in (name + "a", name[:-1] + "é", "𝄞" * (MAX_CHANNEL_BYTES // 4)):
        checkpoint.update(channel_values={channel: 1}, channel_versions={channel: versions["a"]})
        for known in (checkpoint, {**checkpoint, "channel_versions": {}}):
            with pytest.raises(InvalidKey, match="are longer than 2000 bytes: shorten its name"):
                saver.put(config, known, {}, {channel: versions["a"]})


def test_a_node_that_names_itself_is_damage_and_does_not_keep_the_server_busy(
    place: Place, saver: PostgresSaver
) -> None:
    put_values(saver, {"a": "x" * 2000})
    place.query("UPDATE {s}.chunks SET node = true, body = id || id")
    with pytest.raises(CorruptCheckpoint, match="channel 'a'"):
        saver.get_tuple(CONFIG)


@pytest.mark.parametrize(
    "damage",
    [
        "versions = '{{}}'",
        "versions = '{{NULL}}'",
        "channels = '{{NULL}}'",
        "open_channels = '{{NULL}}'",
        "terms = '{{NULL}}'",
    ],
)
def test_a_damaged_checkpoint_is_told_and_hides_no_other_thread_from_the_inbox(
    damage: str, place: Place, saver: PostgresSaver
) -> None:
    for thread_id in ("t1", "t2", "t3"):
        config = put_values(saver, {"a": 1}, {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
        saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
    place.query(f"UPDATE {{s}}.checkpoints SET {damage} WHERE thread_id = 't2'")
    for listed in (saver.interrupts(order="oldest"), saver.threads(order="oldest")):
        assert [(each.thread_id, bool(each.error)) for each in listed] == [("t1", False), ("t2", True), ("t3", False)]
    with pytest.raises(CorruptCheckpoint, match=r"thread 't2'.*delete the thread"):
        list(saver.history({"configurable": {"thread_id": "t2"}}))
