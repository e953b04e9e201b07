"""What is sent ahead of a large value, or of a copy, goes again when the value is not stored; also on a full server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from zlib import crc32

import pytest
import redis as redis_py
from langgraph.checkpoint.base import empty_checkpoint
from redis.exceptions import ConnectionError as RedisConnectionError

from checkpoint_base import CheckpointSaver, ConflictError, StoreUnavailable, UnsupportedOperation, open_saver
from checkpoint_redis import RedisSaver, scripts, store
from checkpoint_redis.scripts import Script
from checkpoint_redis.transport import Call, OneAttempt, RedisTransport
from tests.redis.conftest import CONFIG, aput, config_of, put, values_of

MB = 1024 * 1024

_RANDOM = random.Random(11)
LARGE = {"large": [_RANDOM.randbytes(700).hex() for _ in range(1200)]}
"""More than one call carries, so it is staged."""


def clients_of(url: str) -> list[Any]:
    """A client for each server of this URL, which has nothing to do with a saver."""
    hosts = url.partition("://")[2].split(",")
    return [redis_py.Redis(port=int(host.partition("/")[0].rpartition(":")[2])) for host in hosts]


def left_behind(url: str, prefix: str) -> dict[bytes, list[bytes]]:
    """The copies, the threads with something staged and what that is, and what the indexes have about it."""
    found: dict[bytes, list[bytes]] = {}
    for client in clients_of(url):
        with client:
            for key in client.scan_iter(match=f"{prefix}:*", count=10_000):
                if b":copy:" in key:
                    found[key] = []
                elif b":thread:" in key and (listed := client.hget(key, "q")) is not None:
                    found[key] = [listed]
                elif b":thread:" in key and not client.hexists(key, "m"):
                    found[key] = client.hkeys(key)
                elif key.endswith(b":index") and (members := client.zrangebylex(key, "[q", "(r")):
                    found[key] = members
    return found


@contextmanager
def room_for(bytes_: int, url: str) -> Iterator[None]:
    """Let each server take so much more; none may take much beyond that."""
    with ExitStack() as stack:
        limits, most = {}, {}
        for client in clients_of(url):
            stack.enter_context(client)
            client.config_set("maxmemory-policy", "noeviction")
            memory = client.info("memory")
            limits[client] = max(memory["used_memory"] + bytes_, MB)
            client.config_set("maxmemory", limits[client])
            # What comes in is in buffers first, and these count. A server keeps its peak of earlier tests.
            most[client] = max(limits[client] + int(2.5 * store.PIECES_AT_ONCE * MB), memory["used_memory_peak"])
        try:
            yield
            for client in limits:
                assert client.info("memory")["used_memory_peak"] <= most[client]
        finally:
            for client in limits:
                client.config_set("maxmemory", 0)


@pytest.fixture(params=["redis", "oldest", "valkey", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    named: Any = {
        "redis": "redis_url",
        "oldest": "oldest_server",
        "valkey": "valkey_server",
        "cluster": "cluster_server",
    }
    found = request.getfixturevalue(named[request.param])
    return found if isinstance(found, str) else found.url


def blocking_put(saver: CheckpointSaver, thread_id: str, value: Any) -> None:
    put(saver, {"large": value}, config_of(thread_id))


def async_put(saver: CheckpointSaver, thread_id: str, value: Any) -> None:
    asyncio.run(aput(saver, {"large": value}, config_of(thread_id)))


def blocking_writes(saver: CheckpointSaver, thread_id: str, value: Any) -> None:
    saver.put_writes(config_of(thread_id, "1"), [("a", value)], "task")


def async_writes(saver: CheckpointSaver, thread_id: str, value: Any) -> None:
    asyncio.run(saver.aput_writes(config_of(thread_id, "1"), [("a", value)], "task"))


def blocking_copy(saver: CheckpointSaver, thread_id: str, _: Any) -> None:
    saver.copy_thread("source", thread_id)


def async_copy(saver: CheckpointSaver, thread_id: str, _: Any) -> None:
    asyncio.run(saver.acopy_thread("source", thread_id))


STORING = [blocking_put, async_put, blocking_writes, async_writes, blocking_copy, async_copy]


@pytest.mark.parametrize("act", STORING, ids=lambda act: act.__name__)
def test_what_does_not_fit_leaves_a_full_server_with_as_much_room_as_before(
    act: Callable[[CheckpointSaver, str, Any], None], url: str, prefix: str
) -> None:
    with (
        open_saver(url, prefix=prefix, deadline=0.3) as saver,
        open_saver(url, prefix=prefix, deadline=0) as other,
    ):
        put(other, {"large": random.Random(1).randbytes(14 * MB)}, config_of("source"))
        put(other, {"a": 1})
        for thread_id in ("new", "thread"):
            with room_for(10 * MB, url):
                with pytest.raises(StoreUnavailable, match="has reached maxmemory"):
                    act(saver, thread_id, random.Random(2).randbytes(40 * MB))
                assert left_behind(url, prefix) == {}
                for number in range(20):
                    put(other, {"b": number}, config_of(f"{thread_id} {number}"))
                assert values_of(other) == {"a": 1}
                assert values_of(other, config_of("new")) is None


@pytest.mark.parametrize("act", STORING, ids=lambda act: act.__name__)
def test_what_is_stored_takes_over_all_that_was_staged_for_it(
    act: Callable[[CheckpointSaver, str, Any], None], redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, LARGE, config_of("source"))
        act(saver, "thread", LARGE["large"])
        assert raw.hlen(saver.store._keys("thread")[0]) > 100  # type: ignore[attr-defined]
        assert left_behind(redis_url, prefix) == {}


class Stop(Exception):
    pass


def put_operation(saver: RedisSaver, values: dict[str, Any], config: Any = CONFIG) -> Any:
    """A put that is carried out request by request."""
    saver.setup()
    checkpoint: Any = empty_checkpoint()
    versions: Any = {channel: saver.get_next_version(None, None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return saver.operations.put(config, checkpoint, {"source": "loop", "step": 1}, versions)


def until(script: Script, operation: Any, transport: RedisTransport, *, repeats: int = 1) -> Any:
    """Carry out an operation up to a call of this script, each request several times; returns that call."""
    request = next(operation)
    while not (isinstance(request, Call) and request.script is script):
        for _ in range(repeats):
            answer = transport.execute(request)
        request = operation.send(answer)
    return request


def interrupted(operation: Any, transport: RedisTransport, error: BaseException) -> None:
    """The transport raises an error; it reaches the caller once the operation has asked for what it still wants."""

    def go_on() -> None:
        request = operation.throw(error)
        while True:
            request = operation.send(transport.execute(request))

    with pytest.raises(type(error)) as caught:
        go_on()
    assert caught.value is error


@pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt(), asyncio.CancelledError(), StoreUnavailable("late")])
@pytest.mark.parametrize("begins", [False, True], ids=["a new thread", "a thread that stays"])
def test_whatever_ends_a_put_takes_back_what_it_has_staged_and_is_raised(
    begins: bool, error: BaseException, redis_url: str, prefix: str, keys: Callable[[], set[bytes]]
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        transport: Any = saver.store.transport
        if begins:
            put(saver, {"a": 1})
        before = keys()
        operation = put_operation(saver, LARGE)
        until(scripts.PUT, operation, transport, repeats=2)  # an answer may be lost, and the request comes again
        assert left_behind(redis_url, prefix)
        interrupted(operation, transport, error)
        assert left_behind(redis_url, prefix) == {}
        assert keys() == before
        with RedisSaver(redis_url, prefix=prefix) as reader:
            assert values_of(reader) == ({"a": 1} if begins else None)
            put(saver, LARGE)
            assert values_of(reader) == LARGE


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_operation_that_fails_between_its_requests_has_its_colour_take_back_what_it_has_sent(
    colour: str, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[Script] = []

    def check(request: Any) -> None:
        if isinstance(request, Call) and request.script in (scripts.PUT, scripts.PUT_WRITES, scripts.ADOPT):
            assert left_behind(redis_url, prefix)
            stopped.append(request.script)
            raise KeyboardInterrupt

    with RedisSaver(redis_url, prefix=prefix) as writer, RedisSaver(redis_url, prefix=prefix) as saver:
        put(writer, LARGE, config_of("source"))
        put(writer, {"a": 1})
        saver.setup()
        transport: Any = saver.store.transport
        execute, aexecute = transport.execute, transport.aexecute

        def checked(request: Any) -> Any:
            check(request)
            return execute(request)

        async def achecked(request: Any) -> Any:
            check(request)
            return await aexecute(request)

        monkeypatch.setattr(transport, "execute", checked)
        monkeypatch.setattr(transport, "aexecute", achecked)
        for act in STORING:
            if act.__name__.startswith("async") == (colour == "async"):
                with pytest.raises(KeyboardInterrupt):
                    act(saver, "thread", LARGE["large"])
                assert left_behind(redis_url, prefix) == {}
        assert stopped == [scripts.PUT, scripts.PUT_WRITES, scripts.ADOPT]
        assert values_of(writer) == {"a": 1}


def test_a_put_that_is_cancelled_takes_back_what_it_has_staged(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(saver: RedisSaver) -> None:
        transport: Any = saver.store.transport
        aexecute, staged = transport.aexecute, asyncio.Event()

        async def slow(request: Any) -> Any:
            if isinstance(request, Call) and request.script is scripts.PUT:
                staged.set()
                await asyncio.sleep(60)
            return await aexecute(request)

        monkeypatch.setattr(transport, "aexecute", slow)
        task = asyncio.create_task(aput(saver, LARGE))
        await staged.wait()
        assert left_behind(redis_url, prefix)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await saver.aclose()

    asyncio.run(cancelled(RedisSaver(redis_url, prefix=prefix)))
    assert left_behind(redis_url, prefix) == {}


def test_an_operation_that_nobody_goes_on_with_is_closed_in_silence(redis_url: str, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        operation = put_operation(saver, LARGE)
        until(scripts.PUT, operation, saver.store.transport)
        operation.close()
        put(saver, LARGE)
        assert values_of(saver) == LARGE


def test_what_cannot_be_taken_back_hides_no_error(redis_url: str, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        operation = put_operation(saver, LARGE)
        until(scripts.PUT, operation, saver.store.transport)
        assert isinstance(operation.throw(Stop()), OneAttempt)
        with pytest.raises(Stop):
            operation.throw(UnsupportedOperation("refused"))


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_server_that_is_gone_is_asked_once_to_take_back_and_the_first_error_is_raised(
    colour: str, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Script] = []
    with RedisSaver(redis_url, prefix=prefix, deadline=0.3) as saver:
        saver.setup()
        transport: Any = saver.store.transport
        answer, aanswer = transport._answer, transport._aanswer

        def gone(client: Any, call: Call) -> Any:
            tried.append(call.script)
            if call.script in (scripts.PUT, scripts.UNSTAGE):
                raise RedisConnectionError("gone")
            return answer(client, call)

        async def agone(client: Any, call: Call) -> Any:
            tried.append(call.script)
            if call.script in (scripts.PUT, scripts.UNSTAGE):
                raise RedisConnectionError("gone")
            return await aanswer(client, call)

        monkeypatch.setattr(transport, "_answer", gone)
        monkeypatch.setattr(transport, "_aanswer", agone)
        with pytest.raises(StoreUnavailable, match="gone"):
            put(saver, LARGE) if colour == "sync" else asyncio.run(aput(saver, LARGE))
    assert tried.count(scripts.PUT) > 1
    assert tried.count(scripts.UNSTAGE) == 1


# Several writers


@pytest.mark.parametrize("begins", [False, True], ids=["a new thread", "a thread that stays"])
@pytest.mark.parametrize("first", ["the one that fails", "the other"])
def test_a_writer_that_fails_leaves_what_another_has_staged(
    first: str, begins: bool, redis_url: str, prefix: str
) -> None:
    shared = [_RANDOM.randbytes(700).hex() for _ in range(1200)]
    failing_has = {"large": [*shared, *(_RANDOM.randbytes(700).hex() for _ in range(1200))]}
    other_has = {"large": shared, "more": [_RANDOM.randbytes(700).hex() for _ in range(1200)]}
    with RedisSaver(redis_url, prefix=prefix) as failing, RedisSaver(redis_url, prefix=prefix) as other:
        transport: Any = failing.store.transport
        if begins:
            put(other, {"a": 1})
        fails, stays = put_operation(failing, failing_has), put_operation(other, other_has)
        for each in (fails, stays) if first == "the one that fails" else (stays, fails):
            request = until(scripts.PUT, each, transport, repeats=2)
            if each is stays:
                last = request
        interrupted(fails, transport, Stop())
        with pytest.raises(StopIteration):  # one request, so nothing was missing
            stays.send(transport.execute(last))
        assert left_behind(redis_url, prefix) == {}
        with RedisSaver(redis_url, prefix=prefix) as reader, redis_py.Redis.from_url(redis_url) as raw:
            assert values_of(reader) == other_has
            stored = raw.hlen(reader.store._keys("thread")[0])  # type: ignore[attr-defined]
            put(reader, other_has, config_of("alone"))
            alone = raw.hlen(reader.store._keys("alone")[0])  # type: ignore[attr-defined]
            assert stored == alone + (2 if begins else 0)  # a checkpoint and its value


def test_a_writer_that_fails_takes_nothing_that_a_value_holds_meanwhile(redis_url: str, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as failing, RedisSaver(redis_url, prefix=prefix) as other:
        transport: Any = failing.store.transport
        operation = put_operation(failing, LARGE)
        request = until(scripts.PUT, operation, transport)
        put(other, LARGE)
        interrupted(operation, transport, Stop())
        operation = put_operation(failing, LARGE)
        request = until(scripts.PUT, operation, transport)
        transport.execute(request)  # applied, but the answer is lost
        interrupted(operation, transport, StoreUnavailable("late"))
        operation = put_operation(failing, LARGE)
        until(scripts.PUT, operation, transport, repeats=2)  # stages what is stored
        interrupted(operation, transport, Stop())
        assert left_behind(redis_url, prefix) == {}
        with RedisSaver(redis_url, prefix=prefix) as reader:
            assert [each.checkpoint["channel_values"] for each in reader.list(CONFIG)] == [LARGE, LARGE]


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_copy_has_nothing_of_what_a_writer_has_staged(goes_on: bool, redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver, RedisSaver(redis_url, prefix=prefix) as other:
        put(other, {"a": ["x" * 900] * 20})
        stored = raw.hlen(other.store._keys("thread")[0])  # type: ignore[attr-defined]
        operation = put_operation(saver, LARGE)
        request = until(scripts.PUT, operation, saver.store.transport)
        other.copy_thread("thread", "copy")
        assert raw.hlen(other.store._keys("copy")[0]) == stored  # type: ignore[attr-defined]
        assert values_of(other, config_of("copy")) == {"a": ["x" * 900] * 20}
        if goes_on:
            with pytest.raises(StopIteration):
                operation.send(saver.store.transport.execute(request))
            other.copy_thread("thread", "copy")
            assert values_of(other, config_of("copy")) == LARGE


def test_a_copy_that_is_refused_leaves_nothing(redis_url: str, prefix: str, keys: Callable[[], set[bytes]]) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        for thread_id in ("source", "thread"):
            put(saver, LARGE, config_of(thread_id))
        before = keys()
        with pytest.raises(ConflictError):
            saver.copy_thread("source", "thread")
        assert keys() == before


def test_a_put_that_has_to_come_again_with_more_takes_back_what_came_first(redis_url: str, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver, RedisSaver(redis_url, prefix=prefix) as other:
        put(saver, {"large": LARGE["large"][:600]})
        operation = put_operation(
            saver, {"large": [*LARGE["large"][:600], *(_RANDOM.randbytes(1000).hex() * 2 for _ in range(1200))]}
        )
        transport: Any = saver.store.transport
        other.delete_thread("thread")
        request = until(scripts.PUT, operation, transport)
        again = operation.send(transport.execute(request))
        assert isinstance(again, OneAttempt)
        while not (isinstance(again, Call) and again.script is scripts.PUT):
            again = operation.send(transport.execute(again))
        interrupted(operation, transport, Stop())
        assert left_behind(redis_url, prefix) == {}


# What the dead leave


def bucket_mates(count: int, *, of: int = 30) -> list[str]:
    names = (f"t{number}" for number in range(100_000))
    return [name for name in names if crc32(name.encode()) % store.BUCKETS == of][:count]


def left_by_the_dead(url: str, prefix: str, thread_id: str, values: dict[str, Any]) -> None:
    with RedisSaver(url, prefix=prefix) as dies:
        put(dies, {"a": 1}, config_of(thread_id))
        operation = put_operation(dies, values, config_of(thread_id))
        until(scripts.PUT, operation, dies.store.transport)
        operation.close()


def test_the_deadline_of_the_dead_is_not_that_of_the_living(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver, RedisSaver(redis_url, prefix=prefix) as other:
        with monkeypatch.context() as soon:
            soon.setattr(store, "STAGED_MS", 300)
            left_by_the_dead(redis_url, prefix, "thread", LARGE)
        other.delete_thread("thread")
        operation = put_operation(saver, LARGE)
        request = until(scripts.PUT, operation, saver.store.transport)
        time.sleep(0.4)
        list(other.threads())  # sweeps
        with pytest.raises(StopIteration):  # one request, so nothing was missing
            operation.send(saver.store.transport.execute(request))
        assert values_of(other) == LARGE


def small_put(saver: RedisSaver, thread_id: str) -> None:
    put(saver, {"b": 2}, config_of(thread_id))


def small_writes(saver: RedisSaver, thread_id: str) -> None:
    saver.put_writes(config_of(thread_id, "1"), [("b", 2)], "task")


def large_put(saver: RedisSaver, thread_id: str) -> None:
    put(saver, LARGE, config_of(thread_id))


@pytest.mark.parametrize("act", [small_put, small_writes, large_put], ids=lambda act: act.__name__)
@pytest.mark.parametrize("whose", ["its own", "a neighbour's"])
def test_on_a_full_server_a_write_makes_room_of_what_the_dead_have_left(
    whose: str, act: Callable[[RedisSaver, str], None], url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, neighbour = bucket_mates(2)
    [stranger] = bucket_mates(1, of=31)
    with open_saver(url, prefix=prefix, deadline=0) as saver:
        span = 0.4
        while True:
            began = time.monotonic()
            with monkeypatch.context() as patch:
                patch.setattr(store, "STAGED_MS", round(1000 * span))
                left_by_the_dead(url, prefix, dead, {"large": random.Random(4).randbytes(8 * MB)})
            if time.monotonic() - began < span:
                break
            time.sleep(span + 0.1)
            while left_behind(url, prefix):  # a little is swept each time
                list(saver.threads())
            span *= 4  # so slow that the time of some was over before the rest was there
        with room_for(-4 * MB, url):
            # In another bucket: in theirs, the time of what they have left may be over already.
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                small_put(saver, stranger)  # type: ignore[arg-type]
            time.sleep(span + 0.1)
            act(saver, dead if whose == "its own" else neighbour)  # type: ignore[arg-type]
            assert left_behind(url, prefix) == {}
            small_put(saver, neighbour)  # type: ignore[arg-type]
        with open_saver(url, prefix=prefix) as reader:
            assert values_of(reader, config_of(neighbour)) == {"b": 2}


def test_pruning_drops_what_the_dead_have_left_in_a_thread_once_its_time_is_over(
    redis_url: str, raw: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = bucket_mates(3)
    with RedisSaver(redis_url, prefix=prefix) as saver:
        hashes = [saver.store._keys(name)[0] for name in names]  # type: ignore[attr-defined]
        span = 1.0
        while True:
            together = time.monotonic() + span
            for name in names:
                monkeypatch.setattr(store, "STAGED_MS", max(1, round(1000 * (together - time.monotonic()))))
                left_by_the_dead(redis_url, prefix, name, LARGE)
            if time.monotonic() < together:
                break
            span *= 4  # so slow that the time of some was over before others were stored
        monkeypatch.undo()
        assert all(raw.hlen(key) > 100 for key in hashes)
        time.sleep(span + 0.1)
        saver.prune(names[-1:])
        assert raw.hlen(hashes[2]) < 10  # besides one of the others that the sweep has met
        assert sum(raw.hlen(key) > 100 for key in hashes) == 1
        assert values_of(saver, config_of(names[-1])) == {"a": 1}
        left_by_the_dead(redis_url, prefix, names[-1], LARGE)
        saver.prune(names[-1:])
        assert raw.hlen(hashes[2]) > 100  # not before: they may be those of the living
