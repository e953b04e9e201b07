"""PRUNE: what kept checkpoints are rebuilt from, and what runs that go on meanwhile still need."""

from __future__ import annotations

from typing import Any

from langgraph.types import Command

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.cases.concurrency import Job, at_once
from conformance_tests.cases.delta import forked_graph
from conformance_tests.contract import Capability
from conformance_tests.trial import Config, Handle, Trial
from conformance_tests.values import messages

# PRUNE-6


@case("PRUNE-6")
def delta_channels_stay_the_same_and_go_on(t: Trial) -> None:
    worker, other = t.open(), t.open()
    for frequency in t.spread((1, 4, graphs.LONG), 1):
        config = t.config(t.thread())
        graph = graphs.delta_graph(worker.saver, frequency)
        expected = worker.invoke(graph, graphs.both("input"), config)
        for number in range(3):
            situation = f"ran and pruned {number + 1} times, a snapshot every {frequency}"
            (worker if number == 1 else other).prune([config["configurable"]["thread_id"]])
            _expect_state(t, frequency, config, expected, situation)
            listed = other.list(config)
            t.expect(len(listed), 1, f"{situation}; listed")
            expected = worker.invoke(graph, graphs.both(f"input {number}"), config)
            t.expect(expected["delta"], expected["plain"], f"{situation}, and ran again; the delta channel")
            _expect_state(t, frequency, config, expected, f"{situation}, and ran again")


@case("PRUNE-6")
def every_later_state_of_a_pruned_thread_is_right(t: Trial) -> None:
    worker, other = t.open(), t.open()
    for frequency in t.spread((3, graphs.LONG), 2):
        config = t.config(t.thread())
        graph = graphs.delta_graph(worker.saver, frequency)
        worker.invoke(graph, graphs.both("input"), config)
        worker.prune([config["configurable"]["thread_id"]])
        worker.invoke(graph, graphs.both("more"), config)
        worker.update_state(graph, config, graphs.both("by hand"))
        states = other.get_state_history(graphs.delta_graph(other.saver, frequency), config)
        found = [state.values["delta"] for state in states]
        expected = [state.values["plain"] for state in states]
        situation = f"pruned, ran and updated, a snapshot every {frequency}"
        t.expect_that(len(states) > 3, f"{situation}; expected the states since, got {len(states)}")
        t.expect(found, expected, f"{situation}; the delta channel of all states, compared with a plain one")


@case("PRUNE-6")
def a_waiting_graph_with_delta_channels_resumes(t: Trial) -> None:
    worker, other = t.open(), t.open()
    for frequency in t.spread((3, graphs.LONG)):
        config = t.config(t.thread())
        graph = graphs.delta_graph(worker.saver, frequency, "first?", "second?")
        expected = worker.invoke(graph, graphs.both("input"), config)
        for _ in range(2):
            other.prune([config["configurable"]["thread_id"]])
            expected = worker.invoke(graph, Command(resume="yes"), config)
        situation = f"pruned before each of two answers, a snapshot every {frequency}"
        t.expect(expected["delta"], expected["plain"], f"{situation}; the delta channel")
        t.expect(len(expected["delta"]), 5, f"{situation}; items of the delta channel")
        _expect_state(t, frequency, config, expected, situation)


@case("PRUNE-6")
def a_subgraphs_delta_channels_stay(t: Trial) -> None:
    worker, other = t.open(), t.open()
    for frequency in t.spread((3, graphs.LONG), 1):
        config = t.config(t.thread())
        graph = graphs.delta_subgraph(worker.saver, frequency)
        for number in range(2):
            worker.invoke(graph, graphs.both(f"input {number}"), config)
            before = _subgraph_values(worker, graph, config)
            other.prune([config["configurable"]["thread_id"]])
            situation = f"pruned run {number} that waits in a subgraph, a snapshot every {frequency}"
            found = _subgraph_values(other, graphs.delta_subgraph(other.saver, frequency), config)
            t.expect(found, before, f"{situation}; the subgraph's values")
            t.expect(found["delta"], found["plain"], f"{situation}; the subgraph's delta channel")
            value = worker.invoke(graph, Command(resume="yes"), config)
            t.expect(value["delta"], value["plain"], f"{situation}, and resumed; the delta channel")


@case("PRUNE-6")
def a_forks_delta_channels_stay(t: Trial) -> None:
    worker, other = t.open(), t.open()
    for frequency in t.spread((3, graphs.LONG), 2):
        config = t.config(t.thread())
        graph = forked_graph(worker, config, frequency)
        before = worker.get_state(graph, config).values
        other.prune([config["configurable"]["thread_id"]])
        situation = f"forked and pruned, a snapshot every {frequency}"
        _expect_state(t, frequency, config, before, situation)
        t.expect_that("left" not in before["delta"], f"{situation}; expected no input of the other branch")


@case("PRUNE-6")
def a_long_chain_without_a_snapshot_stays(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = None
    for number in range(30):
        stored = put_open(t, saver, thread, number, stored)
    before = saver.get_delta_channel_history(t.config(thread), ["d"])
    t.expect([value for _, _, value in before["d"]["writes"]], [[number] for number in range(29)], "history of 30")
    saver.prune([thread])
    state = _history_value(t.open(), t.config(thread))
    t.expect(state, list(range(29)), "pruned a chain of 30 without a snapshot; what the channel is rebuilt to")


def _history_value(reader: Handle, config: Config, channel: str = "d") -> list[Any]:
    """The list to which a channel is rebuilt, whether a saver keeps the writes or stores their result."""
    found = reader.get_tuple(config)
    stored = found.checkpoint["channel_values"].get(channel) if found else None
    history = reader.get_delta_channel_history(config, [channel])[channel]
    seed = stored if stored is not None else history.get("seed")
    seed = getattr(seed, "value", seed)
    return graphs.joined(seed or [], [] if stored is not None else [value for _, _, value in history["writes"]])


def _subgraph_values(reader: Handle, graph: graphs.Graph, config: Config) -> Any:
    (task,) = reader.get_state(graph, config, subgraphs=True).tasks
    return task.state.values


def _expect_state(t: Trial, frequency: int, config: Config, expected: Any, situation: str) -> None:
    reader = t.open()
    found = reader.get_state(graphs.delta_graph(reader.saver, frequency), config).values
    t.expect(found, {key: expected[key] for key in found}, f"{situation}; values")
    t.expect(found.get("delta"), expected["plain"], f"{situation}; the delta channel, compared with a plain one")


# PRUNE-7


@case("PRUNE-7")
def a_run_that_began_before_the_prune_stores_its_unchanged_values_again(t: Trial) -> None:
    running, other, thread = t.open(), t.open(), t.thread()
    # Like LangGraph, which gives all channels of a step one version; of these, the prune removes only some.
    values = {"kept": ["long " * 500], "same": ["long"], "n": 1}
    first = t.put(running, thread, values, versions=dict.fromkeys(values, "1.1"))
    changed = {"kept": ["another"], "n": 2}
    versions = {"kept": "2.2", "same": "1.1", "n": "2.2"}
    t.put(other, thread, {**values, **changed}, versions=versions, changed=list(changed), parent=first)
    other.prune([thread])
    checkpoint = t.checkpoint({**values, "n": 3}, versions={"kept": "1.1", "same": "1.1", "n": "2.1"})
    stored = running.put(first, checkpoint, {}, {"n": "2.1"})
    found = t.expect_found(t.open().get_tuple(stored), "put a checkpoint of a run that a prune overtook")
    t.expect(
        found.checkpoint["channel_values"],
        {**values, "n": 3},
        "put a change of one channel after a prune removed another's value; values",
    )


@case("PRUNE-7")
def writes_whose_checkpoint_has_not_arrived_survive_a_prune(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    (latest,) = t.chain(saver, thread, 1)
    checkpoint = t.checkpoint({"n": 2}, versions={"n": "3.1"})
    saver.put_writes(t.config(thread, checkpoint["id"]), [("n", "early")], "task-1")
    t.open().prune([thread])
    stored = saver.put(latest, checkpoint, {}, {"n": "3.1"})
    found = t.expect_found(t.open().get_tuple(stored), "put a checkpoint after its writes and a prune")
    t.expect_writes(found, [("task-1", "n", "early")], "wrote, pruned, and put")


@case("PRUNE-7", needs=Capability.DELTA)
def a_run_whose_delta_channel_lost_its_ancestors_is_refused_or_keeps_its_state(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    root = put_open(t, saver, thread, 1, None)
    parent = put_open(t, saver, thread, 2, root)
    put_open(t, saver, thread, 3, root)
    t.open().prune([thread])
    try:
        stored = put_open(t, saver, thread, 4, parent)
    except Exception:  # noqa: BLE001  # any class will do: savers have their own
        found = t.expect_found(t.open().get_tuple(t.config(thread)), "a put was refused")
        t.expect(found.metadata["step"], 3, "pruned, and a put of a run that went on was refused; step of the latest")
        return
    situation = "pruned, and a run went on from a checkpoint that was removed; what its channel is rebuilt to"
    t.expect(_history_value(t.open(), stored), [1, 2], situation)


@case("PRUNE-7", needs=Capability.DELTA)
def a_run_whose_parent_lost_the_writes_of_one_channel_is_refused_or_keeps_its_state(t: Trial) -> None:
    saver, thread = t.open(), t.thread()

    def put(number: int, parent: Config | None, **values: Any) -> Config:
        open_channels = {channel: (number, number) for channel in "de" if channel not in values}
        metadata = {"step": number, "counters_since_delta_snapshot": open_channels}
        versions = dict.fromkeys("de", f"{number}.1")
        return t.put(saver, thread, values, versions=versions, parent=parent, metadata=metadata)

    root = put(1, None)
    saver.put_writes(root, [("d", [1]), ("e", [1])], "task-1", "path")
    put(2, root, e=[1])  # what stays needs the root's writes to one of the two channels
    t.open().prune([thread])
    try:
        stored = put(3, root)
    except Exception:  # noqa: BLE001  # any class will do: savers have their own
        found = t.expect_found(t.open().get_tuple(t.config(thread)), "a put was refused")
        t.expect(found.metadata["step"], 2, "pruned, and a put of a run that went on was refused; step of the latest")
        return
    for channel in "de":
        situation = (
            f"pruned, and a run went on from a checkpoint that was removed; what channel {channel!r} is rebuilt to"
        )
        t.expect(_history_value(t.open(), stored, channel), [1], situation)


@case("PRUNE-7", needs=Capability.DELTA)
def a_put_that_is_repeated_after_the_prune_is_found_again(t: Trial) -> None:
    saver, thread, stored = t.open(), t.thread(), None
    chain = [stored := put_open(t, saver, thread, number, stored) for number in range(3)]
    t.open().prune([thread])
    for number, id_ in enumerate(config["configurable"]["checkpoint_id"] for config in chain[:2]):
        again = t.put(saver, thread, {"n": number}, id_=id_, versions={"n": f"{number}.1"})
        found = t.expect_found(t.open().get_tuple(again), "pruned a checkpoint, and put it again")
        t.expect(found.checkpoint["channel_values"], {"n": number}, "pruned a checkpoint, and put it again; values")
    t.expect(len(t.open().list(t.config(thread))), 3, "pruned two of three checkpoints, and put them again; listed")


@case("PRUNE-7")
def a_run_keeps_its_state_while_its_thread_is_pruned_all_the_time(t: Trial) -> None:
    handles, thread = [t.open() for _ in range(3)], t.thread()
    ended: list[bool] = []
    states: list[Any] = []
    pruning = [(handle.saver, _pruning(thread, ended)) for handle in handles[1:]]
    situation = "pruned a thread all the time while its run went on"
    at_once(t, [(handles[0].saver, _going_on(t, thread, states, ended)), *pruning], situation)
    for expected in states[-1:]:
        found = t.expect_found(t.open().get_tuple(t.config(thread)), f"{situation}; read the latest at the end")
        t.expect(found.checkpoint["channel_values"], expected, f"{situation}; values of the latest at the end")


def _pruning(thread: str, ended: list[bool]) -> Job:
    while not ended:
        yield "prune", [thread]


def _going_on(t: Trial, thread: str, states: list[Any], ended: list[bool]) -> Job:
    """Put checkpoints with a value that never changes, one that comes back, and one that grows, and read each.

    The state of each that was accepted is added to ``states``.
    """
    try:
        config, kept = t.config(thread), ["long " * 500]
        chat = messages(20, length=700)
        for number in range(1, 16):
            chat = [*chat, f"message {20 + number}"]
            values = {"kept": kept, "chat": chat, "back": chat[: 20 - number % 2]}
            versions = {"kept": "1.1", "chat": f"{number:032}.1", "back": f"{number:032}.1"}
            checkpoint = t.checkpoint(values, versions=versions)
            new = versions if number == 1 else {channel: versions[channel] for channel in ("chat", "back")}
            early = t.config(thread, checkpoint["id"])
            try:
                yield "put_writes", early, [("chat", chat), ("back", values["back"])], "task-1"
                config = yield "put", config, checkpoint, {"step": number}, new
            except Exception:  # noqa: BLE001, S112  # savers have their own
                continue
            states.append(values)
            situation = f"put checkpoint {number} of a run whose thread is pruned all the time"
            found = t.expect_found((yield "get_tuple", config), situation)
            t.expect(found.checkpoint["channel_values"], values, f"{situation}; values")
            t.expect_writes(found, [("task-1", "chat", chat), ("task-1", "back", values["back"])], situation)
    finally:
        ended.append(True)


def put_open(t: Trial, saver: Handle, thread: str, number: int, parent: Config | None) -> Config:
    """Put a checkpoint with an open delta channel as LangGraph does: a version, a counter in the metadata, no value.

    Then a task writes the number to the channel.
    """
    metadata = {"step": number, "counters_since_delta_snapshot": {"d": (number, number)}}
    stored = t.put(saver, thread, versions={"d": f"{number}.1"}, parent=parent, metadata=metadata)
    saver.put_writes(stored, [("d", [number])], f"task-{number}", "path")
    return stored
