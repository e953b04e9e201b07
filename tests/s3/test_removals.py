"""What is removed beside a run that goes on: what somebody relies on stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from checkpoint_base import ConflictError
from checkpoint_s3 import S3Saver
from checkpoint_s3.layout import id_segment
from checkpoint_s3.transport import Call, Get, Put
from tests.s3.bucket import keys
from tests.s3.conftest import Two
from tests.s3.threads import QUESTION, config_of, contributed, id_of, numbers, opened, put
from tests.s3.transports import (
    Beside,
    Counting,
    Repeating,
    between,
    counted,
    deletes,
    dying,
    marks_question,
    once,
    puts_ledger,
)

LARGE = "x" * 20_000


# Removals beside a run that goes on


def test_no_child_is_put_on_a_parent_that_has_kept_only_some_of_its_writes(two: Two, moto_url: str) -> None:
    pruner, runner = two
    put(runner, 1, {"a": [0], "b": [0]})
    put(runner, 2, {}, unchanged={"a": "2", "b": "2"}, **opened("a", "b"))
    runner.put_writes(config_of("thread", 2), [("a", 1), ("b", 1)], "task")
    # A branch that needs the writes to one of the channels only.
    put(pruner, 3, {"b": [1]}, unchanged={"a": "3"}, **opened("a"))
    pruner.prune(["thread"])
    with S3Saver.from_conn_string(moto_url) as another:  # which knows nothing of the parent
        for saver in (runner, another):
            with pytest.raises(ConflictError, match="has been removed since"):
                put(saver, 4, {}, parent=2, unchanged={"a": "4", "b": "4"}, **opened("a", "b"))
    put(runner, 5, {"b": [1]}, parent=2, unchanged={"a": "5"}, **opened("a"))
    history = pruner.get_delta_channel_history(config=config_of("thread", 5), channels=["a"])
    assert [value for _, _, value in history["a"]["writes"]] == [1]
    assert numbers(pruner.list(config_of("thread"))) == [5, 3]


def test_writes_of_an_ancestor_are_whole_although_its_state_holds_a_part_of_them(two: Two) -> None:
    runner, reader = two
    state = [f"{at} ".ljust(1500, ".") for at in range(20)]
    put(runner, 1, {"a": [0]})
    config = put(runner, 2, {"b": state}, unchanged={"a": "2"}, **opened("a"))
    runner.put_writes(config, [("a", [*state, "more"])], "task")
    put(runner, 3, {"b": "other"}, unchanged={"a": "3"}, **opened("a"))
    assert contributed(reader, 3, "a") == ([0], [[*state, "more"]])


@pytest.mark.timeout(20)
def test_parents_that_form_a_ring_are_each_gone_through_once(two: Two) -> None:
    writer, reader = two
    for number, parent in ((1, 3), (2, 1), (3, 2)):
        config = put(writer, number, {}, parent=parent, unchanged={"a": f"{number}"})
        writer.put_writes(config, [("a", number)], "task")
    assert contributed(reader, 3, "a") == (None, [1, 2])
    reader.prune(["thread"])
    assert numbers(writer.list(config_of("thread"))) == [3]


@pytest.mark.parametrize("answers", ["arrive", "get lost at first"])
@pytest.mark.parametrize("kept", [{"a": [1], "b": [1]}, {"b": [1]}], ids=["all of them", "those to one channel"])
def test_a_child_that_is_put_beside_the_removal_of_its_parent_keeps_the_writes(
    two: Two, kept: dict[str, Any], answers: str
) -> None:
    pruner, runner = two
    put(runner, 1, {"a": [0], "b": [0]})
    put(runner, 2, {}, unchanged={"a": "2", "b": "2"}, **opened("a", "b"))
    runner.put_writes(config_of("thread", 2), [("a", 1), ("b", 1)], "task")
    put(runner, 3, kept, unchanged={channel: "3" for channel in "ab" if channel not in kept}, **opened("a"))
    beside: Beside = between(pruner, lambda inner: Beside(inner if answers == "arrive" else Repeating(inner)))
    beside.before = once(
        puts_ledger, lambda: put(runner, 4, {}, parent=2, unchanged={"a": "4", "b": "4"}, **opened("a", "b"))
    )
    pruner.prune(["thread"])
    assert numbers(pruner.list(config_of("thread"))) == [4]
    assert [contributed(pruner, 4, channel) for channel in "ab"] == [([0], [1])] * 2


def test_a_removal_that_is_taken_back_for_a_child_shows_nothing_that_was_pruned_before(two: Two) -> None:
    remover, runner = two
    put(runner, 1, {"a": [0]})
    put(runner, 2, {}, unchanged={"a": "2"}, **opened("a"))
    runner.put_writes(config_of("thread", 2), [("a", 1)], "task")
    put(runner, 3, {}, unchanged={"a": "3"}, run_id="a run's", **opened("a"))
    remover.prune(["thread"])
    put(runner, 4, {"a": [0, 1]})
    beside: Beside = between(remover, Beside)
    beside.before = once(puts_ledger, lambda: put(runner, 5, {}, parent=3, unchanged={"a": "5"}, **opened("a")))
    remover.delete_for_runs(["a run's"])
    assert numbers(remover.list(config_of("thread"))) == [5, 4]
    assert contributed(remover, 5, "a") == ([0], [1])


def assert_goes_on(runner: S3Saver, reader: S3Saver) -> None:
    """A run goes on from the first checkpoint, which holds `LARGE`, and another process reads what it stores."""
    put(runner, 3, {"large": LARGE, "n": 3}, parent=1, unchanged={"large": "1"})
    found = reader.get_tuple(config_of("thread"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"large": LARGE, "n": 3}


@pytest.mark.parametrize("how", ["delete", "prune"])
def test_a_run_that_paused_while_its_state_was_removed_and_swept_stores_it_again(
    two: Two, moto_url: str, later: Callable[[float], None], how: str
) -> None:
    remover, runner = two
    put(runner, 1, {"large": LARGE, "n": 1})
    if how == "prune":
        put(remover, 2)
        remover.prune(["thread"])
    else:
        remover.delete_thread("thread")
    later(400)
    with S3Saver.from_conn_string(moto_url):
        assert not any("/c" in key and id_segment(id_of(1)) in key for key in keys(moto_url, "t/"))
    assert_goes_on(runner, remover)


def test_writes_on_a_state_that_was_removed_and_swept_bring_it_along(
    two: Two, moto_url: str, later: Callable[[float], None]
) -> None:
    remover, runner = two
    state = [f"{at} " + "x" * 1500 for at in range(40)]
    config = put(runner, 1, {"long": state})
    remover.delete_thread("thread")
    later(400)
    with S3Saver.from_conn_string(moto_url):
        assert keys(moto_url, "t/") == []
    put(remover, 1, {"long": ["other"]})
    runner.put_writes(config, [("long", [*state, "more"])], "task")
    found = remover.get_tuple(config_of("thread"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"long": ["other"]}
    assert found.pending_writes == [("task", "long", [*state, "more"])]


# What becomes the latest


def test_a_question_whose_checkpoint_is_the_latest_again_is_found_although_its_marker_was_deleted(
    two: Two, later: Callable[[float], None]
) -> None:
    remover, asking = two
    asking.put_writes(put(asking, 1), QUESTION, "task")
    put(asking, 2, space="sub", parent=0)  # stays, too, and is newer than the first
    put(asking, 3, parent=1, run_id="a run's")
    later(200)
    assert list(asking.interrupts()) == []  # which deletes the marker
    remover.delete_for_runs(["a run's"])
    assert [each.value for each in asking.interrupts()] == ["sure?"]


def test_a_prune_that_leaves_the_latest_marks_no_question_again(two: Two, moto_url: str) -> None:
    pruner, asking = two
    put(asking, 1)
    asking.put_writes(put(asking, 2), QUESTION, "task")
    put(asking, 3, space="sub", parent=0)
    put(asking, 4, space="sub")
    before = keys(moto_url, "i/")
    pruner.prune(["thread"])
    assert keys(moto_url, "i/") == before


def test_a_thread_of_which_all_runs_were_removed_begins_anew(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    remover, runner = two
    put(runner, 1, run_id="a run's")
    remover.delete_for_runs(["a run's"])
    begun_at = time.time_ns() // 1000 + 60_000_000
    monkeypatch.setattr("checkpoint_base.saver.now", lambda: begun_at)
    put(runner, 2)
    (found,) = remover.threads()
    assert found.created_at.timestamp() == begun_at / 1_000_000


def test_writes_that_were_removed_are_stored_again_beside_them(two: Two, moto_url: str) -> None:
    remover, runner = two
    for saver in two:
        saver.put_writes(put(saver, 1), [("n", 2)], "task")
        remover.delete_thread("thread")
    with S3Saver.from_conn_string(moto_url) as fresh:
        fresh.put_writes(put(fresh, 1), [("n", 2), ("n", 3)], "task")
    found = runner.get_tuple(config_of("thread"))
    assert found is not None
    assert found.pending_writes == [("task", "n", 2), ("task", "n", 3)]


def test_a_checkpoint_that_is_put_again_has_none_of_the_writes_that_were_removed_with_it(two: Two) -> None:
    remover, runner = two
    runner.put_writes(put(runner, 1, run_id="a run's"), [("n", 2)], "task")
    remover.delete_for_runs(["a run's"])
    put(runner, 1)
    found = remover.get_tuple(config_of("thread"))
    assert found is not None
    assert found.pending_writes == []


def test_a_thread_without_a_root_checkpoint_is_listed_unless_metadata_is_asked_for(two: Two) -> None:
    one, other = two
    put(one, 1, thread="rootless", space="sub", team="a")
    put(one, 1, team="a")
    assert sorted(each.thread_id for each in other.threads()) == ["rootless", "thread"]
    assert [each.thread_id for each in other.threads(metadata={"team": "a"})] == ["thread"]


# Questions and their markers


def test_a_question_is_found_although_somebody_has_looked_while_it_was_being_asked(two: Two) -> None:
    asking, listing = two
    config = put(asking, 1)
    beside: Beside = between(asking, Beside)
    looks: list[Any] = []
    beside.before = once(
        lambda call: isinstance(call, Put) and "/x" in call.key, lambda: looks.extend(listing.interrupts())
    )
    asking.put_writes(config, QUESTION, "task")
    assert looks == []
    assert [each.value for each in listing.interrupts()] == ["sure?"]


def test_a_question_that_is_being_asked_while_its_thread_is_deleted_is_found_once_its_checkpoint_arrives(
    two: Two,
) -> None:
    asking, remover = two
    put(asking, 1)
    beside: Beside = between(asking, Beside)
    beside.before = once(marks_question, lambda: remover.delete_thread("thread"))
    asking.put_writes(config_of("thread", 2), QUESTION, "task")
    put(asking, 2)
    assert [each.value for each in remover.interrupts()] == ["sure?"]


def test_the_marker_of_a_question_that_never_came_is_deleted(
    two: Two, moto_url: str, later: Callable[[float], None]
) -> None:
    asking, listing = two
    with dying(asking, marks_question):
        asking.put_writes(config_of("thread", 1), QUESTION, "task")
    assert len(keys(moto_url, "i/")) == 1
    later(200)
    assert list(listing.interrupts()) == []
    assert keys(moto_url, "i/") == []


# Processes that are suspended between two requests


def test_a_put_that_was_suspended_until_its_state_was_removed_and_swept_stores_it_again(
    two: Two, moto_url: str, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    remover, runner = two
    put(runner, 1, {"large": LARGE, "n": 1})
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
    assert_goes_on(runner, remover)


@pytest.mark.parametrize("last", [Get, Put], ids=["read", "stored"])
def test_what_was_removed_and_swept_just_after_it_was_read_or_stored_is_not_relied_on(
    two: Two, moto_url: str, later: Callable[[float], None], last: type[Call]
) -> None:
    remover, runner = two

    def suspend() -> None:
        put(remover, 2)
        remover.prune(["thread"])
        later(400)
        with S3Saver.from_conn_string(moto_url):
            pass
        assert runner.get_tuple(config_of("thread", 2)) is not None  # another task of the process goes on first

    beside: Beside = between(runner, Beside)
    beside.after = once(lambda call: isinstance(call, last) and "/c" in call.key, suspend)
    put(runner if last is Put else remover, 1, {"large": LARGE, "n": 1})
    runner.get_tuple(config_of("thread", 1))
    assert_goes_on(runner, remover)


def test_a_put_that_was_suspended_while_nothing_was_removed_is_stored_once(
    two: Two, later: Callable[[float], None]
) -> None:
    runner, _ = two
    put(runner, 1, {"large": LARGE, "n": 1})
    counting: Counting = counted(runner)
    beside = Beside(counting)
    beside.before = once(lambda call: isinstance(call, Put), lambda: later(400))
    runner.transport = beside
    put(runner, 2, {"n": 2}, unchanged={"large": "1"})
    assert counting.kinds == {"Put": 1, "Get": 1}


def test_an_older_ledger_that_arrives_later_does_not_count(two: Two) -> None:
    remover, reader = two
    put(remover, 1)
    put(remover, 2)
    surveyor, transport = reader.store._surveyor, reader.store.transport  # type: ignore[attr-defined]
    asked_at = surveyor.elapsed()
    older = transport.execute(Get(surveyor.keys.ledger("thread")))
    remover.prune(["thread"])
    assert numbers(reader.list(config_of("thread"))) == [2]
    surveyor.parsed_ledger("thread", older, asked_at)
    assert len(surveyor.memory.thread("thread").unseen) == 1


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


def test_a_question_that_is_asked_again_is_found_although_the_marker_of_a_crash_is_deleted_beside_it(
    careless: Two, later: Callable[[float], None]
) -> None:
    asking, listing = careless
    config = put(asking, 1)
    with dying(asking, marks_question):
        asking.put_writes(config, QUESTION, "task")
    later(200)
    beside: Beside = between(listing, Beside)
    beside.before = once(deletes("i/"), lambda: asking.put_writes(config, QUESTION, "task"))
    assert [each.value for each in listing.interrupts()] == []
    assert [each.value for each in listing.interrupts()] == ["sure?"]
