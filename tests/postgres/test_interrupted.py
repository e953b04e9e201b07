"""Calls that an exception from outside interrupts in a query, as the handler of a signal does for a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import AsyncConnection, Connection
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn

from checkpoint_base import UnsupportedOperation
from checkpoint_postgres import PostgresSaver
from tests.postgres.conftest import CONFIG, Place, put_values


class TimeLimit(Exception):
    """What the handler raises."""


@contextmanager
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise in the middle of every query, from within what psycopg does."""

    def interrupted(steps: Generator[Any, Any, Any], pgconn: PGconn) -> Generator[Any, Any, Any]:
        sent = None
        try:
            while True:
                waits_for = steps.send(sent)
                if pgconn.transaction_status == TransactionStatus.ACTIVE:
                    raise TimeLimit
                sent = yield waits_for
        except StopIteration as done:
            return done.value

    wait, await_ = Connection.wait, AsyncConnection.wait

    def waiting(self: Any, gen: Any, *arguments: Any, **options: Any) -> Any:
        return wait(self, interrupted(gen, self.pgconn), *arguments, **options)

    async def awaiting(self: Any, gen: Any, *arguments: Any, **options: Any) -> Any:
        return await await_(self, interrupted(gen, self.pgconn), *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "wait", waiting)
        patch.setattr(AsyncConnection, "wait", awaiting)
        yield


REFUSAL = r"a query that has not ended: .* If a call was interrupted, open another connection"


@pytest.mark.parametrize("autocommit", [True, False])
def test_an_interruption_reaches_the_caller_and_the_next_call_says_what_became_of_the_connection(
    place: Place, autocommit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Connection.connect(place.server_url, autocommit=autocommit) as given:
        saver = PostgresSaver(given, schema=place.schema)
        saver.setup()
        with interrupting(monkeypatch), pytest.raises(TimeLimit):
            saver.get_tuple(CONFIG)
        with pytest.raises(UnsupportedOperation, match=REFUSAL):
            saver.get_tuple(CONFIG)
        assert not given.closed
        given.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_an_interruption_of_an_async_call_reaches_the_caller(
    place: Place, autocommit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use() -> None:
        given = await AsyncConnection.connect(place.server_url, autocommit=autocommit)
        saver = PostgresSaver(given, schema=place.schema)
        assert await saver.aget_tuple(CONFIG) is None
        with interrupting(monkeypatch), pytest.raises(TimeLimit):
            await saver.aget_tuple(CONFIG)
        with pytest.raises(UnsupportedOperation, match=REFUSAL):
            await saver.aget_tuple(CONFIG)
        await given.close()

    asyncio.run(use())


def test_a_pool_of_the_saver_goes_on_after_an_interruption(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with PostgresSaver.from_conn_string(place.url) as saver:
        config = put_values(saver, {"a": 1})
        with interrupting(monkeypatch), pytest.raises(TimeLimit):
            saver.put_writes(config, [("a", 1)], "interrupted")
        saver.put_writes(config, [("a", 2)], "next")
    assert ("next",) in place.query("SELECT task_id FROM {s}.writes")
