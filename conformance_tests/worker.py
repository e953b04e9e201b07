"""Other processes for the cases that need them: both ends of the conversation, and the jobs.

``python -m conformance_tests.worker`` reads lines of JSON. A line has jobs and the environment to do them in. The
worker carries out all jobs of a line at once, each in a process of its own, and answers with one line. Importing
LangGraph takes a second, so the worker imports it once and forks the processes, which open the saver themselves. Where
fork does not exist, each job gets a new process.
"""

from __future__ import annotations

import atexit
import gc
import json
import operator
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from conformance_tests.contract import CLAUSES
from conformance_tests.graphs import Builder
from conformance_tests.trial import Colour, Config, Factory, Handle, Subject, Trial

Job: TypeAlias = dict[str, Any]

_HAS_TIMER = hasattr(signal, "setitimer")  # not on Windows

KILLED = (57, -signal.SIGALRM if _HAS_TIMER else 57)
"""The exit codes of a process that killed itself as its job said: before or after the call, or during it."""

PATIENCE = 60
"""Seconds after which an unfinished process is killed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a job: the exit code of its process, and its result or the error that it raised."""

    exit: int
    result: Any = None
    error: str | None = None


class Worker:
    """A process that carries out jobs. It ends with the process that started it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conformance_tests.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": _python_path()},
        )

    def do(self, factory_name: str, jobs: Sequence[Job]) -> list[Answer]:
        """Carry out jobs at once, each in a new process; returns when all have ended."""
        talk = self._process
        if talk.stdin is None or talk.stdout is None:
            raise RuntimeError("the worker was started without pipes")
        place = {"environment": {**os.environ, "PYTHONPATH": _python_path()}, "folder": os.getcwd(), "path": sys.path}
        request = {"factory": factory_name, "jobs": jobs, **place}
        try:
            talk.stdin.write(json.dumps(request) + "\n")
            talk.stdin.flush()
            line = talk.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError("the worker process ended; its standard error says why. Can it import the factory?")
        return [Answer(**answer) for answer in json.loads(line)]

    def end(self) -> None:
        with self._process as process:
            process.kill()


class Processes:
    """Other processes on the same storage. They have this process's environment, and can import what it can."""

    def __init__(self, factory_name: str) -> None:
        self._factory_name = factory_name

    def do(self, *jobs: Job) -> list[Answer]:
        """Carry out jobs at once, each in a new process; returns when all have ended."""
        worker = _worker()
        try:
            return worker.do(self._factory_name, jobs)
        except BaseException:
            # Its late answer must not be taken for the answer to the next request.
            _end_worker()
            raise


_started: list[Worker] = []


def _worker() -> Worker:
    """The worker of this process. It lives as long as the process."""
    if not _started or _started[0].owner != os.getpid():  # a fork must not use its parent's
        _started[:] = [Worker()]
    return _started[0]


@atexit.register
def _end_worker() -> None:
    while _started:
        worker = _started.pop()
        if worker.owner == os.getpid():
            worker.end()


def _python_path() -> str:
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


# The graph: a fan-out, a subgraph that asks, and a loop. Every node writes its side effect to the journal.


class State(TypedDict):
    done: Annotated[list[str], operator.add]
    rounds: int


INPUT: State = {"done": [], "rounds": 0}
ANSWER = "yes"
FINAL = {"done": ["plan", "work a", "work b", "ask yes", "note", "count 1", "count 2"], "rounds": 2}


def graph_on(saver: Any, journal: str, colour: Colour) -> Any:
    """The graph, whose nodes append their side effects to a file. It runs in this colour, and needs no other."""

    def did(what: str, config: RunnableConfig) -> None:
        place = config["metadata"]["langgraph_checkpoint_ns"]
        write_down(journal, did=what, task=place.rpartition("|")[2].rpartition(":")[2])

    def plan(_: State, config: RunnableConfig) -> dict[str, Any]:
        did("plan", config)
        return {"done": ["plan"]}

    def fan_out(_: State) -> list[Send]:
        return [Send("work", name) for name in ("a", "b")]

    def work(name: str, config: RunnableConfig) -> dict[str, Any]:
        did(f"work {name}", config)
        return {"done": [f"work {name}"]}

    def ask(_: State, config: RunnableConfig) -> dict[str, Any]:
        answer = interrupt("go on?")
        did("ask", config)
        return {"done": [f"ask {answer}"]}

    def note(_: State, config: RunnableConfig) -> dict[str, Any]:
        did("note", config)
        return {"done": ["note"]}

    def child(_: State, config: RunnableConfig) -> dict[str, Any]:
        inner = questions.invoke(INPUT, config)
        return {"done": inner["done"]}

    async def awaited_child(_: State, config: RunnableConfig) -> dict[str, Any]:
        inner = await questions.ainvoke(INPUT, config)
        return {"done": inner["done"]}

    def count(state: State, config: RunnableConfig) -> dict[str, Any]:
        rounds = state["rounds"] + 1
        did(f"count {rounds}", config)
        return {"done": [f"count {rounds}"], "rounds": rounds}

    def again(state: State) -> str:
        return "count" if state["rounds"] < 2 else END

    asking: Builder = StateGraph(State)
    asking.add_node("ask", ask)
    asking.add_node("note", note)
    asking.add_edge(START, "ask")
    asking.add_edge("ask", "note")
    questions = asking.compile()

    building: Builder = StateGraph(State)
    building.add_node("plan", plan)
    building.add_node("work", work)
    building.add_node("child", awaited_child if colour is Colour.ASYNC else child)
    building.add_node("count", count)
    building.add_edge(START, "plan")
    building.add_conditional_edges("plan", fan_out, ["work"])
    building.add_edge("work", "child")
    building.add_edge("child", "count")
    building.add_conditional_edges("count", again, ["count", END])
    return building.compile(checkpointer=saver)


def write_down(journal: str, **entry: Any) -> None:
    """Append an entry to a file so that it is there even if the process is killed immediately afterwards."""
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(entry).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


def entries(journal: str) -> list[dict[str, Any]]:
    """What was written down."""
    path = Path(journal)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# Jobs


class Kill(TypedDict):
    """When a process kills itself: ``before``, ``during`` or ``after`` a call, or ``never``.

    ``call`` is the number of the call among the calls of these methods, from 1. For ``during``, ``seconds`` is the time
    since the call began.
    """

    moment: str
    call: int
    methods: Sequence[str]
    seconds: float


def never(*methods: str) -> Kill:
    return {"moment": "never", "call": 0, "methods": methods, "seconds": 0.0}


def run(t: Trial, *, thread: str, journal: str, pause: bool = False, kill: Kill | None = None) -> dict[str, Any]:
    """Run the graph from wherever the thread is, and answer its question; with ``pause``, stop at the question.

    Returns the state, the seconds that each call of the methods in ``kill`` took, and the acknowledged calls in the
    journal that are missing in the storage. With ``pause``, returns the questions.
    """
    handle = t.open()
    missing = _missing(t, handle, thread, journal)
    calls = _Calls(journal, kill or never("put", "put_writes"))
    calls.watch(handle.saver, t.colour)
    graph, config = graph_on(handle.saver, journal, t.colour), t.config(thread)
    for _ in range(10):
        state = handle.get_state(graph, config)
        value: Any
        if state.interrupts and pause:
            return {"asks": [question.value for question in state.interrupts]}
        if state.interrupts:
            value = Command(resume=ANSWER)
        elif state.tasks:
            value = None
        elif state.created_at is None:
            value = INPUT
        else:
            return {"state": state.values, "seconds": calls.seconds, "missing": missing}
        handle.invoke(graph, value, config, durability="sync")
    raise RuntimeError(f"the graph did not end; its tasks are {state.tasks}")


def write(t: Trial, *, own: str, common: str, number: int, count: int, at: float, root: Config | None) -> None:
    """Put checkpoints to a thread of its own and to a common one, and write to a common checkpoint."""
    while time.time() < at:
        time.sleep(0.001)
    handle = t.open()
    for n in range(count):
        for thread in (own, common):
            config = t.put(handle, thread, {"n": [number, n]}, versions={"n": f"{n + 1:032}.{number:016}"})
            handle.put_writes(config, [("a", [number, n])], f"task-{number}")
        if root:
            handle.put_writes(root, [("a", [number, n]), ("first", number)], f"task-{number}-{n}")
            handle.put_writes(root, [("winner", number)], f"task-{n}")


_JOBS: dict[str, Callable[..., Any]] = {"run": run, "write": write}


def kill_in(seconds: float) -> None:
    """Kill this process after some time, whatever it is doing then."""
    if _HAS_TIMER:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    else:
        threading.Timer(seconds, os._exit, [KILLED[0]]).start()


class _Calls:
    """Times the calls of a saver's methods, records which were acknowledged, and kills the process at one of them."""

    def __init__(self, journal: str, kill: Kill) -> None:
        self.seconds: list[float] = []
        self._journal = journal
        self._kill = kill
        self._lock = threading.Lock()

    def watch(self, saver: Any, colour: Colour) -> None:
        """Wrap the saver's methods of this colour only, because they may call those of the other colour."""
        for method in ("put", "put_writes"):
            name = method if colour is Colour.SYNC else f"a{method}"
            around = self._sync if colour is Colour.SYNC else self._async
            setattr(saver, name, around(method, getattr(saver, name)))

    def _sync(self, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(config: Config, *args: Any, **options: Any) -> Any:
            number = self._begins(method)
            result = call(config, *args, **options)
            self._ended(method, number, config, *args, **options)
            return result

        return watched

    def _async(self, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def watched(config: Config, *args: Any, **options: Any) -> Any:
            number = self._begins(method)
            result = await call(config, *args, **options)
            self._ended(method, number, config, *args, **options)
            return result

        return watched

    def _begins(self, method: str) -> int:
        if method not in self._kill["methods"]:
            return 0
        with self._lock:
            self.seconds.append(-time.perf_counter())
            number = len(self.seconds)
        if number == self._kill["call"]:
            if self._kill["moment"] == "before":
                os._exit(KILLED[0])
            if self._kill["moment"] == "during":
                kill_in(self._kill["seconds"])
        return number

    def _ended(self, method: str, number: int, config: Config, first: Any, *rest: Any, **options: Any) -> None:
        if number:
            self.seconds[number - 1] += time.perf_counter()
        named = config["configurable"]
        entry = {"stored": method, "ns": named.get("checkpoint_ns", "")}
        if method == "put":
            entry["id"] = first["id"]
        else:
            task = rest[0] if rest else options["task_id"]
            entry |= {"id": named["checkpoint_id"], "task": task, "channels": [channel for channel, _ in first]}
        write_down(self._journal, **entry)
        if number and (self._kill["moment"], self._kill["call"]) == ("after", number):
            os._exit(KILLED[0])


def _missing(t: Trial, handle: Handle, thread: str, journal: str) -> list[dict[str, Any]]:
    """The acknowledged calls whose checkpoint or writes are not in the storage."""
    missing = []
    for entry in entries(journal):
        if "stored" not in entry:
            continue
        found = handle.get_tuple(t.config(thread, entry["id"], ns=entry["ns"]))
        if found is None:
            is_there = entry["stored"] == "put_writes"  # unknown: its checkpoint may not have been put
        elif entry["stored"] == "put":
            is_there = True
        else:
            stored = {(task, channel) for task, channel, _ in found.pending_writes or ()}
            is_there = stored >= {(entry["task"], channel) for channel in entry["channels"]}
        if not is_there:
            missing.append(entry)
    return missing


# The process


def _answer(factory: Factory, job: Job) -> dict[str, Any]:
    """Carry out a job. The answer names the modules that were imported, so that the worker can import them, too."""
    before = set(sys.modules)
    return {**_outcome(factory, job), "imported": sorted(sys.modules.keys() - before)}


def _outcome(factory: Factory, job: Job) -> dict[str, Any]:
    options = dict(job)
    check, colour = _JOBS[options.pop("do")], Colour(options.pop("colour"))
    try:
        with Trial(CLAUSES["PROCESS-1"], Subject(factory, frozenset()), colour) as trial:
            return {"result": check(trial, **options)}
    except Exception as error:  # noqa: BLE001  # sent to the case, which tells
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def _start_fork(factory: Factory, job: Job) -> Callable[[], dict[str, Any]]:
    readable, writable = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(readable)
            signal.alarm(PATIENCE)
            with os.fdopen(writable, "w") as pipe:
                json.dump(_answer(factory, job), pipe)
        finally:
            os._exit(0)
    os.close(writable)

    def wait() -> dict[str, Any]:
        with os.fdopen(readable) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(process, 0)
        return {"exit": os.waitstatus_to_exitcode(status), **(json.loads(answer) if answer else {})}

    return wait


def _start_process(factory_name: str, job: Job) -> Callable[[], dict[str, Any]]:
    command = [sys.executable, "-m", "conformance_tests.worker", factory_name, json.dumps(job)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # this module

    def wait() -> dict[str, Any]:
        answer, _ = process.communicate(timeout=PATIENCE)
        return {"exit": process.returncode, **(json.loads(answer) if answer else {})}

    return wait


def _factory(name: str) -> Factory:
    module, _, attribute = name.partition(":")
    factory: Factory = getattr(import_module(module), attribute)
    return factory


def _carry_out(factory: str, jobs: Sequence[Job], environment: dict[str, str], folder: str, path: list[str]) -> Any:
    """Carry out jobs as if the calling process had started this one just now."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    if hasattr(os, "fork"):
        opens = _factory(factory)
        gc.freeze()  # otherwise, garbage collection in the forks copies every page that it visits
        waiting = [_start_fork(opens, job) for job in jobs]
    else:
        waiting = [_start_process(factory, job) for job in jobs]
    answers = [wait() for wait in waiting]
    for module in {module for answer in answers for module in answer.pop("imported", ())}:
        with suppress(Exception):  # only a head start: the next process imports it if it needs it
            import_module(module)
    return answers


def _main(*single: str) -> None:
    # What savers print must not get into the answers.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if single:
        factory_name, job = single
        json.dump(_answer(_factory(factory_name), json.loads(job)), replies)
        replies.close()
        return
    for line in sys.stdin:
        print(json.dumps(_carry_out(**json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
