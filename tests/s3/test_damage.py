"""Damage to one thread is told of that thread, and keeps nobody from any other."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langgraph.types import Interrupt

from checkpoint_base import CorruptCheckpoint
from checkpoint_base.listings import PendingInterrupt
from checkpoint_s3 import S3Saver
from checkpoint_s3.layout import id_segment
from tests.s3.bucket import content, keys, move, overwrite
from tests.s3.threads import config_of, id_of, numbers, put


@pytest.fixture
def saver(moto_url: str) -> Iterator[S3Saver]:
    """With two threads that wait."""
    with S3Saver.from_conn_string(moto_url) as opened:
        for thread in ("good", "bad"):
            text = [f"{thread} {at} " + "x" * 1500 for at in range(20)]
            config = put(opened, 1, {"text": text}, thread=thread, team="a")
            opened.put_writes(config, [("__interrupt__", (Interrupt(text, id=thread),))], "task")
    with S3Saver.from_conn_string(moto_url) as opened:
        yield opened


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:at] + bytes((body[at] ^ 0xFF,)) + body[at + 1 :]


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "head of a checkpoint": ("/c", flip(30)),
    "frame of a checkpoint": ("/c", flip(1)),
    "format of a checkpoint": ("/c", flip(4)),
    "length of a checkpoint's head": ("/c", flip(10)),
    "all of a checkpoint": ("/c", lambda body: b""),
    "head of a write": ("/x", flip(18)),
    "end of a write": ("/x", lambda body: body[:-1]),
    "all of a write": ("/x", lambda body: b""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_object_is_listed_as_such_and_hides_no_other_thread(
    saver: S3Saver, moto_url: str, later: Callable[[float], None], damage: tuple[str, Callable[[bytes], bytes]]
) -> None:
    name, change = damage
    [key] = [key for key in keys(moto_url, "t/=bad/") if name in key]
    overwrite(moto_url, key, change(content(moto_url, key)))
    later(400)  # markers without a question are deleted after so long
    for _ in range(2):
        questions = {each.thread_id: each for each in saver.interrupts(metadata={"team": "a"})}
        assert set(questions) == {"good", "bad"}
        assert questions["good"].error is None
        assert len(questions["good"].value) == 20
        assert questions["bad"].error
        threads = {each.thread_id: each for each in saver.threads(metadata={"team": "a"})}
        assert set(threads) == {"good", "bad"}
        assert (threads["good"].error, threads["good"].pending_interrupts) == (None, 1)
        assert threads["bad"].error or name == "/c"
        assert threads["bad"].pending_interrupts == 1
    with pytest.raises(CorruptCheckpoint):
        saver.get_tuple(config_of("bad"))
    saver.delete_thread("bad")
    assert [each.thread_id for each in saver.threads()] == ["good"]
    assert [each.thread_id for each in saver.interrupts()] == ["good"]


def test_a_damaged_ledger_keeps_nobody_from_other_threads_and_its_thread_can_be_deleted(
    saver: S3Saver, moto_url: str, later: Callable[[float], None]
) -> None:
    put(saver, 2, thread="bad")
    saver.prune(["bad"])
    [ledger] = keys(moto_url, "l/")
    overwrite(moto_url, ledger, flip(20)(content(moto_url, ledger)))
    later(400)
    with S3Saver.from_conn_string(moto_url) as other:
        assert {each.thread_id: bool(each.error) for each in other.threads()} == {"good": False, "bad": True}
        assert [each.thread_id for each in other.interrupts() if not each.error] == ["good"]
        with pytest.raises(CorruptCheckpoint, match="bad"):
            other.get_tuple(config_of("bad"))
        put(other, 1, thread="third")
        other.delete_thread("third")
        other.delete_thread("bad")
        assert other.get_tuple(config_of("bad")) is None
        assert [each.thread_id for each in other.threads()] == ["good"]
    later(400)
    saver.setup()
    assert keys(moto_url, "t/=bad/") == []


def test_the_ledger_of_a_thread_without_objects_can_be_deleted_when_it_is_damaged(
    saver: S3Saver, moto_url: str, later: Callable[[float], None]
) -> None:
    saver.delete_thread("bad")
    later(400)
    saver.setup()
    [ledger] = keys(moto_url, "l/")
    overwrite(moto_url, ledger, flip(20)(content(moto_url, ledger)))
    saver.delete_thread("bad")
    put(saver, 1, thread="bad")
    with S3Saver.from_conn_string(moto_url) as other:
        assert other.get_tuple(config_of("bad")) is not None


def test_two_damaged_questions_of_a_task_are_listed_as_one_on_pages_of_any_length(
    saver: S3Saver, moto_url: str
) -> None:
    saver.put_writes(config_of("bad", 1), [("__interrupt__", (Interrupt("?", id="x"),)), ("__error__", "no")], "more")
    saver.put_writes(config_of("bad", 1), [("__interrupt__", (Interrupt("?", id="y"),))], "third")
    for key in keys(moto_url, "t/=bad/"):
        if "/x" in key:
            overwrite(moto_url, key, b"")
    everything = list(saver.interrupts())
    assert sorted((each.thread_id, bool(each.error)) for each in everything) == [("bad", True)] * 3 + [("good", False)]
    joined: list[PendingInterrupt] = []
    while page := list(saver.interrupts(limit=1, after=joined[-1].cursor if joined else None)):
        joined += page
    assert [each.cursor for each in joined] == [each.cursor for each in everything]
    (bad,) = saver.threads(thread_id="bad")
    assert bad.pending_interrupts == 3


def test_a_damaged_ordinary_write_is_no_question(saver: S3Saver, moto_url: str) -> None:
    saver.put_writes(config_of("bad", 1), [("n", 1)], "another")
    [key] = [key for key in keys(moto_url, "t/=bad/") if "/w" in key]
    overwrite(moto_url, key, b"")
    assert sorted(each.thread_id for each in saver.interrupts()) == ["bad", "good"]
    (bad,) = saver.threads(thread_id="bad")
    assert bad.error
    assert bad.pending_interrupts == 1


def test_a_question_is_read_from_the_state_it_is_stored_in_although_that_of_another_thread_is_damaged(
    saver: S3Saver, moto_url: str
) -> None:
    for thread in ("third", "fourth"):
        question = (Interrupt(thread.ljust(3000, "."), id=thread),)
        config = put(saver, 1, {"asked": question}, thread=thread)
        saver.put_writes(config, [("__interrupt__", question)], "task")
    [key] = [key for key in keys(moto_url, "t/=fourth/") if "/c" in key]
    body = content(moto_url, key)
    overwrite(moto_url, key, flip(len(body) - 1)(body))
    with S3Saver.from_conn_string(moto_url) as other:
        questions = {each.thread_id: each for each in other.interrupts()}
    assert set(questions) == {"good", "bad", "third", "fourth"}
    assert questions["fourth"].error
    assert (questions["third"].error, questions["third"].value) == (None, "third".ljust(3000, "."))


def test_a_checkpoint_under_the_id_of_another_is_damaged(saver: S3Saver, moto_url: str) -> None:
    [key] = [key for key in keys(moto_url, "t/=bad/") if "/c" in key]
    move(moto_url, key, key.replace(id_segment(id_of(1)), id_segment(id_of(2))))
    with S3Saver.from_conn_string(moto_url) as other, pytest.raises(CorruptCheckpoint, match="another checkpoint"):
        other.get_tuple(config_of("bad"))


def test_copying_a_thread_that_has_lost_an_object_names_the_object(saver: S3Saver, moto_url: str) -> None:
    text = saver.get_tuple(config_of("bad")).checkpoint["channel_values"]["text"]  # type: ignore[union-attr]
    put(saver, 2, {"n": 2, "text": text}, thread="bad", unchanged={"text": "1"})
    lost = sorted(key for key in keys(moto_url, "t/=bad/") if "/c" in key)[-1]  # the older one
    move(moto_url, lost, "elsewhere")
    with pytest.raises(CorruptCheckpoint, match=rf"object '.*{re.escape(lost)}' of thread 'bad' is missing"):
        saver.copy_thread("bad", "copy")


def test_writes_are_read_although_the_state_that_they_stand_on_has_lost_something_else(moto_url: str) -> None:
    state = [f"{at} " + "x" * 1500 for at in range(20)]
    with S3Saver.from_conn_string(moto_url) as saver:
        put(saver, 1, {"large": random.Random(1).randbytes(80_000)})
        [lost] = keys(moto_url, "t/=thread/")
        config = put(saver, 2, {"long": state}, unchanged={"large": "1"})
        saver.put_writes(config, [("long", [*state, "more"])], "task")
        put(saver, 2, {"long": ["other"]})
    move(moto_url, lost, "elsewhere")
    with S3Saver.from_conn_string(moto_url) as other:
        found = other.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "long", [*state, "more"])]


def test_objects_of_others_among_the_markers_are_passed_over(saver: S3Saver, moto_url: str) -> None:
    names: list[Any] = [
        "i/=x/notes.backup.txt",
        "i/readme",
        "i/=good/notes",
        "i/=good/!.a.b",
        "r/readme",
        "l/=x/readme",
    ]
    for name in names:
        overwrite(moto_url, name, b"hello")
    assert {each.thread_id for each in saver.interrupts()} == {"good", "bad"}
    assert {each.thread_id for each in saver.threads()} == {"good", "bad"}
    saver.delete_thread("bad")
    assert set(names) <= set(keys(moto_url, ""))


def test_removing_a_run_says_which_thread_is_damaged_and_removes_it_from_all_others(
    saver: S3Saver, moto_url: str
) -> None:
    for thread in ("good", "bad"):
        put(saver, 2, thread=thread, run_id="a run's")
    [*_, key] = sorted((key for key in keys(moto_url, "t/=bad/") if "/c" in key), reverse=True)
    overwrite(moto_url, key, flip(30)(content(moto_url, key)))
    with S3Saver.from_conn_string(moto_url) as other:
        with pytest.raises(CorruptCheckpoint, match="bad"):
            other.delete_for_runs(["a run's"])
        assert numbers(other.list(config_of("good"))) == [1]


def test_a_damaged_ledger_keeps_no_run_from_being_removed_from_other_threads_but_its_own_from_a_put(
    saver: S3Saver, moto_url: str
) -> None:
    put(saver, 2, thread="bad")
    saver.prune(["bad"])
    [ledger] = keys(moto_url, "l/")
    overwrite(moto_url, ledger, flip(20)(content(moto_url, ledger)))
    put(saver, 2, thread="good", run_id="a run's")
    with S3Saver.from_conn_string(moto_url) as other:
        other.delete_for_runs(["a run's"])
        assert numbers(other.list(config_of("good"))) == [1]
        assert [each.thread_id for each in other.interrupts() if not each.error] == ["good"]
        with pytest.raises(CorruptCheckpoint, match="bad"):  # although a listing has just read the ledger
            put(other, 3, thread="bad")
