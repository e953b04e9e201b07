"""FORK: forks and time travel."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conformance_tests.case import case
from conformance_tests.graphs import Graph, Log, Runs, says, sequence
from conformance_tests.trial import Handle, Trial


@case("FORK-1", once=True)
def every_version_is_greater_than_the_one_before(t: Trial) -> None:
    saver = t.open().saver
    version = saver.get_next_version(None, None)
    # More than 1000, so that counters that are compared as text pass several powers of ten.
    for _ in range(1100):
        following = saver.get_next_version(version, None)
        t.expect_that(
            following > version, f"asked for the version after {version!r}; expected a greater one, got {following!r}"
        )
        version = following


@case("FORK-1", once=True)
def another_handle_goes_on_counting(t: Trial) -> None:
    version = t.open().saver.get_next_version(None, None)
    following = t.open().saver.get_next_version(version, None)
    t.expect_that(
        following > version,
        f"asked another handle for the version after {version!r}; expected a greater one, got {following!r}",
    )


@case("FORK-2")
def branches_keep_their_values_of_a_channel_that_changed_in_both(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first = saver.saver.get_next_version(None, None)
    base = t.put(saver, thread, {"a": "base", "kept": "base"}, versions={"a": first, "kept": first})
    expected = {base["configurable"]["checkpoint_id"]: {"a": "base", "kept": "base"}}
    for branch in ("left", "middle", "right"):
        worker = t.open()
        versions = {"a": worker.saver.get_next_version(first, None), "kept": first}
        checkpoint = t.checkpoint({"a": branch, "kept": "base"}, versions=versions)
        worker.put(t.config(thread, base["configurable"]["checkpoint_id"]), checkpoint, {}, {"a": versions["a"]})
        expected[checkpoint["id"]] = {"a": branch, "kept": "base"}
    other = t.open()
    for id_, values in expected.items():
        found = t.expect_found(other.get_tuple(t.config(thread, id_)), "put three branches of one checkpoint")
        t.expect(found.checkpoint["channel_values"], values, "put three branches of one checkpoint; values of one")


@case("FORK-2")
def branches_of_a_graph_keep_their_own_states(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    config = t.config(thread)
    graph = _graph(saver)
    saver.invoke(graph, {"log": ["in"]}, config)
    end = saver.get_state(graph, config)
    old = _state_before(t, saver, graph, thread, "b")
    left = saver.update_state(graph, old.config, {"log": ["left"]})
    right = saver.update_state(graph, old.config, {"log": ["right"]})
    _expect_logs(
        t,
        "updated one old state twice",
        (left, ["in", "a", "left"]),
        (right, ["in", "a", "right"]),
        (end.config, ["in", "a", "b"]),
        (old.config, ["in", "a"]),
    )
    saver.invoke(graph, None, left)
    left_end = saver.get_state(graph, config).config
    saver.invoke(graph, None, right)
    right_end = saver.get_state(graph, config).config
    _expect_logs(
        t,
        "updated one old state twice and went on with both",
        (left, ["in", "a", "left"]),
        (left_end, ["in", "a", "left", "b"]),
        (right, ["in", "a", "right"]),
        (right_end, ["in", "a", "right", "b"]),
        (end.config, ["in", "a", "b"]),
    )


@case("FORK-3")
def old_states_are_read_as_they_were(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    saver.invoke(_graph(saver), {"log": ["in"]}, t.config(thread))
    other = t.open()
    graph = _graph(other)
    history = other.get_state_history(graph, t.config(thread))
    seen = [(state.values.get("log"), state.next) for state in history]
    expected = [
        (["in", "a", "b"], ()),
        (["in", "a"], ("b",)),
        (["in"], ("a",)),
        ([], ("__start__",)),
    ]
    t.expect(seen, expected, "ran a graph of two nodes; its history")
    for state in history:
        found = other.get_state(graph, state.config)
        t.expect((found.values, found.next), (state.values, state.next), "got a state of the history by its config")


@case("FORK-3")
def a_graph_continues_from_an_old_state(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    saver.invoke(_graph(saver), {"log": ["in"]}, t.config(thread))
    runs: Runs = Counter()
    other = t.open()
    graph = _graph(other, runs)
    old = _state_before(t, other, graph, thread, "b")
    end = other.invoke(graph, None, old.config)
    t.expect(end["log"], ["in", "a", "b"], "ran a graph from the state before its second node; final state")
    t.expect(dict(runs), {"b": 1}, "ran a graph from the state before its second node; nodes that ran")


@case("FORK-3")
def input_on_an_old_state_ignores_what_came_after_it(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    config = t.config(thread)
    graph = _graph(saver)
    saver.invoke(graph, {"log": ["one"]}, config)
    old = saver.get_state(graph, config)
    saver.invoke(graph, {"log": ["two"]}, config)
    other = t.open()
    end = other.invoke(_graph(other), {"log": ["three"]}, old.config)
    expected = ["one", "a", "b", "three", "a", "b"]
    situation = "ran a thread twice, then with a third input from the end of the first run"
    t.expect(end["log"], expected, f"{situation}; final state")
    _expect_logs(t, f"{situation}, got the latest", (config, expected))
    _expect_logs(t, f"{situation}, got the old state", (old.config, ["one", "a", "b"]))


def _graph(handle: Handle, runs: Runs | None = None) -> Graph:
    """A graph of two nodes that log their names."""
    runs = Counter() if runs is None else runs
    return sequence(Log, {name: says(runs, name) for name in "ab"}).compile(checkpointer=handle.saver)


def _state_before(t: Trial, handle: Handle, graph: Graph, thread: str, node: str) -> Any:
    found = [state for state in handle.get_state_history(graph, t.config(thread)) if state.next == (node,)]
    t.expect(len(found), 1, f"ran a graph of two nodes; states before {node} in its history")
    return found[0]


def _expect_logs(t: Trial, situation: str, *expected: tuple[Any, list[str]]) -> None:
    with t.opened() as other:
        graph = _graph(other)
        for config, log in expected:
            t.expect(other.get_state(graph, config).values.get("log"), log, f"{situation}; state")
