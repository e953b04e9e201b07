"""Reading takes several requests if there is much to read. What others do in between is not taken for damage."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Interrupt

from checkpoint_base import ConflictError, CorruptCheckpoint
from checkpoint_base.records import ListQuery
from checkpoint_base.transport import Retrying, Transport, run
from checkpoint_redis import RedisSaver, scripts
from tests.conftest import CountingTransport
from tests.redis.conftest import CONFIG, config_of, put, values_of

_RANDOM = random.Random(31)


def much() -> list[str]:
    """More than the first answer has room for, also of a thread alone; no chunk of it has been there before."""
    return [_RANDOM.randbytes(700).hex() for _ in range(1200)]


def some() -> list[str]:
    """More than the first answer of a bucket has room for."""
    return [_RANDOM.randbytes(700).hex() for _ in range(500)]


def long() -> bytes:
    """Its chunks are so long that each is stored beside its entry, and fetched last."""
    return _RANDOM.randbytes(5_000_000)


class Meanwhile(CountingTransport):
    """A transport beside which something happens before each request but the first, so many times."""

    def __init__(self, inner: Transport, happens: Callable[[Any], Any], times: int) -> None:
        super().__init__(inner)
        self._happens = happens
        self._times = times

    def execute(self, request: Any) -> Any:
        if 0 < self.requests <= self._times:
            self._happens(request)
        return super().execute(request)


def while_(happens: Callable[[], Any], reader: RedisSaver, times: int = 12) -> Meanwhile:
    """Let something happen between the requests of a reader."""
    transport = Meanwhile(reader.store.transport, lambda _: happens(), times)
    reader.transport = Retrying(transport, deadline=5)
    return transport


def place(found: Any) -> tuple[str, str]:
    named = found.config["configurable"]
    return named["checkpoint_id"], named["thread_id"]


class Stored:
    """What threads were given, by checkpoint and thread."""

    def __init__(self, saver: RedisSaver) -> None:
        self._saver = saver
        self._latest: dict[str, Any] = {}
        self.values: dict[tuple[str, str], Any] = {}

    def put(self, thread_id: str, value: Any) -> Any:
        config = put(self._saver, {"large": value}, self._latest.get(thread_id) or config_of(thread_id))
        self._latest[thread_id] = config
        self.values[config["configurable"]["checkpoint_id"], thread_id] = {"large": value}
        return config

    def replace(self, thread_id: str, value: Any) -> None:
        """Let the thread go on, and keep nothing of it but that."""
        self.put(thread_id, value)
        self._saver.prune([thread_id])

    def of(self, *thread_ids: str) -> list[tuple[str, str]]:
        return sorted((each for each in self.values if each[1] in thread_ids), reverse=True)


@pytest.mark.parametrize(("value", "times"), [(much, 12), (long, 3)])
def test_the_latest_checkpoint_is_read_whole_while_its_thread_goes_on_and_is_pruned(
    value: Callable[[], Any], times: int, saver: RedisSaver, reader: RedisSaver
) -> None:
    stored = Stored(saver)
    stored.put("thread", value())
    transport = while_(lambda: stored.replace("thread", value()), reader, times)
    found = reader.get_tuple(CONFIG)
    assert found is not None
    assert found.checkpoint["channel_values"] == stored.values[place(found)]
    assert transport.requests > times


def test_a_checkpoint_that_is_pruned_while_it_is_read_is_absent(saver: RedisSaver, reader: RedisSaver) -> None:
    stored = Stored(saver)
    config = stored.put("thread", much())
    while_(lambda: stored.replace("thread", much()), reader, times=1)
    assert reader.get_tuple(config) is None


def test_a_thread_that_never_stops_changing_is_not_taken_for_a_damaged_one(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    stored = Stored(saver)
    stored.put("thread", much())
    while_(lambda: stored.replace("thread", much()), reader, times=10**6)
    with pytest.raises(ConflictError, match="'thread' kept changing"):
        reader.get_tuple(CONFIG)


@pytest.mark.parametrize("times", [1, 2, 3, 12])
def test_a_listing_has_everything_that_stays_and_nothing_in_parts_while_a_thread_is_pruned(
    times: int, saver: RedisSaver, reader: RedisSaver
) -> None:
    stored = Stored(saver)
    for _ in range(3):
        for thread_id in ("a", "busy", "c"):
            stored.put(thread_id, some())
    stored.put("busy", {"small": 1})
    while_(lambda: stored.replace("busy", some()), reader, times)
    found = [(place(each), each.checkpoint["channel_values"]) for each in reader.list(None)]
    assert [at for at, _ in found] == sorted((at for at, _ in found), reverse=True)
    assert [at for at, _ in found if at[1] != "busy"] == stored.of("a", "c")
    assert all(values == stored.values[at] for at, values in found)


def test_a_listing_of_one_thread_has_everything_that_stays_while_it_is_pruned(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    stored = Stored(saver)
    for _ in range(4):
        stored.put("thread", much())
    while_(lambda: stored.replace("thread", much()), reader)
    found = [(place(each), each.checkpoint["channel_values"]) for each in reader.list(CONFIG)]
    assert all(values == stored.values[at] for at, values in found)
    assert len(found) <= 1  # only the first of them is in the first answer


@pytest.mark.parametrize("thread_id", [None, "thread"], ids=["all", "of the thread"])
def test_a_write_that_is_replaced_time_and_again_is_listed_whole(
    thread_id: str | None, saver: RedisSaver, reader: RedisSaver
) -> None:
    config = put(saver, {"a": 1})
    written = []

    def replace() -> None:
        written.append(much())
        saver.put_writes(config, [("__resume__", written[-1])], "task")  # the last one wins
        saver.prune(["thread"])

    replace()
    while_(replace, reader)
    [found] = reader.list(thread_id and config_of(thread_id))
    [(_, _, value)] = found.pending_writes or ()
    assert value in written[-2:]


@pytest.mark.parametrize("limit", [None, 10, 25, 30])
def test_what_follows_takes_the_place_of_what_is_pruned_while_a_page_is_read(
    limit: int | None, saver: RedisSaver, reader: RedisSaver
) -> None:
    stored = Stored(saver)
    for _ in range(35):
        stored.put("stays", some())
    for _ in range(24):
        stored.put("goes", some())
    while_(lambda: saver.delete_thread("goes"), reader, times=1)
    found = [place(each) for each in reader.list(None, limit=limit)]
    assert found == stored.of("stays")[:limit]


def test_a_page_from_which_something_is_pruned_twice_is_as_long_as_it_should_be(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    stored = Stored(saver)
    for thread_id, count in (("stays", 40), ("goes later", 5), ("goes", 24)):
        for _ in range(count):
            stored.put(thread_id, [_RANDOM.randbytes(700).hex() for _ in range(50)])
    going = ["goes", "goes later"]

    def prune(request: Any) -> None:
        if going and isinstance(request, list) and request[0].script is scripts.FIELDS:
            saver.delete_thread(going.pop(0))

    transport = Meanwhile(reader.store.transport, prune, 100)
    page = run(reader.store.list(ListQuery(limit=25)), transport)
    found = [(each.position.checkpoint_id, each.position.thread_id) for each in page]
    assert going == []
    assert found == stored.of("goes later")[:1] + stored.of("stays")[:24]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("ends", ["asked again", "answered", "deleted"])
def test_a_question_that_goes_while_it_is_read_is_left_out_and_not_damaged(
    ends: str, limit: int | None, order: Any, saver: RedisSaver, reader: RedisSaver
) -> None:
    asked: dict[str, Any] = {}

    def ask(thread_id: str, task: str = "task") -> None:
        value = some()
        asked[value[0]] = value
        saver.put_writes(configs[thread_id], [("__interrupt__", [Interrupt(value, id=value[0])])], task)

    def end() -> None:
        if ends == "asked again":
            configs["goes"] = put(saver, {"a": 1}, configs["goes"])
            ask("goes")
            saver.prune(["goes"])
        elif ends == "answered":
            saver.put_writes(configs["goes"], [("__resume__", ["yes"])], "task")
            configs["goes"] = put(saver, {"a": 1}, configs["goes"])
            saver.prune(["goes"])
        else:
            saver.delete_thread("goes")

    threads = ["a", "goes", "c", "goes too", "e"]
    configs = {thread_id: put(saver, {"a": 1}, config_of(thread_id)) for thread_id in threads}
    for thread_id in threads:
        ask(thread_id)
    while_(end, reader, times=30 if ends == "asked again" else 1)
    found = list(reader.interrupts(order=order, limit=limit))
    assert [each.error for each in found] == [None] * len(found)
    assert all(each.value == asked[each.interrupt_id] for each in found)
    stay = [each.thread_id for each in found if each.thread_id != "goes"]
    others = [thread_id for thread_id in threads if thread_id != "goes"]
    expected = others if order == "oldest" else others[::-1]
    assert stay == expected[: len(stay)]
    assert len(found) == limit if limit else stay == expected


def test_a_delta_channel_is_read_whole_while_its_thread_goes_on_and_is_pruned(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    config = put(saver, {"a": 1})
    written = []

    def go_on() -> None:
        nonlocal config
        written.append(much())
        saver.put_writes(config, [("large", written[-1])], "task")
        config = put(saver, {"a": 1}, config)
        saver.prune(["thread"], keep=2)

    go_on()
    while_(go_on, reader)
    history = reader.get_delta_channel_history(config=CONFIG, channels=["large"])
    [(_, _, value)] = history["large"]["writes"]
    assert value in written


def test_a_thread_that_goes_on_and_is_pruned_can_be_copied(saver: RedisSaver, reader: RedisSaver) -> None:
    stored = Stored(saver)
    stored.put("thread", much())
    while_(lambda: stored.replace("thread", much()), reader)
    reader.copy_thread("thread", "copy")
    assert values_of(saver, config_of("copy")) in stored.values.values()


@pytest.mark.parametrize("runs", [("first", "second"), ("first", None), (None, "second")])
def test_a_checkpoint_that_is_put_or_copied_again_belongs_to_its_new_run_only(
    runs: tuple[str | None, ...], saver: RedisSaver, reader: RedisSaver, raw: Any
) -> None:
    checkpoint: Any = empty_checkpoint()
    for run_id in runs:
        metadata: Any = {"source": "loop", "step": 1, **({"run_id": run_id} if run_id else {})}
        saver.put(config_of("thread"), checkpoint, metadata, {})
        saver.copy_thread("thread", "copy")
    for id_ in ("thread", "copy"):
        index = saver.store._keys(id_)[1]  # type: ignore[attr-defined]
        place = f"\0{checkpoint['id']}\0" + (f"\0{runs[-1]}" if runs[-1] else "")
        assert raw.zrangebylex(index, f"[o{id_}", f"(o{id_}\1") == [f"o{id_}{place}".encode()]
        listed = [member for member in raw.zrangebylex(index, "[r", "(s") if member.endswith(f"\0{id_}".encode())]
        assert listed == [f"r{run}\0{id_}".encode() for run in runs[-1:] if run]
        put(saver, {"a": 1}, config_of(id_, checkpoint["id"]))
        saver.prune([id_])
        assert [found.checkpoint["channel_values"] for found in reader.list(config_of(id_))] == [{"a": 1}]


def test_a_run_is_found_by_its_other_checkpoints_when_one_is_put_again_by_another_run(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    put(saver, {"a": 1}, metadata={"source": "loop", "step": 1, "run_id": "first"})
    checkpoint: Any = empty_checkpoint()
    for run_id in ("first", "second"):
        saver.put(CONFIG, checkpoint, {"source": "loop", "step": 2, "run_id": run_id}, {})
    reader.delete_for_runs(["first"])
    assert [place(found)[0] for found in reader.list(CONFIG)] == [checkpoint["id"]]


def test_pieces_of_a_value_that_are_removed_before_they_are_taken_over_are_sent_again(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    put(saver, {"a": 1})
    values = {"large": long()}
    transport = while_(lambda: reader.delete_thread("thread"), saver, times=1)
    put(saver, values)
    assert transport.requests > 2
    assert values_of(reader) == values


READS: dict[str, Callable[[RedisSaver], Any]] = {
    "get_tuple": lambda saver: [saver.get_tuple(each.parent_config) for each in saver.list(CONFIG, limit=1)],
    "list": lambda saver: list(saver.list(CONFIG)),
    "list of all": lambda saver: list(saver.list(None)),
    "delta history": lambda saver: saver.get_delta_channel_history(config=CONFIG, channels=["large"]),
    "copy_thread": lambda saver: saver.copy_thread("thread", "copy"),
}


@pytest.mark.parametrize("read", READS)
def test_a_thread_that_has_lost_something_is_damaged_whatever_happens_to_others(
    read: str, saver: RedisSaver, reader: RedisSaver, raw: Any
) -> None:
    stored = Stored(saver)
    stored.put("busy", some())
    config = stored.put("thread", long())
    saver.put_writes(config, [("large", long())], "task")
    stored.put("thread", 1)
    key = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
    raw.hdel(key, *(field for field in raw.hkeys(key) if field[:1] == b"+"))
    transport = while_(lambda: stored.replace("busy", some()), reader)
    with pytest.raises(CorruptCheckpoint):
        READS[read](reader)
    assert transport.requests < 15


def test_a_question_that_has_lost_something_says_so(saver: RedisSaver, reader: RedisSaver, raw: Any) -> None:
    for thread_id in ("thread", "whole"):
        config = put(saver, {"a": 1}, config_of(thread_id))
        saver.put_writes(config, [("__interrupt__", [Interrupt(long(), id="1")])], "task")
    key = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
    raw.hdel(key, next(field for field in raw.hkeys(key) if field[:1] == b"+"))
    found = {each.thread_id: each.error for each in reader.interrupts()}
    assert found["whole"] is None
    assert "missing from the store" in str(found["thread"])
