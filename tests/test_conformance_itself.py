"""Tests of the conformance suite itself: every clause has a broken saver, which must fail it."""

from __future__ import annotations

import math
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Send

from checkpoint_base import SQLiteSaver
from conformance_tests import stateful, values, worker
from conformance_tests.case import Case, all_cases
from conformance_tests.contract import AREAS, CLAUSES, Capability, markdown
from conformance_tests.runner import run_all
from conformance_tests.suite import SaverConformance
from conformance_tests.trial import Colour, ConformanceFailure
from conformance_tests.worker import KILLED, Processes
from tests.broken_savers import broken_savers
from tests.broken_savers.list import RefusesKeysWithSigns, TakesNoNamespaceForTheRoot
from tests.broken_savers.process import open_broken
from tests.broken_savers.put import StoresARepeatedPutAgain

PAIRS = [(clause_id, broken) for clause_id, classes in broken_savers().items() for broken in classes]
DOCS = Path(__file__).parent.parent / "docs"


def test_every_clause_has_a_case_a_broken_saver_and_a_known_area() -> None:
    assert {case.clause.id for case in all_cases()} == set(CLAUSES)
    assert set(broken_savers()) == set(CLAUSES)
    assert {clause.area for clause in CLAUSES.values()} == set(AREAS)


def test_no_two_cases_of_a_clause_have_the_same_name() -> None:
    ids = [case.id for case in all_cases()]
    assert len(ids) == len(set(ids))


def test_the_page_of_the_contract_is_written_from_the_clauses() -> None:
    assert (DOCS / "contract.md").read_text() == markdown(), (
        "run: python -m conformance_tests.contract > docs/contract.md"
    )


class Collected:
    """Stands in for what pytest passes to a class that generates its own tests."""

    function = SaverConformance.test_clause

    def __init__(self, suite: type[SaverConformance]) -> None:
        self.pairs: list[tuple[Case, Colour]] = []
        self.marks: list[list[str]] = []
        suite().pytest_generate_tests(self)  # type: ignore[arg-type]

    def parametrize(self, names: tuple[str, ...], parameters: list[Any]) -> None:
        assert names == ("case", "colour")
        self.pairs = [parameter.values for parameter in parameters]
        self.marks = [[mark.name for mark in parameter.marks] for parameter in parameters]


def test_a_class_runs_every_declared_case_in_every_colour_or_once() -> None:
    class Everything(SaverConformance):
        capabilities = frozenset(Capability)

    class Once(Everything):
        every_colour = False

    assert Collected(Everything).pairs == [
        (case, colour) for case in all_cases() for colour in case.colours[-1 if case.once else 0 :]
    ]
    once = Collected(Once).pairs
    assert [case for case, _ in once] == list(all_cases())
    assert all(colour is Colour.MIXED for case, colour in once if Colour.MIXED in case.colours)
    assert {colour for _, colour in once} == set(Colour)


def test_a_class_runs_only_what_it_declares_and_marks_what_takes_seconds() -> None:
    class Few(SaverConformance):
        capabilities = frozenset({Capability.ASYNC, Capability.PRUNE})

    few = Collected(Few)
    assert few.pairs == [
        (case, Colour.ASYNC)
        for case in all_cases()
        if Colour.ASYNC in case.colours and {*case.clause.needs, case.needs} <= {*Few.capabilities, None}
    ]
    assert {"PUT-1", "PRUNE-1"} <= {case.clause.id for case, _ in few.pairs}
    assert few.marks == [["conformance_long"] if case.long else [] for case, _ in few.pairs]
    assert {case.long for case, _ in few.pairs} == {True, False}


def test_a_class_without_a_colour_is_refused() -> None:
    class Nothing(SaverConformance):
        capabilities = frozenset({Capability.PRUNE})

    for suite in (Nothing, SaverConformance):
        with pytest.raises(TypeError, match=r"must declare its capabilities, at least Capability\.SYNC"):
            Collected(suite)


@pytest.mark.parametrize("declared", [["sync", "prunes"], "sync"])
def test_a_class_that_declares_what_is_no_capability_is_refused(declared: Any) -> None:
    class Misspelt(SaverConformance):
        capabilities = declared

    with pytest.raises(TypeError, match=r"Misspelt declares \['.*'\], which are not capabilities: use sync, "):
        Collected(Misspelt)


def test_a_failure_says_so_if_the_factory_opens_another_storage_each_time(tmp_path: Path) -> None:
    class OnNothing(SaverConformance):
        capabilities = frozenset({Capability.SYNC})

    (case,) = (case for case in all_cases() if case.name == "a_checkpoint_put_twice_is_listed_once")
    with pytest.raises(ConformanceFailure) as told:
        OnNothing().test_clause(case, Colour.SYNC, InMemorySaver, None)
    blames = "OnNothing.factory opens another storage each time"
    assert [note.startswith(blames) for note in told.value.__notes__] == [False, True]
    with pytest.raises(ConformanceFailure) as told:
        OnNothing().test_clause(case, Colour.SYNC, partial(StoresARepeatedPutAgain, tmp_path / "c.db"), None)
    assert not any(blames in note for note in told.value.__notes__)


def test_a_failure_reads_as_the_documentation_shows(tmp_path: Path) -> None:
    class StoresTwice(SQLiteSaver):
        def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
            again = {**checkpoint, "id": uuid4().hex} if list(self.list(config)) else checkpoint
            return super().put(config, again, metadata, new_versions)

    (case,) = (case for case in all_cases() if case.name == "a_checkpoint_put_twice_is_listed_once")
    with pytest.raises(ConformanceFailure) as told:
        SaverWithSync().test_clause(case, Colour.SYNC, partial(StoresTwice, tmp_path / "c.db"), None)
    said = "\n".join([str(told.value), *told.value.__notes__])
    assert indent(said, " " * 4) in (DOCS / "writing-a-store.md").read_text()


class SaverWithSync(SaverConformance):
    __test__ = False
    capabilities = frozenset({Capability.SYNC})


MADE_IN_BERLIN = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (1, True),
        (0.0, -0.0),
        (1.0, math.nan),
        (complex(1, 0.0), complex(1, -0.0)),
        (MADE_IN_BERLIN.replace(tzinfo=timezone(timedelta(hours=2))), MADE_IN_BERLIN),
        (MADE_IN_BERLIN.astimezone(UTC), MADE_IN_BERLIN),
        (Decimal("1.1"), Decimal("1.10")),
        ((1, 2.0), (1, 2)),
        ([1, 2], [1, 2, 3]),
        ({True}, {1}),
        (frozenset({1.0}), frozenset({1})),
        ({True: "a"}, {1: "a"}),
        ({"a": 1, "b": 2.0}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 1, "b": None}),
        (values.Level.HIGH, 3),
        (values.Access.READ, values.Access.WRITE),
        (Send("node", 1.0), Send("node", 1)),
        (values.Outer(name="a", anything=1.0), values.Outer(name="a", anything=1)),
        (values.Point((1, 2), label=True), values.Point((1, 2), label=1)),
        (values.Fixed((1, 2)), values.Fixed((1, 3))),
    ],
    ids=repr,
)
def test_a_value_that_came_back_changed_is_told_even_if_it_equals_the_one_that_was_put(
    found: Any, expected: Any
) -> None:
    for nested in (lambda value: value, lambda value: [0, value], lambda value: {"a": {"b": (value,)}}):
        assert values.difference(nested(expected), nested(deepcopy(expected))) is None
        assert "came back as" in (values.difference(nested(found), nested(expected)) or "")


class ListsEveryNamespace(SQLiteSaver):
    """As the Redis saver does."""

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        if config is not None:
            named = {key: value for key, value in config["configurable"].items() if key != "checkpoint_ns"}
            config = {"configurable": named}
        yield from super().list(config, **options)


class KnowsTheKeysOfLangGraphOnly(SQLiteSaver):
    """As the Redis saver does."""

    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        for key in filter or {}:
            if key not in ("source", "step", "run_id", "thread_id"):
                raise ValueError(f"Unsupported filter key: {key}")
        yield from super().list(config, filter=filter, **options)


class GivesWritesInAnyOrder(SQLiteSaver):
    """As the Valkey saver does."""

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        return found and found._replace(pending_writes=(found.pending_writes or [])[::-1])

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        for found in super().list(config, **options):
            yield found._replace(pending_writes=(found.pending_writes or [])[::2] + (found.pending_writes or [])[1::2])


class RefusesMixedCalls(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if len({channel.startswith("__") for channel, _ in writes}) > 1:
            raise NotImplementedError("ordinary and special writes in one call")
        super().put_writes(config, writes, task_id, task_path)


@pytest.mark.parametrize(
    ("broken", "fails"),
    [
        (ListsEveryNamespace, {"LIST-7"}),
        (TakesNoNamespaceForTheRoot, {"LIST-7"}),
        (KnowsTheKeysOfLangGraphOnly, {"LIST-4"}),
        (RefusesKeysWithSigns, {"LIST-4"}),
        (GivesWritesInAnyOrder, {"WRITES-7"}),
    ],
)
def test_a_defect_fails_its_own_clause_and_no_other(broken: type[SQLiteSaver], fails: set[str], tmp_path: Path) -> None:
    """Runs all cases except the longest ones, and those of whole graphs, which may need what is missing."""
    cases = [
        case
        for case in all_cases()
        if (not case.long or case.clause.id == "LIFECYCLE-4")
        and case.clause.area not in ("INTERRUPT", "DELTA", "FORK", "FIDELITY", "CONCURRENCY", "LANGGRAPH")
    ]
    capabilities = frozenset(Capability) - {Capability.ASYNC, Capability.INTERRUPTS, Capability.THREADS}
    results = run_all(partial(broken, tmp_path / "checkpoints.db"), capabilities, cases=cases)
    found = {result.case.id: result.finding for result in results if result.outcome == "failed"}
    assert {id_.rpartition("-")[0] for id_ in found} == fails, found


class HasNoSyncMethods(SQLiteSaver):
    """Like the async saver for Valkey."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("does not support sync methods")

    get_tuple = list = put = put_writes = delete_thread = get_delta_channel_history = _refuse


@pytest.mark.parametrize("clause_id", ["PUT-1", "LIST-1", "LIST-9", "DELTA-1", "PROCESS-1", "CRASH-1", "CRASH-2"])
def test_a_saver_with_async_methods_only_passes_in_this_process_and_in_others(
    clause_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN_SAVER", f"{__name__}:{HasNoSyncMethods.__name__}")
    monkeypatch.setenv("BROKEN_SAVER_PATH", str(tmp_path / "checkpoints.db"))
    cases = [case for case in all_cases() if case.clause.id == clause_id]
    results = list(
        run_all(
            open_broken,
            {Capability.ASYNC, Capability.DELTA, Capability.PROCESSES},
            "tests.broken_savers.process:open_broken",
            cases=cases,
        )
    )
    assert results
    assert [result.finding for result in results if result.outcome == "failed"] == []


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Processes that open the saver on a file of the test."""
    monkeypatch.setenv("BROKEN_SAVER", "checkpoint_base:SQLiteSaver")
    monkeypatch.setenv("BROKEN_SAVER_PATH", str(tmp_path / "checkpoints.db"))
    return Processes("tests.broken_savers.process:open_broken")


@pytest.mark.parametrize("colour", [Colour.SYNC, Colour.ASYNC])
def test_a_process_is_killed_before_during_or_after_the_call_that_its_job_names(
    processes: Processes, tmp_path: Path, colour: Colour
) -> None:
    moments = {"before": KILLED[0], "during": KILLED[1], "after": KILLED[0], "never": 0}
    jobs = [
        {
            "do": "run",
            "colour": colour,
            "thread": moment,
            "journal": str(tmp_path / moment),
            "kill": {"moment": moment, "call": 2, "methods": ["put"], "seconds": 1e-6},
        }
        for moment in moments
    ]
    assert [answer.exit for answer in processes.do(*jobs)] == [*moments.values()]
    acknowledged = {}
    with SQLiteSaver(tmp_path / "checkpoints.db") as saver:
        for moment in moments:
            ids = [each["id"] for each in worker.entries(str(tmp_path / moment)) if each.get("stored") == "put"]
            there = {each.checkpoint_id for each in saver.history({"configurable": {"thread_id": moment}})}
            assert there >= set(ids)
            acknowledged[moment] = len(ids)
    never = acknowledged.pop("never")
    assert acknowledged == {"before": 1, "during": 1, "after": 2}
    assert never > 2


WITHOUT_TIMERS = """
import signal, time
del signal.SIGALRM, signal.alarm, signal.setitimer, signal.ITIMER_REAL
from conformance_tests import worker
from conformance_tests.case import all_cases
assert len(all_cases()) > 100
assert worker.KILLED[1] == 57
worker.kill_in(0.01)
time.sleep(60)
"""


def test_where_a_process_has_no_timers_as_on_windows_it_kills_itself_all_the_same() -> None:
    assert subprocess.run([sys.executable, "-c", WITHOUT_TIMERS], timeout=100).returncode == 57


def test_what_was_acknowledged_and_is_gone_is_told_by_the_run_that_goes_on(
    processes: Processes, tmp_path: Path
) -> None:
    job = {"do": "run", "colour": "sync", "thread": "t", "journal": str(tmp_path / "journal"), "pause": True}
    assert processes.do(job)[0].result == {"asks": ["go on?"]}
    stored = [entry for entry in worker.entries(job["journal"]) if "stored" in entry]
    with closing(sqlite3.connect(tmp_path / "checkpoints.db")) as db, db:
        assert db.execute("DELETE FROM writes WHERE channel = '__interrupt__'").rowcount > 0
    [answer] = processes.do({**job, "pause": False})
    assert answer.result["state"] == worker.FINAL
    assert [entry for entry in stored if entry["stored"] == "put_writes" and "__interrupt__" in entry["channels"]] == (
        answer.result["missing"]
    )


def test_an_error_in_another_process_is_told(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN_SAVER", f"{__name__}:{HasNoSyncMethods.__name__}")
    job = {"do": "run", "thread": "t", "journal": str(tmp_path / "journal"), "pause": True}
    refused, paused = processes.do({**job, "colour": "sync"}, {**job, "colour": "async"})
    assert (refused.error, refused.result) == ("NotImplementedError: does not support sync methods", None)
    assert (paused.error, paused.result) == (None, {"asks": ["go on?"]})


def test_processes_that_write_at_once_begin_together_at_the_time_that_their_jobs_name(
    processes: Processes, tmp_path: Path
) -> None:
    job = {"do": "write", "colour": "sync", "common": "common", "count": 1, "root": None}
    processes.do({**job, "own": "first", "number": 0, "at": 0})  # after which the worker is there, and answers quickly
    at = time.time() + 0.7
    answers = processes.do(*({**job, "own": "own", "number": number, "at": at} for number in range(1, 3)))
    assert [answer.error for answer in answers] == [None, None]
    with SQLiteSaver(tmp_path / "checkpoints.db") as saver:
        listed = list(saver.list({"configurable": {"thread_id": "own"}}))
    assert len(listed) == 2
    assert min(datetime.fromisoformat(found.checkpoint["ts"]).timestamp() for found in listed) >= at


class Interrupted:
    """A worker's output, at the reading of which a signal arrives."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def readline(self) -> str:
        raise KeyboardInterrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


def test_the_answer_to_an_interrupted_request_is_not_taken_for_that_to_the_next(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"do": "run", "colour": "sync", "journal": str(tmp_path / "journal")}
    process = worker._worker()._process
    with monkeypatch.context() as patch:
        patch.setattr(process, "stdout", Interrupted(process.stdout))
        with pytest.raises(KeyboardInterrupt):
            processes.do({**job, "thread": "one", "pause": True}, {**job, "thread": "two", "pause": True})
    [answer] = processes.do({**job, "thread": "three"})
    assert answer.result["state"] == worker.FINAL


@pytest.mark.parametrize(("clause_id", "broken"), PAIRS, ids=[f"{id_}-{broken.__name__}" for id_, broken in PAIRS])
def test_a_broken_saver_fails_its_clause(
    clause_id: str, broken: type[SQLiteSaver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints.db"
    monkeypatch.setenv("BROKEN_SAVER", f"{broken.__module__}:{broken.__name__}")
    monkeypatch.setenv("BROKEN_SAVER_PATH", str(path))
    monkeypatch.setattr(stateful, "PHASES", (Phase.generate,))  # that there is a sequence is enough
    cases = [case for case in all_cases() if case.clause.id == clause_id]
    results = run_all(
        partial(broken, path), frozenset(Capability), "tests.broken_savers.process:open_broken", cases=cases
    )
    failed = next((result for result in results if result.outcome == "failed"), None)  # stops at the first failure
    assert failed
    assert failed.finding
    # By what it does, and not because it lacks an argument or has a mistake of its own.
    assert not re.search(r"\b(TypeError|AttributeError|NameError)\b", failed.finding), failed.finding
