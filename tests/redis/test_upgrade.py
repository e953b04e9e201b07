"""The first upgrade: what an earlier or a later version has set up, perhaps while others use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from checkpoint_base import SchemaMismatch
from checkpoint_base.transport import Retrying
from checkpoint_redis import RedisSaver
from tests.upgrades import ANSWERED, CONFIG, answers, asks, assert_told_to_upgrade, graph


def test_fields_that_a_later_version_adds_are_no_obstacle(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as before:
        asks(before)
        thread, index = before.store._keys("thread")  # type: ignore[attr-defined]
        raw.hset(thread, "z of a later version", b"\x01\x02")
        raw.zadd(index, {b"z thread": 0})
        assert answers(before) == ANSWERED
        before.copy_thread("thread", "copy")
        before.prune(["thread"])
        with RedisSaver(redis_url, prefix=prefix) as after:
            assert {each.thread_id for each in after.threads()} == {"thread", "copy"}
            assert graph(after).get_state(CONFIG).values["log"] == ANSWERED


def test_whoever_uses_a_prefix_that_a_later_version_takes_over_is_told_to_upgrade(
    redis_url: str, raw: Any, prefix: str
) -> None:
    with RedisSaver(redis_url, prefix=prefix) as before:
        asks(before)
        raw.set(f"{prefix}:layout", "2 64")
        for key in [*raw.scan_iter(match=f"{prefix}:*}}:*", count=10_000)]:
            raw.rename(key, key.replace(b":{", b":2:{"))
            if key.endswith(b":index"):
                raw.set(key, "moved")
        kept = set(raw.scan_iter(match=f"{prefix}:2:*", count=10_000))
        assert_told_to_upgrade(before)
        assert set(raw.scan_iter(match=f"{prefix}:*", count=10_000)) >= kept
        assert raw.get(f"{prefix}:layout") == b"2 64"


class Meanwhile:
    """A transport that lets a later version set the prefix up before one of the requests."""

    def __init__(self, inner: Any, number: int, act: Callable[[], Any]) -> None:
        self.inner, self.left, self.act = inner, number, act

    def execute(self, request: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.act()
        return self.inner.execute(request)

    def close(self) -> None:
        self.inner.close()


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("found", ["2 64", "creating 2 64"])
@pytest.mark.parametrize("takes_over", [False, True])
def test_a_later_version_that_sets_up_at_the_same_time_is_never_overwritten(
    redis_url: str, raw: Any, prefix: str, number: int, found: str, takes_over: bool
) -> None:
    layout = f"{prefix}:layout"
    has_set: list[bool | None] = []
    saver = RedisSaver(redis_url, prefix=prefix)
    act = lambda: has_set.append(raw.set(layout, found, nx=not takes_over))  # noqa: E731
    meanwhile = Meanwhile(saver.store.transport, number, act)
    saver.transport = Retrying(meanwhile, deadline=0)
    is_refused = False
    try:
        saver.setup()
    except SchemaMismatch as refused:
        is_refused = "upgrade" in str(refused)
    saver.close()
    assert raw.get(layout).decode() == (found if has_set == [True] else "1 64")
    assert takes_over or is_refused == (has_set == [True])


@pytest.mark.parametrize("number", range(1, 8))
def test_another_one_that_sets_up_at_the_same_time_is_no_obstacle(
    redis_url: str, raw: Any, prefix: str, number: int
) -> None:
    saver, other = (RedisSaver(redis_url, prefix=prefix) for _ in range(2))
    meanwhile = Meanwhile(saver.store.transport, number, other.setup)
    saver.transport = Retrying(meanwhile, deadline=0)
    saver.setup()
    assert meanwhile.left <= 0
    assert raw.get(f"{prefix}:layout") == b"1 64"
    saver.close()
    other.close()
