"""How many objects hold a checkpoint's state, which of them are left behind, and what is not sent again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.types import Interrupt

from checkpoint_s3 import S3Saver
from checkpoint_s3.layout import (
    MAX_KEY_BYTES,
    MAX_NAMESPACE_CHARACTERS,
    MAX_PREFIX_BYTES,
    MAX_THREAD_CHARACTERS,
    CheckpointName,
    Keys,
    Label,
    room_for_references,
    space_segment,
)
from checkpoint_s3.stack import MAX_OBJECTS
from checkpoint_s3.transport import Get, Put
from tests.s3 import threads
from tests.s3.threads import config_of, put
from tests.s3.transports import counted


@pytest.fixture
def saver(radosgw_url: str) -> Iterator[S3Saver]:
    """On a store that refuses keys of more than 1024 bytes."""
    with S3Saver.from_conn_string(radosgw_url) as opened:
        yield opened


def objects_read(url: str, number: int) -> tuple[int, dict[str, Any]]:
    """How many objects it takes to read a checkpoint in another process, and the state."""
    with S3Saver.from_conn_string(url) as reader:
        transport = counted(reader)
        found = reader.get_tuple(config_of("thread", number))
    assert found is not None
    read = [call for call in transport.calls if isinstance(call, Get) and "/t/" in call.key]
    return len(read), found.checkpoint["channel_values"]


@pytest.mark.parametrize("longer", ["", "x" * 200], ids=["ids of usual length", "long ids"])
def test_ever_smaller_steps_are_in_as_many_objects_as_a_name_can_refer_to(
    saver: S3Saver, radosgw_url: str, monkeypatch: pytest.MonkeyPatch, longer: str
) -> None:
    id_of = threads.id_of
    monkeypatch.setattr(threads, "id_of", lambda number: id_of(number) + longer)
    state: dict[str, Any] = {}
    for number in range(1, 13):
        state[f"step {number}"] = random.randbytes(2 ** (20 - number))
        unchanged = {f"step {earlier}": f"{earlier}" for earlier in range(1, number)}
        put(saver, number, {f"step {number}": state[f"step {number}"]}, unchanged=unchanged)
        objects, found = objects_read(radosgw_url, number)
        assert found == state
        assert objects <= (MAX_OBJECTS if not longer else 2)


@pytest.mark.parametrize("longer", ["", "x" * 200], ids=["ids of usual length", "long ids"])
def test_references_have_the_room_that_the_longest_folders_leave_in_a_key(longer: str) -> None:
    checkpoint_id = threads.id_of(1) + longer
    folder = Keys("p" * MAX_PREFIX_BYTES + "/").folder("t" * MAX_THREAD_CHARACTERS)
    name = CheckpointName(space_segment("s" * MAX_NAMESPACE_CHARACTERS), Label(checkpoint_id, bytes(12)), ())
    assert len(folder + name.text()) + room_for_references(checkpoint_id) == MAX_KEY_BYTES


def test_an_object_in_which_hardly_anything_is_needed_any_more_is_left_behind(saver: S3Saver, radosgw_url: str) -> None:
    kept = random.randbytes(20_000)
    put(saver, 1, {"large": random.randbytes(500_000), "kept": kept})
    put(saver, 2, {"large": "small"}, unchanged={"kept": "1"})
    assert objects_read(radosgw_url, 2) == (1, {"large": "small", "kept": kept})


def test_neither_writes_nor_the_checkpoint_that_they_become_send_again_what_is_stored(saver: S3Saver) -> None:
    state = [f"{at} ".ljust(1500, ".") for at in range(20)]
    more = [*state, "more".ljust(1500, ".")]
    config = put(saver, 1, {"long": state})
    transport = counted(saver)
    saver.put_writes(config, [("long", more)], "task")
    put(saver, 2, {"long": more})
    assert transport.kinds == {"Put": 2}
    assert sum(len(call.body) for call in transport.calls if isinstance(call, Put)) < 15_000
    found = saver.get_tuple(config_of("thread"))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"long": more}


def test_a_question_whose_value_another_write_has_brought_is_marked_and_stored_once(saver: S3Saver) -> None:
    question = (Interrupt("sure? ".ljust(3000, "."), id="i"),)
    config = put(saver, 1)
    saver.put_writes(config, [("asked", question)], "one")
    transport = counted(saver)
    saver.put_writes(config, [("__interrupt__", question)], "two")
    assert transport.kinds == {"Put": 2}
    assert [each.value for each in saver.interrupts()] == ["sure? ".ljust(3000, ".")]


def test_a_value_that_is_not_passed_again_is_found_at_its_version_whatever_the_process_remembers(
    saver: S3Saver, radosgw_url: str
) -> None:
    put(saver, 1, {"a": 7})
    put(saver, 2, {}, unchanged={"a": "1"})
    with S3Saver.from_conn_string(radosgw_url) as another:
        put(another, 3, {}, parent=1, unchanged={"a": "1"})
        put(another, 4, {"b": 4}, unchanged={"a": "1"})
    found = [objects_read(radosgw_url, number)[1] for number in (2, 3, 4)]
    assert found == [{"a": 7}, {"a": 7}, {"a": 7, "b": 4}]


def test_whether_a_channel_has_a_value_at_its_version_is_looked_up_once_in_a_process(
    saver: S3Saver, radosgw_url: str
) -> None:
    consumed = {"trigger": "0"}  # has never had a value
    put(saver, 1, {"n": 1}, unchanged=consumed)
    with S3Saver.from_conn_string(radosgw_url) as another:
        transport = counted(another)
        put(another, 2, {"n": 2}, unchanged=consumed)
        assert transport.kinds["Put"] == transport.kinds["List"] == 1
        transport.forget()
        for number in range(3, 8):
            put(another, number, {"n": number}, unchanged=consumed)
        assert transport.kinds == {"Put": 5}
    assert objects_read(radosgw_url, 7)[1] == {"n": 7}
