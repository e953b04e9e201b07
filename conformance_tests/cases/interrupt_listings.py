"""INTERRUPT-7 to 10: what `interrupts()` and `threads()` list, with their orders, filters and pages."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from langgraph.types import Command, Interrupt

from conformance_tests import graphs
from conformance_tests.case import case
from conformance_tests.cases.interrupt import START
from conformance_tests.contract import Capability
from conformance_tests.trial import MANY, Config, Handle, Trial, id_of

# INTERRUPT-7


@case("INTERRUPT-7")
def interrupts_are_listed_by_time_in_either_order(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, asked = _teams_questions(t, worker)
    for order in ("newest", "oldest"):
        listed = reader.interrupts(metadata={"team": team}, order=order)
        times = [interrupt.created_at for interrupt in listed]
        t.expect(times, sorted(times, reverse=order == "newest"), f"listed the inbox, {order} first; times")
        _expect_now(t, times[0], "created_at of a question just asked")
        found = [(interrupt.thread_id, interrupt.interrupt_id) for interrupt in listed]
        t.expect(sorted(found), sorted(asked), f"listed the inbox, {order} first; threads and ids")
        threads = list(dict.fromkeys(thread_id for thread_id, _ in found))
        expected = list(dict.fromkeys(thread_id for thread_id, _ in asked))
        t.expect(
            threads,
            expected if order == "oldest" else expected[::-1],
            f"three threads asked one after the other, listed {order} first; threads",
        )


@case("INTERRUPT-7")
def pages_of_interrupts_join_to_one_listing(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, asked = _teams_questions(t, worker)
    for selection in ({"metadata": {"team": team}}, {"thread_id": asked[0][0]}):
        for order in ("newest", "oldest"):
            whole = [interrupt.interrupt_id for interrupt in reader.interrupts(order=order, **selection)]
            for limit in (1, 2, 3, 4):
                pages = _pages(t, reader, "interrupts", limit, order=order, **selection)
                joined = [interrupt.interrupt_id for page in pages for interrupt in page]
                t.expect(
                    joined, whole, f"pages of {limit}, {order} first, of {selection}; ids, compared with a listing"
                )
                t.expect(
                    [len(page) for page in pages[:-1]],
                    [limit] * (len(pages) - 1),
                    f"pages of {limit} of {len(whole)} interrupts; lengths of all but the last",
                )


@case("INTERRUPT-7")
def a_limit_bounds_the_interrupts(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, asked = _teams_questions(t, worker)
    for limit, expected in ((0, 0), (2, 2), (100, len(asked)), (None, len(asked))):
        listed = reader.interrupts(metadata={"team": team}, limit=limit)
        t.expect(len(listed), expected, f"listed {len(asked)} interrupts with limit {limit}; how many")


@case("INTERRUPT-7")
def a_page_continues_behind_an_interrupt_that_was_answered(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team = t.thread("team")
    threads = [t.thread() for _ in range(4)]
    graph = graphs.one_question(worker.saver, Counter())
    for thread in threads:
        worker.invoke(graph, START, _config_of(t, thread, team))
    for order, expected in (("oldest", threads), ("newest", threads[:0:-1])):
        seen = []
        cursor = None
        for _ in threads:
            page = reader.interrupts(metadata={"team": team}, order=order, limit=1, after=cursor)
            if not page:
                break
            seen.append(page[0].thread_id)
            cursor = page[0].cursor
            if page[0].thread_id == threads[0]:
                worker.invoke(graph, Command(resume="yes"), _config_of(t, threads[0], team))
        t.expect(seen, expected, f"one was answered after its page was read, {order} first; threads of the pages")


@case("INTERRUPT-7")
def a_long_inbox_is_complete(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread, team = t.thread(), t.thread("team")
    stored = t.put(worker, thread, metadata={"team": team})
    asked = {f"task-{number:03}": [f"q{number:03}-{question}" for question in range(9)] for number in range(120)}
    for task, questions in asked.items():
        _ask(worker, stored, task, *questions)
    for selection in ({"metadata": {"team": team}}, {"thread_id": thread}):
        listed = reader.interrupts(order="oldest", **selection)
        situation = f"120 tasks of a thread asked 9 questions each; interrupts, listed by {selection}, oldest first"
        t.expect(len(listed), 9 * 120, f"{situation}; how many")
        t.expect([waiting.task_id for waiting in listed[::9]], [*asked], f"{situation}; tasks of every ninth")
        expected = sorted(question for questions in asked.values() for question in questions)
        t.expect(sorted(waiting.value for waiting in listed), expected, f"{situation}; values")


@case("INTERRUPT-7", long=True, once=True)
def more_threads_that_wait_than_any_page_has_are_all_in_the_inbox(t: Trial) -> None:
    worker, team = t.open(), t.thread("team")
    threads = [t.thread() for _ in range(MANY)]
    for thread in threads:
        _ask(worker, t.put(worker, thread, metadata={"team": team}), "task-1", "?")
    listed = [waiting.thread_id for waiting in t.open().interrupts(metadata={"team": team}, order="oldest")]
    t.expect(len(listed), MANY, f"{MANY} threads asked one after the other; how many interrupts are listed")
    t.expect(listed, threads, f"{MANY} threads asked one after the other; interrupts, oldest first; their threads")


@case("INTERRUPT-7")
def the_interrupts_of_every_thread_are_listed(t: Trial) -> None:
    worker, missing = t.open(), {t.thread() for _ in range(3)}
    for thread in missing:
        _ask(worker, t.put(worker, thread), "task-1", "why?")
    # Other tests share the storage. These questions are the newest, so stop as soon as all were found.
    for interrupt in t.open().iterate_interrupts():
        missing.discard(interrupt.thread_id)
        if not missing:
            break
    t.expect(sorted(missing), [], "three threads asked, listed the whole inbox; missing")


@case("INTERRUPT-7", needs=Capability.COPY_THREAD)
def pages_of_copies_join_to_one_listing(t: Trial) -> None:
    worker, team, thread = t.open(), t.thread("team"), t.thread()
    asked = t.put(worker, thread, metadata={"team": team})
    _ask(worker, asked, "task-1", "?")
    _expect_copies_on_pages(t, worker, "interrupts", thread, team)


def _expect_copies_on_pages(t: Trial, worker: Handle, kind: str, thread: str, team: str) -> None:
    """Copy a thread of a team, which may give the copies its times, and list pages of one item."""
    threads = [thread, *(t.thread() for _ in range(3))]
    for copy in threads[1:]:
        worker.copy_thread(thread, copy)
    reader = t.open()
    for order in ("newest", "oldest"):
        pages = _pages(t, reader, kind, 1, metadata={"team": team}, order=order)
        found = sorted(each.thread_id for page in pages for each in page)
        t.expect(found, sorted(threads), f"copied a thread, listed pages of one of the {kind}, {order} first")


def _teams_questions(t: Trial, worker: Handle) -> tuple[str, list[tuple[str, str]]]:
    """Let three threads of a new team ask, one after the other: two questions in one write, and a third in another.

    Threads of another team ask in between. Returns the team, and pairs of thread and question id in the order of the
    threads.
    """
    graph = graphs.parallel_questions_in_a_subgraph(worker.saver, Counter())
    teams = [t.thread("team") for _ in range(2)]
    asked: list[tuple[str, str]] = []
    for number in range(5):
        config = _config_of(t, t.thread(), teams[number % 2])
        worker.invoke(graph, START, config)
        if number % 2 == 0:
            thread_id = config["configurable"]["thread_id"]
            asked.extend((thread_id, question.id) for question in worker.get_state(graph, config).interrupts)
    t.expect(len(asked), 9, "three threads with three questions each; pending questions of their states")
    return teams[0], asked


def _config_of(t: Trial, thread_id: str, team: str) -> Config:
    return {**t.config(thread_id), "metadata": {"team": team}}


def _pages(t: Trial, reader: Handle, method: str, limit: int, **selection: Any) -> list[list[Any]]:
    pages: list[list[Any]] = []
    while not pages or len(pages[-1]) == limit:
        after = pages[-1][-1].cursor if pages else None
        pages.append(getattr(reader, method)(limit=limit, after=after, **selection))
        t.expect_that(len(pages) < 100, f"pages of {limit} of {method}; expected them to come to an end")
    return pages


def _ask(handle: Handle, config: Config, task_id: str, *questions: str) -> None:
    """Store an interrupt as the graph does."""
    asked = tuple(Interrupt(value=question, id=f"{task_id}-{question}") for question in questions)
    handle.put_writes(config, [("__interrupt__", asked)], task_id, f"~__pregel_pull, {task_id}")


# INTERRUPT-8


@case("INTERRUPT-8")
def interrupts_are_found_by_all_entries_of_the_metadata(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team = t.thread("team")
    common = {"team": team, "it's": '"quoted"', "who": {"name": "Ann", "tags": [1, None]}}
    for number, (tier, urgent) in enumerate(((1, True), (1, False), (2, True))):
        stored = t.put(worker, t.thread(), metadata={**common, "tier": tier, "urgent": urgent})
        _ask(worker, stored, "task-1", f"q{number}")
    for entries, expected in (
        ({}, ["q0", "q1", "q2"]),
        ({"tier": 1}, ["q0", "q1"]),
        ({"tier": 1, "urgent": True}, ["q0"]),
        ({"tier": 2, "urgent": False}, []),
        ({"tier": "1"}, []),
        ({"who": {"name": "Ann", "tags": [1, None]}, "tier": 2}, ["q2"]),
        ({"who": {"name": "Ann"}}, []),
        ({"it's": '"quoted"', "urgent": True}, ["q0", "q2"]),
        ({"unknown": "x", "tier": 1}, []),
    ):
        listed = reader.interrupts(metadata={"team": team, **entries}, order="oldest")
        t.expect([interrupt.value for interrupt in listed], expected, f"interrupts with metadata {entries}; values")


@case("INTERRUPT-8")
def a_limit_counts_what_matches(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team = t.thread("team")
    for number in range(6):
        stored = t.put(worker, t.thread(), metadata={"team": team, "parity": {"odd": number % 2 == 1}})
        _ask(worker, stored, "task-1", f"q{number}")
    selection = {"metadata": {"team": team, "parity": {"odd": True}}, "order": "oldest"}
    first = reader.interrupts(limit=2, **selection)
    t.expect([interrupt.value for interrupt in first], ["q1", "q3"], "every other interrupt matches, limit 2; values")
    rest = reader.interrupts(limit=2, after=first[-1].cursor, **selection)
    t.expect([interrupt.value for interrupt in rest], ["q5"], "every other interrupt matches, the next page; values")


@case("INTERRUPT-8")
def the_metadata_is_that_of_the_waiting_checkpoint(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread, team = t.thread(), t.thread("team")
    first = t.put(worker, thread, metadata={"team": team, "phase": "early"})
    _ask(worker, first, "task-1", "old")
    second = t.put(worker, thread, parent=first, metadata={"team": team, "phase": "late"})
    _ask(worker, second, "task-2", "new")
    for phase, expected in (("early", []), ("late", ["new"])):
        listed = reader.interrupts(metadata={"team": team, "phase": phase})
        t.expect([interrupt.value for interrupt in listed], expected, f"interrupts with phase {phase!r}; values")
        latest = t.expect_found(reader.get_tuple(t.config(thread)), "asked")
        entries = [dict(interrupt.metadata) for interrupt in listed]
        t.expect(entries, [latest.metadata] * len(expected), f"interrupts with phase {phase!r}; their metadata")
        of_thread = reader.interrupts(thread_id=thread, metadata={"phase": phase})
        values = [interrupt.value for interrupt in of_thread]
        t.expect(values, expected, f"interrupts of the thread with phase {phase!r}; values")


# INTERRUPT-9


@case("INTERRUPT-9")
def a_thread_shows_its_latest_root_checkpoint(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread = t.thread()
    t.chain(worker, thread, 3, team="red")
    t.chain(worker, thread, 5, ns="sub:1", team="blue")
    found = _thread_info(t, reader, thread)
    t.expect((found.step, found.metadata["team"]), (2, "red"), "a root and a subgraph; step and metadata of the thread")
    t.expect(found.pending_interrupts, 0, "nothing was asked; pending interrupts")


@case("INTERRUPT-9")
def the_latest_root_checkpoint_is_the_one_with_the_greatest_id(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread = t.thread()
    for number in (2, 1):
        stored = t.put(worker, thread, id_=id_of(number), metadata={"step": number})
        _ask(worker, stored, f"task-{number}", *(f"{question}?" for question in range(number)))
    found = _thread_info(t, reader, thread)
    t.expect((found.step, found.pending_interrupts), (2, 2), "put the latest first; step and pending interrupts")


@case("INTERRUPT-9")
def a_threads_times_are_those_of_its_first_and_last_change(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    thread = t.thread()
    (stored,) = t.chain(worker, thread, 1)
    created = _thread_info(t, reader, thread)
    for name in ("created_at", "updated_at"):
        _expect_now(t, getattr(created, name), f"{name} of a thread just made")
    t.expect_that(created.created_at <= created.updated_at, f"expected created_at <= updated_at, got {created}")
    time.sleep(0.005)
    worker.put_writes(stored, [("n", 1)], "task-1")
    written = _thread_info(t, reader, thread)
    t.expect(written.created_at, created.created_at, "wrote to a thread; created_at")
    t.expect_that(
        written.updated_at > created.updated_at,
        f"wrote to a thread; expected updated_at after {created.updated_at}, got {written.updated_at}",
    )
    time.sleep(0.005)
    t.put(worker, thread, parent=stored)
    put = _thread_info(t, reader, thread)
    t.expect(put.created_at, created.created_at, "put another checkpoint; created_at")
    t.expect_that(
        put.updated_at > written.updated_at,
        f"put another checkpoint; expected updated_at after {written.updated_at}, got {put.updated_at}",
    )


@case("INTERRUPT-9", needs=Capability.COPY_THREAD)
def a_copy_has_the_times_of_its_source(t: Trial) -> None:
    worker, source, target = t.open(), t.thread("source"), t.thread("target")
    t.chain(worker, source, 2)
    time.sleep(0.005)
    worker.copy_thread(source, target)
    reader = t.open()
    of_source, of_copy = (_thread_info(t, reader, thread) for thread in (source, target))
    t.expect(
        (of_copy.created_at, of_copy.updated_at),
        (of_source.created_at, of_source.updated_at),
        "copied a thread; created_at and updated_at of the copy, compared with the source's",
    )


@case("INTERRUPT-9", needs=Capability.COPY_THREAD)
def a_copy_that_is_made_again_is_as_new_as_before(t: Trial) -> None:
    worker, source, target = t.open(), t.thread("source"), t.thread("target")
    *_, last = t.chain(worker, source, 2)
    worker.copy_thread(source, target)
    time.sleep(0.005)
    worker.put_writes(t.config(target, last["configurable"]["checkpoint_id"]), [("n", 1)], "task-1")
    before = _thread_info(t, worker, target)
    worker.copy_thread(source, target)
    after = _thread_info(t, t.open(), target)
    situation = "copied a thread, wrote to the copy, and copied again; created_at and updated_at of the copy"
    t.expect((after.created_at, after.updated_at), (before.created_at, before.updated_at), situation)


@case("INTERRUPT-9", needs=Capability.PRUNE)
def a_pruned_thread_is_as_old_as_before(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    (stored,) = t.chain(worker, thread, 1)
    created_at = _thread_info(t, worker, thread).created_at
    time.sleep(0.005)
    t.put(worker, thread, parent=stored)
    worker.prune([thread])
    t.expect(_thread_info(t, t.open(), thread).created_at, created_at, "pruned the first checkpoint; created_at")


@case("INTERRUPT-9")
def every_thread_is_listed(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    threads = [t.thread() for _ in range(3)]
    for number, thread in enumerate(threads):
        stored = t.put(worker, thread)
        if number:
            _ask(worker, stored, "task-1", *(f"{question}?" for question in range(number)))
    found = {info.thread_id: info.pending_interrupts for info in reader.threads() if info.thread_id in threads}
    t.expect(found, dict(zip(threads, range(3), strict=True)), "three threads with 0, 1 and 2 questions; threads")
    worker.delete_thread(threads[0])
    t.expect_that(
        threads[0] not in [info.thread_id for info in reader.threads()],
        "deleted a thread; expected threads not to list it",
    )


@case("INTERRUPT-9")
def a_thread_without_a_root_checkpoint_is_listed(t: Trial) -> None:
    worker, reader, thread = t.open(), t.open(), t.thread()
    t.chain(worker, thread, 2, ns="sub:1", team="blue")
    found = _thread_info(t, reader, thread)
    situation = "put to a subgraph's namespace alone; step, metadata and pending interrupts of the thread"
    t.expect((found.step, dict(found.metadata), found.pending_interrupts), (None, {}, 0), situation)
    t.expect_that(
        thread in [info.thread_id for info in reader.threads()],
        "put to a subgraph's namespace alone; expected threads to list the thread",
    )


@case("INTERRUPT-9")
def a_missing_thread_is_not_listed(t: Trial) -> None:
    t.expect(t.open().threads(thread_id=t.thread()), [], "asked for a thread that does not exist; threads")


@case("INTERRUPT-9")
def writes_alone_make_no_thread(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    worker.put_writes(t.config(thread, t.checkpoint()["id"]), [("n", 1)], "task-1")
    _expect_unlisted(t, thread, "wrote to a checkpoint that is not there yet")


@case("INTERRUPT-9", needs=Capability.DELETE_FOR_RUNS)
def writes_that_remain_alone_make_no_thread(t: Trial) -> None:
    worker, thread, run = t.open(), t.thread(), t.thread("run")
    t.put(worker, thread, metadata={"run_id": run})
    worker.put_writes(t.config(thread, t.checkpoint()["id"]), [("n", 1)], "task-1")
    worker.delete_for_runs([run])
    _expect_unlisted(t, thread, "wrote to a checkpoint that is not there yet, deleted the run of all others")


@case("INTERRUPT-9")
def a_deleted_thread_is_not_listed_and_begins_anew(t: Trial) -> None:
    worker, thread = t.open(), t.thread()
    t.put(worker, thread)
    deleted = _thread_info(t, worker, thread)
    time.sleep(0.005)
    worker.delete_thread(thread)
    _expect_unlisted(t, thread, "deleted a thread")
    t.put(worker, thread)
    begun = _thread_info(t, t.open(), thread).created_at
    t.expect_that(
        begun > deleted.updated_at,
        f"deleted a thread, and put to it again; expected created_at after {deleted.updated_at}, got {begun}",
    )


def _expect_unlisted(t: Trial, thread: str, situation: str) -> None:
    reader = t.open()
    t.expect(reader.threads(thread_id=thread), [], f"{situation}; threads, asked for this one")
    t.expect_that(
        thread not in [info.thread_id for info in reader.threads()], f"{situation}; expected threads not to list it"
    )


def _expect_now(t: Trial, when: datetime, what: str) -> None:
    t.expect(when.utcoffset(), timedelta(0), f"{what}; its offset from UTC")
    t.expect_that(abs(when - datetime.now(UTC)) < timedelta(minutes=5), f"{what}; expected now, got {when}")


def _thread_info(t: Trial, reader: Handle, thread: str) -> Any:
    found = reader.threads(thread_id=thread)
    t.expect([info.thread_id for info in found], [thread], "asked for one thread; threads")
    return found[0]


# INTERRUPT-10


@case("INTERRUPT-10", needs=Capability.COPY_THREAD)
def pages_of_copied_threads_join_to_one_listing(t: Trial) -> None:
    worker, team, thread = t.open(), t.thread("team"), t.thread()
    t.put(worker, thread, metadata={"team": team})
    _expect_copies_on_pages(t, worker, "threads", thread, team)


@case("INTERRUPT-10")
def threads_are_listed_by_last_change_in_either_order(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, threads, configs = _teams_threads(t, worker, 4)
    worker.put_writes(configs[1], [("n", 1)], "task-1")
    t.put(worker, threads[0], parent=configs[0], metadata={"team": team})
    expected = [threads[2], threads[3], threads[1], threads[0]]
    for order in ("oldest", "newest"):
        listed = reader.threads(metadata={"team": team}, order=order)
        t.expect(
            [info.thread_id for info in listed],
            expected if order == "oldest" else expected[::-1],
            f"wrote to the second of four threads, then put to the first, listed {order} first; threads",
        )


@case("INTERRUPT-10")
def pages_of_threads_join_to_one_listing(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team, threads, _ = _teams_threads(t, worker, 5)
    for order in ("oldest", "newest"):
        for limit in (1, 2, 5):
            pages = _pages(t, reader, "threads", limit, order=order, metadata={"team": team})
            joined = [info.thread_id for page in pages for info in page]
            expected = threads if order == "oldest" else threads[::-1]
            t.expect(joined, expected, f"pages of {limit} of five threads, {order} first; threads")
    for bound, count in ((0, 0), (None, 5)):
        listed = reader.threads(metadata={"team": team}, limit=bound)
        t.expect(len(listed), count, f"listed five threads with limit {bound}; how many")


@case("INTERRUPT-10", long=True, once=True)
def more_threads_than_any_page_has_are_all_listed(t: Trial) -> None:
    worker, team = t.open(), t.thread("team")
    # A `CheckpointStore` is asked for 100 threads, 400, then 1,600: of those, too, it may not return just 1,000.
    threads = [t.thread() for _ in range(500 + MANY)]
    for thread in threads:
        t.put(worker, thread, metadata={"team": team})
    listed = [info.thread_id for info in t.open().threads(metadata={"team": team}, order="oldest")]
    situation = f"put to {len(threads)} threads of a team, one after the other, listed those of the team"
    t.expect(len(listed), len(threads), f"{situation}; how many")
    t.expect(listed, threads, f"{situation}, oldest first; threads")


@case("INTERRUPT-10")
def threads_are_found_by_all_entries_of_their_latest_metadata(t: Trial) -> None:
    worker, reader = t.open(), t.open()
    team = t.thread("team")
    threads = []
    for tier, urgent in ((1, True), (1, False), (2, True)):
        thread = t.thread()
        threads.append(thread)
        first = t.put(worker, thread, metadata={"team": team, "tier": 9, "urgent": urgent})
        t.put(worker, thread, parent=first, metadata={"team": team, "tier": tier, "urgent": urgent})
    for entries, expected in (
        ({"tier": 1}, threads[:2]),
        ({"tier": 1, "urgent": True}, threads[:1]),
        ({"tier": 9}, []),
        ({"tier": 2, "urgent": False}, []),
    ):
        listed = reader.threads(metadata={"team": team, **entries}, order="oldest")
        t.expect([info.thread_id for info in listed], expected, f"threads with metadata {entries}; ids")
        listed = reader.threads(thread_id=threads[0], metadata=entries)
        found = [info.thread_id for info in listed]
        t.expect(found, expected[:1] if threads[0] in expected else [], f"one thread with metadata {entries}; ids")


def _teams_threads(t: Trial, worker: Handle, count: int) -> tuple[str, list[str], list[Config]]:
    """Make threads of a new team, one after the other, and others in between; oldest first."""
    team = t.thread("team")
    threads = [t.thread() for _ in range(count)]
    configs = []
    for thread in threads:
        configs.append(t.put(worker, thread, metadata={"team": team}))
        t.put(worker, t.thread(), metadata={"team": "of others"})
    return team, threads, configs
