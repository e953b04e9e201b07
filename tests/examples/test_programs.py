"""The examples, in real processes as a reader would run them; what they did is read from the store by another saver."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from checkpoint_base import CheckpointSaver, PendingInterrupt, open_saver
from examples import resume_batch
from examples.answers import Answers
from examples.approval import Refund, build_graph, config_of
from tests.examples.conftest import config, values
from tests.faults.backends import BACKENDS, Servers
from tests.servers.processes import HOST, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
EVERY_NODE_ONCE = {True: ["look_up", "ask_human", "pay"], False: ["look_up", "ask_human", "reject"]}
SECONDS = 100

pytestmark = [
    pytest.mark.anyio,  # for those that are async
    pytest.mark.usefixtures("on_one_worker"),  # every server is started once
]


def started(*arguments: str, folder: Path, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@contextmanager
def serving(*arguments: str, folder: Path, ready: str, **environment: str) -> Iterator[int]:
    """Run a server, with its workers, until the block ends; `ready` is a URL that it answers once it is up."""
    log = folder / "server.log"
    process = started(*arguments, folder=folder, log=log, **environment)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                assert httpx.get(ready, timeout=5).status_code == 200
                break
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ran(*arguments: str, folder: Path) -> tuple[int, list[str]]:
    """The exit code of a program, and the lines that it printed."""
    log = folder / "printed.log"
    return started(*arguments, folder=folder, log=log).wait(SECONDS), log.read_text().splitlines()


# One graph on every backend


@pytest.mark.parametrize("store", [name for name in BACKENDS if name != "sqlite"], indirect=True)  # the demo has that
def test_one_process_asks_and_another_answers(store: str, tmp_path: Path) -> None:
    at = ("--store", store, "--thread", "order-17")
    asked = ran("-m", "examples.approval", "ask", *at, "--amount", "249.00", folder=tmp_path)
    assert asked == (0, ["order-17 waits for an answer: Refund 249.00?"])
    assert values(store, "order-17")["done"] == ["look_up"]
    code, lines = ran("-m", "examples.approval", "answer", *at, "--approve", folder=tmp_path)
    assert code == 0, lines
    assert "outcome  249.00 paid to the buyer of order-17" in lines
    final = values(store, "order-17")
    assert (final["amount"], final["done"]) == (Decimal("249.00"), EVERY_NODE_ONCE[True])


def test_the_same_graph_runs_on_every_backend_by_its_url_and_behind_one_that_cannot_be_opened(
    servers: Servers, tmp_path: Path
) -> None:
    with ExitStack() as opened:
        stores = [opened.enter_context(servers.backend(name)).url for name in BACKENDS]
        code, lines = ran("-m", "examples.any_backend", "nosuch://x", *stores, folder=tmp_path)
        assert code == 1
        first, *others = sorted((line.split() for line in lines), key=lambda words: words[0] != "nosuch")
        assert first[0] == "nosuch"
        schemes = ["sqlite", "postgresql", "redis", "s3"]
        assert [words[:3] for words in others] == [[scheme, "249.00", "paid"] for scheme in schemes]
        for url in stores:
            with open_saver(url) as saver:
                assert list(saver.threads()) == []  # it leaves nothing behind


# The service


@pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
def test_of_many_answers_to_one_question_at_many_workers_one_counts_and_every_node_runs_once(
    store: str, tmp_path: Path
) -> None:
    port = free_port()
    orders = [f"order-{number}" for number in range(6)]
    command = ["-m", "uvicorn", "examples.service:app", "--workers", "3", "--host", HOST, "--port", str(port)]
    url = f"http://{HOST}:{port}"

    async def talk() -> list[tuple[str, bool, int]]:
        async with httpx.AsyncClient(base_url=url, timeout=SECONDS) as client:
            begun = await asyncio.gather(
                *(client.post(f"/refunds/{order}", json={"amount": "9.50"}) for order in orders)
            )
            assert {each.status_code for each in begun} == {202}
            again = await client.post(f"/refunds/{orders[0]}", json={"amount": "9.50"})
            assert again.status_code == 409

            first = (await client.get("/inbox", params={"limit": 4})).json()
            rest = (await client.get("/inbox", params={"limit": 4, "after": first["next"]})).json()
            questions = first["questions"] + rest["questions"]
            assert sorted(each["order"] for each in questions) == orders
            assert rest["next"] is None
            for wrong in ({"limit": 0}, {"limit": -1}, {"after": "no cursor"}):
                assert (await client.get("/inbox", params=wrong)).status_code == 422
            assert questions[0]["question"]["question"] == "Refund 9.50?"

            async def answer(question: dict[str, Any], approve: bool) -> tuple[str, bool, int]:
                body = {"asked_at": question["asked_at"], "approve": approve}
                said = await client.post(f"/inbox/{question['order']}/{question['id']}", json=body)
                return question["order"], approve, said.status_code

            answered = await asyncio.gather(
                *(answer(question, attempt % 2 == 0) for attempt in range(6) for question in questions)
            )
            assert (await client.get("/inbox")).json() == {"questions": [], "next": None}
            assert (await client.get("/refunds/nobody")).status_code == 404
            assert (await client.post(f"/refunds/{'x' * 1000}", json={"amount": "1"})).status_code == 422
            return answered

    with serving(*command, folder=tmp_path, ready=f"{url}/inbox", CHECKPOINT_STORE=store):
        answered = asyncio.run(talk())
    with open_saver(store) as saver:  # every run passed the metadata, so it is that of every latest checkpoint
        assert {each.thread_id for each in saver.threads(metadata={"graph": "refund"})} == set(orders)
    assert Counter(status for *_, status in answered) == {200: len(orders), 409: len(answered) - len(orders)}
    for order, approved, status in answered:
        if status == 200:
            final = values(store, order)
            assert (final["approved"], final["done"]) == (approved, EVERY_NODE_ONCE[approved])
            assert final["amount"] == Decimal("9.50")


# The batch


async def test_batches_that_run_at_once_resume_every_answered_thread_once(store: str, tmp_path: Path) -> None:
    decisions = {f"order-{number}": number % 2 == 0 for number in range(8)}
    async with open_saver(store) as saver:
        graph = build_graph().compile(checkpointer=saver)
        for order in (*decisions, "unanswered"):
            await graph.ainvoke({"order": order, "amount": Decimal(5)}, config(order))
        for question in (await questions_by_thread(saver)).values():
            if question.thread_id in decisions:
                assert await Answers(saver).record(question, decisions[question.thread_id])
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    batches = [started("-m", "examples.resume_batch", "--store", store, folder=tmp_path, log=log) for log in logs]
    assert [batch.wait(SECONDS) for batch in batches] == [0, 0, 0], [log.read_text() for log in logs]
    said = "".join(log.read_text() for log in logs).splitlines()
    assert sorted(line.partition(":")[0] for line in said) == sorted(decisions)
    for order, approved in decisions.items():
        assert values(store, order)["done"] == EVERY_NODE_ONCE[approved]
    async with open_saver(store) as saver:
        assert set(await questions_by_thread(saver)) == {"unanswered"}
        assert {each.thread_id async for each in saver.athreads(metadata={"graph": "refund"})} == set(decisions)


async def test_of_batches_that_run_at_once_one_continues_a_thread_whose_worker_died(store: str) -> None:
    lease, within = timedelta(seconds=2), timedelta(days=1)
    async with open_saver(store) as saver:
        graph = build_graph().compile(checkpointer=saver)
        for order in ("done", "died", "waits"):
            await graph.ainvoke({"order": order, "amount": Decimal(5)}, config_of(order))
        asked = await questions_by_thread(saver)
        for order, dies_before in (("done", []), ("died", ["pay"])):
            answer: Any = Command(resume={asked[order].interrupt_id: True})
            await graph.ainvoke(answer, config_of(order), interrupt_before=dies_before)
        other: Any = StateGraph(Refund).add_node("pay", lambda state: state).add_edge(START, "pay")
        other = other.compile(checkpointer=saver)
        await other.ainvoke({"order": "x"}, config("of another graph"), interrupt_before=["pay"])
        assert set(await questions_by_thread(saver)) == {"waits"}
        assert [each async for each in Answers(saver).abandoned(graph, {}, within)] == []  # it may be at work
    await asyncio.sleep(lease.total_seconds())
    assert await asyncio.gather(*(resume_batch.resume_everything(store, 8, lease) for _ in range(3))) == [0, 0, 0]
    async with open_saver(store) as saver, Answers(saver, lease).turn_of_abandoned("died") as mine:
        assert not mine  # a batch that found it before another one continued it
    for order in ("done", "died"):
        assert values(store, order)["done"] == EVERY_NODE_ONCE[True]
    assert values(store, "waits")["done"] == ["look_up"]
    assert "outcome" not in values(store, "of another graph")


async def questions_by_thread(saver: CheckpointSaver) -> dict[str, PendingInterrupt]:
    return {each.thread_id: each async for each in saver.ainterrupts()}


def test_a_batch_without_a_store_that_it_can_open_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = ["-m", "examples.resume_batch", "--store", "nosuch://x"]
    assert started(*command, folder=tmp_path, log=log).wait(SECONDS) == 1
    assert log.read_text().startswith("no installed package opens nosuch:// URLs")


# The LangGraph server


def test_a_langgraph_server_keeps_its_threads_in_the_store(tmp_path: Path) -> None:
    app = tmp_path / "app"
    shutil.copytree(ROOT / "examples" / "langgraph_server", app, ignore=shutil.ignore_patterns("__pycache__", ".lang*"))
    store, port = f"sqlite:///{app}/refunds.db", free_port()
    named = json.loads((app / "langgraph.json").read_text())
    assert named["env"]["CHECKPOINT_STORE"] == "sqlite:///refunds.db"  # which is in the app's folder
    quiet = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false", "LOG_LEVEL": "WARNING"}
    command = ["-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--host", HOST, "--port", str(port)]
    url = f"http://{HOST}:{port}"
    with serving(*command, folder=app, ready=f"{url}/ok", **quiet), httpx.Client(base_url=url, timeout=60) as client:
        thread, other = (client.post("/threads", json={}).json()["thread_id"] for _ in range(2))
        for each in (thread, other):
            begun = client.post(f"/threads/{each}/runs/wait", json={"assistant_id": "refund", "input": {"amount": 9}})
            assert begun.json()["__interrupt__"][0]["value"] == "Refund 9?"
        copy = client.post(f"/threads/{thread}/copy").json()["thread_id"]
        resume = {"assistant_id": "refund", "command": {"resume": True}}
        assert client.post(f"/threads/{thread}/runs/wait", json=resume).json() == {"amount": 9, "approved": True}
        assert client.delete(f"/threads/{other}").status_code == 204

    # The server is gone. What it knew is in the store, and any program goes on with it.
    with open_saver(store) as saver:
        assert {each.thread_id for each in saver.threads()} == {thread, copy}
        (waiting,) = saver.interrupts()
        assert (waiting.thread_id, waiting.value) == (copy, "Refund 9?")
        graph = plain_graph(app / "graph.py").compile(checkpointer=saver)
        assert graph.invoke(Command(resume=False), config(copy)) == {"amount": 9, "approved": False}
    assert values(store, thread) == {"amount": 9, "approved": True}


def plain_graph(file: Path) -> StateGraph[Any]:
    names: dict[str, Any] = {"__name__": "served"}
    exec(compile(file.read_text().replace("from __future__ import annotations", ""), file, "exec"), names)
    return names["graph"].builder
