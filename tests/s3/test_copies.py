"""What a copy shows, and what it keeps out of sight."""

from __future__ import annotations

import pytest

from checkpoint_base import ConflictError
from tests.s3.conftest import Two
from tests.s3.threads import QUESTION, config_of, contributed, numbers, opened, put

LARGE = "x" * 20_000


def test_a_copy_of_a_thread_that_waits_again_since_a_run_was_removed_waits(two: Two) -> None:
    copier, other = two
    copier.put_writes(put(copier, 1, thread="source"), QUESTION, "task")
    put(copier, 2, thread="source", run_id="a run's")
    copier.delete_for_runs(["a run's"])
    copier.copy_thread("source", "target")
    assert sorted(each.thread_id for each in other.interrupts()) == ["source", "target"]


def test_a_target_that_shows_what_its_source_keeps_out_of_sight_is_a_conflict(two: Two) -> None:
    copier, other = two
    put(copier, 1, {"a": [0]}, thread="source")
    put(copier, 2, {}, thread="source", unchanged={"a": "2"}, **opened("a"))
    copier.put_writes(config_of("source", 2), [("a", 1)], "task")
    copier.copy_thread("source", "target")
    put(copier, 3, {}, thread="source", unchanged={"a": "3"}, **opened("a"))
    copier.prune(["source"])
    with pytest.raises(ConflictError, match="thread 'target' has checkpoints"):
        copier.copy_thread("source", "target")
    assert numbers(other.list(config_of("target"))) == [2, 1]


def test_a_copy_keeps_out_of_sight_what_its_source_does_and_rebuilds_its_channels(two: Two) -> None:
    copier, other = two
    put(copier, 1, {"a": [0]}, thread="source")
    put(copier, 2, {}, thread="source", unchanged={"a": "2"}, **opened("a"))
    copier.put_writes(config_of("source", 2), [("a", 1)], "task")
    put(copier, 3, {}, thread="source", unchanged={"a": "3"}, **opened("a"))
    copier.prune(["source"])
    copier.copy_thread("source", "target")
    assert numbers(other.list(config_of("target"))) == [3]
    assert contributed(other, 3, "a", "target") == ([0], [1])


def test_a_copy_shows_none_of_the_older_checkpoints_on_which_it_stands(two: Two) -> None:
    copier, other = two
    put(copier, 1, {"large": LARGE, "n": 1}, thread="source")
    put(copier, 2, {"n": 2}, thread="source", unchanged={"large": "1"})
    copier.prune(["source"])
    copier.copy_thread("source", "target")
    assert numbers(other.list(config_of("target"))) == [2]
    copier.delete_thread("source")
    found = other.get_tuple(config_of("target"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"large": LARGE, "n": 2}


def test_a_target_that_was_used_after_its_source_stays_as_new_when_it_is_copied_to_again(two: Two) -> None:
    copier, other = two
    config = put(copier, 1, thread="source")
    copier.copy_thread("source", "target")
    copier.put_writes(config, [("n", 2)], "task")
    put(other, 2, thread="target", run_id="a run's")
    other.delete_for_runs(["a run's"])
    (before,) = other.threads(thread_id="target")
    copier.copy_thread("source", "target")
    (after,) = other.threads(thread_id="target")
    assert after.updated_at == before.updated_at
