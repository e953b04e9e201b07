"""What is left of a thread, and where it is listed, after it was copied, cut down or has expired."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from checkpoint_base import ConflictError
from checkpoint_redis import RedisSaver
from conformance_tests import graphs
from tests.redis.conftest import CONFIG, config_of, of_one_bucket, put, values_of


def test_a_copy_that_is_made_again_has_the_writes_of_both(saver: RedisSaver, reader: RedisSaver) -> None:
    config = put(saver, {"a": 1})
    saver.put_writes(config, [("a", "before")], "task 0")
    saver.copy_thread("thread", "copy")
    copied = config_of("copy", config["configurable"]["checkpoint_id"])
    saver.put_writes(copied, [("a", "of the copy")], "task 1")
    saver.put_writes(config, [("a", "of the source")], "task 2")
    saver.copy_thread("thread", "copy")
    found = reader.get_tuple(copied)
    assert found is not None
    assert sorted(found.pending_writes or ()) == [
        ("task 0", "a", "before"),
        ("task 1", "a", "of the copy"),
        ("task 2", "a", "of the source"),
    ]


def test_a_copy_to_a_thread_that_has_only_writes_is_listed_and_is_as_old_as_its_source(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    config = put(saver, {"a": 1})
    copied = config_of("copy", config["configurable"]["checkpoint_id"])
    saver.put_writes(copied, [("a", "early")], "task")
    assert [found.thread_id for found in reader.threads()] == ["thread"]
    saver.copy_thread("thread", "copy")
    created = {found.thread_id: found.created_at for found in reader.threads()}
    assert created.keys() == {"thread", "copy"}
    assert created["copy"] == created["thread"]
    found = reader.get_tuple(copied)
    assert found is not None
    assert found.pending_writes == [("task", "a", "early")]


def test_a_checkpoint_of_the_copy_is_not_replaced_by_what_pruning_has_left_of_it_in_the_source(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    graph: Any = graphs.delta_graph(saver, graphs.LONG)
    for number in range(2):
        graph.invoke(graphs.both(f"input {number}"), CONFIG)
    saver.copy_thread("thread", "copy")
    before = list(reader.list(config_of("copy")))
    saver.prune(["thread"])
    with pytest.raises(ConflictError):
        saver.copy_thread("thread", "copy")
    assert len(before) > 2
    assert list(reader.list(config_of("copy"))) == before


def test_a_thread_that_has_only_writes_left_is_not_listed_until_their_checkpoint_arrives(
    saver: RedisSaver, reader: RedisSaver
) -> None:
    put(saver, {"a": 1}, metadata={"source": "loop", "step": 1, "run_id": "run"})
    saver.put_writes(config_of("thread", "f" * 8), [("a", 2)], "task")
    saver.delete_for_runs(["run"])
    assert list(reader.threads()) == []
    late: Any = {"v": 4, "id": "f" * 8, "ts": "", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}
    saver.put(CONFIG, late, {"source": "loop", "step": 2}, {})
    assert [found.thread_id for found in reader.threads()] == ["thread"]
    [found] = reader.list(CONFIG)
    assert found.pending_writes == [("task", "a", 2)]


@pytest.mark.parametrize("write", ["put", "put_writes"])
def test_a_writer_whose_clock_is_behind_makes_no_thread_older(
    write: str, saver: RedisSaver, reader: RedisSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = put(saver, {"a": 1})
    [before] = reader.threads()
    monkeypatch.setattr("checkpoint_base.saver.now", lambda: 1)
    put(saver, {"a": 2}) if write == "put" else saver.put_writes(config, [("a", 2)], "task")
    [after] = reader.threads()
    assert (after.created_at, after.updated_at) == (before.created_at, before.updated_at)


def test_a_run_is_found_by_the_checkpoint_that_pruning_has_left_of_it(saver: RedisSaver, reader: RedisSaver) -> None:
    for step in range(2):
        put(saver, {"a": step}, metadata={"source": "loop", "step": step, "run_id": "run"})
    saver.prune(["thread"])
    assert values_of(reader) == {"a": 1}
    saver.delete_for_runs(["run"])
    assert values_of(reader) is None


@pytest.mark.parametrize("leave", [lambda saver: saver.prune(["thread"]), lambda saver: saver.delete_for_runs(["old"])])
def test_a_run_that_is_gone_from_a_thread_leaves_the_index(
    leave: Callable[[RedisSaver], None], saver: RedisSaver, raw: Any, keys: Callable[[], set[bytes]]
) -> None:
    for run in ("old", "new"):
        put(saver, {"a": run}, metadata={"source": "loop", "step": 1, "run_id": run})
    leave(saver)
    index = saver.store._keys("thread")[1]  # type: ignore[attr-defined]
    assert raw.zrangebylex(index, "[r", "(s") == [b"rnew\0thread"]
    saver.delete_thread("thread")
    assert keys() == set()


def test_each_of_several_runs_is_removed_from_every_thread_of_a_bucket(saver: RedisSaver, reader: RedisSaver) -> None:
    _, names = of_one_bucket(saver, 3)
    for name, run in zip(names, ("b", "c", "a"), strict=True):
        for run_id in ("stays", run):
            put(saver, {"a": run_id}, config_of(name), {"source": "loop", "step": 1, "run_id": run_id})
    saver.delete_for_runs(["c", "b", "no such run", "a"])
    assert [values_of(reader, config_of(name)) for name in names] == [{"a": "stays"}] * 3


def test_parents_that_form_a_ring_keep_the_server_from_nothing(saver: RedisSaver, reader: RedisSaver) -> None:
    metadata: Any = {"source": "loop", "step": 1, "counters_since_delta_snapshot": {"delta": (1, 1)}}
    for id_, parent in (("1", None), ("2", "1"), ("1", "2")):
        checkpoint: Any = {"v": 4, "id": id_, "ts": "", "channel_values": {}, "versions_seen": {}}
        checkpoint["channel_versions"] = {"delta": id_}
        config = saver.put(config_of("thread", parent), checkpoint, metadata, {})
        saver.put_writes(config, [("delta", id_)], "task")
    for id_, ancestors in (("1", ["2"]), ("2", ["1"])):
        history = reader.get_delta_channel_history(config=config_of("thread", id_), channels=["delta"])
        assert [value for _, _, value in history["delta"]["writes"]] == ancestors
    saver.prune(["thread"])
    [found] = reader.list(CONFIG)
    assert found.pending_writes == [("task", "delta", "2")]
    history = reader.get_delta_channel_history(config=CONFIG, channels=["delta"])
    assert [value for _, _, value in history["delta"]["writes"]] == ["1"]


def test_one_checkpoint_is_listed_if_it_is_before_the_bound_and_no_other(saver: RedisSaver, reader: RedisSaver) -> None:
    configs = [put(saver, {"a": number}) for number in range(4)]
    for at, before in ((1, 3), (1, 1), (1, 0)):
        found = [each.config for each in reader.list(configs[at], before=configs[before])]
        assert found == ([configs[at]] if at < before else [])


def test_the_shortest_time_to_live_is_not_for_ever(redis_url: str, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix, ttl=0.0001) as saver:
        put(saver, {"a": 1})
        time.sleep(0.01)
        assert values_of(saver) is None
