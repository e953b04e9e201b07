"""DELETE: deleting threads."""

from __future__ import annotations

from collections import Counter

from langgraph.types import Interrupt

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.contract import Capability
from conformance_tests.trial import MANY, Handle, Trial, ids_of, threads_of
from conformance_tests.values import messages

LARGE = messages()


@case("DELETE-1")
def checkpoints_of_every_namespace_are_gone(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    namespaces = ("", "sub:1", "sub:1|deeper:2")
    stored = {ns: t.chain(saver, thread, 3, ns=ns) for ns in namespaces}
    saver.delete_thread(thread)
    other = t.open()
    for ns in namespaces:
        t.expect(other.list(t.config(thread, ns=ns)), [], f"deleted a thread; listed in namespace {ns!r}")
        t.expect(other.get_tuple(t.config(thread, ns=ns)), None, f"deleted a thread; latest of namespace {ns!r}")
        t.expect(other.get_tuple(stored[ns][0]), None, f"deleted a thread; first checkpoint of namespace {ns!r} by id")


@case("DELETE-1")
def writes_are_gone_also_those_without_a_checkpoint(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    ids = [t.checkpoint()["id"] for _ in range(2)]
    for ns in ("", "sub:1"):
        stored = t.put(saver, thread, {"a": 1}, id_=ids[0], ns=ns)
        not_put = t.config(thread, ids[1], ns=ns)
        for config in (stored, not_put):
            saver.put_writes(config, [("a", 2), ("__interrupt__", "asked")], "task-1")
    saver.delete_thread(thread)
    other = t.open()
    for ns in ("", "sub:1"):
        for id_ in ids:
            again = t.put(other, thread, {"a": 3}, id_=id_, ns=ns)
            found = t.expect_found(other.get_tuple(again), "deleted a thread, and put its checkpoint again")
            t.expect_writes(found, [], "deleted a thread, and put its checkpoint again")


@case("DELETE-1")
def a_thread_that_has_nothing_but_writes_is_deleted(t: Trial) -> None:
    saver, thread, id_ = t.open(), t.thread(), t.checkpoint()["id"]
    saver.put_writes(t.config(thread, id_), [("a", 2)], "task-1")
    saver.delete_thread(thread)
    other = t.open()
    found = t.expect_found(other.get_tuple(t.put(other, thread, {"a": 3}, id_=id_)), "put to a deleted thread")
    t.expect_writes(found, [], "wrote to a checkpoint that is not there yet, deleted the thread, and put it")


@case("DELETE-1", long=True, once=True)
def a_thread_with_more_checkpoints_than_any_page_has_is_deleted_whole(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    t.chain(saver, thread, MANY)
    saver.delete_thread(thread)
    t.expect(len(t.open().list(t.config(thread))), 0, f"deleted a thread of {MANY} checkpoints; how many are listed")


@case("DELETE-1")
def a_deleted_thread_is_in_no_listing_of_all_threads(t: Trial) -> None:
    saver, run = t.open(), t.thread("run")
    deleted, kept = t.thread(), t.thread()
    for thread in (deleted, kept, deleted):
        for ns in ("", "sub:1"):
            t.put(saver, thread, ns=ns, metadata={"run_id": run})
    saver.delete_thread(deleted)
    # Other tests share the storage, so filter on an entry that LangGraph itself makes.
    listed = threads_of(t.open().list(None, filter={"run_id": run}))
    t.expect(listed, [kept] * 2, "deleted one of two threads, listed a config of None; the threads")


@case("DELETE-1", needs=Capability.INTERRUPTS)
def what_a_deleted_thread_asked_is_not_in_the_inbox_of_all_threads(t: Trial) -> None:
    saver, team = t.open(), t.thread("team")
    deleted, kept = t.thread(), t.thread()
    for thread in (deleted, kept):
        stored = t.put(saver, thread, metadata={"team": team})
        saver.put_writes(stored, [("__interrupt__", (Interrupt(value=thread, id=thread),))], "task-1")
    saver.delete_thread(deleted)
    for order in ("newest", "oldest"):
        listed = [waiting.thread_id for waiting in t.open().interrupts(metadata={"team": team}, order=order)]
        t.expect(listed, [kept], f"deleted one of two threads that ask; interrupts, {order} first; their threads")


@case("DELETE-1")
def a_graph_forgets_a_deleted_thread(t: Trial) -> None:
    saver, other = t.open(), t.open()
    config = t.config(t.thread())
    saver.invoke(graphs.question_in_a_subgraph(saver.saver, Counter()), {"log": []}, config)
    saver.delete_thread(config["configurable"]["thread_id"])
    state = other.get_state(graphs.question_in_a_subgraph(other.saver, Counter()), config, subgraphs=True)
    t.expect((state.values, state.next), ({}, ()), "deleted a thread that waits in a subgraph; values and what is next")


@case("DELETE-2")
def threads_with_similar_ids_stay(t: Trial) -> None:
    saver, base = t.open(), t.thread()
    neighbours = [f"{base}{rest}" for rest in ("1", ":1", "/1", "\\", " ", "-", "|", "'")] + [base[:-1]]
    patterns = [f"{base}{rest}" for rest in ("*", "%", "?", "[0-9]", "' OR '1'='1")] + [
        f"{base[:-1]}{c}" for c in "_?."
    ]
    for thread in (*neighbours, *patterns, base):
        _fill(t, saver, thread)
    other = t.open()
    deleted: list[str] = []
    for thread in (*patterns, base):
        other.delete_thread(thread)
        deleted.append(thread)
        listed = threads_of(other.list(t.config(thread)))
        t.expect(listed.count(thread), 0, f"deleted {thread!r}; how many are listed of it")
        for neighbour in (*neighbours, *patterns, base):
            if neighbour not in deleted:
                _expect_filled(t, other, neighbour, f"deleted {thread!r}; thread {neighbour!r}")


@case("DELETE-2")
def a_thread_with_equal_values_stays(t: Trial) -> None:
    saver = t.open()
    one, other = t.thread(), t.thread()
    id_ = t.checkpoint()["id"]
    for thread in (one, other):
        stored = t.put(saver, thread, {"chat": LARGE}, id_=id_)
        saver.put_writes(stored, [("chat", LARGE)], "task-1")
    saver.delete_thread(one)
    found = t.expect_found(t.open().get_tuple(t.config(other)), "deleted a thread with the same values and ids")
    t.expect(found.checkpoint["channel_values"], {"chat": LARGE}, "deleted a thread with the same values; values")
    t.expect_writes(found, [("task-1", "chat", LARGE)], "deleted a thread with the same values")


@case("DELETE-3")
def a_missing_thread_can_be_deleted(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    saver.delete_thread(thread)
    t.expect(t.open().list(t.config(thread)), [], "deleted a thread that does not exist; listed")


@case("DELETE-3")
def a_thread_can_be_deleted_twice(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    _fill(t, saver, thread)
    for handle in (saver, saver, t.open()):
        handle.delete_thread(thread)
    t.expect(t.open().list(t.config(thread)), [], "deleted a thread three times; listed")


@case("DELETE-4")
def the_same_ids_start_empty(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first, second = (t.checkpoint()["id"] for _ in range(2))
    t.put(saver, thread, {"a": 1, "b": 1}, id_=first)
    saver.put_writes(t.config(thread, second), [("a", 2)], "task-1")
    saver.delete_thread(thread)
    checkpoint = t.checkpoint({"a": 3}, id_=second, versions=t.checkpoint({"a": 0, "b": 0})["channel_versions"])
    again = saver.put(t.config(thread), checkpoint, {}, {"a": checkpoint["channel_versions"]["a"]})
    other = t.open()
    found = t.expect_found(other.get_tuple(again), "deleted a thread, and put again")
    t.expect(found.checkpoint["channel_values"], {"a": 3}, "deleted a thread, and put one of its two channels; values")
    t.expect_writes(found, [], "deleted a thread, and put again")
    listed = ids_of(other.list(t.config(thread)))
    t.expect(listed, [second], "deleted a thread, and put again; listed ids")


@case("DELETE-4")
def large_values_are_stored_again_whoever_deleted_them(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for deleter in (saver, t.open()):
        t.put(saver, thread, {"chat": LARGE})
        deleter.delete_thread(thread)
        stored = t.put(saver, thread, {"chat": LARGE})
        saver.put_writes(stored, [("chat", [*LARGE, "more"])], "task-1")
        found = t.expect_found(t.open().get_tuple(t.config(thread)), "deleted, and put the same large value again")
        situation = f"deleted by {'the same' if deleter is saver else 'another'} handle, and put again"
        t.expect(found.checkpoint["channel_values"], {"chat": LARGE}, f"{situation}; values")
        t.expect_writes(found, [("task-1", "chat", [*LARGE, "more"])], f"{situation}")
        deleter.delete_thread(thread)


@case("DELETE-4")
def a_graph_starts_anew(t: Trial) -> None:
    saver, other = t.open(), t.open()
    config = t.config(t.thread())
    runs: graphs.Runs = Counter()
    saver.invoke(graphs.one_question(saver.saver, runs), {"log": ["old"]}, config)
    other.delete_thread(config["configurable"]["thread_id"])
    saver.invoke(graphs.one_question(saver.saver, runs), {"log": ["new"]}, config)
    state = other.get_state(graphs.one_question(other.saver, runs), config)
    t.expect(state.values, {"log": ["new", "before"]}, "deleted a waiting thread, and ran again; values")
    t.expect([question.value for question in state.interrupts], ["go on?"], "deleted, and ran again; questions")


def _fill(t: Trial, saver: Handle, thread: str) -> None:
    stored = t.put(saver, thread, {"a": thread})
    saver.put_writes(stored, [("a", thread)], "task-1")


def _expect_filled(t: Trial, saver: Handle, thread: str, situation: str) -> None:
    found = t.expect_found(saver.get_tuple(t.config(thread)), situation)
    t.expect(found.checkpoint["channel_values"], {"a": thread}, f"{situation}; values")
    t.expect_writes(found, [("task-1", "a", thread)], f"{situation}")
