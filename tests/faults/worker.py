"""Processes that are killed, and others that continue from there: both ends of the conversation, and what they do.

``python -m tests.faults.worker`` reads lines of JSON, each a list of jobs, carries these out at once, each in a fork of
itself, and answers with a line. A job opens its saver from a URL, so it works on every backend alike.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from types import TracebackType
from typing import Any, TypeAlias

from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.types import Command

from checkpoint_base import CheckpointSaver, open_saver
from checkpoint_base.transport import Retrying, Transport
from conformance_tests.worker import Answer, entries, write_down
from tests.faults import acts, history
from tests.faults.flow import INPUT, State, answer_to, graph_on

Job: TypeAlias = dict[str, Any]

KILLED = 57
"""The exit code of a process that ended itself where it was told to."""

PATIENCE = 120
"""Seconds after which a process that has not finished is ended by its alarm."""


class Processes(AbstractContextManager["Processes"]):
    """Carries out jobs, each in a process of its own."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def do(self, *jobs: Job) -> list[Answer]:
        """Carry jobs out at once; returns when all have ended. A job's ``kill_after`` seconds end it by SIGKILL."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)},
            )
        talk = self._process
        if talk.stdin is None or talk.stdout is None:
            raise RuntimeError("the worker was started without pipes")
        try:
            talk.stdin.write(json.dumps(jobs) + "\n")
            talk.stdin.flush()
            line = talk.stdout.readline()
        except BaseException:
            self._end(patience=0)  # whoever comes next must not be given our answer
            raise
        if not line:
            raise RuntimeError("the worker process ended; its standard error says why")
        return [Answer(**answer) for answer in json.loads(line)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(patience=10)

    def _end(self, patience: float) -> None:
        if self._process is None:
            return
        with self._process as process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                process.kill()
        self._process = None


class Dying:
    """A transport that counts requests, and ends the process before or after one of them."""

    def __init__(self, inner: Transport, moment: str = "never", number: int = 0) -> None:
        self.requests = 0
        self._inner = inner
        self._moment = moment
        self._number = number
        self._counting = threading.Lock()

    def execute(self, request: Any) -> Any:
        number = self._begin()
        response = self._inner.execute(request)
        self._die("after", number)
        return response

    async def aexecute(self, request: Any) -> Any:
        number = self._begin()
        response = await self._inner.aexecute(request)
        self._die("after", number)
        return response

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _begin(self) -> int:
        with self._counting:
            self.requests += 1
            number = self.requests
        self._die("before", number)
        return number

    def _die(self, moment: str, number: int) -> None:
        if (self._moment, self._number) == (moment, number):
            os._exit(KILLED)


def dying(saver: CheckpointSaver, kill: Sequence[Any] | None) -> Dying:
    """Put a deadly transport, ``kill`` being its moment and number, between a saver and its store."""
    transport = Dying(saver.store.transport, *(kill or ()))
    saver.transport = Retrying(transport, deadline=30)
    return transport


# Jobs


def run(
    *, url: str, thread: str, journal: str, durability: str, colour: str, kill: Sequence[Any] | None = None
) -> dict[str, Any]:
    """Bring the graph to its end from wherever the thread is, answering what it asks.

    Returns the final state; the state of the latest checkpoint that it found, and of every one that it left, newest
    first; the number of requests; and what was found wrong: acknowledged and gone, or listings that disagree.
    """
    saver = open_saver(url)
    requests = dying(saver, kill)
    if colour == "async":
        return asyncio.run(_arun(saver, requests, thread, journal, durability))
    with saver:
        graph, config = _begin(saver, thread, journal)
        state = graph.get_state(config)
        problems, first = _problems(saver, state, thread, journal), _stored_states(saver, config)[:1]
        for _ in range(12):
            if (step := _next_input(state, journal)) is None:
                break
            graph.invoke(step[0], config, durability=durability)
            state = graph.get_state(config)
        else:
            problems.append(f"the graph did not end; its tasks are {state.tasks}")
        problems += _problems(saver, state, thread, journal)
        states = _stored_states(saver, config)
    return {
        "state": state.values,
        "first": first,
        "states": states,
        "requests": requests.requests,
        "problems": problems,
    }


async def _arun(saver: CheckpointSaver, requests: Dying, thread: str, journal: str, durability: str) -> dict[str, Any]:
    async with saver:
        graph, config = _begin(saver, thread, journal)
        state = await graph.aget_state(config)
        problems = await asyncio.to_thread(_problems, saver, state, thread, journal)
        first = (await asyncio.to_thread(_stored_states, saver, config))[:1]
        for _ in range(12):
            if (step := _next_input(state, journal)) is None:
                break
            await graph.ainvoke(step[0], config, durability=durability)
            state = await graph.aget_state(config)
        else:
            problems.append(f"the graph did not end; its tasks are {state.tasks}")
        problems += await asyncio.to_thread(_problems, saver, state, thread, journal)
        states = await asyncio.to_thread(_stored_states, saver, config)
    return {
        "state": state.values,
        "first": first,
        "states": states,
        "requests": requests.requests,
        "problems": problems,
    }


def _stored_states(saver: CheckpointSaver, config: Any) -> list[Any]:
    """The states that the checkpoints hold, newest first; `get_state` would add what finished tasks have written."""
    root = {"configurable": {**config["configurable"], "checkpoint_ns": ""}}
    values = [found.checkpoint["channel_values"] for found in saver.list(root)]
    return [{name: each[name] for name in State.__annotations__ if name in each} for each in values]


def _begin(saver: CheckpointSaver, thread: str, journal: str) -> tuple[Any, Any]:
    write_down(journal, begins=os.getpid())
    _write_acknowledgements(saver, journal)
    return graph_on(saver, journal), {"configurable": {"thread_id": thread}}


def _next_input(state: Any, journal: str) -> tuple[Any] | None:
    """What to invoke the graph with next; None at its end."""
    if state.interrupts:
        answers = {question.id: answer_to(question.value) for question in state.interrupts}
        write_down(journal, answers=answers)
        return (Command(resume=answers),)
    if state.tasks or state.next:
        return (None,)
    return (INPUT,) if state.created_at is None else None


def _write_acknowledgements(saver: CheckpointSaver, journal: str) -> None:
    """Write down every put and put_writes that returned, as LangGraph calls them in either colour."""

    def put_ended(config: Any, checkpoint: Any, *_: Any) -> None:
        named = config["configurable"]
        write_down(journal, stored="put", ns=named.get("checkpoint_ns", ""), id=checkpoint["id"])

    def writes_ended(config: Any, writes: Any, task_id: str, *_: Any) -> None:
        named = config["configurable"]
        channels = [channel for channel, _ in writes]
        asks = [question.id for channel, value in writes if channel == "__interrupt__" for question in value]
        write_down(
            journal, stored="put_writes", ns=named.get("checkpoint_ns", ""), id=named["checkpoint_id"], task=task_id,
            channels=channels, asks=asks,
        )  # fmt: skip

    def watched(call: Callable[..., Any], ended: Callable[..., None]) -> Callable[..., Any]:
        def watching(*arguments: Any) -> Any:
            result = call(*arguments)
            ended(*arguments)
            return result

        return watching

    def awatched(call: Callable[..., Any], ended: Callable[..., None]) -> Callable[..., Any]:
        async def watching(*arguments: Any) -> Any:
            result = await call(*arguments)
            ended(*arguments)
            return result

        return watching

    watching: Any = saver  # methods of one instance are replaced; clones take them along
    watching.put, watching.put_writes = watched(saver.put, put_ended), watched(saver.put_writes, writes_ended)
    watching.aput, watching.aput_writes = awatched(saver.aput, put_ended), awatched(saver.aput_writes, writes_ended)


def _problems(saver: CheckpointSaver, state: Any, thread: str, journal: str) -> list[str]:
    """What is wrong with the thread as it is stored, by what the journal says was acknowledged."""
    problems = [f"acknowledged and gone: {entry}" for entry in _missing(saver, thread, journal)]
    asked = {(question.id, question.value) for question in state.interrupts}
    listed = [(found.interrupt_id, found.value) for found in saver.interrupts(thread_id=thread)]
    if len(listed) != len(set(listed)) or set(listed) != asked:
        problems.append(f"get_state has the questions {sorted(asked)}, interrupts() has {sorted(listed)}")
    infos = list(saver.threads(thread_id=thread))
    counted = [(info.thread_id, info.pending_interrupts) for info in infos]
    # With durability "exit" a subgraph's checkpoint is stored before the root's, which is all that get_state sees.
    exists = state.created_at is not None or next(saver.list({"configurable": {"thread_id": thread}}), None) is not None
    if counted != [(thread, len(asked))] * exists:
        problems.append(f"get_state has {len(asked)} questions, threads() says {counted}")
    elif state.created_at and infos[0].metadata != getattr(saver.get_tuple(state.config), "metadata", None):
        problems.append(f"threads() has the metadata {infos[0].metadata}, the latest checkpoint has another")
    return problems + _questions_lost(state, {id_ for id_, _ in asked}, journal)


def _missing(saver: CheckpointSaver, thread: str, journal: str) -> list[dict[str, Any]]:
    """The acknowledged calls whose checkpoint or writes are not in the storage."""
    missing = []
    stored: dict[tuple[str, str], Any] = {}
    for entry in entries(journal):
        if "stored" not in entry:
            continue
        place = entry["ns"], entry["id"]
        if place not in stored:
            named = {"thread_id": thread, "checkpoint_ns": place[0], "checkpoint_id": place[1]}
            stored[place] = saver.get_tuple({"configurable": named})
        found = stored[place]
        if found is None:
            is_there = entry["stored"] == "put_writes"  # no telling: its checkpoint may not have been put
        else:
            written = {(task, channel) for task, channel, _ in found.pending_writes or ()}
            wanted = {(entry["task"], channel) for channel in entry["channels"]} if "task" in entry else set()
            is_there = written >= wanted
        if not is_there:
            missing.append(entry)
    return missing


def _questions_lost(state: Any, pending: set[str], journal: str) -> list[str]:
    """Questions that were stored on the latest checkpoint, that nobody has answered, and that are not pending."""
    if state.created_at is None:
        return []
    latest = state.config["configurable"]["checkpoint_id"]
    asked: set[str] = set()
    answered: set[str] = set()
    for entry in entries(journal):
        if entry.get("ns") == "" and entry.get("id") == latest:
            asked.update(entry.get("asks", ()))
        answered.update(entry.get("answers", ()))
    return [f"question {id_} was stored, not answered, and is gone" for id_ in sorted(asked - answered - pending)]


def act(*, url: str, thread: str, act: str, colour: str, kill: Sequence[Any] | None = None) -> dict[str, Any]:
    """Carry out one of `acts`."""
    saver = open_saver(url)
    requests = dying(saver, kill)
    step = next(each for each in acts.ACTS if each.name == act).step(thread)

    async def together() -> None:
        async with saver:
            await acts.acall(saver, step)

    if colour == "async":
        asyncio.run(together())
    else:
        with saver:
            acts.call(saver, step)
    return {"requests": requests.requests}


_JOBS: dict[str, Callable[..., Any]] = {"run": run, "act": act, "race": history.race}


def done_again(journal: str) -> list[str]:
    """What a later process did again although its writes, and the checkpoints it stands on, had been acknowledged."""
    put: set[tuple[str, str]] = set()
    written: set[str] = set()
    done: dict[str, tuple[str, Any]] = {}
    finished: set[str] = set()
    again = []
    for entry in entries(journal):
        if "begins" in entry:
            finished = {
                what
                for what, (task, stands_on) in done.items()
                if task in written and put.issuperset(stands_on.items())
            }
        elif "did" in entry:
            if entry["did"] in finished:
                again.append(entry["did"])
            done[entry["did"]] = entry["task"], entry["stands_on"]
        elif entry.get("stored") == "put":
            put.add((entry["ns"], entry["id"]))
        elif entry.get("stored") == "put_writes" and not WRITES_IDX_MAP.keys() >= set(entry["channels"]):
            written.add(entry["task"])
    return again


# The process


def _answer(job: Job) -> dict[str, Any]:
    options = dict(job)
    do = _JOBS[options.pop("do")]
    began = time.monotonic()
    try:
        result = do(**options)
        return {"result": {**result, "seconds": time.monotonic() - began}}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def _start(job: Job) -> tuple[int, Callable[[], dict[str, Any]]]:
    """Fork for a job: the process, and what waits for its end."""
    readable, writable = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(readable)
            signal.alarm(PATIENCE)
            with os.fdopen(writable, "w") as pipe:
                json.dump(_answer(job), pipe)
        finally:
            os._exit(0)
    os.close(writable)

    def wait() -> dict[str, Any]:
        with os.fdopen(readable) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        return {"exit": code, **(json.loads(answer) if answer and code == 0 else {})}

    return process, wait


def _carry_out(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    began = time.monotonic()
    kills = [job.pop("kill_after", None) for job in jobs]
    started = [_start(job) for job in jobs]
    victims = [(after, process) for after, (process, _) in zip(kills, started, strict=True) if after is not None]
    for after, process in sorted(victims):
        time.sleep(max(0.0, began + after - time.monotonic()))
        os.kill(process, signal.SIGKILL)  # not waited for yet, so the id is still its own
    return [wait() for _, wait in started]


def _main() -> None:
    # Each fork would import its adapter again otherwise.
    for package in ("checkpoint_postgres", "checkpoint_redis", "checkpoint_s3"):
        import_module(package)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns about connections that are broken on purpose
    # Stdout is for replies: whatever else prints goes to stderr.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(_carry_out(json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    _main()
