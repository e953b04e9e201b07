"""Single calls of a saver, with their right answers, and the states before and after: no state between is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Interrupt

from checkpoint_base import CheckpointSaver, SQLiteSaver
from checkpoint_base.listings import CheckpointInfo, PendingInterrupt, ThreadInfo

Step: TypeAlias = tuple[str, list[Any]]
"""The name of a method and its arguments, as JSON."""


@dataclass(frozen=True, slots=True)
class Act:
    """One call on a thread that `grow` has made. An act that changes nothing is a question."""

    name: str
    step: Callable[[str], Step]
    is_question: bool = False


def config(thread: str, id_: str | None = None, ns: str = "") -> dict[str, Any]:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **({"checkpoint_id": id_} if id_ else {})}}


def checkpoint(number: int, values: dict[str, Any], *further: str) -> dict[str, Any]:
    """A checkpoint with a number for its id and its channels' versions; ``further`` are channels without value."""
    return {
        "v": 4,
        "id": f"1ef00000-0000-6000-8000-{number:012}",
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": dict.fromkeys([*values, *further], f"{number:032}.0000000000000001"),
        "versions_seen": {},
        "updated_channels": None,
    }


def messages(number: int) -> list[str]:
    """A growing list, most of which is already stored."""
    return [f"message {n} ".ljust(400, chr(97 + n % 26)) for n in range(12 * number)]


LAST = 5
NEXT = checkpoint(LAST + 1, {"messages": messages(LAST + 1), "n": LAST + 1}, "delta")
QUESTION = "proceed?"


def grow(saver: CheckpointSaver, thread: str) -> None:
    """Make a thread with a long value, a subgraph, a delta channel, runs, writes, and a question at its end."""
    parent = config(thread)
    for number in range(1, LAST + 1):
        values = {"messages": messages(number), "n": number, **({"delta": ["seed"]} if number == 1 else {})}
        made = checkpoint(number, values, "delta")
        metadata = {"source": "loop", "step": number, "run_id": f"run-{number % 2}-{thread}"}
        if number > 1:
            metadata["counters_since_delta_snapshot"] = {"delta": number}
        parent = saver.put(parent, made, metadata, made["channel_versions"])  # type: ignore[arg-type, assignment]
        saver.put_writes(parent, [("n", number), ("delta", [number, "x" * 900])], f"task-{number}", "~a")  # type: ignore[arg-type]
    saver.put_writes(parent, [("__interrupt__", (Interrupt(QUESTION, id=f"question-of-{thread}"),))], "asking", "~b")  # type: ignore[arg-type]
    inner = config(thread, ns="child:1")
    for number in (1, 2):
        made = checkpoint(number, {"messages": messages(number)})
        inner = saver.put(inner, made, {"source": "loop", "step": number}, made["channel_versions"])  # type: ignore[arg-type, assignment]


ACTS = (
    Act("put", lambda t: ("put", [config(t, _id(LAST)), NEXT, _DELTA, NEXT["channel_versions"]])),
    Act("put a first checkpoint", lambda t: ("put", [config(t + "-other"), NEXT, _STEP, NEXT["channel_versions"]])),
    Act("put_writes", lambda t: ("put_writes", [config(t, _id(LAST)), [["n", 1], ["messages", messages(3)]], "new"])),
    Act(
        "put_writes of which two are there",
        lambda t: ("put_writes", [config(t, _id(LAST)), [["n", 0], ["n", 0], ["late", 1]], f"task-{LAST}"]),
    ),
    Act("put_writes of an answer", lambda t: ("put_writes", [config(t, _id(LAST)), [["__resume__", "yes"]], "asking"])),
    Act("put_writes that settles", lambda t: ("put_writes", [config(t, _id(LAST)), [["n", "yes"]], "asking"])),
    Act("put_writes too early", lambda t: ("put_writes", [config(t, NEXT["id"]), [["n", 1], ["n", 2]], "early"])),
    Act("copy_thread", lambda t: ("copy_thread", [t, t + "-other"])),
    Act("prune", lambda t: ("prune", [[t]])),
    Act("delete_for_runs", lambda t: ("delete_for_runs", [[f"run-0-{t}"]])),
    Act("delete_for_runs of the latest", lambda t: ("delete_for_runs", [[f"run-1-{t}"]])),
    Act("delete_thread", lambda t: ("delete_thread", [t])),
    Act("get_tuple", lambda t: ("get_tuple", [config(t)]), is_question=True),
    Act("get_tuple of nothing", lambda t: ("get_tuple", [config(t + "-nobody")]), is_question=True),
    Act("list", lambda t: ("list", [{"configurable": {"thread_id": t}}]), is_question=True),
    Act("interrupts", lambda t: ("interrupts", [t]), is_question=True),
    Act("threads", lambda t: ("threads", [t]), is_question=True),
    Act("history", lambda t: ("history", [config(t)]), is_question=True),
)

_STEP = {"source": "loop", "step": 9}
_DELTA = {**_STEP, "counters_since_delta_snapshot": {"delta": 9}}


def _id(number: int) -> str:
    made: str = checkpoint(number, {})["id"]
    return made


def call(saver: CheckpointSaver, step: Step) -> Any:
    """Carry out a step, sync; turn listings into lists."""
    name, arguments = step
    match name:
        case "interrupts" | "threads":
            return list(getattr(saver, name)(thread_id=arguments[0]))
        case "list" | "history":
            return list(getattr(saver, name)(*arguments))
    return getattr(saver, name)(*arguments)


async def acall(saver: CheckpointSaver, step: Step) -> Any:
    """`call`, async."""
    name, arguments = step
    match name:
        case "interrupts" | "threads":
            return [found async for found in getattr(saver, f"a{name}")(thread_id=arguments[0])]
        case "list" | "history":
            return [found async for found in getattr(saver, f"a{name}")(*arguments)]
    return await getattr(saver, f"a{name}")(*arguments)


def snapshot(saver: CheckpointSaver, thread: str) -> str:
    """Everything that can be read of a thread and of its neighbour ``-other``, without the thread's own name."""
    found: list[Any] = []
    for name in (thread, f"{thread}-other"):
        tuples = list(saver.list({"configurable": {"thread_id": name}}))
        found.append(sorted(map(plain, tuples), key=repr))
        for each in tuples:
            if saver.get_tuple(each.config) != each:
                found.append(["get_tuple and list disagree", each.config])
        if tuples and not tuples[0].config["configurable"]["checkpoint_ns"]:
            history = saver.get_delta_channel_history(config=tuples[0].config, channels=["delta"])
            found.append(repr(history))
        found.append([plain(each) for each in saver.interrupts(thread_id=name)])
        found.append([plain(each) for each in saver.threads(thread_id=name)])
    return _renamed(found, thread)


def plain(result: Any) -> Any:
    """A result to compare with others, without times and cursors, which differ from run to run."""
    match result:
        case CheckpointTuple():
            return [result.config, result.checkpoint, result.metadata, result.parent_config, result.pending_writes]
        case PendingInterrupt():
            return [result.thread_id, result.checkpoint_id, result.task_id, result.interrupt_id, result.value]
        case ThreadInfo():
            return [result.thread_id, result.step, result.pending_interrupts, result.metadata, result.error]
        case CheckpointInfo():
            return [result.thread_id, result.checkpoint_ns, result.checkpoint_id, result.parent_id, result.metadata]
        case list():
            return [plain(each) for each in result]
    return result


@dataclass(frozen=True, slots=True)
class Expected:
    """What is right for an act on a grown thread: the states before and after it, and its answer."""

    before: str
    after: str
    answer: str


def expectations() -> dict[str, Expected]:
    """By the name of an act. Determined in memory, where nothing can go wrong; the same on every backend."""
    expected = {}
    with SQLiteSaver() as saver:
        for number, act in enumerate(ACTS):
            thread = f"model-{number:04}"
            grow(saver, thread)
            before = snapshot(saver, thread)
            answer = answered(call(saver, act.step(thread)), thread)
            expected[act.name] = Expected(before, snapshot(saver, thread), answer)
    return expected


def answered(result: Any, thread: str) -> str:
    """An act's answer, to compare with others."""
    return _renamed(plain(result), thread)


def _renamed(value: Any, thread: str) -> str:
    return repr(value).replace(thread, "THREAD")
