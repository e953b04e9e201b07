"""What a case of the suite works with: handles in each colour, the ways a factory may open a saver, expectations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple, Self

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint

from conformance_tests.case import Case, all_cases
from conformance_tests.contract import CLAUSES, Capability
from conformance_tests.runner import opens_one_storage, results_of, run_all
from conformance_tests.trial import Colour, ConformanceFailure, Subject, Trial

EVERYTHING = frozenset(Capability)


class Noting(BaseCheckpointSaver[str]):
    """Notes what is called. A listing has a thousand items."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def get_tuple(self, config: Any) -> None:
        self.said.append("get_tuple")

    async def aget_tuple(self, config: Any) -> None:
        self.said.append("aget_tuple")

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        for item in range(1000):
            self.said.append("list")
            yield item

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[Any]:
        for item in range(1000):
            self.said.append("alist")
            yield item


def trial(factory: Callable[[], Any], colour: Colour) -> Trial:
    return Trial(CLAUSES["PUT-1"], Subject(factory, EVERYTHING), colour)


@pytest.mark.parametrize(
    ("colour", "calls"),
    [
        (Colour.SYNC, ["get_tuple"] * 4),
        (Colour.ASYNC, ["aget_tuple"] * 4),
        (Colour.MIXED, ["get_tuple", "aget_tuple"] * 2),
    ],
)
def test_a_handle_calls_in_its_colour_and_a_mixed_one_by_turns(colour: Colour, calls: list[str]) -> None:
    saver = Noting()
    with trial(lambda: saver, colour) as t:
        handle = t.open()
        for _ in calls:
            handle.get_tuple({})
    assert saver.said == calls


@pytest.mark.parametrize("colour", [Colour.SYNC, Colour.ASYNC])
def test_what_is_iterated_is_not_read_ahead(colour: Colour) -> None:
    saver = Noting()
    with trial(lambda: saver, colour) as t:
        listing = t.open().iterate(None)
        assert [next(listing), next(listing)] == [0, 1]
        assert len(saver.said) == 2
        assert len([*listing]) == 998


@pytest.mark.parametrize("turn", range(4))
def test_what_is_spread_over_colours_is_all_tested_in_them_together_or_in_one_that_is_alone(turn: int) -> None:
    def part_of(items: list[int], colour: Colour, capabilities: frozenset[Capability]) -> list[int]:
        with Trial(CLAUSES["PUT-1"], Subject(Noting, capabilities), colour) as t:
            return [*t.spread(items, turn)]

    for count in range(1, 8):
        items = [*range(count)]
        parts = [part_of(items, colour, EVERYTHING) for colour in Colour]
        assert {item for part in parts for item in part} == {*items}
        assert max(map(len, parts)) == -(-count // min(count, 3))
        assert part_of(items, Colour.ASYNC, frozenset({Capability.ASYNC})) == items


def test_a_handle_may_be_opened_in_another_colour_than_that_of_the_case() -> None:
    saver = Noting()
    with trial(lambda: saver, Colour.MIXED) as t, t.opened(Colour.ASYNC) as handle:
        handle.get_tuple({})
        handle.get_tuple({})
    assert saver.said == ["aget_tuple"] * 2


@pytest.mark.parametrize("colour", Colour)
def test_a_trial_for_another_thread_has_the_same_colour(colour: Colour) -> None:
    with trial(Noting, colour) as t, t.another() as other:
        assert other.colour is colour


def test_a_namespace_is_listed_without_what_else_the_saver_lists() -> None:
    class ListsEverything(Noting):
        def list(self, config: Any, **options: Any) -> Iterator[Any]:
            for ns in ("", "child"):
                for checkpoint_id in "12":
                    place = {"thread_id": "a", "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
                    yield CheckpointTuple({"configurable": place}, empty_checkpoint(), {})

    def listed(*place: Any, ns: str) -> list[str]:
        found = handle.list_namespace(t.config(*place, ns=ns))
        return ["".join(one.config["configurable"].values()) for one in found]

    with trial(ListsEverything, Colour.SYNC) as t:
        handle = t.open()
        assert listed("a", ns="child") == ["achild1", "achild2"]
        assert listed("a", "2", ns="") == ["a2"]


class Keeping(Noting):
    """Keeps the parent, the values and the new versions of everything that is put."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, tuple[Any, Any, Any]] = {}

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        parent = config["configurable"].get("checkpoint_id")
        self.kept[checkpoint["id"]] = (parent, checkpoint["channel_values"], new_versions)
        return {"configurable": {**config["configurable"], "checkpoint_id": checkpoint["id"]}}


def test_what_a_trial_puts_has_the_parent_the_values_and_the_new_versions_that_it_is_told() -> None:
    saver = Keeping()
    with trial(lambda: saver, Colour.SYNC) as t:
        handle = t.open()
        first = t.put(handle, "t", {"a": 1, "b": 2}, id_="1", versions={"a": "1.1", "b": "1.1"})
        t.put(handle, "t", {"a": 1, "b": 3}, id_="2", versions={"a": "1.1", "b": "2.1"}, changed=["b"], parent=first)
        assert saver.kept == {
            "1": (None, {"a": 1, "b": 2}, {"a": "1.1", "b": "1.1"}),
            "2": ("1", {"a": 1, "b": 3}, {"b": "2.1"}),
        }
        ids = [config["configurable"]["checkpoint_id"] for config in t.chain(handle, "t", 3)]
        assert [saver.kept[id_][0] for id_ in ids] == [None, *ids[:-1]]


# Factories


class Entered(Noting):
    """Notes as what it is entered and left."""

    def __enter__(self) -> Self:
        self.said.append("enter")
        return self

    def __exit__(self, *error: object) -> None:
        self.said.append("exit")

    async def __aenter__(self) -> Self:
        self.said.append("aenter")
        return self

    async def __aexit__(self, *error: object) -> None:
        self.said.append("aexit")


@pytest.mark.parametrize(
    ("colour", "said"),
    [
        (Colour.SYNC, ["enter", "exit"]),
        (Colour.ASYNC, ["aenter", "aexit"]),
        (Colour.MIXED, ["enter", "exit"]),
    ],
)
def test_a_saver_that_can_be_entered_is_entered_in_the_colour_of_the_case(colour: Colour, said: list[str]) -> None:
    saver = Entered()
    with trial(lambda: saver, colour) as t:
        t.open()
        assert saver.said == said[:1]
    assert saver.said == said


@pytest.mark.parametrize("colour", Colour)
def test_a_factory_may_give_a_sync_or_an_async_context_manager(colour: Colour) -> None:
    said: list[str] = []

    @contextmanager
    def sync_manager() -> Iterator[Noting]:
        said.append("opened")
        yield Noting()
        said.append("closed")

    @asynccontextmanager
    async def async_manager() -> AsyncIterator[Noting]:
        said.append("opened")
        yield Noting()
        said.append("closed")

    for factory in (sync_manager, async_manager):
        with trial(factory, colour) as t:
            assert isinstance(t.open().saver, Noting)
            with t.opened() as another:
                assert another.get_tuple({}) is None
            assert said == ["opened", "opened", "closed"]
        assert said == ["opened", "opened", "closed", "closed"]
        said.clear()


@pytest.mark.parametrize(("colour", "is_running"), [(Colour.SYNC, False), (Colour.ASYNC, True), (Colour.MIXED, True)])
def test_a_factory_is_called_on_an_event_loop_unless_the_case_is_sync(colour: Colour, is_running: bool) -> None:
    running: list[bool] = []

    def factory() -> Noting:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            running.append(True)
        return Noting()

    with trial(factory, colour) as t:
        t.open()
    assert bool(running) == is_running


@pytest.mark.parametrize("given", [None, object(), contextmanager(lambda: iter([7]))()], ids=["None", "object", "int"])
def test_what_is_no_saver_is_refused(given: Any) -> None:
    with trial(lambda: given, Colour.SYNC) as t, pytest.raises(TypeError, match="the factory gave a"):
        t.open()


# Expectations


def test_an_expectation_fails_with_its_clause_and_the_situation() -> None:
    with trial(Noting, Colour.SYNC) as t:
        t.expect([1], [1], "compared")
        t.expect_that(True, "holds")
        assert str(t.expect_error(lambda: 1 / 0, "divided")) == "division by zero"
        unmet: dict[str, Callable[[], Any]] = {
            "compared; expected 2, got 1": lambda: t.expect(1, 2, "compared"),
            "should hold": lambda: t.expect_that(False, "should hold"),
            "called; expected an error, got 7": lambda: t.expect_error(lambda: 7, "called"),
            "looked; expected a checkpoint, got None": lambda: t.expect_found(None, "looked"),
        }
        for finding, act in unmet.items():
            with pytest.raises(ConformanceFailure) as failure:
                act()
            assert failure.value.finding == finding
            assert str(failure.value) == f"PUT-1 {CLAUSES['PUT-1'].title}: {finding}"


LONG_TEXT = "word " * 100


class Pair(NamedTuple):
    one: Any
    other: Any


@pytest.mark.parametrize(
    ("found", "expected", "where"),
    [
        ([1, 2, 3] * 99, [1, 2, 3] * 50 + [1, 2, 4] + [1, 2, 3] * 48, "[152]: expected 4, got 3"),
        ([LONG_TEXT], [LONG_TEXT, 1], "[1]: expected 1, got nothing"),
        ([LONG_TEXT, 1], [LONG_TEXT], "[1]: expected nothing, got 1"),
        ({"a": LONG_TEXT, "b": {}}, {"a": LONG_TEXT, "b": {"c": 1}}, "['b']['c']: expected 1, got nothing"),
        ({"a": LONG_TEXT, "b": 1}, {"a": LONG_TEXT}, "['b']: expected nothing, got 1"),
        ([Pair(LONG_TEXT, (1,))], [Pair(LONG_TEXT, (2,))], "[0].other[0]: expected 2, got 1"),
        ([LONG_TEXT, (1,)], [LONG_TEXT, [1]], "[1]: expected [1], got (1,)"),
        (
            [f"{LONG_TEXT}a"],
            [f"{LONG_TEXT}b"],
            "[0] from character 480: expected 'word word word word b', got 'word word word word a'",
        ),
        (
            f"{LONG_TEXT}a",
            LONG_TEXT,
            "from character 480: expected 'word word word word ', got 'word word word word a'",
        ),
        ([LONG_TEXT], None, "the top: expected None, got ['word"),
    ],
    ids=range(10),
)
def test_where_long_values_differ_is_told(found: Any, expected: Any, where: str) -> None:
    with trial(Noting, Colour.SYNC) as t, pytest.raises(ConformanceFailure) as failure:
        t.expect(found, expected, "compared")
    assert f"; they differ at {where}" in failure.value.finding


# Running


def made(check: Callable[[Trial], None], **options: Any) -> Case:
    return Case(CLAUSES["PUT-1"], "a_case", check, tuple(Colour), **{"long": False, **options})


def fails(t: Trial) -> None:
    raise ZeroDivisionError("no")


def test_a_case_runs_once_in_each_declared_colour_and_says_where_it_failed() -> None:
    results = [*results_of(made(fails), Subject(Noting, frozenset({Capability.SYNC})))]
    [failed] = results
    assert (failed.colour, failed.outcome, failed.finding) == (
        Colour.SYNC,
        "failed",
        "a case; raised ZeroDivisionError: no",
    )
    assert f'"{__file__}"' in failed.trace
    assert len([*results_of(made(fails), Subject(Noting, EVERYTHING))]) == 3


@pytest.mark.parametrize("error", [SystemExit(0), asyncio.CancelledError()], ids=["exit", "cancelled"])
def test_a_saver_that_ends_the_program_fails_its_case_and_ends_no_run(error: BaseException) -> None:
    def ends(t: Trial) -> None:
        raise error

    results = run_all(Noting, {Capability.SYNC}, cases=[made(ends), made(lambda t: None)])
    assert [(each.outcome, each.finding.startswith("a case; ended the run by")) for each in results] == [
        ("failed", True),
        ("passed", False),
    ]


def test_what_a_case_needs_besides_its_clause_must_be_declared_and_is_reported_even_without_long_cases() -> None:
    cases = [made(fails, needs=Capability.PRUNE, long=True), made(fails, long=True)]
    results = [*run_all(Noting, {Capability.SYNC}, cases=cases, long=False)]
    assert [(each.outcome, each.finding) for each in results] == [("undeclared", "needs prune")]


def test_cases_are_in_the_order_of_the_contract() -> None:
    order = list(CLAUSES)
    places = [order.index(case.clause.id) for case in all_cases()]
    assert places == sorted(places)


def test_a_saver_that_does_not_find_its_own_checkpoint_is_not_taken_for_one_of_another_storage() -> None:
    class Forgets(Noting):
        def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
            return config

    assert opens_one_storage(Subject(Forgets, EVERYTHING), Colour.SYNC)
