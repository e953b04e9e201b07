"""The user with few rights that docs/redis.md shows can do everything that a saver does, and nothing else."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from langgraph.types import Interrupt

from checkpoint_base import UnsupportedOperation, open_saver
from tests.redis.conftest import CONFIG, config_of, put, values_of
from tests.servers.redis import installations, redis, redis_cluster

PAGE = Path(__file__).parents[2] / "docs" / "redis.md"


@pytest.fixture(scope="module", params=["Redis", "oldest Redis", "Valkey", "Cluster"])
def ports(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[int]]]:
    """A URL's scheme and the ports of its servers, where the page's user was made."""
    words = re.search(r"^ACL SETUSER (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert words
    with ExitStack() as stack:
        if request.param == "Cluster":
            server = stack.enter_context(redis_cluster())
        else:
            kind = request.param.split()[-1]
            installation = installations(kind)[0 if request.param.startswith("oldest") else -1]
            server = stack.enter_context(redis(installation=installation))
        scheme, _, hosts = server.url.partition("://")
        found = [int(host.partition("/")[0].rpartition(":")[2]) for host in hosts.split(",")]
        for port in found:
            with redis_py.Redis(port=port) as admin:
                admin.execute_command("ACL", "SETUSER", *words[1].split())
                admin.set("{0}other", "theirs") if scheme == "redis" else None
        yield scheme, found


def url_for(ports: tuple[str, list[int]]) -> str:
    scheme, found = ports
    return f"{scheme}://checkpoints:change-me@" + ",".join(f"127.0.0.1:{port}" for port in found)


def refusals(ports: tuple[str, list[int]]) -> list[Any]:
    logged = []
    for port in ports[1]:
        with redis_py.Redis(port=port, decode_responses=True) as admin:
            logged += [entry["object"] for entry in admin.acl_log()]
            admin.acl_log_reset()
    return logged


def test_the_user_of_the_page_can_do_everything_that_a_saver_does(ports: tuple[str, list[int]]) -> None:
    chance = random.Random(1)
    refusals(ports)
    for options in ({}, {"ttl": 100, "refresh_on_read": True}):
        with open_saver(url_for(ports), **options) as saver:
            config = put(saver, {"a": 1}, metadata={"source": "loop", "step": 1, "run_id": "run"})
            put(saver, {"large": [chance.randbytes(700).hex() for _ in range(1200)]}, config)
            put(saver, {"large": chance.randbytes(1_500_000)}, config_of("large"))
            last = put(saver, {"a": 2}, config)
            saver.put_writes(last, [("__interrupt__", [Interrupt("?", id="1")])], "task")
            saver.put_writes(last, [("a", 1)], "other task")
            assert values_of(saver) == {"a": 2}
            assert len(list(saver.list(CONFIG))) == 3
            assert [waiting.value for waiting in saver.interrupts()] == ["?"]
            assert len(list(saver.threads())) == 2
            saver.get_delta_channel_history(config=last, channels=["a"])
            saver.copy_thread("thread", "copy")
            put(saver, {"b": 1}, config_of("copy"))
            saver.delete_for_runs(["run"])
            saver.prune(["thread", "copy"])
            assert len(list(saver.list(CONFIG))) == 1
            for thread_id in ("thread", "copy", "large"):
                saver.delete_thread(thread_id)
            assert list(saver.threads()) == []
    # What redis-py says about itself may be refused.
    assert {refused for refused in refusals(ports) if not refused.startswith("client")} == set()


def test_the_user_of_the_page_can_do_nothing_else(ports: tuple[str, list[int]]) -> None:
    with pytest.raises(UnsupportedOperation, match="permissions"), open_saver(f"{url_for(ports)}?prefix=other"):
        pass
    with redis_py.Redis(port=ports[1][0], username="checkpoints", password="change-me") as user:
        for command in (
            ("GET", "{0}other"),
            ("EVAL", "return redis.call('GET', '{0}other')", 0),
            ("EVAL", "return redis.call('KEYS', '*')", 0),
            ("KEYS", "*"),
            ("SCAN", 0),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
            ("PUBLISH", "channel", "x"),
        ):
            with pytest.raises(redis_py.RedisError, match=r"(?i)permission|acl|can't (access|run)"):
                user.execute_command(*command)
    assert refusals(ports) != []


def test_a_right_that_is_missing_inside_a_script_is_named(ports: tuple[str, list[int]]) -> None:
    def allow(how: str) -> None:
        for port in ports[1]:
            with redis_py.Redis(port=port) as admin:
                admin.execute_command("ACL", "SETUSER", "checkpoints", how)

    with open_saver(url_for(ports), deadline=0) as saver:
        allow("-hset")
        try:
            with pytest.raises(UnsupportedOperation, match=r"permissions \(docs/redis.md\)"):
                put(saver, {"a": 1}, config_of("refused"))
        finally:
            allow("+hset")
        assert values_of(saver, config_of("refused")) is None


@pytest.mark.parametrize("kind", ["Redis", "Valkey"])
@pytest.mark.parametrize("command", ["EVAL", "EVALSHA", "GET"])
def test_a_command_that_the_server_does_not_offer_is_named(command: str, kind: str) -> None:
    with (
        redis("--rename-command", command, "", installation=installations(kind)[0]) as server,
        pytest.raises(UnsupportedOperation, match="lacks a command"),
        open_saver(server.url),
    ):
        pass
