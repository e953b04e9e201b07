"""PRUNE: removing the old checkpoints of threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from langgraph.types import Command

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.cases.prune_needed import put_open
from conformance_tests.contract import Capability
from conformance_tests.trial import Config, Handle, Trial, id_of, ids_of, unordered
from conformance_tests.values import messages

CHAT = messages(160, length=1500)


# PRUNE-1


@case("PRUNE-1")
def the_latest_checkpoint_of_every_namespace_stays_as_it_was(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    namespaces = ("", "sub:1", "sub:1|deeper:2")
    chains = {ns: t.chain(saver, thread, 4, ns=ns, team="red") for ns in namespaces}
    for chain in chains.values():
        for number, stored in enumerate(chain):
            saver.put_writes(stored, [("n", number), ("__interrupt__", f"{number}?")], "task-1", "path-b")
            saver.put_writes(stored, [("n", "other")], "task-2", "path-a")
    before = {ns: _latest(t, saver, thread, ns) for ns in namespaces}
    saver.prune([thread], strategy="keep_latest")
    other = t.open()
    for ns, chain in chains.items():
        t.expect(_latest(t, other, thread, ns), before[ns], f"pruned; the latest of namespace {ns!r}")
        there = [other.get_tuple(stored) is not None for stored in chain]
        situation = f"pruned a thread with four checkpoints in namespace {ns!r}; which of them are there"
        t.expect(there, [False, False, False, True], situation)


@case("PRUNE-1")
def large_values_of_every_namespace_stay(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    namespaces = {"": CHAT[:40], "sub:1": CHAT[:40], "sub:2": CHAT[40:80]}
    for ns, chat in namespaces.items():
        first = t.put(saver, thread, {"chat": chat, "old": CHAT[80:]}, ns=ns, versions={"chat": "1.1", "old": "1.1"})
        latest = t.put(saver, thread, {"chat": chat}, parent=first, ns=ns, versions={"chat": "1.1"}, changed=())
        saver.put_writes(latest, [("chat", chat[:20])], "task-1")
    saver.prune([thread])
    other = t.open()
    for ns, chat in namespaces.items():
        found = t.expect_found(other.get_tuple(t.config(thread, ns=ns)), f"pruned; the latest of namespace {ns!r}")
        situation = f"pruned a thread with large values in three namespaces; namespace {ns!r}"
        t.expect(found.checkpoint["channel_values"], {"chat": chat}, f"{situation}; values")
        t.expect_writes(found, [("task-1", "chat", chat[:20])], situation)


@case("PRUNE-1")
def what_was_removed_is_in_no_listing_of_all_threads(t: Trial) -> None:
    saver, run, threads = t.open(), t.thread("run"), [t.thread() for _ in range(2)]
    latest = [t.chain(saver, thread, 3, run_id=run)[-1]["configurable"]["checkpoint_id"] for thread in threads]
    saver.prune(threads)
    # Other tests share the storage, so filter on an entry that LangGraph itself makes.
    listed = ids_of(t.open().list(None, filter={"run_id": run}))
    t.expect(listed, sorted(latest, reverse=True), "pruned two threads, listed a config of None; ids")


@case("PRUNE-1", needs=Capability.DELTA)
def what_a_delta_channel_is_rebuilt_from_is_not_found_either(t: Trial) -> None:
    saver, thread, stored = t.open(), t.thread(), None
    chain = [stored := put_open(t, saver, thread, number, stored) for number in range(4)]
    saver.prune([thread])
    other = t.open()
    for config in chain[:-1]:
        t.expect(other.get_tuple(config), None, "pruned the ancestors of a delta channel; one of them, got by its id")
        t.expect(other.list_namespace(config), [], "pruned the ancestors of a delta channel; one, listed by its id")
    listed = ids_of(other.list(t.config(thread)))
    t.expect(listed, [chain[-1]["configurable"]["checkpoint_id"]], "pruned the ancestors of a delta channel; listed")


@case("PRUNE-1")
def keep_latest_is_the_default(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    chain = t.chain(saver, thread, 3)
    saver.prune([thread])
    listed = ids_of(t.open().list(t.config(thread)))
    t.expect(listed, [chain[-1]["configurable"]["checkpoint_id"]], "pruned without a strategy; listed ids")


@case("PRUNE-1")
def the_greatest_id_stays_whichever_was_put_last(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (2, 3, 1):
        t.put(saver, thread, {"n": number}, id_=id_of(number), versions={"n": f"{number}.1"})
    saver.prune([thread])
    found = [stored.checkpoint["channel_values"] for stored in t.open().list(t.config(thread))]
    t.expect(found, [{"n": 3}], "put three checkpoints out of order, and pruned; values of what is listed")


@case("PRUNE-1")
def values_that_older_checkpoints_stored_stay(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    kept, versions = {"chat": CHAT, "name": "Ann"}, {"chat": "1.1", "name": "1.1"}
    stored = t.put(saver, thread, {**kept, "dropped": "gone"}, versions={**versions, "dropped": "1.1"})
    for number in range(2, 5):
        of_step = {"n": f"{number}.1"}
        stored = t.put(
            saver, thread, {**kept, "n": number}, versions={**versions, **of_step}, changed=of_step, parent=stored
        )
    saver.prune([thread])
    found = t.expect_found(t.open().get_tuple(t.config(thread)), "pruned")
    expected = {**kept, "n": 4}
    t.expect(found.checkpoint["channel_values"], expected, "pruned, after one of three channels changed; values")


@case("PRUNE-1")
def a_long_chat_stays_whole_and_grows_on(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    chat: list[str] = []
    stored = None
    for number in range(3):
        for step in range(4):
            chat = [*chat, *CHAT[step * 10 : step * 10 + 10], f"round {number} step {step}"]
            version = {"chat": f"{number}{step}.1"}
            stored = t.put(saver, thread, {"chat": chat}, versions=version, parent=stored)
            saver.put_writes(stored, [("chat", [*chat, "pending"])], "task-1")
        # Once by the handle that stores, otherwise by another, after which what the first remembers may be gone.
        (saver if number == 1 else t.open()).prune([thread])
        other = t.open()
        t.expect(len(other.list(t.config(thread))), 1, f"pruned a growing chat {number + 1} times; listed")
        found = t.expect_found(other.get_tuple(t.config(thread)), "pruned a growing chat")
        t.expect(
            found.checkpoint["channel_values"], {"chat": chat}, f"pruned a growing chat {number + 1} times; values"
        )
        written = [("task-1", "chat", [*chat, "pending"])]
        t.expect_writes(found, written, f"pruned a growing chat {number + 1} times")


@case("PRUNE-1")
def values_that_were_removed_can_be_stored_again(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first = t.put(saver, thread, {"chat": CHAT}, versions={"chat": "1.1"})
    second = t.put(saver, thread, {"chat": ["short"]}, versions={"chat": "2.1"}, parent=first)
    t.open().prune([thread])
    third = t.put(saver, thread, {"chat": CHAT}, versions={"chat": "3.1"}, parent=second)
    saver.put_writes(third, [("chat", CHAT[:20])], "task-1")
    found = t.expect_found(t.open().get_tuple(third), "pruned a large value away, and put it again")
    t.expect(found.checkpoint["channel_values"], {"chat": CHAT}, "pruned a large value away, and put it again; values")
    t.expect_writes(found, [("task-1", "chat", CHAT[:20])], "pruned a large value away, and wrote it")


@case("PRUNE-1")
def pruning_twice_is_pruning_once(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    t.chain(saver, thread, 3)
    saver.prune([thread])
    once = _latest(t, saver, thread)
    saver.prune([thread, thread])
    t.expect(_latest(t, t.open(), thread), once, "pruned twice; the latest, compared with that of the first time")


@case("PRUNE-1")
def a_call_within_a_subgraph_that_remembers_goes_on_after_the_root_was_updated(t: Trial) -> None:
    worker, other = t.open(), t.open()
    results = []
    for pruned in (False, True):
        runs, config = Counter[str](), t.config(t.thread())
        graph = graphs.question_within_a_subgraph_that_remembers(worker.saver, runs)
        worker.invoke(graph, {"log": []}, config)
        worker.update_state(graph, config, {"log": ["by hand"]}, as_node="before")
        if pruned:
            other.prune([config["configurable"]["thread_id"]])
        end = worker.invoke(graph, Command(resume="yes"), config)
        results.append((end["log"], dict(runs)))
    situation = "updated the root while a call within a subgraph that remembers waits, and answered"
    t.expect(results[1], results[0], f"{situation}, with a prune in between and without it; log, and what has run")


# PRUNE-2


@case("PRUNE-2")
def delete_removes_the_threads(t: Trial) -> None:
    saver = t.open()
    threads = [t.thread() for _ in range(3)]
    chains = {(thread, ns): t.chain(saver, thread, 2, ns=ns) for thread in threads for ns in ("", "sub:1")}
    for chain in chains.values():
        saver.put_writes(chain[-1], [("n", 1)], "task-1")
    saver.prune(threads[:2], strategy="delete")
    other = t.open()
    for (thread, ns), chain in chains.items():
        if thread != threads[2]:
            situation = f"pruned with strategy 'delete'; namespace {ns!r}"
            t.expect(other.list(t.config(thread, ns=ns)), [], f"{situation}, listed")
            t.expect(other.get_tuple(t.config(thread, ns=ns)), None, f"{situation}, latest")
        for stored in chain:
            is_there = other.get_tuple(stored) is not None
            situation = f"pruned two of three threads with strategy 'delete'; got a checkpoint of {ns!r} by its id"
            t.expect(is_there, thread == threads[2], f"{situation}; whether it is there")


# PRUNE-3


@case("PRUNE-3")
def other_threads_stay(t: Trial) -> None:
    saver, base = t.open(), t.thread()
    others = [f"{base}1", f"{base}:1", base[:-1], t.thread()]
    chains = {thread: t.chain(saver, thread, 3) for thread in (base, *others)}
    for thread, chain in chains.items():
        for stored in chain:
            saver.put_writes(stored, [("n", thread)], "task-1")
    before = {thread: _by_id(t, saver, chain, "put a chain") for thread, chain in chains.items()}
    other = t.open()
    for pattern in (f"{base}*", f"{base}%", f"{base[:-1]}_", f"{base[:-1]}?"):
        saver.prune([pattern])
        saver.prune([pattern], strategy="delete")
    for thread, chain in chains.items():
        situation = f"pruned what would match as a pattern; all of {thread!r}"
        t.expect(_by_id(t, other, chain, situation), before[thread], situation)
    saver.prune([base])
    for thread in others:
        situation = f"pruned {base!r}; all of {thread!r}"
        t.expect(_by_id(t, other, chains[thread], situation), before[thread], situation)


@case("PRUNE-3")
def missing_threads_are_no_error(t: Trial) -> None:
    saver, thread, missing = t.open(), t.thread(), t.thread("missing")
    t.chain(saver, thread, 3)
    for strategy in ("keep_latest", "delete"):
        saver.prune([], strategy=strategy)
        saver.prune([missing], strategy=strategy)
    t.expect(len(t.open().list(t.config(thread))), 3, "pruned no thread, and a missing one; listed in another")
    saver.prune([missing, thread])
    other = t.open()
    t.expect(len(other.list(t.config(thread))), 1, "pruned a missing thread and another; listed in the other")
    t.expect(other.list(t.config(missing)), [], "pruned a missing thread; listed")


# PRUNE-4


@case("PRUNE-4")
def an_unknown_strategy_raises_and_removes_nothing(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for stored in t.chain(saver, thread, 3):
        saver.put_writes(stored, [("n", 1)], "task-1")
    before = saver.list(t.config(thread))
    for strategy in ("Delete", "keep_lastest", ""):
        t.expect_error(
            lambda strategy=strategy: saver.prune([thread], strategy=strategy),  # type: ignore[misc]  # its default
            f"pruned with strategy {strategy!r}",
        )
        t.expect(t.open().list(t.config(thread)), before, f"pruned with strategy {strategy!r}; all that was there")


# PRUNE-5


@case("PRUNE-5")
def a_graph_resumes_after_it_was_pruned(t: Trial) -> None:
    for build, questions in t.spread(
        (
            (graphs.several_questions, ("first?", "second?", "third?")),
            (graphs.parallel_questions, ("c?", "a?", "b?")),
            (graphs.fanned_out_questions, ("1?", "0?", "2?")),
        )
    ):
        _expect_same_result(t, build, questions, {"log": []})


@case("PRUNE-5")
def a_subgraph_resumes_after_it_was_pruned(t: Trial) -> None:
    for build, questions in t.spread(
        (
            (graphs.question_in_a_subgraph, ("a draft?",)),
            (graphs.questions_in_nested_subgraphs, ("deep?", "middle?")),
            (graphs.parallel_questions_in_a_subgraph, ("a?", "c?", "b?")),
        )
    ):
        _expect_same_result(t, build, questions, {"log": []})


@case("PRUNE-5")
def a_flow_resumes_after_it_was_pruned(t: Trial) -> None:
    _expect_same_result(t, graphs.flow_in_sequence, ("first?", "second?", "own?"), 0)
    _expect_same_result(t, graphs.flow_with_nested_tasks, ("a?", "b?"), 0)


def _expect_same_result(t: Trial, build: graphs.Build, questions: Sequence[str], value: Any) -> None:
    """Fail unless a thread that is pruned before every answer ends like one that is never pruned."""
    worker, other = t.open(), t.open()
    results = []
    for pruned in (False, True):
        runs: graphs.Runs = Counter()
        graph, config = build(worker.saver, runs), t.config(t.thread())
        result = worker.invoke(graph, value, config)
        for question in questions:
            if pruned:
                other.prune([config["configurable"]["thread_id"]])
            ids = {pending.value: pending.id for pending in worker.get_state(graph, config).interrupts}
            if question not in ids:
                t.fail(f"{build.__name__}, pruned: {pruned}; expected {question!r} to be pending, got {sorted(ids)}")
            result = worker.invoke(graph, Command(resume={ids[question]: f"to {question}"}), config)
        results.append((result, dict(runs)))
    situation = f"{build.__name__}, pruned before every answer; result and how often each came to its end"
    t.expect(results[1], results[0], situation)


# PRUNE-8


@case("PRUNE-8")
def the_latest_few_of_every_namespace_stay_as_they_were(t: Trial) -> None:
    saver, thread, untouched = t.open(), t.thread(), t.thread()
    lengths = {"": 5, "sub:1": 4, "sub:1|deeper:2": 2}
    chains = {ns: t.chain(saver, thread, length, ns=ns, team="red") for ns, length in lengths.items()}
    for chain in (*chains.values(), t.chain(saver, untouched, 5)):
        for number, stored in enumerate(chain):
            saver.put_writes(stored, [("n", number), ("__interrupt__", f"{number}?")], "task-1", "path-b")
    before = {ns: _without_parents(_by_id(t, saver, chain, "put a chain")) for ns, chain in chains.items()}
    saver.prune([thread], keep=3)
    other = t.open()
    for ns, chain in chains.items():
        situation = f"pruned a thread with {len(chain)} checkpoints in namespace {ns!r}, of which 3 are to stay"
        t.expect([other.get_tuple(one) for one in chain[:-3]], [None] * len(chain[:-3]), f"{situation}; the others")
        kept = _without_parents(_by_id(t, other, chain[-3:], f"{situation}; those that stay"))
        t.expect(kept, before[ns][-3:], f"{situation}; those that stay")
        t.expect(len(other.list_namespace(t.config(thread, ns=ns))), len(kept), f"{situation}; how many are listed")
    t.expect(len(other.list(t.config(untouched))), 5, "pruned another thread; how many are listed")


@case("PRUNE-8", needs=Capability.PRUNE_CALLS)
def the_calls_of_all_that_stays_stay(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    roots = t.chain(saver, thread, 4)
    for number, root in enumerate(roots):
        parents = {"": root["configurable"]["checkpoint_id"]}
        t.chain(saver, thread, 3, ns=_called(f"agent {number}"), parents=parents)
    saver.prune([thread], keep=2)
    other = t.open()
    spaces = [_called(f"agent {number}") for number in range(len(roots))]
    listed = [len(other.list_namespace(t.config(thread, ns=ns))) for ns in spaces]
    t.expect(listed, [0, 0, 2, 2], "pruned to 2, with a subgraph called at each of 4; how many are listed of each call")


@case("PRUNE-8")
def those_with_the_greatest_ids_stay_whichever_were_put_last(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (3, 5, 2, 4, 1):
        t.put(saver, thread, {"n": number}, id_=id_of(number), versions={"n": f"{number}.1"})
    for keep, expected in ((4, [5, 4, 3, 2]), (9, [5, 4, 3, 2]), (2, [5, 4])):
        saver.prune([thread], keep=keep)
        found = [stored.checkpoint["channel_values"]["n"] for stored in t.open().list(t.config(thread))]
        t.expect(found, expected, f"put five checkpoints out of order, and pruned to {keep}; what is listed")


@case("PRUNE-8")
def a_graph_can_go_back_to_whatever_stays(t: Trial) -> None:
    worker, other = t.open(), t.open()
    results = []
    for pruned in (False, True):
        graph, config = graphs.several_questions(worker.saver, Counter()), t.config(t.thread())
        worker.invoke(graph, {"log": []}, config)
        for answer in ("one", "two", "three"):
            worker.invoke(graph, Command(resume=answer), config)
        if pruned:
            other.prune([config["configurable"]["thread_id"]], keep=4)
        kept = worker.get_state_history(graph, config)[:4]
        ends = [worker.invoke(graph, None, state.config) for state in reversed(kept)]
        results.append([(end["log"], [asked.value for asked in end.get("__interrupt__", ())]) for end in ends])
    t.expect(results[1], results[0], "went back to each of the latest 4 states, after pruning to 4 and without it")


@case("PRUNE-8", needs=Capability.DELTA)
def the_delta_channels_of_all_that_stays_are_the_same(t: Trial) -> None:
    worker, other = t.open(), t.open()
    for frequency in t.spread((1, 4, graphs.LONG), 1):
        config = t.config(t.thread())
        graph = graphs.delta_graph(worker.saver, frequency)
        for number in range(3):
            worker.invoke(graph, graphs.both(f"input {number}"), config)
        before = [state.values for state in worker.get_state_history(graph, config)[:6]]
        for keep in (6, 3):
            other.prune([config["configurable"]["thread_id"]], keep=keep)
            situation = f"pruned to {keep}, a snapshot every {frequency}"
            states = other.get_state_history(graphs.delta_graph(other.saver, frequency), config)
            t.expect([state.values for state in states], before[:keep], f"{situation}; the state of each")
        value = worker.invoke(graph, graphs.both("again"), states[-1].config)
        t.expect(value["delta"], value["plain"], f"{situation}, and went on from the oldest; the delta channel")


@case("PRUNE-8")
def an_impossible_number_raises_and_removes_nothing(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    t.chain(saver, thread, 3)
    before = saver.list(t.config(thread))
    impossible: Sequence[dict[str, Any]] = ({"keep": 0}, {"keep": -1}, {"keep": 2, "strategy": "delete"})
    for options in impossible:
        t.expect_error(lambda options=options: saver.prune([thread], **options), f"pruned with {options}")  # type: ignore[misc]  # its default
        t.expect(t.open().list(t.config(thread)), before, f"pruned with {options}; all that was there")


@case("PRUNE-9")
def what_a_call_of_a_subgraph_stored_goes_with_the_checkpoint_at_which_it_began(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first, last = (stored["configurable"]["checkpoint_id"] for stored in t.chain(saver, thread, 2))
    # A subgraph that remembers has no task in its namespace. It may go on with what it called after the root has.
    memory = t.chain(saver, thread, 2, ns="memory", parents={"": first})
    remembered = memory[-1]["configurable"]["checkpoint_id"]
    elsewhere = t.checkpoint({})["id"]  # about to arrive, or of another thread
    ended, going_on = _called("ended"), _called("going on")
    began: dict[str, dict[str, str]] = {
        ended: {"": first},
        f"{ended}|{_called('inner')}": {"": first, ended: "an id"},
        f"memory|{_called('late')}": {"": first, "memory": remembered},
        going_on: {"": last},
        f"{going_on}|{_called('inner')}": {"": last, going_on: "an id"},
        _called("elsewhere"): {"": elsewhere},
    }
    for ns, parents in began.items():
        for stored in t.chain(saver, thread, 2, ns=ns, parents=parents):
            saver.put_writes(stored, [("n", 1), ("__interrupt__", ["?"])], "task-1")
    kept = ["memory", *(ns for ns in began if not ns.startswith(ended))]
    before = {ns: _latest(t, saver, thread, ns) for ns in kept}
    saver.prune([thread])
    other = t.open()
    situation = "pruned, after calls that began at the first checkpoint, the last, and others"
    listed = {ns: len(other.list_namespace(t.config(thread, ns=ns))) for ns in began}
    t.expect(listed, {ns: int(ns in kept) for ns in began}, f"{situation}; how many are listed of each")
    t.expect({ns: _latest(t, other, thread, ns) for ns in kept}, before, f"{situation}; the latest of each that stays")


@case("PRUNE-9")
def what_a_call_stored_stays_if_its_newest_began_at_a_checkpoint_that_stays(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    callers = [stored["configurable"]["checkpoint_id"] for stored in t.chain(saver, thread, 2)]
    spaces = [_called(f"agent {number}") for number in range(5)]
    for ns in spaces:
        for caller in callers:
            t.put(saver, thread, {"n": caller}, versions={"n": caller}, ns=ns, metadata={"parents": {"": caller}})
    before = {ns: _latest(t, saver, thread, ns) for ns in spaces}
    saver.prune([thread])
    other = t.open()
    found = {ns: _latest(t, other, thread, ns) for ns in spaces}
    t.expect(found, before, "pruned, after calls whose older checkpoint began at the first; the latest of each")


@case("PRUNE-9")
def a_thread_that_calls_subgraphs_goes_on_from_within_them_and_does_not_grow(t: Trial) -> None:
    saver, config = t.open(), t.config(t.thread())
    thread = config["configurable"]["thread_id"]
    left = []
    for turn in range(3):
        graph = graphs.questions_in_nested_subgraphs(saver.saver, Counter())
        found = saver.invoke(graph, {"log": [f"turn {turn}"]}, config)
        while asked := found.get("__interrupt__"):
            t.open().prune([thread])
            worker = t.open()
            graph = graphs.questions_in_nested_subgraphs(worker.saver, Counter())
            (task,) = worker.get_state(graph, config, subgraphs=True).tasks
            situation = f"pruned while turn {turn} waits in nested subgraphs"
            t.expect_that(bool(task.state and task.state.values), f"{situation}; expected the state of one, got {task}")
            answers = {each.id: f"to {each.value}" for each in asked}
            found = worker.invoke(graph, Command(resume=answers), config)
        t.open().prune([thread])
        left.append(len(t.open().list({"configurable": {"thread_id": thread}})))
    t.expect(left, [1, 1, 1], "ran three turns with nested subgraphs, and pruned after each; what was listed then")


def _without_parents(found: Sequence[Any]) -> Sequence[Any]:
    return [one._replace(parent_config=None) for one in found]


def _called(name: str) -> str:
    """The name that a graph has in a namespace when a task has called it."""
    return f"{name}:{uuid5(NAMESPACE_URL, name)}"


def _latest(t: Trial, saver: Handle, thread: str, ns: str = "") -> Any:
    """The latest checkpoint without its parent, which may be gone."""
    found = t.expect_found(saver.get_tuple(t.config(thread, ns=ns)), f"the latest of namespace {ns!r}")
    return found._replace(parent_config=None, pending_writes=unordered(found.pending_writes))


def _by_id(t: Trial, saver: Handle, chain: Sequence[Config], situation: str) -> Any:
    """Each checkpoint of a chain, read by its id, because a listing may have too many for other reasons."""
    found = [
        t.expect_found(saver.get_tuple(stored), f"{situation}; number {number} of {len(chain)}, got by its id")
        for number, stored in enumerate(chain, 1)
    ]
    return [one._replace(pending_writes=unordered(one.pending_writes)) for one in found]
