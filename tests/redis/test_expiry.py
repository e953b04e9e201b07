"""A thread on Redis expires as a whole, its entries in the index with it, and leaves nothing behind."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from itertools import pairwise
from typing import Any

import pytest
from langgraph.types import Interrupt

from checkpoint_base import CheckpointSaver, ConflictError
from checkpoint_base.transport import Retrying
from checkpoint_redis import RedisSaver, chunks, scripts, store
from checkpoint_redis.transport import OneAttempt
from tests.redis.conftest import CONFIG, config_of, of_one_bucket, put, values_of

Keys = Callable[[], set[bytes]]

_RANDOM = random.Random(3)
LARGE = {"large": [_RANDOM.randbytes(700).hex() for _ in range(1200)]}
"""More than one request carries, so it is staged."""


def key_of(saver: CheckpointSaver, thread_id: str = "thread") -> str:
    key: str = saver.store._keys(thread_id)[0]  # type: ignore[attr-defined]
    return key


def ask(saver: CheckpointSaver, config: Any) -> None:
    saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")


def swept(saver: CheckpointSaver) -> None:
    """What any writing or listing does beside its own work, until all is done."""
    for _ in range(20):
        list(saver.threads())


@pytest.fixture
def short(redis_url: str, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver(redis_url, prefix=prefix, ttl=100) as saver:
        yield saver


def expire(saver: CheckpointSaver, *thread_ids: str) -> None:
    """Let threads expire by a last write, however long everything before has taken."""
    store_: Any = saver.store
    usual, store_._ttl = store_._ttl, 200  # longer than a script takes
    for thread_id in thread_ids:
        saver.put_writes(config_of(thread_id, "last"), [("a", "last")], "last")
    store_._ttl = usual
    time.sleep(0.3)


def test_a_thread_expires_with_all_that_it_has_and_with_its_index_entries(short: RedisSaver, keys: Keys) -> None:
    config = put(short, {**LARGE, "small": 1}, metadata={"source": "loop", "step": 1, "run_id": "run"})
    ask(short, config)
    child = {"configurable": {**CONFIG["configurable"], "checkpoint_ns": "child:1"}}
    put(short, {"b": 2}, child)
    assert [waiting.thread_id for waiting in short.interrupts()] == ["thread"]
    expire(short, "thread")
    assert values_of(short) is None
    assert short.get_tuple(child) is None
    assert list(short.list(CONFIG)) == []
    assert list(short.list(None)) == []
    assert list(short.threads()) == []
    assert list(short.interrupts()) == []
    short.delete_for_runs(["run"])
    assert keys() == set()


def test_what_nobody_asks_for_any_more_leaves_the_index_too(short: RedisSaver, raw: Any, keys: Keys) -> None:
    for number in range(30):
        ask(short, put(short, {"a": number}, config_of(f"t{number}")))
    expire(short, *(f"t{number}" for number in range(30)))
    assert {key for key in keys() if b":thread:" in key and raw.exists(key)} == set()
    assert keys()  # only the index knows of them
    swept(short)
    assert keys() == set()


BESIDE: dict[str, Callable[[RedisSaver, str, str], object]] = {
    "put": lambda saver, other, _: put(saver, {"a": 2}, config_of(other)),
    "put_writes": lambda saver, other, _: saver.put_writes(config_of(other, "checkpoint"), [("a", 2)], "task"),
    "copy_thread": lambda saver, other, copy: saver.copy_thread(other, copy),
    "prune": lambda saver, other, _: saver.prune([other]),
    "delete_thread": lambda saver, other, _: saver.delete_thread(other),
    "delete_for_runs": lambda saver, *_: saver.delete_for_runs(["another run"]),
    "list": lambda saver, other, _: list(saver.list(config_of(other))),
    "threads": lambda saver, other, _: list(saver.threads(thread_id=other)),
    "interrupts": lambda saver, *_: list(saver.interrupts()),
}


@pytest.mark.parametrize("operation", BESIDE)
def test_what_is_done_for_another_thread_of_its_bucket_removes_an_expired_thread_from_the_index(
    operation: str, short: RedisSaver, raw: Any
) -> None:
    index, (gone, other, copy) = of_one_bucket(short, 3)
    for name in (gone, other):
        put(short, {"a": 1}, config_of(name))
    expire(short, gone)

    def entries() -> list[bytes]:
        return [entry for entry in raw.zrange(index, 0, -1) if gone.encode() in entry]

    assert entries()
    BESIDE[operation](short, other, copy)
    assert entries() == []


@pytest.mark.parametrize("listing", ["threads", "list"])
def test_a_listing_that_meets_many_expired_threads_forgets_some_of_them_and_shows_none(
    listing: str, redis_url: str, raw: Any, prefix: str, keys: Keys
) -> None:
    """All are in one bucket, whose script would otherwise keep the server busy until it has forgotten every one."""
    with RedisSaver(redis_url, prefix=prefix, ttl=100) as saver, RedisSaver(redis_url, prefix=prefix, ttl=2) as short:
        index, names = of_one_bucket(saver, 20)
        span = 1.0
        while True:
            for name in names:
                for number in range(60):
                    put(saver, {"n": number}, config_of(name))
            together = time.monotonic() + span
            for name in names:
                short.store._ttl = max(1, round(1000 * (together - time.monotonic())))  # type: ignore[attr-defined]
                put(short, {"n": 60}, config_of(name))
            if time.monotonic() < together:
                break
            span *= 4  # so slow that some have expired before others were stored
        time.sleep(span + 0.1)
        sizes = [raw.zcard(index)]
        execute = saver.store.transport.execute

        def noted(request: Any) -> Any:
            answer = execute(request)
            sizes.append(raw.zcard(index))
            return answer

        saver.store.transport.execute = noted  # type: ignore[method-assign]
        assert list(saver.threads() if listing == "threads" else saver.list(None)) == []
        assert 500 < max(before - after for before, after in pairwise(sizes)) < 2000 < sizes[0]
        swept(saver)
        assert keys() == set()


def test_every_write_of_a_thread_puts_its_expiry_off(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix, ttl=100) as saver:
        config = put(saver, {"a": 1})
        writes: list[Callable[[], Any]] = [
            lambda: put(saver, {"a": 2}, config),
            lambda: saver.put_writes(config, [("a", 1)], "task"),
            lambda: ask(saver, config),
            lambda: put(saver, LARGE, config),
        ]
        for write in writes:
            raw.pexpire(key_of(saver), 50_000)
            write()
            assert 50_000 < raw.pttl(key_of(saver)) <= 100_000


def test_reading_puts_the_expiry_off_when_asked_to_and_never_brings_it_nearer(
    redis_url: str, raw: Any, prefix: str
) -> None:
    with (
        RedisSaver(redis_url, prefix=prefix, ttl=100) as writer,
        RedisSaver(redis_url, prefix=prefix, ttl=200, refresh_on_read=True) as keeper,
        RedisSaver(redis_url, prefix=prefix, ttl=1, refresh_on_read=True) as hasty,
    ):
        config = put(writer, {"a": 1})

        def time_left() -> int:
            return int(raw.pttl(key_of(writer)))

        for saver in (writer, hasty):
            values_of(saver)
            list(saver.list(CONFIG))
            assert 50_000 < time_left() <= 100_000
        list(keeper.list(None))
        list(keeper.threads())
        assert time_left() <= 100_000
        reads: list[Callable[[], Any]] = [
            lambda: values_of(keeper),
            lambda: keeper.get_tuple(config),
            lambda: list(keeper.list(CONFIG)),
            lambda: list(keeper.history(CONFIG)),
            lambda: keeper.get_delta_channel_history(config=config, channels=["a"]),
        ]
        for read in reads:
            put(writer, {"a": 1})
            assert time_left() <= 100_000
            read()
            assert 100_000 < time_left() <= 200_000
        assert [found.thread_id for found in writer.threads()] == ["thread"]


def test_a_reader_makes_no_thread_expire_and_a_writer_without_a_ttl_makes_one_stay(
    redis_url: str, raw: Any, prefix: str
) -> None:
    with (
        RedisSaver(redis_url, prefix=prefix) as forever,
        RedisSaver(redis_url, prefix=prefix, ttl=100, refresh_on_read=True) as expiring,
    ):
        put(forever, {"a": 1})
        values_of(expiring)
        assert raw.pttl(key_of(forever)) == -1
        put(expiring, {"a": 2})
        assert raw.pttl(key_of(forever)) > 0
        put(forever, {"a": 3})
        assert raw.pttl(key_of(forever)) == -1


def test_an_expired_thread_begins_anew(short: RedisSaver) -> None:
    old = put(short, {"a": 1})
    ask(short, old)
    expire(short, "thread")
    short.put_writes(old, [("a", 2)], "late")  # its checkpoint is gone
    assert values_of(short) is None
    put(short, {"b": 1})
    assert values_of(short) == {"b": 1}
    assert len(list(short.list(CONFIG))) == 1
    assert list(short.interrupts()) == []


def test_a_run_that_relies_on_what_has_expired_stores_it_again(short: RedisSaver) -> None:
    values = {"long": ["x" * 900] * 50, "a": 1}
    config = put(short, values)
    expire(short, "thread")
    found: Any = {"v": 4, "id": "9", "ts": "", "channel_values": values, "versions_seen": {}}
    found["channel_versions"] = {"long": "1", "a": "2"}
    short.put(config, found, {"source": "loop", "step": 2}, {"a": "2"})
    assert values_of(short) == values


# Crashes while a large value is on its way


class Crash(Exception):
    """The process ends here, as far as the store can see."""


class CrashingAfter:
    """Carries out so many requests and then fails."""

    def __init__(self, saver: CheckpointSaver, requests: int) -> None:
        self._inner = saver.store.transport
        self._left = requests
        saver.transport = Retrying(self, deadline=0)  # type: ignore[arg-type]

    def execute(self, request: Any) -> Any:
        if not self._left:
            raise Crash
        self._left -= 1
        return self._inner.execute(request)

    def close(self) -> None:
        self._inner.close()


def crashed(redis_url: str, prefix: str, act: Callable[[RedisSaver], Any], requests: int, **options: Any) -> None:
    with RedisSaver(redis_url, prefix=prefix, **options) as saver:
        CrashingAfter(saver, requests)
        with pytest.raises(Crash):
            act(saver)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STAGED_MS", 300)


def crash_at_the_end_of_time(redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of what was staged be over, by another writer that stages the same and dies."""
    with monkeypatch.context() as patch:
        patch.setattr(store, "STAGED_MS", 1)
        crashed(redis_url, prefix, lambda saver: put(saver, LARGE), requests=1)
    time.sleep(0.05)


def test_pieces_of_a_new_thread_that_were_never_taken_over_expire(
    redis_url: str, prefix: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed(redis_url, prefix, lambda saver: put(saver, LARGE), requests=1)
    with RedisSaver(redis_url, prefix=prefix) as saver:
        assert len(keys()) == 1
        assert values_of(saver) is None
        assert list(saver.threads()) == []
        crash_at_the_end_of_time(redis_url, prefix, monkeypatch)
        assert keys() == set()


@pytest.mark.parametrize("begins", ["before", "after"])
def test_pieces_that_were_never_taken_over_leave_a_thread_that_stays(
    begins: str, redis_url: str, raw: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        if begins == "before":
            put(saver, {"a": 1})
        crashed(redis_url, prefix, lambda saver: put(saver, LARGE), requests=1)
        if begins == "after":
            put(saver, {"a": 1})

        def pieces() -> int:
            return sum(field[:1] in b"#+q" for field in raw.hkeys(key_of(saver)))

        assert pieces() > 100
        crash_at_the_end_of_time(redis_url, prefix, monkeypatch)
        swept(saver)
        assert pieces() == 0
        assert values_of(saver) == {"a": 1}


def test_pieces_of_a_new_thread_go_in_time_if_somebody_else_begins_it(
    redis_url: str, raw: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        span = 1.0
        while True:
            began = time.monotonic()
            with monkeypatch.context() as patch:
                patch.setattr(store, "STAGED_MS", round(1000 * span))
                crashed(redis_url, prefix, lambda saver: put(saver, LARGE), requests=1)
            put(saver, {"a": 1})
            if time.monotonic() - began < span:
                break
            saver.delete_thread("thread")
            span *= 4  # so slow that their time was over before somebody else came
        assert raw.hlen(key_of(saver)) > 100
        time.sleep(span + 0.1)
        swept(saver)
        assert raw.hlen(key_of(saver)) < 10
        assert values_of(saver) == {"a": 1}


def test_pieces_that_somebody_else_took_over_stay(soon: None, redis_url: str, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        crashed(redis_url, prefix, lambda saver: put(saver, LARGE), requests=1)
        put(saver, LARGE)
        time.sleep(0.4)
        swept(saver)
        with RedisSaver(redis_url, prefix=prefix) as reader:
            assert values_of(reader) == LARGE


@pytest.mark.parametrize("by", ["put", "put_writes", "copy_thread"])
def test_pieces_that_a_small_value_consists_of_too_stay(by: str, soon: None, redis_url: str, prefix: str) -> None:
    part = LARGE["large"][:300]
    with RedisSaver(redis_url, prefix=prefix) as saver:
        config = put(saver, {"a": 1})
        crashed(redis_url, prefix, lambda dying: put(dying, LARGE), requests=1)
        if by == "put":
            put(saver, {"a": part}, config)
        elif by == "put_writes":
            saver.put_writes(config, [("a", part)], "task")
        else:
            saver.copy_thread("thread", "copy")
            put(saver, {"a": part}, config_of("copy"))
            saver.copy_thread("copy", "thread")
        time.sleep(0.4)
        swept(saver)
        with RedisSaver(redis_url, prefix=prefix) as reader:
            found = reader.get_tuple(CONFIG)
            assert found is not None
            if by == "put_writes":
                assert found.pending_writes == [("task", "a", part)]
            else:
                assert found.checkpoint["channel_values"] == {"a": part}


@pytest.mark.parametrize("pieces", ["all", "all but the last", "the first"])
@pytest.mark.parametrize("gone", ["deleted", "pruned"])
def test_pieces_that_nobody_took_over_are_nothing_to_rely_on(
    gone: str, pieces: str, redis_url: str, raw: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"large": [random.Random(n).randbytes(2000) for n in range(1500)]}
    staged = {"all": slice(None), "all but the last": slice(-1), "the first": slice(1)}[pieces]
    with RedisSaver(redis_url, prefix=prefix) as knows, RedisSaver(redis_url, prefix=prefix) as dies:
        put(knows, value)  # so it has seen every chunk
        if gone == "pruned":
            put(knows, {"large": 1})
            knows.prune(["thread"])
        else:
            knows.delete_thread("thread")
        execute = dies.store.transport.execute

        def cut_off(request: Any) -> Any:
            if isinstance(request, list) and request[0].script is scripts.STAGE:
                execute(request[staged])
                raise Crash
            if isinstance(request, OneAttempt):  # the dead take nothing back
                raise Crash
            return execute(request)

        dies.store.transport.execute = cut_off  # type: ignore[method-assign]
        with monkeypatch.context() as soon:
            soon.setattr(store, "STAGED_MS", 300)
            with pytest.raises(Crash):
                put(dies, value)

        put(knows, value)
        with RedisSaver(redis_url, prefix=prefix) as reader:
            assert values_of(reader) == value
            time.sleep(0.4)
            swept(reader)
            assert values_of(reader) == value
        assert not raw.hexists(key_of(knows), b"q")


@pytest.mark.parametrize("begins", [False, True], ids=["a new thread", "a thread that stays"])
def test_the_body_of_a_long_leaf_without_its_entry_goes_too(
    begins: bool, redis_url: str, raw: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (store, chunks):
        monkeypatch.setattr(module, "PIECE_BYTES", 64 * 1024)
    value = {"large": random.Random(5).randbytes(5_000_000)}
    with RedisSaver(redis_url, prefix=prefix) as saver:
        if begins:
            put(saver, {"a": 1})
        before = raw.hlen(key_of(saver))
        execute, sent = saver.store.transport.execute, []

        def cut_off(request: Any) -> Any:
            if isinstance(request, list) and request[0].script is scripts.STAGE:
                sent.extend(request)
                execute(request[:1])
                raise Crash
            if isinstance(request, OneAttempt):  # the dead take nothing back
                raise Crash
            return execute(request)

        saver.store.transport.execute = cut_off  # type: ignore[method-assign]
        with pytest.raises(Crash):
            put(saver, value)
        assert len(sent) == store.PIECES_AT_ONCE
        assert raw.hlen(key_of(saver)) > before
        with monkeypatch.context() as patch:
            patch.setattr(store, "STAGED_MS", 1)
            with pytest.raises(Crash):
                put(saver, value)
        time.sleep(0.05)
        swept(saver)
        assert raw.hlen(key_of(saver)) == before
        saver.store.transport.execute = execute  # type: ignore[method-assign]
        put(saver, value)
        assert values_of(saver) == value


def test_a_copy_that_was_cut_off_leaves_nothing(
    redis_url: str, raw: Any, prefix: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, LARGE)
        before = keys()
        crashed(redis_url, prefix, lambda saver: saver.copy_thread("thread", "copy"), requests=3)
        [left] = keys() - before
        assert raw.delete(left)
        monkeypatch.setattr(store, "STAGED_MS", 1)
        crashed(redis_url, prefix, lambda saver: saver.copy_thread("thread", "copy"), requests=3)
        time.sleep(0.05)
        assert keys() == before
        assert values_of(saver, config_of("copy")) is None


def test_a_copy_of_which_a_part_was_lost_is_made_again(
    redis_url: str, raw: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, LARGE)
        transport, lost = saver.store.transport, []

        def lossy(request: Any, execute: Callable[[Any], Any] = transport.execute) -> Any:
            answer = execute(request)
            copies = list(raw.scan_iter(match=f"{prefix}*copy*", count=10_000))
            if copies and not lost:  # as if the server had failed over to a replica that lagged behind
                lost.append(raw.hdel(copies[0], *raw.hkeys(copies[0])[:5]))
            return answer

        monkeypatch.setattr(transport, "execute", lossy)
        saver.copy_thread("thread", "copy")
        assert lost == [5]
        assert values_of(saver, config_of("copy")) == LARGE
        assert raw.keys(f"{prefix}:*copy:*") == []


# Any interleaving


@pytest.mark.parametrize("seed", range(3))
def test_no_interleaving_of_expiry_writes_reads_and_crashes_leaves_anything_behind(
    seed: int, soon: None, redis_url: str, raw: Any, prefix: str, keys: Keys
) -> None:
    """Threads that expire all the time; in the end nothing is there, and until then nothing is there by halves."""
    chance = random.Random(seed)
    large = {"large": [chance.randbytes(700).hex() for _ in range(1000)]}
    options = {"prefix": prefix, "ttl": 0.05}
    with RedisSaver(redis_url, **options) as saver, RedisSaver(redis_url, refresh_on_read=True, **options) as other:
        configs = [config_of(f"t{number}") for number in range(4)]
        expected: dict[str, list[Any]] = {config["configurable"]["thread_id"]: [None] for config in configs}

        def step() -> None:
            one, config = chance.choice((saver, other)), chance.choice(configs)
            thread_id = config["configurable"]["thread_id"]
            act = chance.choices(
                ("put", "writes", "ask", "large", "crash", "copy", "prune", "delete", "read", "wait"),
                (6, 3, 3, 1, 1, 2, 2, 1, 6, 6),
            )[0]
            if act in ("put", "large"):
                values = {"n": chance.random(), "long": ["y" * 800] * 5} if act == "put" else large
                # A large one takes several requests, between which what it has sent may expire.
                with suppress(ConflictError) if act == "large" else nullcontext():
                    put(one, values, config, {"source": "loop", "step": 1, "run_id": f"run{chance.randrange(3)}"})
                    expected[thread_id].append(values)
            elif act == "writes":
                one.put_writes(config_of(thread_id, "1"), [("a", "x" * 900)], "task")
            elif act == "ask":
                found = one.get_tuple(config)
                if found:
                    ask(one, found.config)
            elif act == "crash":
                lost = {"large": [chance.randbytes(700).hex() for _ in range(1000)]}
                crashed(redis_url, act=lambda crashing: put(crashing, lost, config), requests=1, **options)
            elif act == "copy":
                target = chance.choice(configs)["configurable"]["thread_id"]
                with suppress(ConflictError):
                    one.copy_thread(thread_id, target)
                    expected[target] += expected[thread_id]
            elif act == "prune":
                one.prune([thread_id])
            elif act == "delete":
                one.delete_thread(thread_id)
            elif act == "read":
                # Half a thread would raise, or be a value that nobody stored.
                assert values_of(one, config) in expected[thread_id]
                for each in one.list(config):
                    assert each.checkpoint["channel_values"] in expected[thread_id]
                assert {info.thread_id for info in one.threads()} <= expected.keys()
                assert {info.thread_id for info in one.interrupts()} <= expected.keys()
            else:
                time.sleep(chance.choice((0.01, 0.06)))
            for key in keys():
                # Whatever is there expires, but for an index: it is emptied by whoever comes by.
                assert key.endswith(b":index") or raw.pttl(key) != -1, key

        for _ in range(120):
            step()
        time.sleep(0.4)
        swept(saver)
        assert keys() == set()


def test_a_thread_that_expires_before_it_is_stored_leaves_no_part(redis_url: str, raw: Any, prefix: str) -> None:
    """Its script takes longer than a millisecond."""
    values = {f"channel {number}": "x" * 500 for number in range(1000)}
    with RedisSaver(redis_url, prefix=prefix, ttl=0.001) as saver:
        for number in range(50):
            config = config_of(f"t{number}")
            with suppress(ConflictError):  # it expires between the requests that store it, say
                put(saver, values, config)
            assert raw.hlen(key_of(saver, f"t{number}")) != 1
            assert values_of(saver, config) in (None, values)
