"""COPY: copying threads."""

from __future__ import annotations

from collections import Counter
from typing import Any

from langgraph.types import Command

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.contract import Capability
from conformance_tests.trial import Config, Handle, Trial, accepts, parent_of, threads_of, unordered
from conformance_tests.values import messages

LARGE = messages()


@case("COPY-1")
def every_checkpoint_is_copied_with_all_that_belongs_to_it(t: Trial) -> None:
    saver = t.open()
    source, target = t.thread("source"), t.thread("target")
    _fill(t, saver, source)
    saver.copy_thread(source, target)
    other = t.open()
    for ns in ("", "sub:1"):
        copied = _contents(t, other, target, ns)
        t.expect(len(copied), 3, f"copied a thread with three checkpoints in namespace {ns!r}; how many")
        t.expect(
            copied, _contents(t, other, source, ns), f"copied a thread; namespace {ns!r}, compared with the source"
        )


@case("COPY-1")
def a_copy_has_the_copys_thread_id_in_its_configs(t: Trial) -> None:
    saver = t.open()
    source, target = t.thread("source"), t.thread("target")
    chain = t.chain(saver, source, 2)
    saver.copy_thread(source, target)
    last_id = chain[-1]["configurable"]["checkpoint_id"]
    found = t.expect_found(t.open().get_tuple(t.config(target, last_id)), "copied a thread")
    t.expect(found.config["configurable"]["thread_id"], target, "copied a thread; thread of the copy's config")
    parent = (found.parent_config or {}).get("configurable", {})
    expected = (target, chain[0]["configurable"]["checkpoint_id"])
    t.expect((parent.get("thread_id"), parent.get("checkpoint_id")), expected, "copied a thread; parent of the copy")


@case("COPY-1")
def a_copy_is_listed_among_all_threads(t: Trial) -> None:
    saver, run = t.open(), t.thread("run")
    source, target = t.thread("source"), t.thread("target")
    for ns in ("", "sub:1"):
        t.put(saver, source, ns=ns, metadata={"run_id": run})
    saver.copy_thread(source, target)
    # Other tests share the storage, so filter on an entry that LangGraph itself makes.
    listed = threads_of(t.open().list(None, filter={"run_id": run}))
    t.expect(sorted(listed), [source] * 2 + [target] * 2, "copied a thread, listed a config of None; the threads")


@case("COPY-1")
def a_waiting_thread_resumes_in_its_copy(t: Trial) -> None:
    saver, other = t.open(), t.open()
    runs: graphs.Runs = Counter()
    source, target = t.config(t.thread("source")), t.config(t.thread("target"))
    graph = graphs.questions_in_nested_subgraphs(saver.saver, runs)
    saver.invoke(graph, {"log": []}, source)
    _answer(saver, graph, source, "middle?")
    saver.copy_thread(source["configurable"]["thread_id"], target["configurable"]["thread_id"])
    copied = graphs.questions_in_nested_subgraphs(other.saver, runs)
    _answer(other, copied, target, "deep?")
    t.expect(other.get_state(copied, target).next, (), "copied a waiting thread, and answered the copy; what is next")
    expected = dict.fromkeys(("before", "note", "middle", "deep", "after"), 1)
    t.expect(dict(runs), expected, "copied a waiting thread, and answered the copy; how often each came to its end")


@case("COPY-1", needs=Capability.PRUNE)
def a_copy_of_a_pruned_thread_is_complete(t: Trial) -> None:
    saver = t.open()
    source, target = t.thread("source"), t.thread("target")
    _fill(t, saver, source)
    saver.prune([source])
    saver.copy_thread(source, target)
    other = t.open()
    for ns in ("", "sub:1"):
        copied = _contents(t, other, target, ns)
        t.expect(len(copied), 1, f"copied a pruned thread; checkpoints in namespace {ns!r}")
        t.expect(copied, _contents(t, other, source, ns), f"copied a pruned thread; namespace {ns!r}")


@case("COPY-2")
def source_and_copy_go_their_own_ways(t: Trial) -> None:
    saver = t.open()
    source, target = t.thread("source"), t.thread("target")
    _fill(t, saver, source)
    before = _contents(t, saver, source)
    saver.copy_thread(source, target)
    for changed, unchanged, who in ((source, target, "copy"), (target, source, "source")):
        latest = t.expect_found(saver.get_tuple(t.config(unchanged)), f"the {who} before the other changes")
        id_ = latest.config["configurable"]["checkpoint_id"]
        saver.put_writes(t.config(changed, id_), [("chat", "only here")], "task-9")
        t.put(saver, changed, {"chat": [*LARGE, changed]}, versions={"chat": "9.1"}, parent=t.config(changed, id_))
        if changed == source:
            t.expect(_contents(t, t.open(), unchanged), before, f"the {who} after the other one went on")
        else:
            found = t.expect_found(t.open().get_tuple(t.config(unchanged)), f"the {who} after the other one went on")
            expected = {"chat": [*LARGE, source]}
            t.expect(found.checkpoint["channel_values"], expected, f"the {who} after the other one went on; values")


@case("COPY-2")
def either_stays_when_the_other_is_deleted(t: Trial) -> None:
    for deleted in ("source", "target"):
        saver = t.open()
        threads = {"source": t.thread("source"), "target": t.thread("target")}
        _fill(t, saver, threads["source"])
        expected = [_contents(t, saver, threads["source"], ns) for ns in ("", "sub:1")]
        saver.copy_thread(threads["source"], threads["target"])
        saver.delete_thread(threads.pop(deleted))
        (kept,) = threads.values()
        other = t.open()
        found = [_contents(t, other, kept, ns) for ns in ("", "sub:1")]
        t.expect(found, expected, f"copied, and deleted the {deleted}; the other one")
        t.put(saver, kept, {"chat": [*LARGE, "more"]}, versions={"chat": "9.1"})
        latest = t.expect_found(t.open().get_tuple(t.config(kept)), f"deleted the {deleted}; the other one goes on")
        t.expect(
            latest.checkpoint["channel_values"],
            {"chat": [*LARGE, "more"]},
            f"copied, deleted the {deleted}, and put to the other one; values",
        )


@case("COPY-2", needs=Capability.PRUNE)
def either_stays_when_the_other_is_pruned(t: Trial) -> None:
    saver = t.open()
    source, target = t.thread("source"), t.thread("target")
    _fill(t, saver, source)
    expected = _contents(t, saver, source)
    saver.copy_thread(source, target)
    saver.prune([source])
    t.expect(_contents(t, t.open(), target), expected, "copied, and pruned the source; the copy")
    # A run that began before the prune goes on. Of what it has not changed, some is left in the copy alone.
    first = t.config(source, min(each["checkpoint"]["id"] for each in expected))
    values = {"chat": LARGE, "kept": "kept in ''", "n": 1}
    checkpoint = t.checkpoint(values, versions={"chat": "1.1", "kept": "1.1", "n": "4.1"})
    # PRUNE-7 lets a saver refuse that.
    if accepts(saver.put, first, checkpoint, {}, {"n": "4.1"}):
        found = t.expect_found(t.open().get_tuple(t.config(source)), "copied, pruned the source, and went on in it")
        situation = "copied, pruned the source, and went on in it from its first checkpoint; values"
        t.expect(found.checkpoint["channel_values"], values, situation)


@case("COPY-3")
def copying_a_missing_thread_copies_nothing(t: Trial) -> None:
    saver, target = t.open(), t.thread("target")
    saver.copy_thread(t.thread("missing"), target)
    t.expect(t.open().list(t.config(target)), [], "copied a thread that does not exist; listed in the target")
    t.put(saver, target, {"a": 1})
    saver.delete_thread(target)
    saver.copy_thread(target, t.thread("target"))
    t.expect(t.open().list(t.config(target)), [], "copied a deleted thread; listed in the source")


@case("COPY-3")
def copying_again_changes_nothing(t: Trial) -> None:
    saver = t.open()
    source, target = t.thread("source"), t.thread("target")
    _fill(t, saver, source)
    saver.copy_thread(source, target)
    before = [_contents(t, saver, target, ns) for ns in ("", "sub:1")]
    for handle in (saver, t.open()):
        handle.copy_thread(source, target)
    other = t.open()
    found = [_contents(t, other, target, ns) for ns in ("", "sub:1")]
    t.expect(found, before, "copied the same thread three times; the copy, compared with that of the first time")


@case("COPY-3")
def a_copy_that_is_made_again_is_what_its_source_is_now(t: Trial) -> None:
    saver = t.open()
    source, target = t.thread("source"), t.thread("target")
    (first,) = t.chain(saver, source, 1)
    saver.copy_thread(source, target)
    saver.put_writes(first, [("n", 1)], "task-1")
    t.put(saver, source, {"n": 1, "chat": LARGE}, versions={"n": "2.1", "chat": "2.1"}, parent=first)
    # Whether it is refused is not tested here.
    if accepts(saver.copy_thread, source, target):
        other = t.open()
        found, expected = _contents(t, other, target), _contents(t, other, source)
        t.expect(found, expected, "copied a thread, went on in it, and copied it again; the copy")


@case("COPY-3")
def a_target_loses_none_of_its_own_checkpoints(t: Trial) -> None:
    saver = t.open()
    source, target = t.thread("source"), t.thread("target")
    _fill(t, saver, source)
    own = t.put(saver, target, {"own": 1})
    saver.put_writes(own, [("own", 2)], "task-1")
    # Whether such a copy is refused or merged is not tested here.
    accepts(saver.copy_thread, source, target)
    found = t.expect_found(t.open().get_tuple(own), "copied to a thread that had a checkpoint; that one")
    t.expect(found.checkpoint["channel_values"], {"own": 1}, "copied to a thread that had a checkpoint; its values")
    t.expect_writes(found, [("task-1", "own", 2)], "copied to a thread that had a checkpoint; it")


@case("COPY-3")
def copying_again_keeps_what_was_written_to_the_copy(t: Trial) -> None:
    saver, source, target = t.open(), t.thread(), t.thread("copy")
    (stored,) = t.chain(saver, source, 1)
    saver.put_writes(stored, [("__resume__", "of the source")], "task-1")
    saver.copy_thread(source, target)
    copied = t.config(target, stored["configurable"]["checkpoint_id"])
    saver.put_writes(copied, [("__resume__", "of the copy")], "task-1")
    t.open().copy_thread(source, target)
    found = t.expect_found(t.open().get_tuple(copied), "copied a thread again")
    expected = [("task-1", "__resume__", "of the copy")]
    t.expect_writes(found, expected, "copied, answered in the copy, and copied again; the copy")


@case("COPY-4")
def a_copys_delta_channels_are_the_sources(t: Trial) -> None:
    saver = t.open()
    for frequency in t.spread((1, 3, graphs.LONG), 2):
        source, target = t.config(t.thread("source")), t.config(t.thread("target"))
        graph = graphs.delta_graph(saver.saver, frequency)
        for number in range(2):
            saver.invoke(graph, graphs.both(f"input {number}"), source)
        saver.copy_thread(source["configurable"]["thread_id"], target["configurable"]["thread_id"])
        situation = f"copied a thread with a snapshot every {frequency}"
        expected = [state.values for state in saver.get_state_history(graph, source)]
        _expect_states(t, frequency, target, expected, situation)
        saver.delete_thread(source["configurable"]["thread_id"])
        _expect_states(t, frequency, target, expected, f"{situation}, and deleted the source")
        value = saver.invoke(graph, graphs.both("more"), target)
        t.expect(value["delta"], value["plain"], f"{situation}, and ran the copy; the delta channel")
        t.expect_that(
            "input 0" in value["delta"], f"{situation}, and ran the copy; expected the old input in its state"
        )


@case("COPY-4", needs=Capability.PRUNE)
def a_copy_of_a_pruned_thread_has_its_delta_channels(t: Trial) -> None:
    saver = t.open()
    for frequency in t.spread((3, graphs.LONG)):
        source, target = t.config(t.thread("source")), t.config(t.thread("target"))
        graph = graphs.delta_graph(saver.saver, frequency)
        value = saver.invoke(graph, graphs.both("input"), source)
        saver.prune([source["configurable"]["thread_id"]])
        saver.copy_thread(source["configurable"]["thread_id"], target["configurable"]["thread_id"])
        saver.delete_thread(source["configurable"]["thread_id"])
        _expect_states(t, frequency, target, [value], f"pruned, copied, a snapshot every {frequency}")


@case("COPY-4")
def a_copy_of_a_waiting_subgraph_has_its_delta_channels(t: Trial) -> None:
    saver, other = t.open(), t.open()
    for frequency in t.spread((3, graphs.LONG), 1):
        source, target = t.config(t.thread("source")), t.config(t.thread("target"))
        saver.invoke(graphs.delta_subgraph(saver.saver, frequency), graphs.both("input"), source)
        saver.copy_thread(source["configurable"]["thread_id"], target["configurable"]["thread_id"])
        saver.delete_thread(source["configurable"]["thread_id"])
        graph = graphs.delta_subgraph(other.saver, frequency)
        (task,) = other.get_state(graph, target, subgraphs=True).tasks
        situation = f"copied a thread that waits in a subgraph, a snapshot every {frequency}"
        found = task.state.values
        t.expect(found["delta"], found["plain"], f"{situation}; the subgraph's delta channel")
        value = other.invoke(graph, Command(resume="yes"), target)
        t.expect(value["delta"], value["plain"], f"{situation}, and resumed; the delta channel")


def _fill(t: Trial, saver: Handle, thread: str) -> None:
    """Put three checkpoints to each of two namespaces, with shared values, writes and metadata."""
    for ns in ("", "sub:1"):
        first = t.put(
            saver,
            thread,
            {"chat": LARGE, "kept": f"kept in {ns!r}"},
            versions={"chat": "1.1", "kept": "1.1"},
            ns=ns,
            metadata={"team": "red", "nested": {"deep": [1, None]}},
        )
        parent = first
        for number, chat in ((2, [*LARGE, "two"]), (3, [])):
            values = {"chat": chat, "kept": f"kept in {ns!r}"}
            versions = {"chat": f"{number}.1", "kept": "1.1"}
            parent = t.put(saver, thread, values, versions=versions, changed=["chat"], ns=ns, parent=parent)
        for number, stored in enumerate((first, parent)):
            saver.put_writes(stored, [("chat", [*LARGE, number]), ("__interrupt__", "asked")], "task-1", "path-b")
            saver.put_writes(stored, [("chat", "a")], "task-2", "path-a")


def _contents(t: Trial, saver: Handle, thread: str, ns: str = "") -> list[dict[str, Any]]:
    """Everything in a namespace except the thread's id, newest first."""
    return [
        {
            "checkpoint": stored.checkpoint,
            "metadata": stored.metadata,
            "parent": parent_of(stored),
            "pending_writes": unordered(stored.pending_writes),
        }
        for stored in saver.list_namespace(t.config(thread, ns=ns))
    ]


def _answer(saver: Handle, graph: graphs.Graph, config: Config, question: str) -> None:
    ids = {pending.value: pending.id for pending in saver.get_state(graph, config).interrupts}
    saver.invoke(graph, Command(resume={ids[question]: "yes"}), config)


def _expect_states(t: Trial, frequency: int, config: Config, expected: list[Any], situation: str) -> None:
    reader = t.open()
    states = reader.get_state_history(graphs.delta_graph(reader.saver, frequency), config)
    t.expect([state.values for state in states], expected, f"{situation}; values of all states, newest first")
    (delta, plain) = (states[0].values[channel] for channel in ("delta", "plain"))
    t.expect(delta, plain, f"{situation}; the delta channel, compared with a plain one")
