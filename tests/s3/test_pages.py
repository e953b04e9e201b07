"""Long threads, of whose names a listing takes a page at a time: nothing is left out or shown in part."""

from __future__ import annotations

from typing import Any

import pytest

from tests.s3.conftest import Two
from tests.s3.threads import config_of, numbers, put
from tests.s3.transports import counted_in_short

THREAD: Any = {"configurable": {"thread_id": "thread"}}


def test_a_long_thread_is_listed_whole_beside_as_many_checkpoints_of_a_subgraph(two: Two) -> None:
    writer, reader = two
    for number in range(1, 41):
        for space in ("", "sub"):
            put(writer, number, space=space)
    counted_in_short(reader)
    found = [each.config["configurable"] for each in reader.list(THREAD)]
    places = [(int(each["checkpoint_id"][:8], 16), each["checkpoint_ns"]) for each in found]
    # A page ends between two of one id.
    assert places == [(number, space) for number in range(40, 0, -1) for space in ("sub", "")]


@pytest.mark.parametrize("space", [{}, {"checkpoint_ns": ""}], ids=["thread", "namespace"])
def test_a_checkpoint_whose_writes_continue_on_another_page_of_names_is_listed_with_all_of_them(
    two: Two, space: dict[str, str]
) -> None:
    writer, reader = two
    for number in range(1, 10):
        config = put(writer, number)
        for task in range(7):
            writer.put_writes(config, [("n", task)], f"task {task}")
    counted_in_short(reader)
    config = {"configurable": {"thread_id": "thread", **space}}
    # Of 20 names from the ninth on, the first 16 are of the ninth and the eighth.
    found = list(reader.list(config, before=config_of("thread", 9), limit=2))
    assert numbers(found) == [8, 7]
    assert [len(each.pending_writes or ()) for each in found] == [7, 7]
