"""What a caller gave up on: it does not go on in the server, and is never stored over what came later."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from checkpoint_base import (
    CheckpointError,
    CorruptCheckpoint,
    SchemaMismatch,
    StoreUnavailable,
    UnsupportedOperation,
    open_saver,
)
from checkpoint_postgres import PostgresSaver, punctual
from checkpoint_postgres.errors import translated
from tests.postgres.conftest import CONFIG, Place, eventually, put_values

LONGEST_WAIT = (
    "SELECT (regexp_match(setting, '^lock_timeout=(\\d+)s$'))[1]::int FROM pg_proc, unnest(proconfig) AS setting "
    "WHERE pronamespace = '{s}'::regnamespace AND proname IN ('put', 'put_writes') AND setting LIKE 'lock_timeout%%'"
)


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Nobody writes to the thread meanwhile, as while it is pruned."""
    with Connection.connect(place.server_url) as other:
        other.execute(f"""SELECT "{place.schema}".take_locks(ARRAY['thread'])""")  # type: ignore[call-overload]
        yield
        other.rollback()


class Clock:
    """By it, a caller's patience is over as soon as its request waits in the server, and not before."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def monotonic(self) -> float:
        return time.monotonic() + (1000 if self._place.waiting() else 0)


def resumed(saver: Any, config: Any) -> Any:
    return saver.get_tuple(config).pending_writes


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_write_that_was_given_up_is_not_stored_over_one_that_came_later(
    place: Place, saver: PostgresSaver, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = put_values(saver, {"a": 1})
    with locked(place):
        for number in range(3):
            with monkeypatch.context() as impatient, pytest.raises(StoreUnavailable, match="has not answered"):
                give_up(place, config, [("__resume__", number)], colour, impatient)
            eventually(lambda: not place.waiting())
    saver.put_writes(config, [("__resume__", "later")], "task")
    assert resumed(saver, config) == [("task", "__resume__", "later")]
    assert place.query("SELECT count(*) FROM {s}.writes") == [(1,)]


def give_up(place: Place, config: Any, writes: Any, colour: str, impatient: pytest.MonkeyPatch) -> None:
    async def use() -> None:
        async with open_saver(place.url, deadline=0) as saver:
            impatient.setattr(punctual, "time", Clock(place))
            await saver.aput_writes(config, writes, "task")

    if colour == "async":
        asyncio.run(use())
    else:
        with open_saver(place.url, deadline=0) as saver:
            impatient.setattr(punctual, "time", Clock(place))
            saver.put_writes(config, writes, "task")


def test_a_reader_that_gives_up_leaves_nobody_waiting_in_the_server(
    place: Place, saver: PostgresSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_values(saver, {"a": 1})
    with Connection.connect(place.server_url) as other, open_saver(place.url, deadline=0) as reader:
        other.execute(f'LOCK TABLE "{place.schema}".checkpoints')  # type: ignore[call-overload]  # as VACUUM FULL does
        with monkeypatch.context() as impatient:
            impatient.setattr(punctual, "time", Clock(place))
            with pytest.raises(StoreUnavailable, match="has not answered"):
                reader.get_tuple(CONFIG)
        eventually(lambda: not place.waiting())
        other.rollback()
        assert reader.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}


def test_a_server_that_cannot_be_told_either_is_left_after_a_moment(
    place: Place, saver: PostgresSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_values(saver, {"a": 1})
    monkeypatch.setattr(punctual, "CANCELLED_WITHIN", 0.2)
    with place.proxied() as (proxy, url), open_saver(url, deadline=0) as through:
        through.get_tuple(CONFIG)
        proxy.freeze()
        with monkeypatch.context() as impatient:
            impatient.setattr(punctual, "ANSWER_SECONDS", 0.2)
            with pytest.raises(StoreUnavailable, match="has not answered"):
                through.get_tuple(CONFIG)
        proxy.thaw()
        assert through.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}


def test_the_server_gives_up_a_write_before_its_caller_does(place: Place, saver: PostgresSaver) -> None:
    config = put_values(saver, {"a": 1})
    # A put waits for two things one after the other: for what removes from its thread, and for the thread's row.
    longest = [seconds for (seconds,) in place.query(LONGEST_WAIT)]
    assert len(longest) == 2
    assert max(longest) * 2 < punctual.ANSWER_SECONDS

    for function in ("put", "put_writes"):
        place.query(
            f"DO 'BEGIN EXECUTE (SELECT ''ALTER FUNCTION '' || oid::regprocedure || '' SET lock_timeout = 100'' "
            f"FROM pg_proc WHERE proname = ''{function}'' AND pronamespace = ''{{s}}''::regnamespace); END'"
        )
    # A connection of the user's waits for as long as its server does.
    with (
        psycopg.connect(place.server_url, application_name=place.application) as given,
        PostgresSaver(given, schema=place.schema, deadline=0) as impatient,
        PostgresSaver(given, schema=place.schema, deadline=20) as patient,
    ):
        with locked(place):
            for act in (
                lambda: impatient.put_writes(config, [("__resume__", "earlier")], "task"),
                lambda: put_values(impatient, {"a": 2}),
            ):
                with pytest.raises(StoreUnavailable, match="lock timeout"):
                    act()
            assert not place.waiting()
        patient.put_writes(config, [("__resume__", "later")], "task")
        assert resumed(patient, config) == [("task", "__resume__", "later")]
    assert place.query("SELECT count(*) FROM {s}.checkpoints") == [(1,)]


@pytest.mark.parametrize("code", ["25P03", "25P04", "40P01", "55P03", "57014", "57P05"])
def test_what_the_server_ended_because_it_took_too_long_may_be_repeated(place: Place, code: str) -> None:
    assert isinstance(raised_with(place, code), StoreUnavailable)


def test_what_met_another_in_an_index_that_is_being_rebuilt_may_be_repeated(place: Place) -> None:
    """While REINDEX CONCURRENTLY ran, a few of ten thousand first steps of threads did, in spite of ON CONFLICT."""
    assert isinstance(raised_with(place, "23505"), StoreUnavailable)


@pytest.mark.parametrize(
    "code", ["08006", "25006", "40001", "53100", "53200", "53300", "57P01", "57P02", "57P03", "58030"]
)
def test_what_a_server_could_not_do_at_the_moment_may_be_repeated(place: Place, code: str) -> None:
    """It was a standby, short of room or connections, starting or shutting down, say."""
    assert isinstance(raised_with(place, code), StoreUnavailable)


@pytest.mark.parametrize(
    ("codes", "kind", "says"),
    [
        (["XX001", "XX002"], CorruptCheckpoint, "found damage: no. Restore the database from a backup"),
        (["26000", "42P05"], UnsupportedOperation, "open the saver with prepare=False"),
        (["28000", "28P01", "3D000"], UnsupportedOperation, "refuses the connection: no"),
        (["42P01", "42883", "3F000", "42703", "42P02"], SchemaMismatch, r"lacks what .* \(no\): call setup\(\)"),
        (["42P07", "42723", "42710"], SchemaMismatch, r"another program's tables \(no\): choose another schema"),
    ],
    ids=["damage", "pooler", "refusal", "not set up", "another program"],
)
def test_what_would_be_the_same_when_repeated_is_told_with_what_to_do_about_it(
    place: Place, codes: list[str], kind: type[CheckpointError], says: str
) -> None:
    for code in codes:
        error = raised_with(place, code)
        assert isinstance(error, kind), code
        assert re.search(says, str(error)), code


def raised_with(place: Place, code: str) -> CheckpointError:
    with psycopg.connect(place.server_url) as given, pytest.raises(psycopg.Error) as raised:
        given.execute(f"DO 'BEGIN RAISE ''no'' USING ERRCODE = ''{code}''; END'".encode())
    return translated(raised.value)
