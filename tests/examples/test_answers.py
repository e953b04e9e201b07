"""Answers and turns, which the service and the batch rely on: one answer counts, and one worker goes on with it."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, TypedDict

import httpx
import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from checkpoint_base import CheckpointSaver, PendingInterrupt, open_saver
from examples import answers, service
from examples.answers import Answers
from examples.approval import build_graph
from tests.examples.conftest import config, on_every_backend

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("on_one_worker"),  # every server is started once
]


class Parallel(TypedDict, total=False):
    one: str
    two: str


def parallel() -> StateGraph[Parallel]:
    """Two nodes ask at once, the first of them twice."""
    graph = StateGraph(Parallel)
    graph.add_node("one", lambda state: {"one": f"{interrupt('first')}, {interrupt('second')}"})
    graph.add_node("two", lambda state: {"two": interrupt("other")})
    graph.add_edge(START, "one")
    graph.add_edge(START, "two")
    return graph


@pytest.fixture
def two(store: str) -> Iterator[tuple[CheckpointSaver, CheckpointSaver]]:
    """Two workers' savers on one store."""
    with open_saver(store) as one, open_saver(store) as other:
        yield one, other


async def questions(saver: CheckpointSaver) -> dict[str, PendingInterrupt]:
    return {str(each.value): each async for each in saver.ainterrupts()}


@on_every_backend
async def test_a_question_keeps_its_first_answer(two: tuple[CheckpointSaver, CheckpointSaver]) -> None:
    build_graph().compile(checkpointer=two[0]).invoke({"order": "a", "amount": Decimal(1)}, config("a"))
    (question,) = (await questions(two[1])).values()
    recorded = await asyncio.gather(*(Answers(saver).record(question, number) for number, saver in enumerate(two * 8)))
    assert sorted(recorded) == [False] * 15 + [True]
    for saver in two:
        assert await Answers(saver).of_thread("a") == {question.interrupt_id: recorded.index(True)}


@on_every_backend
async def test_one_worker_at_a_time_has_the_turn(two: tuple[CheckpointSaver, CheckpointSaver]) -> None:
    build_graph().compile(checkpointer=two[0]).invoke({"order": "a", "amount": Decimal(1)}, config("a"))
    at_once = 0
    most = 0
    turns = 0

    async def work(saver: CheckpointSaver) -> None:
        nonlocal at_once, most, turns
        async with Answers(saver).turn("a") as mine:
            if mine:
                turns += 1
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(0.01)
                at_once -= 1

    await asyncio.gather(*(work(saver) for saver in two * 10))
    assert most == 1
    assert turns >= 1
    async with Answers(two[0]).turn("a") as again:
        assert again  # the turn ended, and the thread still waits
    async with Answers(two[0]).turn("nobody") as none:
        assert not none


async def test_a_turn_whose_worker_died_can_be_taken_when_its_lease_is_over(
    two: tuple[CheckpointSaver, CheckpointSaver], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_graph().compile(checkpointer=two[0]).invoke({"order": "a", "amount": Decimal(1)}, config("a"))
    (question,) = (await questions(two[0])).values()

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + answers.LEASE

    assert await Answers(two[0])._taken_turn(question) == 0  # and never ends it
    async with Answers(two[1]).turn("a") as mine:
        assert not mine
    monkeypatch.setattr(answers, "datetime", Later)
    async with Answers(two[1]).turn("a") as mine:
        assert mine


async def test_a_worker_that_takes_longer_than_its_lease_is_stopped(
    two: tuple[CheckpointSaver, CheckpointSaver],
) -> None:
    build_graph().compile(checkpointer=two[0]).invoke({"order": "a", "amount": Decimal(1)}, config("a"))

    async def work_for_long() -> None:
        async with Answers(two[0], timedelta(seconds=0.1)).turn("a") as mine:
            assert mine
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await work_for_long()


async def test_who_looked_before_another_continued_the_thread_gets_no_turn(
    two: tuple[CheckpointSaver, CheckpointSaver], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build_graph().compile(checkpointer=two[0])
    await graph.ainvoke({"order": "a", "amount": Decimal(1)}, config("a"))
    late = Answers(two[1])
    taken = Answers._taken_turn

    async def after_another(self: Answers, question: PendingInterrupt) -> int | None:
        monkeypatch.setattr(Answers, "_taken_turn", taken)
        async with Answers(two[0]).turn("a") as first:
            assert first
            await graph.ainvoke(Command(resume=True), config("a"))
        return await taken(self, question)

    monkeypatch.setattr(Answers, "_taken_turn", after_another)
    async with late.turn("a") as mine:
        assert not mine


@on_every_backend
async def test_questions_that_wait_together_and_one_after_another_each_get_their_answer(
    two: tuple[CheckpointSaver, CheckpointSaver],
) -> None:
    graph = parallel().compile(checkpointer=two[0])
    await graph.ainvoke({"one": ""}, config("a"))
    answers = Answers(two[0])
    asked = await questions(two[1])
    assert set(asked) == {"first", "other"}
    assert await answers.record(asked["first"], "A")
    async with answers.turn("a") as mine:
        assert mine
        await graph.ainvoke(Command(resume=await answers.of_thread("a")), config("a"))
    asked = await questions(two[1])
    assert set(asked) == {"second", "other"}
    assert await answers.of_thread("a") == {}  # the answer to the first is not taken for one to the second
    assert await answers.record(asked["second"], "B")
    assert await answers.record(asked["other"], "C")
    async with answers.turn("a") as mine:
        assert mine
        await graph.ainvoke(Command(resume=await answers.of_thread("a")), config("a"))
    assert await questions(two[1]) == {}
    final = await two[1].aget_tuple(config("a"))
    assert final is not None
    assert final.checkpoint["channel_values"] == {"one": "A, B", "two": "C"}


class Approval(BaseModel):
    approve: bool


class Decided(TypedDict, total=False):
    one: bool
    two: str
    done: Annotated[list[str], operator.add]


def particular() -> StateGraph[Decided]:
    """Two nodes ask at once; LangGraph accepts only an `Approval` as the answer to one of them."""

    def one(_: Decided) -> Decided:
        return {"one": interrupt("one", response_schema=Approval).approve, "done": ["one"]}

    def two(_: Decided) -> Decided:
        return {"two": interrupt("two"), "done": ["two"]}

    graph = StateGraph(Decided)
    graph.add_node("one", one)
    graph.add_node("two", two)
    graph.add_edge(START, "one")
    graph.add_edge(START, "two")
    return graph


@on_every_backend
async def test_a_question_whose_answer_was_refused_can_be_answered_again_and_the_others_keep_theirs(
    two: tuple[CheckpointSaver, CheckpointSaver],
) -> None:
    graph = particular().compile(checkpointer=two[0])
    await graph.ainvoke({"done": []}, config("a"))
    answers, others = Answers(two[0]), Answers(two[1])
    asked = await questions(two[1])
    assert await answers.record(asked["one"], "perhaps")
    assert not await others.record(asked["one"], {"approve": True})  # nobody has refused it yet
    async with answers.turn("a") as mine:
        assert mine
        assert set(await answers.resume(graph, config("a"))) == {asked["one"].interrupt_id}
    assert await others.of_thread("a") == {}
    assert await others.record(asked["two"], "B")
    # Again one answer counts, of many that are given at once.
    again = await questions(two[1])
    recorded = await asyncio.gather(
        *(Answers(saver).record(again["one"], {"approve": bool(number % 2)}) for number, saver in enumerate(two * 8))
    )
    assert sorted(recorded) == [False] * 15 + [True]
    async with others.turn("a") as mine:
        assert mine
        assert await others.resume(particular().compile(checkpointer=two[1]), config("a")) == {}
    assert await questions(two[0]) == {}
    final = await two[0].aget_tuple(config("a"))
    assert final is not None
    values = final.checkpoint["channel_values"]
    assert (values["one"], values["two"]) == (bool(recorded.index(True) % 2), "B")
    assert sorted(values["done"]) == ["one", "two"]


@on_every_backend
async def test_answers_that_are_refused_and_accepted_together_are_told_apart(
    two: tuple[CheckpointSaver, CheckpointSaver],
) -> None:
    graph = particular().compile(checkpointer=two[0])
    await graph.ainvoke({"done": []}, config("a"))
    answers = Answers(two[0])
    asked = await questions(two[1])
    assert await answers.record(asked["two"], "B")
    for wrong in ("perhaps", None, {"approve": "never"}):
        assert await answers.record(asked["one"], wrong)
        async with answers.turn("a") as mine:
            assert mine
            assert set(await answers.resume(graph, config("a"))) == {asked["one"].interrupt_id}
        assert set(await questions(two[1])) == {"one"}
    assert await answers.record(asked["one"], {"approve": True})
    async with answers.turn("a") as mine:
        assert mine
        assert await answers.resume(graph, config("a")) == {}
    final = await two[1].aget_tuple(config("a"))
    assert final is not None
    assert sorted(final.checkpoint["channel_values"]["done"]) == ["one", "two"]


async def test_an_answer_outlives_that_its_question_is_asked_again_in_between(
    two: tuple[CheckpointSaver, CheckpointSaver],
) -> None:
    graph = parallel().compile(checkpointer=two[0])
    await graph.ainvoke({"one": ""}, config("a"))
    asked = await questions(two[1])
    assert await Answers(two[1]).record(asked["other"], "C")
    # As a worker does that looked for answers before.
    await graph.ainvoke(Command(resume={asked["first"].interrupt_id: "A"}), config("a"))
    assert await Answers(two[1]).of_thread("a") == {asked["other"].interrupt_id: "C"}
    assert not await Answers(two[1]).record((await questions(two[1]))["other"], "D")


async def test_an_error_of_a_node_is_no_refusal_and_keeps_the_answer(
    two: tuple[CheckpointSaver, CheckpointSaver],
) -> None:
    attempts: list[int] = []

    def ask(_: Decided) -> Decided:
        answer = interrupt("two")
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("not now")
        return {"two": answer}

    graph = StateGraph(Decided).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=two[0])
    await graph.ainvoke({"done": []}, config("a"))
    answers = Answers(two[0])
    asked = await questions(two[1])
    assert await answers.record(asked["two"], "B")
    with pytest.raises(ValueError, match="not now"):
        async with answers.turn("a"):
            await answers.resume(graph, config("a"))
    assert not await answers.record(asked["two"], "C")
    async with answers.turn("a") as mine:
        assert mine
        assert await answers.resume(graph, config("a")) == {}
    assert (await graph.aget_state(config("a"))).values["two"] == "B"


@on_every_backend
@pytest.mark.parametrize("crashes_before", [True, False])
async def test_after_a_crash_an_answer_is_not_taken_for_one_to_the_next_question(
    crashes_before: bool, two: tuple[CheckpointSaver, CheckpointSaver]
) -> None:
    crashes = [True]

    def crash() -> None:
        if crashes.pop() if crashes else False:
            raise RuntimeError("crash")

    def ask(_: Decided) -> Decided:
        if crashes_before and asked:
            crash()
        first = interrupt("first")
        crash()
        return {"two": f"{first}, {interrupt('second')}", "done": ["ask"]}

    asked: dict[str, PendingInterrupt] = {}
    graph = StateGraph(Decided).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=two[0])
    await graph.ainvoke({"done": []}, config("a"))
    asked = await questions(two[1])
    answers = Answers(two[0])
    assert await answers.record(asked["first"], "A")
    with pytest.raises(RuntimeError, match="crash"):
        async with answers.turn("a"):
            await answers.resume(graph, config("a"))
    for question, answer in (("first", None), ("second", "B")):
        if answer:
            assert await answers.record((await questions(two[1]))[question], answer)
        async with answers.turn("a") as mine:
            assert mine
            assert await answers.resume(graph, config("a")) == {}
    final = (await graph.aget_state(config("a"))).values
    assert (final["two"], final["done"]) == ("A, B", ["ask"])


async def test_the_service_says_that_an_answer_was_refused_and_accepts_another(
    two: tuple[CheckpointSaver, CheckpointSaver], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = particular().compile(checkpointer=two[0])
    monkeypatch.setattr(service.app.state, "saver", two[0], raising=False)
    monkeypatch.setattr(service.app.state, "graph", graph, raising=False)
    await graph.ainvoke({"done": []}, config("a"))
    transport = httpx.ASGITransport(app=service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        for question, status in (("one", 422), ("two", 200), ("one", 422)):  # a bool is no Approval
            asked = {each["question"]: each for each in (await client.get("/inbox")).json()["questions"]}
            body = {"asked_at": asked[question]["asked_at"], "approve": True}
            said = await client.post(f"/inbox/a/{asked[question]['id']}", json=body)
            assert said.status_code == status, said.text
