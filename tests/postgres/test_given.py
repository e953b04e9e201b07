"""Connections and pools of the user's, which the saver borrows."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import psycopg
import pytest
from langgraph.types import Interrupt
from psycopg import AsyncConnection, Connection, IsolationLevel
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8BinaryLoader
from psycopg.types.string import TextBinaryLoader
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from checkpoint_base import CheckpointError, StoreUnavailable, UnsupportedOperation
from checkpoint_postgres import AsyncPostgresSaver, PostgresSaver, connections
from tests.postgres.conftest import CONFIG, Place, checkpoint_of, put_values


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
            assert given.autocommit == autocommit
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
        while not done.wait(0.001):  # psycopg's lock is not a fair one
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


class Shouted(TextBinaryLoader):
    def load(self, data: Any) -> str:
        return str(super().load(data)).upper()


class Halved(Int8BinaryLoader):
    def load(self, data: Any) -> Any:
        return super().load(data) / 2


def test_how_the_user_of_a_given_connection_has_values_loaded_is_their_own_affair(place: Place) -> None:
    def saver_on(given: Connection | AsyncConnection) -> PostgresSaver:
        for type_, loader in {"text": Shouted, "int8": Halved}.items():
            given.adapters.register_loader(type_, loader)
        return PostgresSaver(given, schema=place.schema)

    async def use() -> None:
        async with await AsyncConnection.connect(place.server_url) as given:
            assert (await saver_on(given).aget_tuple(CONFIG)).checkpoint["channel_values"] == {"a": "quiet"}

    with Connection.connect(place.server_url) as given:
        saver = saver_on(given)
        config = put_values(saver, {"a": "quiet"})
        saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
        assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": "quiet"}
        assert [(each.thread_id, each.pending_interrupts) for each in saver.threads()] == [("thread", 1)]
        assert given.execute("SELECT 'loud', 3::int8", binary=True).fetchone() == ("LOUD", 1.5)
    asyncio.run(use())


def terminate(place: Place, connection: Any) -> None:
    """End its session, as an administrator may; it is gone when this returns."""
    place.query("SELECT pg_terminate_backend(%s, 60000)", [connection.info.backend_pid])


def test_why_a_given_async_connection_was_lost_is_told(place: Place, saver: PostgresSaver) -> None:
    async def use() -> None:
        async with await AsyncConnection.connect(place.server_url) as given:
            terminate(place, given)
            with pytest.raises(StoreUnavailable, match="terminating connection"):
                await PostgresSaver(given, schema=place.schema, deadline=0).aget_tuple(CONFIG)

    asyncio.run(use())


def test_a_lost_given_connection_is_told_and_a_closed_one_is_too(place: Place) -> None:
    with PostgresSaver(Connection.connect(place.server_url), schema=place.schema, deadline=0) as saver:
        connection = saver.store.transport._connections._connection
        terminate(place, connection)
        with pytest.raises(StoreUnavailable, match="terminating connection"):
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


def test_what_is_given_does_not_serve_two_event_loops_at_once(place: Place) -> None:
    """Two loops that share a pool of psycopg leave each other waiting."""

    async def use() -> None:
        async with (
            AsyncConnectionPool(place.server_url, open=False, min_size=1) as pool,
            await AsyncConnection.connect(place.server_url) as connection,
        ):
            for given in (pool, connection):
                saver = PostgresSaver(given, schema=place.schema)
                await saver.asetup()
                with pytest.raises(UnsupportedOperation, match="in use on another event loop"):
                    await asyncio.to_thread(asyncio.run, saver.aget_tuple(CONFIG))
                assert await saver.aget_tuple(CONFIG) is None

    asyncio.run(use())


def test_a_given_async_connection_serves_one_event_loop_after_the_other(saver: PostgresSaver, place: Place) -> None:
    given = asyncio.run(AsyncConnection.connect(place.server_url))
    on_given = PostgresSaver(given, schema=place.schema)

    async def read() -> None:  # some wait for their turn
        assert await asyncio.gather(*(on_given.aget_tuple(CONFIG) for _ in range(3))) == [None] * 3

    for _ in range(2):
        asyncio.run(read())
    asyncio.run(given.close())
