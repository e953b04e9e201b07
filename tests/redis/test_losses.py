"""What a caller is told when Redis is full, or has lost something."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Interrupt

from checkpoint_base import CheckpointSaver, CorruptCheckpoint, StoreUnavailable, open_saver
from checkpoint_base.listings import ThreadInfo
from checkpoint_redis import RedisSaver
from tests.redis.conftest import CONFIG, config_of, put, values_of
from tests.servers.redis import redis


def test_a_full_server_refuses_to_store_and_still_prunes_and_deletes(prefix: str) -> None:
    with (
        redis("--maxmemory", "8mb", "--maxmemory-policy", "noeviction") as server,
        open_saver(f"{server.url}?prefix={prefix}", deadline=0) as saver,
    ):
        stored: list[str] = []

        def fill() -> None:
            while len(stored) < 1000:
                metadata = {"source": "loop", "step": 1, "run_id": "run" if stored == ["t0"] else "other"}
                put(saver, {"n": len(stored), "bytes": os.urandom(100_000)}, config_of(f"t{len(stored)}"), metadata)
                stored.append(f"t{len(stored)}")

        with pytest.raises(StoreUnavailable, match="maxmemory"):
            fill()
        assert len(stored) > 10
        for number, thread_id in enumerate(stored):
            assert values_of(saver, config_of(thread_id))["n"] == number
        saver.prune(stored)
        saver.delete_for_runs(["run"])
        for thread_id in stored[:5]:
            saver.delete_thread(thread_id)
        put(saver, {"n": -1}, config_of("new"))
        assert len(list(saver.threads())) == len(stored) - 4


def test_what_a_server_evicts_is_corrupt_and_never_absent(prefix: str) -> None:
    with (
        redis("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-random", "--maxmemory-samples", "3") as server,
        open_saver(f"{server.url}?prefix={prefix}", deadline=0) as saver,
    ):
        stored = []
        for number in range(150):
            try:
                put(saver, {"n": number, "bytes": os.urandom(100_000)}, config_of(f"t{number}"))
            except CorruptCheckpoint:  # its index is gone
                continue
            stored.append(number)
        outcomes = {"there": 0, "evicted": 0}
        for number in stored:
            try:
                found = values_of(saver, config_of(f"t{number}"))
            except CorruptCheckpoint:
                outcomes["evicted"] += 1
            else:
                assert found is not None
                assert found["n"] == number
                outcomes["there"] += 1
        assert min(outcomes.values()) > 3, outcomes


def every_act(saver: CheckpointSaver, config: Any) -> dict[str, Callable[[], Any]]:
    return {
        "get_tuple": lambda: saver.get_tuple(CONFIG),
        "get_tuple of a checkpoint": lambda: saver.get_tuple(config),
        "list": lambda: list(saver.list(CONFIG)),
        "list of all": lambda: list(saver.list(None)),
        "threads": lambda: list(saver.threads(thread_id="thread")),
        "interrupts": lambda: list(saver.interrupts(thread_id="thread")),
        "put": lambda: put(saver, {"b": 1}),
        "put_writes": lambda: saver.put_writes(config, [("a", 1)], "task"),
        "prune": lambda: saver.prune(["thread"]),
        "copy_thread": lambda: saver.copy_thread("thread", "copy"),
        "delete_for_runs": lambda: saver.delete_for_runs(["run"]),
    }


ACTS = list(every_act(None, None))  # type: ignore[arg-type]  # their names


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("lost", "ttl"), [("thread", None), ("thread", 100), ("index", None)])
def test_a_key_that_is_lost_makes_every_operation_raise_until_it_is_deleted(
    lost: str, ttl: float | None, act: str, redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix, ttl=ttl) as saver:
        config = put(saver, {"a": 1, "long": ["x" * 900] * 30}, metadata={"source": "loop", "step": 1, "run_id": "run"})
        thread, index = saver.store._keys("thread")  # type: ignore[attr-defined]
        assert raw.delete(thread if lost == "thread" else index) == 1
        if lost == "index" and act in ("get_tuple", "get_tuple of a checkpoint", "copy_thread"):
            every_act(saver, config)[act]()
            assert values_of(saver) == {"a": 1, "long": ["x" * 900] * 30}  # the thread itself is whole
            return
        with pytest.raises(CorruptCheckpoint, match=r"gone from Redis.* \(set maxmemory-policy .*: restore"):
            every_act(saver, config)[act]()
        if lost == "thread":
            saver.delete_thread("thread")
            assert values_of(saver) is None
            put(saver, {"a": 2})
            assert values_of(saver) == {"a": 2}


@pytest.mark.parametrize("lost", ["thread", "index"])
@pytest.mark.parametrize("listing", ["threads", "interrupts"])
def test_a_listing_of_all_threads_raises_if_an_index_is_lost_and_has_an_error_for_a_lost_thread(
    listing: str, lost: str, redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        config = put(saver, {"a": 1})
        saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
        thread, index = saver.store._keys("thread")  # type: ignore[attr-defined]
        assert raw.delete(thread if lost == "thread" else index) == 1
        if lost == "index":
            with pytest.raises(CorruptCheckpoint, match="gone from Redis"):
                list(getattr(saver, listing)())
        else:
            [found] = getattr(saver, listing)()
            place = f"{config['configurable']['checkpoint_id']} of thread 'thread'"
            assert f"{place}: a stored value cannot be read" in found.error


def test_an_emptied_database_serves_open_savers_again_once_one_is_opened(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, {"a": 1})
        raw.delete(*raw.scan_iter(match=f"{prefix}:*"))
        with pytest.raises(CorruptCheckpoint, match=r"was emptied, open the saver again.* docs/redis.md"):
            put(saver, {"a": 2}, config_of("new"))
        with RedisSaver(redis_url, prefix=prefix):
            pass
        put(saver, {"a": 2}, config_of("new"))
        assert [thread.thread_id for thread in saver.threads()] == ["new"]


def test_a_lost_index_is_replaced_as_the_page_says(redis_url: str, raw: Any, prefix: str) -> None:
    """docs/redis.md, "A lost index", step by step."""
    with RedisSaver(redis_url, prefix=prefix) as saver:
        for number in range(3):
            waiting(saver, f"t{number}")
        thread, index = saver.store._keys("t1")  # type: ignore[attr-defined]
        before = [*saver.list(config_of("t1"))], [found.value for found in saver.interrupts(thread_id="t1")]
        others = {found.thread_id for found in saver.threads()} - {"t1"}
        raw.delete(index)
        bucket = thread.removesuffix("t1")
        assert [key.decode() for key in raw.scan_iter(match=f"{bucket}*")] == [thread]
        saver.copy_thread("t1", "saved")
        raw.zadd(index, {"": 0})
        put(saver, {"a": 1}, config_of("new"))
        saver.delete_thread("t1")
        assert {found.thread_id for found in saver.threads()} == {*others, "saved", "new"}
        saver.copy_thread("saved", "t1")
        saver.delete_thread("saved")
        after = [*saver.list(config_of("t1"))], [found.value for found in saver.interrupts(thread_id="t1")]
        assert after == before
        assert before[1] == ["?", "?"]


def waiting(saver: RedisSaver, thread_id: str) -> None:
    """A thread with two questions, of which the root's latest checkpoint is not the thread's greatest."""
    config = put(saver, {"a": 1}, config_of(thread_id))
    for task in ("one", "two"):
        saver.put_writes(config, [("__interrupt__", [Interrupt("?", id=task)])], task)
    put(saver, {"a": 2}, {"configurable": {"thread_id": thread_id, "checkpoint_ns": "child"}})


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [None, 1, 3, 40])
def test_lost_threads_hide_no_others_and_are_listed_once_where_they_were(
    limit: int | None, order: Any, redis_url: str, raw: Any, prefix: str
) -> None:
    def listed_in_pages(list_: Callable[..., Any], **options: Any) -> list[Any]:
        found = more = [*list_(order=order, limit=limit, **options)]
        while limit and more:
            more = [*list_(order=order, limit=limit, after=found[-1].cursor, **options)]
            found = found + more
        return found

    def is_of(each: Any) -> tuple[Any, ...]:
        if isinstance(each, ThreadInfo):
            return each.thread_id, each.created_at, each.updated_at, each.pending_interrupts, each.cursor
        return each.thread_id, each.checkpoint_id, each.task_id, each.created_at, each.cursor

    with RedisSaver(redis_url, prefix=prefix) as saver:
        for number in range(20):
            waiting(saver, f"t{number}")
        before = {list_: listed_in_pages(list_) for list_ in (saver.threads, saver.interrupts)}
        lost = {"t0", "t4", "t5", "t6", "t11", "t19"}
        assert raw.delete(*(saver.store._keys(each)[0] for each in lost)) == len(lost)  # type: ignore[attr-defined]
        for list_, listed in before.items():
            for options in ({}, {"metadata": {"step": 1}}):
                found = listed_in_pages(list_, **options)
                assert [*map(is_of, found)] == [*map(is_of, listed)]
                assert {each.thread_id for each in found if each.error} == lost
            of_others = [each for each in found if each.thread_id not in lost]
            assert of_others == [each for each in listed if each.thread_id not in lost]
            # Whatever the metadata of what is lost, but nothing else without that metadata.
            assert {each.thread_id for each in listed_in_pages(list_, metadata={"step": 2})} == lost
            for thread_id in lost:
                with pytest.raises(CorruptCheckpoint, match=f"'{thread_id}' is gone from Redis"):
                    list(list_(thread_id=thread_id))
        for thread_id in lost:
            saver.delete_thread(thread_id)
        assert listed_in_pages(saver.interrupts) == of_others


def test_a_question_that_is_lost_while_a_page_is_read_is_listed_with_an_error(
    saver: RedisSaver, reader: RedisSaver, raw: Any
) -> None:
    for thread_id in ("t1", "t2"):
        config = put(saver, {"a": 1}, config_of(thread_id))
        question = [os.urandom(700).hex() for _ in range(500)]
        saver.put_writes(config, [("__interrupt__", [Interrupt(question, id="1")])], "task")
    thread, execute = saver.store._keys("t1")[0], reader.store.transport.execute  # type: ignore[attr-defined]

    def evicting(request: Any) -> Any:
        answer = execute(request)
        raw.delete(thread)
        return answer

    reader.setup()
    reader.store.transport.execute = evicting  # type: ignore[method-assign]
    assert [(each.thread_id, bool(each.error)) for each in reader.interrupts()] == [("t2", False), ("t1", True)]


def test_a_thread_of_which_only_a_subgraph_was_stored_is_listed_when_it_is_lost(saver: RedisSaver, raw: Any) -> None:
    put(saver, {"a": 1}, {"configurable": {"thread_id": "thread", "checkpoint_ns": "child"}})
    assert [each.error for each in saver.threads()] == [None]
    assert raw.delete(saver.store._keys("thread")[0]) == 1  # type: ignore[attr-defined]
    assert ["restore it from a backup" in (each.error or "") for each in saver.threads()] == [True]


DAMAGED_ACTS = [
    "put",
    "put of a large value",
    "put_writes",
    "prune",
    "delete_for_runs",
    "copy_thread",
    "copy_thread onto it",
]


@pytest.mark.parametrize("act", DAMAGED_ACTS)
@pytest.mark.parametrize("damage", [b"", b"0017", b"\xff" * 48], ids=["emptied", "cut", "overwritten"])
def test_a_thread_whose_times_are_damaged_is_not_changed_and_can_be_deleted(
    damage: bytes, act: str, redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        config = put(saver, {"a": 1}, metadata={"source": "loop", "step": 1, "run_id": "run"})
        put(saver, {"a": 1}, config_of("source"))
        thread, index = saver.store._keys("thread")  # type: ignore[attr-defined]
        raw.hset(thread, b"m", damage)
        before = raw.hgetall(thread), raw.zrange(index, 0, -1)
        acts = every_act(saver, config) | {
            "put of a large value": lambda: put(saver, {"a": [os.urandom(1000) for _ in range(2000)]}),
            "copy_thread onto it": lambda: saver.copy_thread("source", "thread"),
        }
        with pytest.raises(CorruptCheckpoint, match="'thread' and its index no longer agree"):
            acts[act]()
        assert (raw.hgetall(thread), raw.zrange(index, 0, -1)) == before
        assert saver.get_tuple(config_of("copy")) is None
        with RedisSaver(redis_url, prefix=prefix, ttl=100, refresh_on_read=True) as refreshing:
            assert values_of(refreshing) == {"a": 1}  # what it stores is whole
        assert (raw.hgetall(thread), raw.zrange(index, 0, -1)) == before
        saver.delete_thread("thread")
        assert not raw.exists(thread)
        assert [member for member in raw.zrange(index, 0, -1) if b"thread" in member] == []
        put(saver, {"a": 2})
        assert values_of(saver) == {"a": 2}


@pytest.mark.parametrize("act", ["put again", "put of a checkpoint that asks already", "answer"])
def test_a_write_that_meets_damage_leaves_nothing_half_done(act: str, redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, {"a": 1})
        checkpoint: Any = empty_checkpoint()
        config = config_of("thread", checkpoint["id"])

        def put_checkpoint() -> Any:
            return saver.put(CONFIG, checkpoint, {"source": "loop", "step": 1}, {})

        if act != "put of a checkpoint that asks already":
            put_checkpoint()
        saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
        thread, index = saver.store._keys("thread")  # type: ignore[attr-defined]
        kind = b"c" if act == "put again" else b"p"
        field = max(field for field in raw.hkeys(thread) if field[:1] == kind)
        raw.hset(thread, field, raw.hget(thread, field)[:8])
        before = raw.hgetall(thread), raw.zrange(index, 0, -1)
        with pytest.raises(CorruptCheckpoint, match="'thread'"):
            saver.put_writes(config, [("a", 1)], "task") if act == "answer" else put_checkpoint()
        assert (raw.hgetall(thread), raw.zrange(index, 0, -1)) == before


def test_a_checkpoint_that_damage_makes_look_retired_is_corrupt_and_not_absent(
    redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        configs = [put(saver, {"a": number}) for number in range(2)]
        thread = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
        for field, record in raw.hgetall(thread).items():
            if field[:1] == b"c":
                raw.hset(thread, field, b"x" + record[1:])
        for config in (CONFIG, *configs):
            with pytest.raises(CorruptCheckpoint, match="'thread' and its index no longer agree"):
                saver.get_tuple(config)


def test_a_checkpoint_that_is_lost_has_no_empty_history(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, {"a": 1})
        thread = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
        raw.hdel(thread, *(field for field in raw.hkeys(thread) if field[:1] == b"c"))
        with pytest.raises(CorruptCheckpoint, match="no longer agree"):
            saver.get_delta_channel_history(config=CONFIG, channels=["a"])


def test_one_damaged_time_ends_no_listing_early(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        for number in range(250):
            put(saver, {"a": number}, config_of(f"t{number}"))
        thread = saver.store._keys("t100")[0]  # type: ignore[attr-defined]
        meta = raw.hget(thread, b"m")
        for order, digit in (("newest", b"9"), ("oldest", b"0")):
            raw.hset(thread, b"m", meta[:16] + digit + meta[17:])
            found = {info.thread_id for info in saver.threads(order=order)}
            assert {f"t{number}" for number in range(250)} - found <= {"t100"}
        for at in (0, 16):
            raw.hset(thread, b"m", meta[:at] + b"q" + meta[at + 1 :])
            errors = {info.thread_id: info.error for info in saver.threads()}
            assert len(errors) == 250
            # The time of the last change is the index's.
            assert [thread_id for thread_id, error in errors.items() if error] == ([] if at else ["t100"])
            (alone,) = saver.threads(thread_id="t100")
            assert alone.error == "a stored time is damaged: -1 microseconds since 1970"


@pytest.mark.parametrize("kind", [b"c", b"p"], ids=["checkpoint", "question"])
def test_a_damaged_record_hides_no_other_thread_from_the_inbox(
    kind: bytes, redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        for thread_id in ("t1", "t2", "t3"):
            config = put(saver, {"a": 1}, config_of(thread_id))
            saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
        thread = saver.store._keys("t2")[0]  # type: ignore[attr-defined]
        [field] = [field for field in raw.hkeys(thread) if field[:1] == kind]
        raw.hset(thread, field, raw.hget(thread, field)[:20])
        for options in ({}, {"metadata": {"step": 1}}, {"thread_id": "t2"}):
            questions = {question.thread_id: question for question in saver.interrupts(order="oldest", **options)}
            assert [*questions] == (["t2"] if "thread_id" in options else ["t1", "t2", "t3"])
            assert [thread_id for thread_id, question in questions.items() if question.error] == ["t2"]
        infos = {info.thread_id: info.error for info in saver.threads(metadata={"step": 1})}
        assert infos.keys() == {"t1", "t2", "t3"}
        assert [thread_id for thread_id, error in infos.items() if error] == (["t2"] if kind == b"c" else [])
        saver.delete_thread("t2")
        assert {question.thread_id for question in saver.interrupts()} == {"t1", "t3"}


@pytest.mark.parametrize("task", [b"t\xffsk", b"t\0sk"], ids=["no text", "cut in two"])
@pytest.mark.parametrize("where", ["thread", "index"])
def test_a_damaged_name_of_a_waiting_task_hides_no_other_question(
    where: str, task: bytes, redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        for thread_id in ("t1", "t2", "t3"):
            config = put(saver, {"a": 1}, config_of(thread_id))
            saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
        thread, index = saver.store._keys("t2")  # type: ignore[attr-defined]
        if where == "thread":
            raw.hset(thread, b"m", raw.hget(thread, b"m").replace(b"task", task))
            questions = list(saver.interrupts(thread_id="t2"))
        else:
            [entry] = [entry for entry in raw.zrange(index, 0, -1) if entry.startswith(b"w") and b"t2" in entry]
            raw.zrem(index, entry)
            raw.zadd(index, {entry.replace(b"task", task): 0})
            questions = list(saver.interrupts(order="oldest"))
            assert [question.thread_id for question in questions] == ["t1", "t2", "t3"]
        assert [question.thread_id for question in questions if question.error] == ["t2"]


@pytest.mark.parametrize("act", ["prune", "delete_for_runs"])
@pytest.mark.parametrize("damaged", [b"c", b"w", b"p", b"v"], ids=["record", "list of writes", "write", "value"])
def test_removing_from_a_thread_with_a_damaged_part_that_stays_raises_and_changes_nothing(
    damaged: bytes, act: str, redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        for ns in ("", "child"):
            for step, run in enumerate(("run", "run", "other")):
                metadata = {"source": "loop", "step": step, "run_id": run}
                place = {"configurable": {"thread_id": "thread", "checkpoint_ns": ns}}
                config = put(saver, {"a": step}, place, metadata)
                saver.put_writes(config, [("a", step)], "task")
        thread, index = saver.store._keys("thread")  # type: ignore[attr-defined]
        for field, content in raw.hgetall(thread).items():
            if field[:2] == damaged + b"\0":
                raw.hset(thread, field, content[:3])
        before = raw.hgetall(thread), raw.zrange(index, 0, -1)
        with pytest.raises(CorruptCheckpoint, match="'thread'"):
            every_act(saver, config)[act]()
        assert (raw.hgetall(thread), raw.zrange(index, 0, -1)) == before


def test_removing_a_run_names_a_damaged_thread_and_removes_it_from_all_others_of_its_bucket(
    redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        keys = {name: saver.store._keys(name) for name in map("t{}".format, range(800))}  # type: ignore[attr-defined]
        names = sorted(name for name in keys if keys[name][1] == keys["t0"][1])
        assert len(names) > 8
        for name in names:
            for run in ("run", "another", "other"):
                put(saver, {"a": run}, config_of(name), {"source": "loop", "step": 1, "run_id": run})
        lost, disagreeing, damaged = bad = names[0], names[3], names[-1]
        assert raw.delete(keys[lost][0]) == 1
        raw.hset(keys[disagreeing][0], b"m", b"0017")
        for field in raw.hkeys(keys[damaged][0]):
            raw.hset(keys[damaged][0], field, b"v") if field[:1] == b"c" else None
        for error in ("is gone from Redis", "no longer agree", "is damaged"):
            with pytest.raises(CorruptCheckpoint, match=error) as raised:
                saver.delete_for_runs(["run", "another", "no such run"])
            [named] = [name for name in bad if f"'{name}'" in str(raised.value)]
            assert {name: len(list(saver.list(config_of(name)))) for name in names if name not in bad} == dict.fromkeys(
                (name for name in names if name not in bad), 1
            )
            saver.delete_thread(named)
        saver.delete_for_runs(["run", "another"])
        assert len(list(saver.threads())) == len(names) - len(bad)


def test_removing_a_run_removes_it_from_all_other_buckets_if_an_index_is_lost(
    redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        names = [f"t{number}" for number in range(200)]
        for name in names:
            put(saver, {"a": 1}, config_of(name), {"source": "loop", "step": 1, "run_id": "run"})
        keys = {name: saver.store._keys(name) for name in names}  # type: ignore[attr-defined]
        lost = keys["t0"][1]
        assert raw.delete(lost) == 1
        with pytest.raises(CorruptCheckpoint, match=re.escape(f"the index '{lost}' is gone from Redis")):
            saver.delete_for_runs(["run"])
        assert {name for name in names if raw.exists(keys[name][0])} == {n for n in names if keys[n][1] == lost}


def test_a_damaged_write_of_a_checkpoint_that_goes_does_not_keep_it(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        config = put(saver, {"a": 1})
        saver.put_writes(config, [("a", 1)], "task")
        put(saver, {"a": 2})
        thread, _ = saver.store._keys("thread")  # type: ignore[attr-defined]
        [field] = [field for field in raw.hkeys(thread) if field[:1] == b"p"]
        raw.hset(thread, field, b"")
        saver.prune(["thread"])
        assert not raw.hexists(thread, field)
        assert [found.checkpoint["channel_values"] for found in saver.list(CONFIG)] == [{"a": 2}]


@pytest.mark.parametrize("damaged", [b"c", b"p"], ids=["record", "question"])
@pytest.mark.parametrize(
    ("where", "target"), [("source", "new"), ("source", "copied before"), ("copy", "copied before")]
)
def test_a_copy_that_meets_damage_leaves_nothing_half_done(
    where: str, damaged: bytes, target: str, redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        ask: Any = [("__interrupt__", [Interrupt("?", id="1")])]
        saver.put_writes(put(saver, {"a": 1}, config_of("source")), ask, "task")
        if target == "copied before":
            saver.copy_thread("source", "copy")
        saver.put_writes(put(saver, {"a": 2}, config_of("source")), ask, "task")
        if where == "copy":
            saver.copy_thread("source", "copy")
        thread = saver.store._keys(where)[0]  # type: ignore[attr-defined]
        latest = max(field for field in raw.hkeys(thread) if field[:1] == damaged)
        raw.hset(thread, latest, raw.hget(thread, latest)[:8])
        hash_, index = saver.store._keys("copy")  # type: ignore[attr-defined]
        before = raw.hgetall(hash_), raw.zrange(index, 0, -1)
        with pytest.raises(CorruptCheckpoint, match=f"'{where}'"):
            saver.copy_thread("source", "copy")
        assert (raw.hgetall(hash_), raw.zrange(index, 0, -1)) == before
        assert raw.keys(f"{prefix}:*copy:*") == []


@pytest.mark.parametrize("kind", [b"#", b"c"], ids=["chunk", "checkpoint"])
def test_a_field_that_is_lost_is_corrupt(kind: bytes, redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, {"a": 1, "long": ["x" * 900] * 30})
        thread = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
        fields = [field for field in raw.hkeys(thread) if field[:1] == kind]
        assert fields
        raw.hdel(thread, *fields)
        for read in (lambda: saver.get_tuple(CONFIG), lambda: list(saver.list(CONFIG))):
            with pytest.raises(CorruptCheckpoint):
                read()


def test_a_list_of_writes_that_names_one_of_them_twice_is_corrupt(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        saver.put_writes(put(saver, {"a": 1}), [("a", 1), ("a", 2)], "task")
        thread = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
        [field] = [field for field in raw.hkeys(thread) if field[:1] == b"w"]
        assert raw.hget(thread, field) == b"task\0000\0task\0001\0"
        raw.hset(thread, field, b"task\0000\0task\0000\0")
        for read in (lambda: saver.get_tuple(CONFIG), lambda: list(saver.list(CONFIG))):
            with pytest.raises(CorruptCheckpoint, match="'thread'"):
                read()


def test_nodes_that_refer_to_themselves_are_corrupt_and_keep_nobody_busy(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, {"large": [os.urandom(700).hex() for _ in range(1200)]})
        thread = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
        nodes = [field for field, entry in raw.hgetall(thread).items() if field[:1] == b"#" and entry[:1] == b"n"]
        assert nodes
        raw.hset(thread, mapping={field: raw.hget(thread, field) + field[1:] for field in nodes})
        for read in (lambda: saver.get_tuple(CONFIG), lambda: list(saver.list(None))):
            with pytest.raises(CorruptCheckpoint, match="'thread'"):
                read()
        saver.prune(["thread"])


def test_a_layout_that_is_lost_is_noticed_by_the_next_to_open(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, {"a": 1})
    raw.delete(f"{prefix}:layout")
    with pytest.raises(CorruptCheckpoint, match="evicted"), RedisSaver(redis_url, prefix=prefix):
        pass
