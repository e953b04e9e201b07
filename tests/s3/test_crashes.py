"""Killed at any change that it makes, an operation shows the old state or the new one, and can be run again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from checkpoint_base import open_saver
from checkpoint_s3 import S3Saver, removal
from checkpoint_s3.connections import make_client
from tests.faults.acts import ACTS, Act, Expected, acall, answered, call, expectations, grow, snapshot
from tests.s3.transports import Crash, Crashing, Repeating, between
from tests.servers import s3

CHANGES = [act for act in ACTS if not act.is_question]

MOST = 8
"""Crashes of an operation that makes more changes than this, at equal distances."""

TOMBSTONE_BYTES = 48
"""What stays of a thread that was deleted has less (`docs/s3.md`)."""


@pytest.fixture(scope="module")
def expected() -> dict[str, Expected]:
    return expectations()


@pytest.fixture
def url(radosgw_url: str) -> str:
    """What was removed is deleted at once, so that deleting is among the changes."""
    return f"{radosgw_url}&grace=0"


@pytest.fixture
def left(radosgw_endpoint: str, url: str) -> Iterator[Callable[[], dict[str, int]]]:
    """Tells the sizes of all objects but the mark of the prefix."""
    client = make_client(endpoint_url=radosgw_endpoint)
    prefix = urlsplit(url).path.strip("/") + "/"

    def sizes() -> dict[str, int]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3.BUCKET, Prefix=prefix)
        entries = [entry for page in pages for entry in page.get("Contents", ())]
        return {
            entry["Key"].removeprefix(prefix): entry["Size"] for entry in entries if entry["Key"] != f"{prefix}format"
        }

    yield sizes
    client.close()


def changes_of(url: str, act: Act, thread: str) -> int:
    with S3Saver.from_conn_string(url) as saver:
        counting: Crashing = between(saver, lambda inner: Crashing(inner, math.inf, 0))
        call(saver, act.step(thread))
        return counting.done


@pytest.mark.parametrize("act", CHANGES, ids=lambda act: act.name)
def test_an_operation_that_ends_after_any_of_its_changes_has_happened_or_not_and_can_be_repeated(
    act: Act,
    url: str,
    expected: dict[str, Expected],
    left: Callable[[], dict[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = expected[act.name]
    with open_saver(url) as saver:
        grow(saver, "whole")
        changes = changes_of(url, act, "whole")
        assert changes >= 1
        for number in range(1, changes + 1, max(1, changes // MOST)):
            thread = f"dying-{number}"
            grow(saver, thread)
            with S3Saver.from_conn_string(url) as dying:
                between(dying, lambda inner, number=number: Crashing(inner, number, seed=number))
                try:
                    call(dying, act.step(thread))
                except Crash:
                    assert number < changes + 1
                else:
                    assert number == changes  # the last change was the end
            seen = snapshot(saver, thread)
            assert seen in (right.before, right.after), f"after change {number} of {changes}"
            with open_saver(url) as another:
                assert answered(call(another, act.step(thread)), thread) == right.answer
            assert snapshot(saver, thread) == right.after, f"repeated after change {number} of {changes}"
            saver.prune([thread, f"{thread}-other"], strategy="delete")
            with monkeypatch.context() as later:
                later.setattr(removal, "COPYING_SECONDS", 0)  # as a day later
                saver.setup()
        saver.prune(["whole", "whole-other"], strategy="delete")
        assert list(saver.threads()) == []
    assert {key: size for key, size in left().items() if not key.startswith("l/") or size >= TOMBSTONE_BYTES} == {}


@pytest.mark.parametrize("act", CHANGES, ids=lambda act: act.name)
def test_an_operation_whose_first_answers_all_get_lost_happens_once(
    act: Act, url: str, expected: dict[str, Expected]
) -> None:
    right = expected[act.name]

    async def repeated(thread: str) -> Any:
        async with S3Saver.from_conn_string(url) as saver:
            between(saver, Repeating)
            return await acall(saver, act.step(thread))

    with open_saver(url) as saver:
        grow(saver, "lossy-1")
        assert answered(asyncio.run(repeated("lossy-1")), "lossy-1") == right.answer
        assert snapshot(saver, "lossy-1") == right.after
