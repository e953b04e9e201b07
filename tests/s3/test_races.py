"""Somebody else acts between two requests of an operation: nothing is lost, and no reader sees what never was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from langgraph.types import Interrupt

from checkpoint_base import ConflictError
from checkpoint_s3 import S3Saver, removal
from checkpoint_s3.layout import id_segment
from checkpoint_s3.transport import Call, Copy, Delete, Get, List, Put
from tests.s3.bucket import keys
from tests.s3.threads import config_of, id_of, numbers, put
from tests.s3.transports import Beside, Counting, Crash, between, counted, once

Two = tuple[S3Saver, S3Saver]

QUESTION = [("__interrupt__", (Interrupt("sure?", id="i"),))]


@pytest.fixture
def two(moto_url: str) -> Iterator[Two]:
    """Savers that know nothing of each other, as in two processes."""
    with S3Saver.from_conn_string(moto_url) as one, S3Saver.from_conn_string(moto_url) as other:
        yield one, other


def lists(folder: str) -> Any:
    """Matches the listings of a folder below the prefix."""
    return lambda call: isinstance(call, List) and f"/{folder}" in call.prefix


# Readers beside writers


def test_a_reader_beside_a_put_and_a_prune_finds_one_latest_or_the_other(two: Two) -> None:
    writer, reader = two
    for number in (1, 2, 3):
        put(writer, number)

    def go_on(number: int) -> None:
        put(writer, number)
        writer.prune(["thread"])

    beside: Beside = between(reader, Beside)
    beside.after = once(lists("t/"), lambda: go_on(4))
    found = reader.get_tuple(config_of("thread"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"n": 4}
    put(writer, 5)
    beside.after = once(lists("t/"), lambda: go_on(6))
    assert numbers(reader.list(config_of("thread"))) == [6]


def test_a_resume_soon_after_a_prune_takes_two_steps_and_one_listing(two: Two) -> None:
    writer, reader = two
    for number in (1, 2, 3):
        put(writer, number)
    writer.prune(["thread"])
    counting: Counting = counted(reader)
    assert reader.get_tuple(config_of("thread")) is not None
    assert len(counting.steps) == 2
    assert counting.kinds["List"] == 1


def test_everything_is_listed_with_the_latest_beside_a_put_and_a_prune(two: Two) -> None:
    writer, reader = two
    for number in (1, 2):
        put(writer, number)
    writer.prune(["thread"])
    put(writer, 3)

    def go_on() -> None:
        put(writer, 4)
        writer.prune(["thread"])

    beside: Beside = between(reader, Beside)
    beside.after = once(lists("t/"), go_on)
    assert numbers(reader.list(None)) == [4]


def test_a_copy_that_is_being_made_is_in_no_listing_of_everything(two: Two) -> None:
    writer, reader = two
    for number in (1, 2, 3, 4):
        put(writer, number, thread="source")
    copying: Beside = between(writer, Beside)
    beside: Beside = between(reader, Beside)
    seen: list[list[str]] = []

    def look() -> None:
        seen.append([each.thread_id for each in reader.history(None)])

    def begin() -> None:
        class Enough(Exception):
            pass

        def end() -> None:
            raise Enough

        copies = iter(range(2))
        copying.before = lambda call: isinstance(call, Copy) and next(copies, None) is None and end()
        with pytest.raises(Enough):
            writer.copy_thread("source", "target")

    beside.after = once(lists("l/"), begin)
    look()
    look()
    assert seen == [["source"] * 4] * 2
    copying.before = lambda call: None
    writer.copy_thread("source", "target")
    look()
    assert sorted(seen[-1]) == ["source"] * 4 + ["target"] * 4


# Copies


@pytest.mark.parametrize("change", [0, 1], ids=["before it begins", "before it is revealed"])
@pytest.mark.parametrize("removal", ["delete", "keep_latest"])
def test_a_copy_is_whole_although_what_the_target_had_is_removed_beside_it(two: Two, change: int, removal: str) -> None:
    copier, remover = two
    for number in (1, 2):
        put(copier, number, thread="source")
    copier.copy_thread("source", "target")
    copier.put_writes(put(copier, 3, thread="source"), [("n", 4)], "task")
    changes = iter(range(8))

    def is_reached(call: Call) -> bool:
        return isinstance(call, Put) and "/l/" in call.key and next(changes) == change

    beside: Beside = between(copier, Beside)
    beside.before = once(is_reached, lambda: remover.prune(["target"], strategy=removal))
    copier.copy_thread("source", "target")
    found = [*remover.list(config_of("target"))]
    assert numbers(found) == [3, 2, 1]
    assert [each.pending_writes for each in found] == [[("task", "n", 4)], [], []]


def test_a_target_that_keeps_changing_is_a_conflict_and_not_damaged(two: Two) -> None:
    copier, other = two
    for number in (1, 2, 3):
        put(copier, number, thread="source")
        copier.copy_thread("source", "target")
    put(copier, 4, thread="source")

    def change(call: Call) -> None:
        if isinstance(call, Copy):
            put(other, 3, thread="target")
            other.prune(["target"])

    beside: Beside = between(copier, Beside)
    beside.before = change
    with pytest.raises(ConflictError, match="thread 'target' kept changing"):
        copier.copy_thread("source", "target")
    beside.before = lambda call: None
    copier.copy_thread("source", "target")
    assert numbers(other.list(config_of("target"))) == [4, 3, 2, 1]


def test_a_thread_that_keeps_changing_while_it_is_pruned_is_a_conflict(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_ATTEMPTS", 3)
    pruner, other = two
    numbered = iter(range(1, 20))
    put(other, next(numbered))
    put(other, next(numbered))

    def change(call: Call) -> None:
        if isinstance(call, Put) and "/l/" in call.key:
            put(other, next(numbered))
            other.prune(["thread"])
            put(other, next(numbered))

    beside: Beside = between(pruner, Beside)
    beside.before = change
    with pytest.raises(ConflictError, match="thread 'thread' kept changing"):
        pruner.prune(["thread"])
    beside.before = lambda call: None
    pruner.prune(["thread"])
    assert len(numbers(other.list(config_of("thread")))) == 1


@pytest.mark.parametrize("change", [0, 1], ids=["refused", "tried again"])
def test_a_copy_that_ends_in_the_middle_hides_nothing_that_another_copy_has_stored_beside_it(
    two: Two, change: int
) -> None:
    copier, other = two
    changes = iter(range(8))
    copier.put_writes(put(copier, 1, thread="source"), [("n", 2)], "task")

    def die(call: Call) -> None:
        if isinstance(call, Put) and "/l/" in call.key and next(changes) == change:
            raise Crash

    beside: Beside = between(copier, Beside)
    beside.before = once(
        lambda call: isinstance(call, Put) and "/r/" in call.key, lambda: other.copy_thread("source", "target")
    )
    beside.after = die
    with suppress(Crash):
        copier.copy_thread("source", "target")
    found = other.get_tuple(config_of("target"))
    assert found is not None
    assert found.pending_writes == [("task", "n", 2)]


def stores_writes(call: Call) -> bool:
    return isinstance(call, Put) and "/t/" in call.key and call.key.rpartition("/")[2].startswith("w")


def test_a_copy_adds_its_writes_after_those_that_another_stores_beside_it_and_hides_none(two: Two) -> None:
    copier, other = two
    config = put(copier, 1, thread="source")
    copier.copy_thread("source", "target")
    copier.put_writes(config, [("n", 2), ("n", 3)], "task")
    beside: Beside = between(copier, Beside)
    beside.before = once(stores_writes, lambda: other.put_writes(config_of("target", 1), [("n", 4)], "task"))
    copier.copy_thread("source", "target")
    found = other.get_tuple(config_of("target"))
    assert found is not None
    assert found.pending_writes == [("task", "n", 4), ("task", "n", 3)]


def test_a_target_whose_writes_keep_changing_is_a_conflict_after_five_attempts(two: Two) -> None:
    copier, other = two
    config = put(copier, 1, thread="source")
    copier.copy_thread("source", "target")
    copier.put_writes(config, [("n", 0)] * 20, "task")
    stored: list[tuple[str, int]] = []

    def change(call: Call) -> None:
        if stores_writes(call):
            stored.append(("n", 1))
            other.put_writes(config_of("target", 1), stored, "task")

    beside: Beside = between(copier, Beside)
    beside.before = change
    with pytest.raises(ConflictError, match="thread 'target' kept changing"):
        copier.copy_thread("source", "target")
    assert len(stored) == 5
    beside.before = lambda call: None
    copier.copy_thread("source", "target")
    found = other.get_tuple(config_of("target"))
    assert found is not None
    assert found.pending_writes == [("task", "n", 1)] * 5 + [("task", "n", 0)] * 15


def test_a_copy_of_a_waiting_thread_waits_although_the_thread_has_gone_on_beside_it(
    two: Two, later: Callable[[float], None]
) -> None:
    copier, other = two
    copier.put_writes(put(copier, 1, thread="source"), QUESTION, "task")
    later(200)

    def go_on() -> None:
        put(other, 2, thread="source")
        assert list(other.interrupts()) == []  # which deletes the marker of the question

    beside: Beside = between(copier, Beside)
    beside.after = once(lists("t/"), go_on)
    copier.copy_thread("source", "target")
    assert [each.thread_id for each in other.interrupts()] == ["target"]


@pytest.mark.parametrize("space", [True, False])
def test_a_copy_that_is_being_made_is_not_seen_by_who_asked_for_its_ledger_before_it_began(
    two: Two, later: Callable[[float], None], space: bool
) -> None:
    writer, reader = two
    for number in (1, 2, 3, 4):
        put(writer, number, thread="source")
    later(60)
    copying: Beside = between(writer, Beside)
    copies = iter(range(2))

    def end(call: Call) -> None:
        if isinstance(call, Copy) and next(copies, None) is None:
            raise Crash

    def begin() -> None:
        copying.before = end
        with pytest.raises(Crash):
            writer.copy_thread("source", "target")

    beside: Beside = between(reader, Beside)
    beside.first = Get
    beside.before = once(lists("t/=target"), begin)
    config = config_of("target") if space else {"configurable": {"thread_id": "target"}}
    assert [*reader.list(config)] == []
    copying.before = lambda call: None
    writer.copy_thread("source", "target")
    assert numbers(reader.list(config)) == [4, 3, 2, 1]


# Puts of one checkpoint


@pytest.mark.parametrize("seconds", [0, 60])
def test_the_later_put_of_a_checkpoint_replaces_an_earlier_one_with_the_same_time_or_a_later_one(
    two: Two, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    one, other = two
    written_at = 1_700_000_000_000_000
    for number in range(8):
        thread = f"thread-{number}"
        monkeypatch.setattr("checkpoint_base.saver.now", lambda: written_at)
        put(one, 1, {"n": "first"}, thread=thread)
        monkeypatch.setattr("checkpoint_base.saver.now", lambda: written_at - seconds * 1_000_000)
        put(other, 1, {"n": "second"}, thread=thread, run_id="a run's")
        found = one.get_tuple(config_of(thread))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"n": "second"}


def test_a_process_whose_clock_was_set_back_replaces_what_it_put_without_a_request_more(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    put(one, 1, {"n": "first"})
    monkeypatch.setattr("checkpoint_base.saver.now", lambda: time.time_ns() // 1000 - 2_000_000)
    counting: Counting = counted(one)
    put(one, 1, {"n": "second"})
    assert counting.kinds == {"Put": 1}
    found = other.get_tuple(config_of("thread"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"n": "second"}


def test_what_was_deleted_and_is_put_again_with_its_time_is_seen(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    monkeypatch.setattr("checkpoint_base.saver.now", lambda: 1_700_000_000_000_000)
    put(one, 1)
    one.delete_thread("thread")
    put(other, 1)
    assert numbers(one.list(config_of("thread"))) == [1]


# Removals beside a run that goes on


def opened(*channels: str) -> dict[str, Any]:
    """Metadata that says which channels are rebuilt from the ancestors' writes."""
    return {"counters_since_delta_snapshot": {channel: [1, 1] for channel in channels}}


def test_no_child_is_put_on_a_parent_that_has_kept_only_some_of_its_writes(two: Two) -> None:
    pruner, runner = two
    put(runner, 1, {"a": [0], "b": [0]})
    put(runner, 2, {}, unchanged={"a": "2", "b": "2"}, **opened("a", "b"))
    runner.put_writes(config_of("thread", 2), [("a", 1), ("b", 1)], "task")
    # A branch that needs the writes to one of the channels only.
    put(pruner, 3, {"b": [1]}, unchanged={"a": "3"}, **opened("a"))
    pruner.prune(["thread"])
    with pytest.raises(ConflictError, match="has been removed since"):
        put(runner, 4, {}, parent=2, unchanged={"a": "4", "b": "4"}, **opened("a", "b"))
    put(runner, 5, {"b": [1]}, parent=2, unchanged={"a": "5"}, **opened("a"))
    history = pruner.get_delta_channel_history(config=config_of("thread", 5), channels=["a"])
    assert [value for _, _, value in history["a"]["writes"]] == [1]
    assert numbers(pruner.list(config_of("thread"))) == [5, 3]


@pytest.mark.parametrize("removal", ["delete", "prune"])
def test_a_run_that_paused_while_its_state_was_removed_and_swept_stores_it_again(
    two: Two, moto_url: str, later: Callable[[float], None], removal: str
) -> None:
    remover, runner = two
    large = "x" * 20_000
    put(runner, 1, {"large": large, "n": 1})
    if removal == "prune":
        put(remover, 2)
        remover.prune(["thread"])
    else:
        remover.delete_thread("thread")
    later(400)
    with S3Saver.from_conn_string(moto_url):
        assert not any("/c" in key and id_segment(id_of(1)) in key for key in keys(moto_url, "t/"))
    put(runner, 3, {"large": large, "n": 3}, parent=1, unchanged={"large": "1"})
    found = remover.get_tuple(config_of("thread"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"large": large, "n": 3}


# Processes that are suspended between two requests


def test_a_put_that_was_suspended_until_its_state_was_removed_and_swept_stores_it_again(
    two: Two, moto_url: str, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    remover, runner = two
    large = "x" * 20_000
    put(runner, 1, {"large": large, "n": 1})
    put(remover, 2)

    def suspend() -> None:
        remover.prune(["thread"])
        later(400)
        with S3Saver.from_conn_string(moto_url):
            pass

    began_at = time.time_ns() // 1000 - 400_000_000  # as the clock says afterwards
    monkeypatch.setattr("checkpoint_base.saver.now", lambda: began_at)
    beside: Beside = between(runner, Beside)
    beside.before = once(lambda call: isinstance(call, Put) and "/c" in call.key, suspend)
    put(runner, 3, {"large": large, "n": 3}, parent=1, unchanged={"large": "1"})
    found = remover.get_tuple(config_of("thread"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"large": large, "n": 3}


def test_a_question_whose_process_was_suspended_before_it_was_stored_is_found(
    two: Two, later: Callable[[float], None]
) -> None:
    asking, listing = two
    config = put(asking, 1)

    def suspend() -> None:
        later(200)
        assert list(listing.interrupts()) == []  # which deletes the marker

    beside: Beside = between(asking, Beside)
    beside.before = once(lambda call: isinstance(call, Put) and "/x" in call.key, suspend)
    asking.put_writes(config, QUESTION, "task")
    assert [each.value for each in listing.interrupts()] == ["sure?"]


# Sweeping


def test_a_sweep_leaves_what_a_prune_beside_it_has_just_released(
    two: Two, moto_url: str, later: Callable[[float], None]
) -> None:
    pruner, runner = two
    large = "x" * 20_000
    put(pruner, 1, {"large": large, "n": 1})
    put(pruner, 2, {"n": 2}, unchanged={"large": "1"})  # stands on the object of the first
    pruner.prune(["thread"])
    later(400)

    def go_on() -> None:
        assert runner.get_tuple(config_of("thread")) is not None
        put(pruner, 3)
        pruner.prune(["thread"])

    with S3Saver.from_conn_string(moto_url) as sweeper:
        beside: Beside = between(sweeper, Beside)
        beside.after = once(lists("r/"), go_on)
        sweeper.setup()
    put(runner, 4, {"n": 4}, parent=2, unchanged={"large": "1"})
    found = pruner.get_tuple(config_of("thread", 4))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"large": large, "n": 4}


def test_writes_keep_the_state_that_they_were_stored_on_when_their_checkpoint_is_put_again(
    two: Two, moto_url: str, later: Callable[[float], None]
) -> None:
    one, other = two
    state = [f"{at} " + "x" * 1500 for at in range(40)]
    put(one, 1, {"long": state})
    one.put_writes(config_of("thread", 1), [("long", [*state, "more"])], "task")  # stands on the checkpoint's chunks
    put(one, 1, {"long": ["other"]})

    def check(thread: str) -> None:
        found = other.get_tuple(config_of(thread))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"long": ["other"]}
        assert found.pending_writes == [("task", "long", [*state, "more"])]

    check("thread")
    one.copy_thread("thread", "copy")
    check("copy")
    one.prune(["thread"])
    later(400)
    with S3Saver.from_conn_string(moto_url):
        check("thread")
    one.delete_thread("thread")
    later(400)
    with S3Saver.from_conn_string(moto_url):
        assert keys(moto_url, "t/=thread/") == []
    check("copy")


@pytest.fixture
def careless(radosgw_url: str) -> Iterator[Two]:
    """Savers on a store that deletes objects whatever the condition is."""
    with S3Saver.from_conn_string(radosgw_url) as one, S3Saver.from_conn_string(radosgw_url) as other:
        yield one, other


def deletes(folder: str) -> Any:
    """Matches the deletions in a folder below the prefix."""
    return lambda call: isinstance(call, Delete) and f"/{folder}" in call.key


def test_a_question_that_is_asked_again_is_found_although_the_marker_of_a_crash_is_deleted_beside_it(
    careless: Two, later: Callable[[float], None]
) -> None:
    asking, listing = careless
    config = put(asking, 1)

    def die(call: Call) -> None:
        if isinstance(call, Put) and "/x" in call.key:
            raise Crash

    dying: Beside = between(asking, Beside)
    dying.before = die
    with pytest.raises(Crash):
        asking.put_writes(config, QUESTION, "task")
    dying.before = lambda call: None
    later(200)
    beside: Beside = between(listing, Beside)
    beside.before = once(deletes("i/"), lambda: asking.put_writes(config, QUESTION, "task"))
    assert [each.value for each in listing.interrupts()] == []
    assert [each.value for each in listing.interrupts()] == ["sure?"]


def test_a_removal_beside_a_sweep_is_swept_later(
    careless: Two, radosgw_url: str, later: Callable[[float], None]
) -> None:
    remover, sweeping = careless
    put(remover, 1)
    put(remover, 2)
    remover.prune(["thread"])
    later(400)
    beside: Beside = between(sweeping, Beside)
    beside.before = once(deletes("r/"), lambda: remover.delete_thread("thread"))
    sweeping.setup()
    later(400)
    sweeping.setup()
    assert keys(radosgw_url, "t/") == keys(radosgw_url, "r/") == []


def test_deleting_threads_one_after_another_looks_at_each_once(two: Two, later: Callable[[float], None]) -> None:
    remover, _ = two
    counting: Counting = counted(remover)
    for number in range(8):
        put(remover, 1, thread=f"thread-{number}")

    def cost(number: int) -> int:
        counting.forget()
        remover.delete_thread(f"thread-{number}")
        return len(counting.calls)

    alone = cost(0)
    assert [cost(1), cost(2)] == [alone, alone]
    later(130)  # out of sight for long enough to be read no more, but not to be deleted
    assert cost(3) == alone
    later(60)
    assert cost(4) > alone  # deletes the first three
    assert cost(5) == alone


def test_pruning_a_thread_again_and_again_looks_at_what_is_due_once(two: Two, later: Callable[[float], None]) -> None:
    pruner, _ = two
    counting: Counting = counted(pruner)
    put(pruner, 1)

    def cost(number: int) -> int:
        put(pruner, number)
        counting.forget()
        pruner.prune(["thread"])
        return len(counting.calls)

    alone = cost(2)
    later(190)
    assert cost(3) > alone
    assert cost(4) <= alone
