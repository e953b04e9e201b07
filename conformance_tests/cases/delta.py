"""DELTA: channels whose state is rebuilt from ancestors' writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Command

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.trial import Config, Handle, Trial, id_of
from conformance_tests.values import messages

FREQUENCIES = (1, 3, graphs.LONG)
"""How often a channel stores its value: at every update, at every third, and never in these tests."""


# DELTA-1


@case("DELTA-1")
def every_state_reads_the_same_through_another_handle(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    for frequency in t.spread(FREQUENCIES, 1):
        config = t.config(t.thread())
        graph = graphs.delta_graph(worker.saver, frequency)
        for number in range(3):
            value = worker.invoke(graph, graphs.both(f"input {number}"), config)
            t.expect(
                value["delta"], value["plain"], "ran a graph with the same list in two channels; the delta channel"
            )
        _expect_same_lists(t, reader, frequency, config, f"ran three times, a snapshot every {frequency}")


@case("DELTA-1")
def the_state_of_a_waiting_graph_reads_the_same(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    for frequency in t.spread(FREQUENCIES, 2):
        config = t.config(t.thread())
        for handle, value in ((worker, graphs.both("input")), (reader, Command(resume="yes"))):
            handle.invoke(graphs.delta_graph(handle.saver, frequency, "go on?"), value, config)
            situation = f"a parallel node asked and was answered, a snapshot every {frequency}"
            _expect_same_lists(t, t.open(), frequency, config, situation)


@case("DELTA-1")
def updates_by_hand_are_in_the_state(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    for frequency in t.spread(FREQUENCIES):
        config = t.config(t.thread())
        graph = graphs.delta_graph(worker.saver, frequency)
        worker.invoke(graph, graphs.both("input"), config)
        worker.update_state(graph, config, graphs.both("by", "hand"))
        worker.update_state(graph, config, graphs.both("again"))
        worker.invoke(graph, graphs.both("more"), config)
        situation = f"updated twice between two runs, a snapshot every {frequency}"
        _expect_same_lists(t, reader, frequency, config, situation)


@case("DELTA-1")
def a_subgraphs_state_reads_the_same(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    for frequency in t.spread(FREQUENCIES, 1):
        config = t.config(t.thread())
        for number in range(2):
            worker.invoke(graphs.delta_subgraph(worker.saver, frequency), graphs.both(f"input {number}"), config)
            graph = graphs.delta_subgraph(reader.saver, frequency)
            (task,) = reader.get_state(graph, config, subgraphs=True).tasks
            values = task.state.values
            situation = f"run {number} waits in a subgraph that remembers, a snapshot every {frequency}"
            t.expect(values["delta"], values["plain"], f"{situation}; its delta channel, compared with a plain one")
            reader.invoke(graph, Command(resume="yes"), config)
            state = worker.get_state(graphs.delta_subgraph(worker.saver, frequency), config).values
            t.expect(state["delta"], state["plain"], f"{situation} and was answered; the root's delta channel")


def _expect_same_lists(t: Trial, reader: Handle, frequency: int, config: Config, situation: str) -> None:
    """Fail unless the delta channel holds what the plain channel holds, in every state of the history."""
    history = reader.get_state_history(graphs.delta_graph(reader.saver, frequency), config)
    found = [state.values.get("delta", []) for state in history]
    expected = [state.values.get("plain", []) for state in history]
    t.expect_that(bool(history) and bool(expected[0]), f"{situation}; expected a history with values")
    t.expect(found, expected, f"{situation}; the delta channel of all states, newest first, compared with a plain one")


# DELTA-2


@case("DELTA-2")
def the_history_is_oldest_first_and_each_checkpoints_by_path_task_and_position(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    first, second, third = _chain(t, worker, thread, 3)
    worker.put_writes(second, [("d", "2 b"), ("other", "no"), ("d", "2 b again")], "task-1", "path-b")
    worker.put_writes(second, [("d", "2 a")], "task-9", "path-a")
    worker.put_writes(second, [("d", "2 without path")], "task-5")
    worker.put_writes(second, [("d", "2 a later task")], "task-99", "path-a")
    worker.put_writes(first, [("other", "no"), ("d", "1")], "task-3", "path-z")
    worker.put_writes(third, [("d", "of the checkpoint itself")], "task-4", "path-a")
    _expect_history(
        t,
        third,
        {
            "d": {
                "writes": [
                    ("task-3", "d", "1"),
                    ("task-5", "d", "2 without path"),
                    ("task-9", "d", "2 a"),
                    ("task-99", "d", "2 a later task"),
                    ("task-1", "d", "2 b"),
                    ("task-1", "d", "2 b again"),
                ]
            }
        },
        "writes of five tasks on two ancestors, and one on the checkpoint itself",
    )


@case("DELTA-2")
def parallel_tasks_are_in_the_order_of_their_paths(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    first, second = _chain(t, worker, thread, 2)
    # Task ids are digests of the paths, so their order is not that of the paths.
    tasks = [(f"{(number * 7) % 10}", f"~__pregel_pull, node {number:03}") for number in range(10)]
    for task_id, path in sorted(tasks):
        worker.put_writes(first, [("d", path)], task_id, path)
    found = t.open().get_delta_channel_history(second, ["d"])["d"]["writes"]
    expected = [(task_id, "d", path) for task_id, path in tasks]
    t.expect(found, expected, "ten parallel tasks whose ids are in another order than their paths; writes")


@case("DELTA-2")
def a_long_history_is_complete(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    chain = _chain(t, worker, thread, 60)
    for number, stored in enumerate(chain):
        worker.put_writes(stored, [("d", number)], f"task-{number}", "path")
    found = t.open().get_delta_channel_history(chain[-1], ["d"])["d"]["writes"]
    t.expect([value for _, _, value in found], list(range(59)), "60 checkpoints with a write each; values")


@case("DELTA-2")
def the_history_of_a_graph_is_that_of_its_ancestors_pending_writes(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    for frequency in t.spread((3, graphs.LONG), 2):
        config = t.config(t.thread())
        graph = graphs.delta_graph(worker.saver, frequency)
        for number in range(2):
            worker.invoke(graph, graphs.both(f"input {number}"), config)
        for stored in reader.list(config):
            place = dict(stored.config)
            found = reader.get_delta_channel_history(place, ["delta"])
            expected = _walked(reader, place, ["delta"])
            step = stored.metadata.get("step")
            t.expect(found, expected, f"history of step {step} of a graph, compared with a walk over its ancestors")


# DELTA-3


@case("DELTA-3")
def the_history_begins_at_the_nearest_stored_value(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    oldest = t.put(worker, thread, {"d": ["far"]}, versions={"d": "1.1"})
    worker.put_writes(oldest, [("d", "before the seed")], "task-1", "path")
    seed = t.put(worker, thread, {"d": ["near"]}, versions={"d": "2.1"}, parent=oldest)
    worker.put_writes(seed, [("d", "on the seed")], "task-2", "path")
    middle = _put_open(t, worker, thread, seed, "3.1")
    worker.put_writes(middle, [("d", "since the seed")], "task-3", "path")
    last = _put_open(t, worker, thread, middle, "4.1")
    _expect_history(
        t,
        last,
        {"d": {"seed": ["near"], "writes": [("task-2", "d", "on the seed"), ("task-3", "d", "since the seed")]}},
        "two ancestors stored a value",
    )


@case("DELTA-3")
def a_large_seed_and_large_writes_are_in_the_history_whole(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    large = [messages(name=part) for part in ("seed", "first", "second")]
    seed = t.put(worker, thread, {"d": large[0]}, versions={"d": "1.1"})
    worker.put_writes(seed, [("d", large[1])], "task-1", "path")
    middle = _put_open(t, worker, thread, seed, "2.1")
    worker.put_writes(middle, [("d", large[2])], "task-2", "path")
    last = _put_open(t, worker, thread, middle, "3.1")
    expected = {"d": {"seed": large[0], "writes": [("task-1", "d", large[1]), ("task-2", "d", large[2])]}}
    _expect_history(t, last, expected, "an ancestor stored a large value, and two have large writes")


@case("DELTA-3")
def without_a_stored_value_there_is_no_seed(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    chain = _chain(t, worker, thread, 3)
    worker.put_writes(chain[0], [("d", "write")], "task-1", "path")
    _expect_history(t, chain[-1], {"d": {"writes": [("task-1", "d", "write")]}}, "no ancestor stored a value")
    _expect_history(t, chain[0], {"d": {"writes": []}}, "the oldest checkpoint has no ancestors")
    missing = t.config(thread, id_of(1))
    _expect_history(t, missing, {"d": {"writes": []}}, "a checkpoint that does not exist")
    _expect_history(t, t.config(t.thread()), {"d": {"writes": []}}, "a thread that does not exist")


@case("DELTA-3")
def a_seed_may_be_empty_or_none(t: Trial) -> None:
    worker = t.open()
    # LangGraph wraps what a delta channel stores. A value from before it became a delta channel has no wrapper.
    values: tuple[Any, ...] = ([], 0, "", _DeltaSnapshot([]), _DeltaSnapshot(None))
    for value in values:
        thread = t.thread()
        seed = t.put(worker, thread, {"d": value}, versions={"d": "1.1"})
        last = _put_open(t, worker, thread, seed, "2.1")
        _expect_history(t, last, {"d": {"seed": value, "writes": []}}, f"an ancestor stored {value!r}")


@case("DELTA-3")
def the_checkpoints_own_value_is_no_seed(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    (first,) = _chain(t, worker, thread, 1)
    worker.put_writes(first, [("d", "write")], "task-1", "path")
    last = t.put(worker, thread, {"d": ["own"]}, versions={"d": "2.1"}, parent=first)
    _expect_history(t, last, {"d": {"writes": [("task-1", "d", "write")]}}, "the checkpoint itself stored a value")


@case("DELTA-3")
def an_unchanged_value_is_the_seed_of_the_nearest_ancestor_with_its_version(t: Trial) -> None:
    worker = t.open()
    # LangGraph passes the unchanged values of all channels except delta channels.
    for value in ({"d": ["kept"]}, {}):
        thread = t.thread()
        stored = t.put(worker, thread, {"d": ["kept"]}, versions={"d": "1.1"})
        same = t.put(worker, thread, value, versions={"d": "1.1"}, changed=[], parent=stored)
        worker.put_writes(same, [("d", "new")], "task-2", "path")
        last = _put_open(t, worker, thread, same, "2.1")
        _expect_history(
            t,
            last,
            {"d": {"seed": ["kept"], "writes": [("task-2", "d", "new")]}},
            f"the parent has the version that its own parent stored, and was put with the values {value}",
        )


@case("DELTA-3")
def every_channel_has_its_own_seed(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    first = t.put(worker, thread, {"d": ["d1"], "e": ["e1"]}, versions={"d": "1.1", "e": "1.1"})
    second = t.put(worker, thread, {"d": ["d2"]}, versions={"d": "2.1", "e": "2.1", "f": "2.1"}, parent=first)
    last = t.put(worker, thread, {}, versions={"d": "3.1", "e": "3.1", "f": "3.1"}, parent=second)
    for stored, name in ((first, "1"), (second, "2")):
        worker.put_writes(stored, [(channel, channel + name) for channel in "fed"], "task-" + name, "path")
    expected: dict[str, Any] = {
        "d": {"seed": ["d2"], "writes": [("task-2", "d", "d2")]},
        "e": {"seed": ["e1"], "writes": [("task-1", "e", "e1"), ("task-2", "e", "e2")]},
        "f": {"writes": [("task-1", "f", "f1"), ("task-2", "f", "f2")]},
    }
    _expect_history(t, last, expected, "three channels with values on two, one and no ancestors")
    _expect_history(t, last, {"e": expected["e"]}, "one of three channels was asked for")
    t.expect(t.open().get_delta_channel_history(last, []), {}, "no channel was asked for; history")


@case("DELTA-3")
def without_an_id_the_history_is_that_of_the_latest(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    chain = _chain(t, worker, thread, 3)
    for number, stored in enumerate(chain):
        worker.put_writes(stored, [("d", number)], "task-1", "path")
    expected = {"d": {"writes": [("task-1", "d", 0), ("task-1", "d", 1)]}}
    _expect_history(t, t.config(thread), expected, "three checkpoints with a write each, asked without an id")


# DELTA-4


@case("DELTA-4")
def a_siblings_writes_and_values_are_not_in_the_history(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    (root,) = _chain(t, worker, thread, 1)
    worker.put_writes(root, [("d", "root")], "task-0", "path")
    left = _put_open(t, worker, thread, root, "2.1")
    right = _put_open(t, worker, thread, root, "2.2")
    worker.put_writes(left, [("d", "left")], "task-1", "path")
    worker.put_writes(right, [("d", "right")], "task-1", "path")
    value = t.put(worker, thread, {"d": ["only right"]}, versions={"d": "3.2"}, parent=right)
    worker.put_writes(value, [("d", "further right")], "task-1", "path")
    last_left = _put_open(t, worker, thread, left, "4.1")
    last_right = _put_open(t, worker, thread, value, "4.2")
    _expect_history(
        t,
        last_left,
        {"d": {"writes": [("task-0", "d", "root"), ("task-1", "d", "left")]}},
        "two branches, stored alternately; the left one",
    )
    _expect_history(
        t,
        last_right,
        {"d": {"seed": ["only right"], "writes": [("task-1", "d", "further right")]}},
        "two branches, stored alternately; the right one",
    )


@case("DELTA-4")
def namespaces_have_histories_of_their_own(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    ids = [t.checkpoint()["id"] for _ in range(2)]
    for ns in ("", "sub:1"):
        first = t.put(worker, thread, ns=ns, id_=ids[0], versions={"d": "1.1"})
        worker.put_writes(first, [("d", f"in {ns!r}")], "task-1", "path")
        t.put(worker, thread, ns=ns, id_=ids[1], versions={"d": "2.1"}, parent=first)
    for ns in ("", "sub:1"):
        expected = {"d": {"writes": [("task-1", "d", f"in {ns!r}")]}}
        _expect_history(t, t.config(thread, ids[1], ns=ns), expected, f"the same ids in two namespaces; {ns!r}")


@case("DELTA-4")
def branches_of_a_graph_keep_their_own_state(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    for frequency in t.spread(FREQUENCIES):
        config = t.config(t.thread())
        graph = forked_graph(worker, config, frequency)
        worker.invoke(graph, graphs.both("further right"), config)
        situation = f"ran on, forked from before, and ran on, a snapshot every {frequency}"
        _expect_same_lists(t, reader, frequency, config, situation)
        branch = reader.get_state(graphs.delta_graph(reader.saver, frequency), config).values["delta"]
        t.expect_that(
            "right" in branch and "further right" in branch and "left" not in branch,
            f"{situation}; expected only the right branch's inputs, got {branch}",
        )


def forked_graph(worker: Handle, config: Config, frequency: int) -> graphs.Graph:
    """A graph with a delta channel that ran twice, and was then forked from a state of the first run."""
    graph = graphs.delta_graph(worker.saver, frequency)
    worker.invoke(graph, graphs.both("input"), config)
    forked_from = worker.get_state_history(graph, config)[2].config
    worker.invoke(graph, graphs.both("left"), config)
    worker.update_state(graph, forked_from, graphs.both("right"))
    return graph


# Hand-made chains


def _chain(t: Trial, handle: Handle, thread: str, length: int) -> list[Config]:
    """Put this many checkpoints with a channel ``d`` that has a version but no value, as between two snapshots."""
    chain: list[Config] = []
    for number in range(length):
        chain.append(_put_open(t, handle, thread, chain[-1] if chain else None, f"{number + 1}.1"))
    return chain


def _put_open(t: Trial, handle: Handle, thread: str, parent: Config | None, version: str) -> Config:
    return t.put(handle, thread, versions={"d": version}, parent=parent)


def _expect_history(t: Trial, config: Config, expected: Mapping[str, Any], situation: str) -> None:
    """Fail unless the history is as expected, and equals that of langgraph-checkpoint's own walk."""
    reader = t.open()
    found = reader.get_delta_channel_history(config, list(expected))
    t.expect(found, expected, f"{situation}; history")
    walked = _walked(reader, config, list(expected))
    t.expect(found, walked, f"{situation}; history, compared with a walk over the ancestors")


def _walked(reader: Handle, config: Config, channels: Sequence[str]) -> Any:
    # The base class needs only get_tuple of its saver, which a handle has in any colour.
    walk = cast(Any, BaseCheckpointSaver).get_delta_channel_history
    return walk(reader, config=config, channels=channels)
