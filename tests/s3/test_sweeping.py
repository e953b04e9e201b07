"""Deleting what was removed, once nobody can be reading it any more: who does it, of how much, and beside whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote_plus

import pytest

from checkpoint_base import CorruptCheckpoint, UnsupportedOperation
from checkpoint_s3 import S3Saver, removal
from checkpoint_s3.transport import Copy, Get
from tests.s3.bucket import keys, overwrite
from tests.s3.conftest import Two
from tests.s3.proxy import Proxy, error_answer
from tests.s3.threads import QUESTION, config_of, numbers, put
from tests.s3.transports import (
    Beside,
    Counting,
    between,
    counted,
    deletes,
    lists,
    once,
)

LARGE = "x" * 20_000


def test_a_sweep_leaves_what_a_prune_beside_it_has_just_released(
    two: Two, moto_url: str, later: Callable[[float], None]
) -> None:
    pruner, runner = two
    put(pruner, 1, {"large": LARGE, "n": 1})
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
    assert found.checkpoint["channel_values"] == {"large": LARGE, "n": 4}


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


def test_what_others_stand_on_stays_out_of_sight_when_all_that_is_due_was_swept(
    two: Two, moto_url: str, later: Callable[[float], None]
) -> None:
    pruner, reader = two
    put(pruner, 1, {"large": LARGE, "n": 1})
    put(pruner, 2, {"n": 2}, unchanged={"large": "1"})
    pruner.prune(["thread"])
    later(400)
    with S3Saver.from_conn_string(moto_url):
        assert len(keys(moto_url, "t/")) == 2
    assert numbers(reader.list(config_of("thread"))) == [2]


def test_a_sweep_leaves_a_question_that_is_asked_again_just_before_the_earlier_one_is_deleted(
    two: Two, later: Callable[[float], None]
) -> None:
    asking, sweeping = two
    asking.put_writes(put(asking, 1), QUESTION, "task")
    asking.delete_thread("thread")
    later(400)
    beside: Beside = between(sweeping, Beside)
    beside.before = once(deletes("t/"), lambda: asking.put_writes(put(asking, 1), QUESTION, "task"))
    sweeping.setup()
    assert [each.value for each in sweeping.interrupts()] == ["sure?"]


def test_of_two_sweeps_at_once_neither_fails(two: Two, moto_url: str, later: Callable[[float], None]) -> None:
    one, other = two
    one.put_writes(put(one, 1), [("n", 1)], "task")
    one.delete_thread("thread")
    later(400)
    beside: Beside = between(one, Beside)
    beside.before = once(deletes("t/"), other.setup)
    one.setup()
    assert keys(moto_url, "t/") == keys(moto_url, "r/") == []


def test_a_sweep_that_was_suspended_until_the_rest_was_swept_as_well_does_not_fail(
    two: Two, moto_url: str, later: Callable[[float], None]
) -> None:
    one, other = two
    one.put_writes(put(one, 1), [("n", 1)], "task")
    put(one, 1)
    one.prune(["thread"])  # removes the checkpoint that was replaced, on which the writes may stand
    later(400)

    def suspend() -> None:
        other.delete_thread("thread")
        later(400)
        other.setup()

    beside: Beside = between(one, Beside)
    beside.before = once(lambda call: isinstance(call, Get) and "/w" in call.key, suspend)
    one.setup()
    assert keys(moto_url, "t/") == []


def test_a_sweep_leaves_a_copy_that_is_being_made(two: Two, later: Callable[[float], None]) -> None:
    copier, sweeping = two
    for number in (1, 2):
        put(copier, number, thread="source")

    def sweep() -> None:
        later(400)
        sweeping.setup()

    beside: Beside = between(copier, Beside)
    copies = iter(range(2))
    beside.before = once(lambda call: isinstance(call, Copy) and next(copies) == 1, sweep)
    copier.copy_thread("source", "target")
    assert numbers(sweeping.list(config_of("target"))) == [2, 1]


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

    later(10)  # from now on, whatever is stored seems to be copied, which takes a look more
    alone = cost(2)
    later(190)
    assert cost(3) > alone
    assert cost(4) <= alone


@contextmanager
def open_counted(url: str) -> Iterator[Counting]:
    """Open a saver, and count what that takes."""
    saver = S3Saver.from_conn_string(url)
    counting = counted(saver)
    with saver:
        yield counting


def waiting(url: str) -> int:
    """How many threads have something to sweep up."""
    return len({key.split("/")[1] for key in keys(url, "r/")})


@pytest.fixture
def backlog(two: Two, later: Callable[[float], None]) -> int:
    """How many threads were deleted so long ago that they are due."""
    remover, _ = two
    threads = [f"thread-{number}" for number in range(3 * removal.SWEPT + 3)]
    for thread in threads:
        put(remover, 1, thread=thread)
    remover.prune(threads, strategy="delete")
    later(400)
    return len(threads)


def test_opening_a_saver_sweeps_a_few_threads_side_by_side(moto_url: str, backlog: int) -> None:
    left = backlog
    while left:
        with open_counted(moto_url) as counting:
            swept = min(left, removal.SWEPT)
            assert len(counting.calls) <= 2 + 7 * swept
            assert len(counting.steps) <= 2 + 7
            left -= swept
            assert waiting(moto_url) == left
    assert keys(moto_url, "t/") == []


def test_a_removal_sweeps_more_threads_than_it_removes(two: Two, moto_url: str, backlog: int) -> None:
    remover, _ = two
    counting: Counting = counted(remover)
    remover.delete_thread("one")
    assert waiting(moto_url) == backlog - removal.SWEPT
    assert len(counting.steps) <= 20
    remover.prune([f"thread-{number}" for number in range(removal.SWEPT)])  # has nothing to remove
    assert waiting(moto_url) == backlog - 3 * removal.SWEPT


def test_removing_the_checkpoints_of_runs_sweeps_everything_that_is_due(two: Two, moto_url: str, backlog: int) -> None:
    remover, _ = two
    assert backlog > 2 * removal.SWEPT
    counting: Counting = counted(remover)
    remover.delete_for_runs(["no run has this id"])
    assert keys(moto_url, "t/") == keys(moto_url, "r/") == []
    assert len(counting.steps) <= 30


def test_threads_that_cannot_be_swept_keep_no_others_from_it(two: Two, moto_url: str, backlog: int) -> None:
    damaged = [f"thread-{number}" for number in range(2 * removal.SWEPT)]
    for thread in damaged:
        overwrite(moto_url, f"l/={thread}/!", b"damaged")
    for _ in range(100):
        with S3Saver.from_conn_string(moto_url):
            pass
        if waiting(moto_url) == len(damaged):
            break
    assert {key.split("/")[1] for key in keys(moto_url, "r/")} == {f"={thread}" for thread in damaged}


def test_opening_a_saver_deletes_a_part_of_a_long_thread_and_a_removal_the_rest(
    two: Two, moto_url: str, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "SWEPT_OBJECTS", 5)
    remover, other = two
    for number in range(1, 21):
        put(remover, number)
    remover.prune(["thread"])
    later(400)
    for left in (15, 10):
        with S3Saver.from_conn_string(moto_url) as reader:
            assert len(keys(moto_url, "t/")) == left
            assert numbers(reader.list(config_of("thread"))) == [20]
    other.delete_thread("another")
    assert len(keys(moto_url, "t/")) == 1
    assert keys(moto_url, "r/=thread/") == []
    assert numbers(other.list(config_of("thread"))) == [20]


def test_a_prune_sweeps_although_one_of_its_threads_is_damaged(two: Two, moto_url: str, backlog: int) -> None:
    remover, _ = two
    put(remover, 1)
    overwrite(moto_url, "l/=thread/!", b"damaged")
    with pytest.raises(CorruptCheckpoint):
        remover.prune(["thread"])
    assert waiting(moto_url) == backlog - removal.SWEPT


def test_copies_sweep_more_than_they_leave(two: Two, moto_url: str, later: Callable[[float], None]) -> None:
    copier, _ = two
    put(copier, 1, thread="source")
    for number in range(6):
        copier.copy_thread("source", f"earlier-{number}")
    assert waiting(moto_url) == 6
    later(400)
    for number in range(3):
        copier.copy_thread("source", f"target-{number}")
    assert waiting(moto_url) == 6 + 3 - 2 * 3
    assert len(list(copier.threads())) == 10


def test_who_may_only_read_opens_a_saver_and_lists_while_something_is_to_be_deleted(
    two: Two,
    moto_endpoint: str,
    moto_url: str,
    later: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer, _ = two
    put(writer, 1, thread="removed")
    writer.delete_thread("removed")
    config = put(writer, 1)
    writer.put_writes(config, QUESTION, "task")
    writer.put_writes(config, [("n", 2)], "task")  # leaves a marker
    put(writer, 2)
    later(400)
    before = keys(moto_url, "")
    with Proxy(moto_endpoint) as proxy:
        proxy.arriving = lambda request: request if request.method == "GET" else error_answer(403, "AccessDenied")
        url = moto_url.replace(quote_plus(moto_endpoint), quote_plus(proxy.url))
        caplog.set_level("INFO", "checkpoint_s3")
        with S3Saver.from_conn_string(url) as reader:
            assert numbers(reader.list(config_of("thread"))) == [2, 1]
            assert [each.thread_id for each in reader.threads()] == ["thread"]
            assert list(reader.interrupts()) == []
            said = [record.getMessage() for record in caplog.records if record.name.startswith("checkpoint_s3")]
            assert len(said) == 2
            assert all("AccessDenied" in message for message in said)
            with pytest.raises(UnsupportedOperation, match="AccessDenied"):
                reader.delete_thread("thread")
    assert keys(moto_url, "") == before
