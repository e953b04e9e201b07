"""What is too large for one message of PostgreSQL's, which has 1 GB: answers are cut, requests refused."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import psycopg
import pytest

from checkpoint_base import SerializationError, StoreUnavailable, UnsupportedOperation, open_saver
from checkpoint_base.records import ListQuery
from checkpoint_base.transport import Retrying, run
from checkpoint_postgres import PostgresSaver, punctual, store
from checkpoint_postgres.errors import TooLarge, translated
from tests.conftest import CountingTransport
from tests.postgres.conftest import CONFIG, Place, put_values


def config_of(number: int) -> Any:
    return {"configurable": {"thread_id": f"thread {number % 3}", "checkpoint_ns": ""}}


def allow(place: Place, checkpoints: int) -> None:
    """Have the server say of the contents of more checkpoints what it says of more than 1 GB, which take a while."""
    place.query("ALTER FUNCTION {s}.contents RENAME TO all_contents")
    [(returned,)] = place.query(
        "SELECT pg_get_function_result(oid) FROM pg_proc WHERE oid = '{s}.all_contents'::regproc",
    )
    place.query(
        "CREATE FUNCTION {s}.contents(p_threads text[], p_ns bytea[], p_checkpoints text[]) RETURNS "
        + returned
        + f" LANGUAGE plpgsql STABLE ROWS 1 AS $$ BEGIN IF cardinality(p_checkpoints) > {checkpoints} THEN"
        " RAISE 'array size exceeds the maximum allowed (1073741823)' USING ERRCODE = '54000'; END IF;"
        " RETURN QUERY SELECT * FROM {s}.all_contents(p_threads, p_ns, p_checkpoints); END $$"
    )


@pytest.mark.parametrize("limit", [None, 1, 9, 10, 39])
@pytest.mark.parametrize("thread", [None, "thread 0"])
def test_a_page_too_large_for_one_answer_comes_in_several(
    place: Place, saver: PostgresSaver, limit: int | None, thread: str | None
) -> None:
    expected = []
    for number in range(40):
        config = put_values(saver, {"a": number, "b": ["x" * 2000] * 3}, config_of(number))
        saver.put_writes(config, [("c", number)], "task")
        if thread in (None, config["configurable"]["thread_id"]):
            expected.insert(0, number)
    whole = list(saver.list(None))
    allow(place, 4)
    config: Any = thread and {"configurable": {"thread_id": thread}}
    with open_saver(place.url) as reader:
        found = list(reader.list(config, limit=limit))
        assert [each.checkpoint["channel_values"]["a"] for each in found] == expected[:limit]
        assert found == [each for each in whole if thread in (None, each.config["configurable"]["thread_id"])][:limit]

        async def listed() -> Any:
            return [each async for each in reader.alist(config, limit=limit)]

        assert asyncio.run(listed()) == found


def test_a_page_that_comes_in_several_answers_has_as_many_as_were_asked_for(place: Place, saver: PostgresSaver) -> None:
    for number in range(20):
        put_values(saver, {"a": number})
    allow(place, 4)
    transport = CountingTransport(saver.store.transport)
    ids = [each.record.key.checkpoint_id for each in run(saver.store.list(ListQuery("thread", limit=100)), transport)]
    assert (len(ids), transport.requests) == (20, 5 + 7)  # 100, 50, 25, 12 and 6 are too many; 3 at a time are not
    for limit in (1, 4, 19, 20):
        page = run(saver.store.list(ListQuery("thread", limit=limit)), saver.store.transport)
        assert [each.record.key.checkpoint_id for each in page] == ids[:limit]
    transport.requests = 0
    assert len(run(saver.store.list(ListQuery("thread", limit=100, contents=False)), transport)) == 20
    assert transport.requests == 1


def test_one_checkpoint_that_is_too_large_is_told_with_what_to_do(place: Place, saver: PostgresSaver) -> None:
    put_values(saver, {"a": 1})
    allow(place, 0)
    for read in (lambda: list(saver.list(CONFIG)), lambda: saver.get_tuple(CONFIG)):
        with pytest.raises(UnsupportedOperation, match=r"(?s)array size exceeds .* 1 GB .* history\(\)"):
            read()
    assert len(list(saver.history(CONFIG))) == 1


@pytest.mark.parametrize(
    "too_large",
    [
        "SELECT array_fill(0, ARRAY[300000000])",
        # What it says of a row, which would first have to be made.
        "DO 'BEGIN RAISE ''invalid memory alloc request size 1100000000'' USING ERRCODE = ''XX000''; END'",
    ],
)
def test_what_the_server_says_of_more_than_a_gigabyte_is_understood(place: Place, too_large: str) -> None:
    with psycopg.connect(place.server_url, autocommit=True) as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute(too_large.encode())
    assert isinstance(translated(raised.value), TooLarge), raised.value


def test_a_put_of_more_than_the_server_takes_at_once_is_refused_before_it_is_sent(
    place: Place, saver: PostgresSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = put_values(saver, {"a": 1})
    monkeypatch.setattr(store, "MAX_REQUEST_BYTES", 100_000)
    transport = CountingTransport(saver.store.transport)
    saver.transport = Retrying(transport, deadline=5)
    new = [os.urandom(1000) for _ in range(101)]
    for act in (
        lambda: put_values(saver, {"b": new}, config),
        lambda: put_values(saver, {f"channel {n}": part for n, part in enumerate(new)}, config),
        lambda: saver.put_writes(config, [("b", part) for part in new], "task"),
    ):
        with pytest.raises(SerializationError, match=r"brings 10\d,\d{3} bytes .* at most 100,000 .* its address"):
            act()
    assert transport.requests == 0
    put_values(saver, {"b": new[:90]}, config)
    assert transport.requests == 1
    assert place.query("SELECT (SELECT count(*) FROM {s}.checkpoints), (SELECT count(*) FROM {s}.writes)") == [(2, 0)]


def test_what_is_stored_already_does_not_count(saver: PostgresSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_REQUEST_BYTES", 100_000)
    messages: list[str] = []
    config = CONFIG
    for _ in range(4):
        messages = [*messages, *(os.urandom(20_000).hex() for _ in range(2))]
        config = put_values(saver, {"messages": messages}, config)
    assert saver.get_tuple(config).checkpoint["channel_values"] == {"messages": messages}


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_request_that_brings_much_may_take_the_server_long(
    place: Place, saver: PostgresSaver, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = put_values(saver, {"a": 1})
    place.query(
        "CREATE FUNCTION {s}.wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END'"
    )
    place.query("CREATE TRIGGER slow AFTER INSERT ON {s}.chunks FOR EACH STATEMENT EXECUTE FUNCTION {s}.wait()")
    monkeypatch.setattr(store, "LARGE_BYTES", 100_000)
    little, much = os.urandom(90_000), os.urandom(110_000)

    async def write(value: bytes, impatient: pytest.MonkeyPatch) -> None:
        async with open_saver(place.url, deadline=0) as writer:
            impatient.setattr(punctual, "ANSWER_SECONDS", 0.2)
            await writer.aput_writes(config, [("a", value)], f"{len(value)} bytes")

    def send(value: bytes) -> None:
        with monkeypatch.context() as impatient:
            if colour == "async":
                asyncio.run(write(value, impatient))
            else:
                with open_saver(place.url, deadline=0) as writer:
                    impatient.setattr(punctual, "ANSWER_SECONDS", 0.2)
                    put_values(writer, {"a": value})

    with pytest.raises(StoreUnavailable, match="has not answered"):
        send(little)
    send(much)
    place.query("DROP TRIGGER slow ON {s}.chunks")
    found = saver.get_tuple(CONFIG)
    assert found is not None
    assert much in [found.checkpoint["channel_values"]["a"], *(value for _, _, value in found.pending_writes or ())]


def test_work_that_grows_with_the_data_may_take_the_server_long(place: Place, saver: PostgresSaver) -> None:
    for number in range(4):
        put_values(saver, {"a": number}, config_of(number), run_id="run")
    ours, inner, long = saver.store, saver.store.transport, []

    class Noting(CountingTransport):
        def execute(self, request: Any) -> Any:
            long.append(request.takes_long)
            return super().execute(request)

    for operation in (
        ours.copy_thread("thread 0", "copy"),
        ours.prune(["thread 0"], 1),
        ours.delete_threads(["thread 0"]),
        ours.delete_runs(["run"]),
        ours.delete_runs(["run"], "thread 1"),
    ):
        run(operation, Noting(inner))
    assert long == [True] * 6
    put_values(saver, {"a": 1})
    put_values(saver, {"a": 2})
    allow(place, 1)
    long.clear()
    run(ours.list(ListQuery("thread", limit=4)), Noting(inner))
    assert long == [False, True, True, True, True]  # 4 and 2 are too many; then comes one after the other


def test_reading_a_checkpoint_writes_no_file_in_the_server(place: Place, saver: PostgresSaver) -> None:
    put_values(saver, {"a": os.urandom(20_000_000)})
    with psycopg.connect(place.server_url, autocommit=True, application_name=place.application) as connection:
        written: list[str] = []
        connection.add_notice_handler(lambda diagnostic: written.append(diagnostic.message_primary or ""))
        connection.execute("SET log_temp_files = 0")
        connection.execute("SET client_min_messages = log")
        reader = PostgresSaver(connection, schema=place.schema)
        assert reader.get_tuple(CONFIG) is not None
        assert not written
