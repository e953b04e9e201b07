"""Many callers at once: how many requests the server has at the same time, and what a reader sees."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from psycopg import Connection

from checkpoint_base import UnsupportedOperation, open_saver
from checkpoint_base.store import THREADS_AT_ONCE
from checkpoint_postgres import PostgresSaver, connections
from tests.postgres.conftest import CONFIG, Place, checkpoint_of, eventually, put_values

CALLERS = 32
POOL = 16


def config_of(number: int) -> Any:
    return {"configurable": {"thread_id": f"thread {number}", "checkpoint_ns": ""}}


ONE: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": "", "checkpoint_id": "1"}}


@contextmanager
def held_up(place: Place) -> Iterator[None]:
    """While it lasts, the server lets no put finish."""
    with Connection.connect(place.server_url) as other:
        other.execute(f'LOCK TABLE "{place.schema}".threads IN EXCLUSIVE MODE')  # type: ignore[call-overload]
        yield
        other.rollback()


def under_way(place: Place) -> int:
    """How many requests of savers the server is working on at this moment."""
    return place.query(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state = 'active'", [place.application]
    )[0][0]


def fill(place: Place) -> int:
    """Wait until as many requests as the pool has connections are under way; how many are a moment later."""
    eventually(lambda: under_way(place) >= POOL)
    time.sleep(0.5)  # for one too many
    return under_way(place)


def test_as_many_threads_work_at_once_as_the_pool_has_connections(place: Place) -> None:
    with open_saver(f"{place.url}&max_size={POOL}") as saver:
        working = [
            threading.Thread(target=put_values, args=[saver, {"a": number}, config_of(number)])
            for number in range(CALLERS)
        ]
        with held_up(place):
            for one in working:
                one.start()
            assert fill(place) == POOL
        for one in working:
            one.join()
        for number in range(CALLERS):
            assert saver.get_tuple(config_of(number)).checkpoint["channel_values"] == {"a": number}
    assert place.query("SELECT count(*) FROM {s}.threads") == [(CALLERS,)]


def test_as_many_tasks_work_at_once_as_the_pool_has_connections(place: Place) -> None:
    async def use() -> int:
        async with open_saver(f"{place.url}&max_size={POOL}") as saver:
            checkpoints = [checkpoint_of(saver, {"a": number}) for number in range(CALLERS)]
            with held_up(place):
                putting = [
                    asyncio.ensure_future(saver.aput(config_of(number), checkpoint, {}, versions))
                    for number, (checkpoint, versions) in enumerate(checkpoints)
                ]
                most = await asyncio.to_thread(fill, place)
            await asyncio.gather(*putting)
        return most

    assert asyncio.run(use()) == POOL
    assert place.query("SELECT count(*) FROM {s}.threads") == [(CALLERS,)]


def test_nothing_stays_open_of_event_loops_that_have_ended(place: Place) -> None:
    """They may be many, and a server takes 100 connections by default."""

    async def use(saver: PostgresSaver) -> None:
        await asyncio.gather(*(saver.aget_tuple(config_of(number)) for number in range(CALLERS)))

    def is_open() -> int:
        return place.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [place.application])[0][
            0
        ]

    with PostgresSaver.from_conn_string(f"{place.url}&max_size=4") as saver:
        users = [threading.Thread(target=asyncio.run, args=(use(saver),)) for _ in range(5)]
        for user in users:
            user.start()
        for user in users:
            user.join()
        eventually(lambda: is_open() <= 2)  # those of sync callers
        before = is_open()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(use(saver))
        loop.close()
        assert is_open() > before
        saver.get_tuple(config_of(0))
        eventually(lambda: is_open() <= 2)


def test_tasks_wait_for_their_turn_for_as_long_as_others_have_theirs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the line, that is: whoever waits for the pool itself is turned away when the time is up, served or not."""
    monkeypatch.setattr(connections, "POOL_SECONDS", 60)

    async def use(narrow: PostgresSaver) -> int:
        async with narrow:
            await asyncio.gather(*(narrow.aget_tuple(config_of(number)) for number in range(30)))
            pool = await narrow.store.transport._connections._pools.get().per_loop.get()
            found: dict[str, int] = pool.get_stats()
            assert found["requests_num"] > 30
            return found.get("requests_queued", 0)

    assert asyncio.run(use(PostgresSaver.from_conn_string(f"{place.url}&max_size=1", deadline=0))) == 0


def test_a_listing_holds_no_connection_while_its_caller_works(place: Place) -> None:
    with open_saver(f"{place.url}&max_size=1", deadline=1) as saver:
        for number in range(3):
            put_values(saver, {"a": number})
        assert [saver.get_tuple(found.config).checkpoint["channel_values"]["a"] for found in saver.list(CONFIG)] == [
            2,
            1,
            0,
        ]


def test_a_reader_never_sees_half_of_a_put(place: Place) -> None:
    """Each put has a value of many chunks; a reader finds all of it, or the checkpoint before."""
    wrong: list[Any] = []
    done = threading.Event()

    def read(saver: PostgresSaver) -> None:
        while not done.is_set():
            found = saver.get_tuple(CONFIG)
            values = found.checkpoint["channel_values"] if found else {"a": ["0"] * 30, "b": 0}
            if {part[0] for part in values["a"]} != {str(values["b"])[0]}:
                wrong.append(values)

    with open_saver(place.url) as writer, open_saver(place.url) as reader:
        reading = [threading.Thread(target=read, args=[reader]) for _ in range(3)]
        for one in reading:
            one.start()
        for number in range(1, 10):
            put_values(writer, {"a": [str(number) * 2000] * 30, "b": number})
        done.set()
        for one in reading:
            one.join()
    assert wrong == []


MANY = [f"thread {number}" for number in range(200)]


@pytest.mark.parametrize(
    "remove",
    [
        lambda saver: saver.prune(MANY),
        lambda saver: saver.prune(MANY, strategy="delete"),
        lambda saver: saver.delete_for_runs(["run 0", "no such run"]),
    ],
    ids=["prune", "delete", "delete_for_runs"],
)
def test_who_removes_from_many_threads_holds_up_nobody_who_writes_to_others(
    place: Place, remove: Callable[[PostgresSaver], None]
) -> None:
    with open_saver(place.url) as saver, open_saver(place.url, deadline=0) as writer, ExitStack() as then:
        assert isinstance(saver, PostgresSaver)
        for run in ("run 0", "run 1"):
            for number, _ in enumerate(MANY):
                put_values(saver, {"a": run}, config_of(number), run_id=run)
        other = then.enter_context(Connection.connect(place.server_url))
        # Somebody has changed the thread that comes in the middle, and does not commit.
        other.execute(f'SELECT FROM "{place.schema}".threads WHERE thread_id = %s FOR UPDATE', ["thread 164"])  # type: ignore[call-overload]
        removing = threading.Thread(target=remove, args=[saver])
        removing.start()
        then.callback(removing.join)
        then.callback(other.rollback)
        eventually(place.waiting)
        [(held,)] = place.query(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = ANY(%s)", [place.waiting()]
        )
        assert held <= THREADS_AT_ONCE
        for number in range(1000, 1040):
            put_values(writer, {"a": 1}, config_of(number))
        # What came before is done, for everybody to see.
        assert place.query("SELECT count(*) FROM {s}.checkpoints") < [(2 * len(MANY) + 40,)]
        then.close()
    left = place.query("SELECT run_id, count(*) FROM {s}.checkpoints WHERE run_id IS NOT NULL GROUP BY run_id")
    assert left in ([], [("run 1", len(MANY))])


def test_a_checkpoint_that_comes_while_its_run_is_deleted_goes_with_it_or_stays_whole(place: Place) -> None:
    """The threads of a run are looked up first: one of them may have got more of it before it is locked."""
    with open_saver(place.url) as saver, open_saver(place.url) as writer:
        assert isinstance(saver, PostgresSaver)
        put_values(saver, {"a": 1}, run_id="run")
        requests = []
        inner = saver.store.transport
        execute = inner.execute

        def late(request: Any) -> Any:
            requests.append(request)
            if len(requests) == 2:
                put_values(writer, {"a": 2}, run_id="run")
                put_values(writer, {"a": 3}, run_id="other")
            return execute(request)

        inner.execute = late  # type: ignore[method-assign]
        saver.delete_for_runs(["run"])
        del inner.execute
        assert len(requests) == 2
        assert [found.checkpoint["channel_values"] for found in writer.list(CONFIG)] == [{"a": 3}]
    assert place.query("SELECT run_id FROM {s}.checkpoints") == [("other",)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_database_s_default_isolation_level_is_refused_and_not_suffered(
    place: Place, saver: PostgresSaver, level: str
) -> None:
    config = put_values(saver, {"a": 1}, run_id="run")
    url = f"{place.url}&options=-cdefault_transaction_isolation%3D{level.replace(' ', '%5C%20')}"
    with open_saver(url, deadline=0) as strict:
        acts: list[Callable[[], Any]] = [
            lambda: put_values(strict, {"a": 2}),
            lambda: strict.put_writes(config, [("a", 2)], "task"),
            lambda: strict.prune(["thread"], strategy="delete"),
            lambda: strict.prune(["thread"]),
            lambda: strict.delete_for_runs(["run"]),
            lambda: strict.copy_thread("thread", "copy"),
        ]
        for act in acts:
            with pytest.raises(
                UnsupportedOperation, match=r"^transactions must be .*: do not change default_transaction_isolation"
            ):
                act()
    assert place.query("SELECT (SELECT count(*) FROM {s}.checkpoints), (SELECT count(*) FROM {s}.writes)") == [(1, 0)]


def waits(place: Place) -> list[str]:
    """What the sessions of savers wait for, one by one."""
    return [
        what
        for (what,) in place.query(
            "SELECT wait_event FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock' "
            "ORDER BY wait_event",
            [place.application],
        )
    ]


@pytest.mark.parametrize(
    "write",
    [
        lambda saver: put_values(saver, {"a": 2}),
        lambda saver: saver.put_writes(ONE, [("a", 2)], "other task"),
    ],
    ids=["beside put", "beside put_writes"],
)
@pytest.mark.parametrize(
    ("act", "waits_for"),
    [
        (lambda saver: put_values(saver, {"a": 2}), "relation"),
        (lambda saver: saver.put_writes(ONE, [("a", 1)], "task"), "relation"),
        (lambda saver: saver.prune(["thread"]), "advisory"),
        (lambda saver: saver.delete_thread("thread"), "advisory"),
        (lambda saver: saver.delete_for_runs(["run"]), "advisory"),
        (lambda saver: saver.copy_thread("thread", "copy"), "advisory"),
        (lambda saver: saver.copy_thread("no such thread", "thread"), "advisory"),
    ],
    ids=["put", "put_writes", "prune", "delete", "delete_for_runs", "copy from", "copy to"],
)
def test_whoever_removes_or_copies_waits_for_the_thread_s_writers_who_wait_for_its_row_only(
    place: Place,
    saver: PostgresSaver,
    act: Callable[[PostgresSaver], Any],
    waits_for: str,
    write: Callable[[PostgresSaver], Any],
) -> None:
    put_values(saver, {"a": 1}, run_id="run")
    writing = threading.Thread(target=write, args=[saver])
    acting = threading.Thread(target=act, args=[saver])
    with held_up(place):
        writing.start()
        eventually(lambda: waits(place) == ["relation"])
        acting.start()
        eventually(lambda: len(waits(place)) == 2 or not acting.is_alive())
        waited_for = waits(place)
    writing.join()
    acting.join()
    assert waited_for == [waits_for, "relation"]


def test_locks_of_several_threads_are_taken_in_one_order(place: Place, saver: PostgresSaver) -> None:
    """Whoever waits for the first lock holds none of the others, which another may hold who waits for this one."""
    [(first, *others)] = place.query(
        "SELECT array_agg(name ORDER BY hashtext(name)) FROM unnest(ARRAY['a', 'b', 'c', 'd']) AS name"
    )[0]
    acting = [
        threading.Thread(target=saver.prune, args=[named]) for named in ([first, *others], [*others, first], [*others])
    ]
    with Connection.connect(place.server_url) as other:
        other.execute(f"""SELECT "{place.schema}".take_locks(%s)""", [[first]])  # type: ignore[call-overload]
        for one in acting[:2]:
            one.start()
        eventually(lambda: waits(place) == ["advisory", "advisory"])
        acting[2].start()
        eventually(lambda: not acting[2].is_alive(), "somebody holds what it needs")
        other.rollback()
    for one in acting:
        one.join()
