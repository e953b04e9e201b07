"""Somebody else acts between two requests of an operation: nothing is lost, and no reader sees what never was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest

from checkpoint_base import ConflictError
from checkpoint_s3 import S3Saver, removal
from checkpoint_s3.transport import Call, Copy, Get, Put
from tests.s3.conftest import Two
from tests.s3.threads import QUESTION, config_of, numbers, put
from tests.s3.transports import (
    Beside,
    Counting,
    Crash,
    between,
    counted,
    dying,
    lists,
    once,
    puts_ledger,
    stores_writes,
)

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


def test_a_copy_has_the_times_of_a_thread_whose_first_and_last_checkpoints_were_removed(two: Two) -> None:
    copier, reader = two
    for number in (1, 2):
        put(copier, number, thread="source")
    put(copier, 3, thread="source", run_id="a run's")
    (before,) = reader.threads()
    copier.delete_for_runs(["a run's"])
    copier.prune(["source"])
    copier.copy_thread("source", "target")
    times = {each.thread_id: (each.created_at, each.updated_at) for each in reader.threads()}
    assert times == dict.fromkeys(("source", "target"), (before.created_at, before.updated_at))


def test_a_question_is_copied_again_although_the_one_that_was_removed_is_still_stored(two: Two) -> None:
    copier, other = two
    copier.put_writes(put(copier, 1, thread="source"), QUESTION, "task")
    copier.copy_thread("source", "target")
    other.delete_thread("target")
    copier.copy_thread("source", "target")
    assert sorted(each.thread_id for each in other.interrupts()) == ["source", "target"]


def test_a_question_is_copied_again_although_the_one_that_was_removed_is_swept_just_then(
    two: Two, later: Callable[[float], None]
) -> None:
    copier, other = two
    copier.put_writes(put(copier, 1, thread="source"), QUESTION, "task")
    copier.copy_thread("source", "target")
    other.delete_thread("target")

    def sweep() -> None:
        later(400)
        other.setup()

    beside: Beside = between(copier, Beside)
    beside.before = once(lambda call: isinstance(call, Put) and "/x" in call.key, sweep)
    copier.copy_thread("source", "target")
    assert sorted(each.thread_id for each in other.interrupts()) == ["source", "target"]


def test_a_copy_replaces_what_was_put_to_its_target_later(two: Two) -> None:
    copier, other = two
    put(copier, 1, {"n": "copied"}, thread="source")
    put(other, 1, {"n": "put later"}, thread="target")
    copier.copy_thread("source", "target")
    found = other.get_tuple(config_of("target"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"n": "copied"}


def test_a_copy_under_an_id_that_is_too_long_for_a_key_is_among_the_threads(two: Two) -> None:
    copier, reader = two
    put(copier, 1, thread="source")
    copier.copy_thread("source", "target" * 20)
    assert sorted(each.thread_id for each in reader.threads()) == ["source", "target" * 20]


def test_a_copy_of_a_question_whose_checkpoint_has_yet_to_arrive_is_found_once_it_has(two: Two) -> None:
    copier, other = two
    put(copier, 1, thread="source")
    copier.put_writes(config_of("source", 2), QUESTION, "task")
    copier.copy_thread("source", "target")
    put(other, 2, thread="target")
    assert [each.thread_id for each in other.interrupts()] == ["target"]


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
        return puts_ledger(call) and next(changes) == change

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
        if puts_ledger(call):
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
        if puts_ledger(call) and next(changes) == change:
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


def test_writes_are_seen_although_a_copy_that_ended_in_the_middle_hides_their_name(two: Two) -> None:
    copier, other = two
    copier.put_writes(put(copier, 1, thread="source"), [("n", 2)], "task")
    with dying(copier, stores_writes):
        copier.copy_thread("source", "target")
    other.put_writes(config_of("target", 1), [("n", 3)], "task")
    put(other, 1, thread="target")
    found = copier.get_tuple(config_of("target"))
    assert found is not None
    assert found.pending_writes == [("task", "n", 3)]


def test_writes_that_are_added_pass_over_a_name_that_a_copy_hides_that_ended_in_the_middle(two: Two) -> None:
    copier, other = two
    other.put_writes(put(other, 1, thread="target"), [("n", 2)], "task")
    copier.put_writes(put(copier, 1, thread="source"), [("n", 3), ("n", 4)], "task")
    with dying(copier, stores_writes):
        copier.copy_thread("source", "target")
    copier.put_writes(config_of("target", 1), [("n", 5), ("n", 6)], "task")
    found = other.get_tuple(config_of("target"))
    assert found is not None
    assert found.pending_writes == [("task", "n", 2), ("task", "n", 6)]


def test_writes_of_a_copy_that_is_being_made_are_not_seen(two: Two) -> None:
    copier, other = two
    config = put(copier, 1, thread="source")
    copier.copy_thread("source", "target")
    for task in ("one", "two"):
        copier.put_writes(config, [("n", 2)], task)
    stored = iter(range(2))
    with dying(copier, lambda call: stores_writes(call) and next(stored) == 1):
        copier.copy_thread("source", "target")
    found = other.get_tuple(config_of("target"))
    assert found is not None
    assert found.pending_writes == []


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


@pytest.mark.parametrize(
    "read",
    [
        lambda saver: saver.get_tuple(config_of("thread")),
        lambda saver: [*saver.list(config_of("thread"))],
        lambda saver: saver.copy_thread("thread", "target"),
    ],
    ids=["get", "list", "copy"],
)
def test_a_thread_that_is_deleted_and_swept_before_the_state_that_its_writes_stand_on_is_read_is_none(
    read: Callable[[S3Saver], Any], two: Two, later: Callable[[float], None]
) -> None:
    reader, other = two
    state = [f"{at} " + "x" * 1500 for at in range(40)]
    other.put_writes(put(other, 1, {"long": state}), [("long", [*state, "more"])], "task")
    put(other, 1, {"long": ["other"]})  # replaces the state that the writes stand on

    def delete() -> None:
        other.delete_thread("thread")
        later(400)
        other.setup()

    beside: Beside = between(reader, Beside)
    beside.after = once(lambda call: isinstance(call, Get) and "/w" in call.key, delete)
    assert not read(reader)
    assert [*other.list(None)] == []


THREAD: Any = {"configurable": {"thread_id": "target"}}

LISTINGS: dict[str, tuple[Callable[[S3Saver], Iterable[object]], list[int]]] = {
    "namespace": (lambda saver: saver.list(config_of("target")), [4, 3, 2, 1]),
    "thread": (lambda saver: saver.list(THREAD), []),
    "filtered thread": (lambda saver: saver.list(THREAD, filter={"source": "loop"}), []),
}


@pytest.mark.parametrize(("look", "seen"), LISTINGS.values(), ids=list(LISTINGS))
def test_a_reader_whose_listing_is_older_than_the_end_of_a_copy_sees_all_of_it_or_nothing(
    two: Two,
    moto_url: str,
    later: Callable[[float], None],
    look: Callable[[S3Saver], Iterable[object]],
    seen: list[int],
) -> None:
    copier, reader = two
    for number in (1, 2, 3, 4):
        put(copier, number, thread="source")
    copying, transport = copier.store.copy_thread("source", "target"), copier.store.transport
    request = next(copying)
    while not (isinstance(request, list) and isinstance(request[0], Copy)):
        request = copying.send(transport.execute(request))
    done = [transport.execute(call) for call in request[:2]]
    later(400)

    def end() -> None:
        answer = [*done, *(transport.execute(call) for call in request[2:])]
        with suppress(StopIteration):
            while True:
                answer = transport.execute(copying.send(answer))
        with S3Saver.from_conn_string(moto_url):
            pass  # which sweeps

    beside: Beside = between(reader, Beside)
    beside.after = once(lists("t/=target"), end)
    assert numbers(look(reader)) == seen
    assert numbers(look(reader)) == [4, 3, 2, 1]


LOOKS: dict[str, Callable[[S3Saver], Iterable[object]]] = {
    "namespace": lambda saver: saver.list(config_of("target")),
    "thread": lambda saver: saver.list(THREAD),
    "threads": lambda saver: saver.threads(thread_id="target"),
}


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize("look", LOOKS.values(), ids=list(LOOKS))
def test_a_copy_that_is_being_made_is_not_seen_by_who_asked_for_its_ledger_before_it_began(
    two: Two, later: Callable[[float], None], look: Callable[[S3Saver], Iterable[object]], seconds: float
) -> None:
    writer, reader = two
    for number in (1, 2, 3, 4):
        put(writer, number, thread="source")
    later(seconds)
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
    assert [*look(reader)] == []
    copying.before = lambda call: None
    writer.copy_thread("source", "target")
    assert [*look(reader)] != []
    assert numbers(reader.list(config_of("target"))) == [4, 3, 2, 1]


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


@pytest.mark.parametrize("seconds", [0, 60])
def test_what_was_deleted_and_is_put_again_with_its_time_is_seen(
    two: Two, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    one, other = two
    written_at = time.time_ns() // 1000 - seconds * 1_000_000
    monkeypatch.setattr("checkpoint_base.saver.now", lambda: written_at)
    put(one, 1)
    one.delete_thread("thread")
    put(other, 1)
    assert numbers(one.list(config_of("thread"))) == [1]


# Writes of one task


def test_of_writes_that_are_sent_again_and_again_with_other_values_the_first_count(two: Two) -> None:
    writer, reader = two
    config = put(writer, 1)
    for number in range(12):
        writer.put_writes(config, [("n", number)] * (number + 1), "task")
    found = reader.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "n", number) for number in range(12)]
