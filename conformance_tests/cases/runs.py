"""RUNS: deleting the checkpoints of runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.contract import Capability
from conformance_tests.trial import Config, Handle, Trial, threads_of, unordered
from conformance_tests.values import messages

LARGE = messages(160, length=1500)


# RUNS-1


@case("RUNS-1")
def the_checkpoints_of_the_runs_are_gone_in_every_thread_and_namespace(t: Trial) -> None:
    saver = t.open()
    threads = [t.thread() for _ in range(2)]
    kept, *deleted = (t.thread("run") for _ in range(3))
    stored: dict[str, list[Config]] = {}
    for thread in threads:
        for ns in ("", "sub:1"):
            parent = None
            for run in (deleted[0], kept, deleted[1], kept, deleted[0]):
                parent = _put(t, saver, thread, run, ns=ns, parent=parent)
                stored.setdefault(run, []).append(parent)
    saver.delete_for_runs(deleted)
    other = t.open()
    for config in (t.config(thread, ns=ns) for thread in threads for ns in ("", "sub:1")):
        runs = [found.metadata.get("run_id") for found in other.list_namespace(config)]
        t.expect(runs, [kept] * 2, "deleted two of three runs in two threads and namespaces; run ids of what is listed")
    for config in (config for run in deleted for config in stored[run]):
        t.expect(other.get_tuple(config), None, "deleted a run; its checkpoint, got by id")
    for thread in threads:
        latest = t.expect_found(other.get_tuple(t.config(thread)), "deleted the latest run")
        t.expect(latest.metadata.get("run_id"), kept, "deleted the latest run; run id of the latest checkpoint")


@case("RUNS-1", needs=Capability.COPY_THREAD)
def the_checkpoints_of_a_copy_are_gone_too(t: Trial) -> None:
    saver, kept, deleted = t.open(), t.thread("run"), t.thread("run")
    source, target = t.thread("source"), t.thread("target")
    for ns in ("", "sub:1"):
        parent = _put(t, saver, source, kept, ns=ns)
        _put(t, saver, source, deleted, ns=ns, parent=parent)
    saver.copy_thread(source, target)
    saver.delete_thread(source)
    saver.delete_for_runs([deleted])
    other = t.open()
    for ns in ("", "sub:1"):
        runs = [found.metadata.get("run_id") for found in other.list_namespace(t.config(target, ns=ns))]
        t.expect(runs, [kept], f"copied a thread, deleted one of its two runs; run ids in namespace {ns!r} of the copy")


@case("RUNS-1")
def what_was_deleted_is_in_no_listing_of_all_threads(t: Trial) -> None:
    saver, threads = t.open(), [t.thread() for _ in range(2)]
    kept, deleted = t.thread("run"), t.thread("run")
    for thread in threads:
        _put(t, saver, thread, deleted, parent=_put(t, saver, thread, kept))
    saver.delete_for_runs([deleted])
    for run, expected in ((kept, sorted(threads)), (deleted, [])):
        listed = threads_of(t.open().list(None, filter={"run_id": run}))
        what = "the other run" if expected else "that run"
        t.expect(sorted(listed), expected, f"deleted a run, listed a config of None with {what}; the threads")


@case("RUNS-1")
def a_thread_of_one_run_is_empty(t: Trial) -> None:
    saver, thread, run = t.open(), t.thread(), t.thread("run")
    for ns in ("", "sub:1"):
        _put(t, saver, thread, run, ns=ns)
    saver.delete_for_runs([run])
    for ns in ("", "sub:1"):
        t.expect(t.open().list(t.config(thread, ns=ns)), [], f"deleted a thread's only run; listed in namespace {ns!r}")


@case("RUNS-1")
def a_namespace_of_one_run_is_empty(t: Trial) -> None:
    saver, thread, run = t.open(), t.thread(), t.thread("run")
    _put(t, saver, thread, t.thread("run"))
    _put(t, saver, thread, run, ns="sub:1")
    saver.delete_for_runs([run])
    other = t.open()
    t.expect(other.get_tuple(t.config(thread, ns="sub:1")), None, "deleted a namespace's only run; its latest")
    t.expect_found(other.get_tuple(t.config(thread)), "deleted the only run of another namespace; the latest")


@case("RUNS-1")
def the_writes_are_gone(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    kept, deleted = t.thread("run"), t.thread("run")
    first = _put(t, saver, thread, kept)
    second = _put(t, saver, thread, deleted, parent=first)
    saver.put_writes(second, [("n", 1), ("__interrupt__", "asked")], "task-1")
    saver.delete_for_runs([deleted])
    again = t.put(saver, thread, {"n": 0}, id_=second["configurable"]["checkpoint_id"])
    found = t.expect_found(t.open().get_tuple(again), "deleted a run, and put its checkpoint again")
    t.expect_writes(found, [], "deleted a run, and put its checkpoint again")


@case("RUNS-1")
def a_graphs_run_is_undone(t: Trial) -> None:
    saver, other = t.open(), t.open()
    thread = t.thread()
    kept, deleted = t.thread("run"), t.thread("run")
    runs: graphs.Runs = Counter()
    graph = graphs.question_in_a_subgraph(saver.saver, runs)
    saver.invoke(graph, {"log": ["kept"]}, _config(t, thread, kept))
    before = saver.get_state(graph, t.config(thread))
    saver.invoke(graph, {"log": ["deleted"]}, _config(t, thread, deleted))
    saver.delete_for_runs([deleted])
    state = other.get_state(graphs.question_in_a_subgraph(other.saver, runs), t.config(thread))
    _expect_same_state(t, state, before, "deleted the later of two runs of a graph")


# RUNS-2


@case("RUNS-2")
def other_runs_stay_as_they_were(t: Trial) -> None:
    saver = t.open()
    run = t.thread("run")
    others = [f"{run}1", run[:-1], run.upper(), f"{run}*", None]
    for_each = [t.thread() for _ in others]
    shared = t.thread()
    parent = _put(t, saver, shared, run)
    for thread, other_run in zip(for_each, others, strict=True):
        _put(t, saver, thread, other_run)
        parent = _put(t, saver, shared, other_run, parent=parent)
        parent = _put(t, saver, shared, run, parent=parent)
    before = [found for thread in (*for_each, shared) for found in saver.list(t.config(thread))]
    expected = [found for found in before if found.metadata.get("run_id") != run]
    saver.delete_for_runs([run])
    other = t.open()
    remaining = [found for thread in (*for_each, shared) for found in other.list(t.config(thread))]
    t.expect(
        _contents(remaining), _contents(expected), "deleted one of several runs with similar ids; all that remains"
    )


@case("RUNS-2")
def values_that_a_deleted_run_had_stored_stay(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    kept, deleted = t.thread("run"), t.thread("run")
    first = t.put(
        saver, thread, {"chat": LARGE, "n": 1}, versions={"chat": "1.1", "n": "1.1"}, metadata={"run_id": deleted}
    )
    checkpoint = t.checkpoint({"chat": LARGE, "n": 2}, versions={"chat": "1.1", "n": "2.1"})
    second = saver.put(first, checkpoint, {"run_id": kept}, {"n": "2.1"})
    saver.put_writes(second, [("chat", LARGE)], "task-1")
    saver.delete_for_runs([deleted])
    for _ in range(2):
        found = t.expect_found(t.open().get_tuple(second), "deleted the run of a parent")
        t.expect(
            found.checkpoint["channel_values"], {"chat": LARGE, "n": 2}, "deleted the run that stored a value; values"
        )
        t.expect_writes(found, [("task-1", "chat", LARGE)], "deleted the run that stored a value")
        # Check again after a put by the same handle, which remembers what it stored.
        second = t.put(
            saver,
            thread,
            {"chat": LARGE, "n": 2},
            versions={"chat": "3.1", "n": "3.1"},
            parent=second,
            metadata={"run_id": kept},
        )
        saver.put_writes(second, [("chat", LARGE)], "task-1")


@case("RUNS-2")
def large_values_of_a_deleted_run_can_be_stored_again(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    kept, deleted = t.thread("run"), t.thread("run")
    first = t.put(saver, thread, {"chat": ["short"]}, versions={"chat": "1.1"}, metadata={"run_id": kept})
    t.put(saver, thread, {"chat": LARGE}, versions={"chat": "2.1"}, parent=first, metadata={"run_id": deleted})
    t.open().delete_for_runs([deleted])
    t.put(saver, thread, {"chat": LARGE}, versions={"chat": "3.1"}, parent=first, metadata={"run_id": kept})
    found = t.expect_found(t.open().get_tuple(t.config(thread)), "deleted a run, and put its large value again")
    t.expect(
        found.checkpoint["channel_values"], {"chat": LARGE}, "deleted a run, and put its large value again; values"
    )


@case("RUNS-2")
def a_graph_goes_on_from_what_remains(t: Trial) -> None:
    saver, other = t.open(), t.open()
    thread = t.thread()
    run_ids = [t.thread("run") for _ in range(3)]
    runs: graphs.Runs = Counter()
    graph = graphs.parallel_questions(saver.saver, runs)
    for number, run in enumerate(run_ids):
        saver.invoke(graph, {"log": [f"run {number}"]}, _config(t, thread, run))
    before = saver.get_state(graph, t.config(thread))
    saver.delete_for_runs(run_ids[:2])
    state = other.get_state(graphs.parallel_questions(other.saver, runs), t.config(thread))
    _expect_same_state(t, state, before, "deleted the first two of three runs of a graph")


@case("RUNS-2")
def writes_whose_checkpoint_has_not_arrived_stay_when_nothing_else_does(t: Trial) -> None:
    saver, thread, run = t.open(), t.thread(), t.thread("run")
    _put(t, saver, thread, run)
    id_ = t.checkpoint()["id"]
    saver.put_writes(t.config(thread, id_), [("a", 1)], "task-1")
    saver.delete_for_runs([run])
    stored = t.put(t.open(), thread, {"a": 0}, id_=id_)
    found = t.expect_found(t.open().get_tuple(stored), "put a checkpoint after its writes")
    t.expect_writes(found, [("task-1", "a", 1)], "wrote, deleted the thread's only run, and put the checkpoint")


# RUNS-3


@case("RUNS-3")
def no_runs_and_unknown_runs_are_no_error(t: Trial) -> None:
    saver, thread, run = t.open(), t.thread(), t.thread("run")
    stored = _put(t, saver, thread, run)
    without = t.put(saver, thread, {"n": 1}, parent=stored)
    before = saver.list(t.config(thread))
    for run_ids in ([], [t.thread("unknown")], ["None"], ["*", "%"]):
        saver.delete_for_runs(run_ids)
        t.expect(t.open().list(t.config(thread)), before, f"deleted runs {run_ids}; all that was there")
    for _ in range(2):
        saver.delete_for_runs([t.thread("unknown"), run])
        listed = [found.config for found in t.open().list(t.config(thread))]
        t.expect(listed, [without], "deleted an unknown run and another; listed")


# RUNS-4


@case("RUNS-4")
def delta_channels_of_the_remaining_runs_stay(t: Trial) -> None:
    saver = t.open()
    for frequency, deleted in t.spread(
        (
            (1, [0, 1]),
            (4, [0]),
            (graphs.LONG, [0]),
            (graphs.LONG, [0, 1]),
            (graphs.LONG, [2]),
            (4, [1]),
        )
    ):
        thread = t.thread()
        run_ids = [t.thread("run") for _ in range(3)]
        graph = graphs.delta_graph(saver.saver, frequency)
        for number, run in enumerate(run_ids):
            saver.invoke(graph, graphs.both(f"input {number}"), _config(t, thread, run))
        expected = [
            state.values
            for state in saver.get_state_history(graph, t.config(thread))
            if run_ids.index(state.metadata["run_id"]) not in deleted
        ]
        saver.delete_for_runs([run_ids[number] for number in deleted])
        situation = f"deleted runs {deleted} of three, a snapshot every {frequency}"
        _expect_states(t, frequency, thread, expected, situation)


@case("RUNS-4")
def delta_channels_go_on_after_runs_were_deleted(t: Trial) -> None:
    saver = t.open()
    for frequency in t.spread((3, graphs.LONG)):
        thread = t.thread()
        run_ids = [t.thread("run") for _ in range(4)]
        graph = graphs.delta_graph(saver.saver, frequency)
        for number, run in enumerate(run_ids):
            value = saver.invoke(graph, graphs.both(f"input {number}"), _config(t, thread, run))
            situation = f"deleted each run before the last, ran {number + 1} times, a snapshot every {frequency}"
            t.expect(value["delta"], value["plain"], f"{situation}; the delta channel")
            t.expect(len(value["delta"]), 5 * (number + 1), f"{situation}; items of the delta channel")
            if number:
                saver.delete_for_runs([run_ids[number - 1]])
                expected = [state.values for state in saver.get_state_history(graph, t.config(thread))]
                t.expect_that(bool(expected), f"{situation}; expected a history")
                _expect_states(t, frequency, thread, expected, situation)


@case("RUNS-4")
def delta_channels_go_on_from_before_the_deleted_run(t: Trial) -> None:
    saver = t.open()
    for frequency in t.spread((3, graphs.LONG), 1):
        thread = t.thread()
        run_ids = [t.thread("run") for _ in range(3)]
        graph = graphs.delta_graph(saver.saver, frequency)
        for number, run in enumerate(run_ids):
            saver.invoke(graph, graphs.both(f"input {number}"), _config(t, thread, run))
            if number == 1:
                saver.delete_for_runs([run])
        value = saver.get_state(graph, t.config(thread)).values
        situation = f"deleted the second of two runs and ran again, a snapshot every {frequency}"
        t.expect(value["delta"], value["plain"], f"{situation}; the delta channel")
        inputs = [item for item in value["delta"] if item.startswith("input")]
        t.expect(inputs, ["input 0", "input 2"], f"{situation}; inputs in the delta channel")


def _expect_same_state(t: Trial, found: Any, expected: Any, situation: str) -> None:
    parts, wanted = [(state.values, state.next, state.interrupts) for state in (found, expected)]
    t.expect(parts, wanted, f"{situation}; values, what is next and questions")


def _config(t: Trial, thread: str, run: str) -> Config:
    return {**t.config(thread), "metadata": {"run_id": run}}


def _put(
    t: Trial, saver: Handle, thread: str, run: str | None, *, ns: str = "", parent: Config | None = None
) -> Config:
    """Put a checkpoint of a run, or of none if ``run`` is None, with a new value and a write."""
    checkpoint = t.checkpoint({"n": run})
    version = saver.saver.get_next_version(None, None)
    checkpoint["channel_versions"] = {"n": version}
    parent_id = parent["configurable"]["checkpoint_id"] if parent else None
    config = t.config(thread, parent_id, ns=ns)
    if run is not None:
        config["metadata"] = {"run_id": run}
    stored = saver.put(config, checkpoint, {"source": "loop", "step": 0, "parents": {}}, {"n": version})
    saver.put_writes(stored, [("n", run)], "task-1")
    return stored


def _contents(listed: list[Any]) -> list[Any]:
    return [(found.config, found.checkpoint, dict(found.metadata), unordered(found.pending_writes)) for found in listed]


def _expect_states(t: Trial, frequency: int, thread: str, expected: list[Any], situation: str) -> None:
    """Fail unless the states that remain, newest first, have these values, with the same list in both channels."""
    reader = t.open()
    states = reader.get_state_history(graphs.delta_graph(reader.saver, frequency), t.config(thread))
    t.expect([state.values for state in states], expected, f"{situation}; values of the states that remain")
    found = [state.values.get("delta", []) for state in states]
    plain = [state.values.get("plain", []) for state in states]
    t.expect(found, plain, f"{situation}; the delta channel of the states that remain, compared with a plain one")
