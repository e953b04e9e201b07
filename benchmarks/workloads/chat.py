"""A growing chat: the cost of each call by its length, the bytes at rest, listing it, and time travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import cache, partial
from statistics import mean
from typing import Any
from uuid import uuid4

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from benchmarks.inside import Seen, looking_into
from benchmarks.measure import Timings, settle
from benchmarks.results import Results, said, timed
from benchmarks.sides import BARE, SERIALIZING, Backend, Bare, Serializing
from benchmarks.traffic import Put, Turn, chat, latest, replayed
from benchmarks.wire import NOTHING, Said, distant
from benchmarks.workloads.contenders import Contender, all_of, settled

THREAD = "chat"
TARGET = 400
"""The length of the chat for which the targets are meant."""

DISTANCE = 0.001
"""Seconds that are added to a round trip, as if the server were in another rack or zone."""

AWAY = f", {DISTANCE * 1000:.0f} ms away"

_WARM, _COUNTED, _BLOCK = 2, 4, 2


def lengths(quick: bool) -> Sequence[int]:
    return (10, 100, 200, TARGET) if quick else (10, 50, 100, 200, TARGET, 1000)


def target(quick: bool) -> int:
    return max(lengths(quick)) if quick else TARGET


@cache
def _recorded(messages: int) -> list[Turn]:
    return chat(messages)


def run(results: Results, backend: Backend) -> None:
    turns = _recorded(max(lengths(results.quick)) + 160)
    with all_of(backend) as (server, contenders):
        results.servers[backend.name] = server.version
        at = 0
        longest = max(contender.side.longest_chat for contender in contenders)
        for length in (each for each in lengths(results.quick) if each <= longest):
            running = [contender for contender in contenders if contender.side.longest_chat >= length]
            upto = length // 2  # a turn adds two messages
            if upto < at:
                raise ValueError(f"a chat of {length} messages comes too soon: measuring the last one made it longer")
            results.progress(f"{backend.name}: chat of {length} messages")
            for contender in running:
                replayed(turns[at:upto], contender.saver, THREAD)
            at = upto
            if length == target(results.quick):
                _listing(results, backend, running, length)
            at += _sizes(results, backend, running, turns[at:], length)
            with backend.bare(server.url) as write:
                at += _times(results, backend, running, turns[at:], length, write)
            if length == target(results.quick):
                at += _times_away(results, backend, running, turns[at:], length)
        _time_travel(results, backend, running, turns[:at], length)


def _sizes(results: Results, backend: Backend, running: Sequence[Contender], turns: Sequence[Turn], length: int) -> int:
    """Count bytes and round trips of each kind of call, from a handle that has read the thread before."""
    for contender in running:
        common = {"workload": "chat", "backend": backend.name, "side": contender.side.name, "size": length}
        results.add(**common, operation="all", at_rest=contender.storage.at_rest())
        counts: dict[str, list[Said]] = {}
        insights: dict[str, list[Seen]] = {}
        contender.counted.get_tuple(latest(THREAD))
        replayed(turns[:_WARM], contender.counted, THREAD)
        for turn in turns[_WARM : _WARM + _COUNTED]:
            for kind, act in _acts(turn, contender.counted):
                with looking_into(contender.counted) if contender.side.is_ours else nullcontext() as seen:
                    counts.setdefault(kind, []).append(contender.count(act))
                if seen is not None:
                    insights.setdefault(kind, []).append(seen)
        for kind, each in counts.items():
            figures = said(sum(each, start=NOTHING), len(each))
            if kind in insights:
                figures["new_bytes"] = mean(seen.new_bytes for seen in insights[kind])
                figures["steps"] = mean(seen.steps for seen in insights[kind])
            results.add(**common, operation=f"{kind}, counted", **figures)
    return _WARM + _COUNTED


def _acts(turn: Turn, saver: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The calls of a turn, followed by a read of their result, each with its kind."""
    for call in turn.calls:
        yield call.kind, partial(call.replay, saver, THREAD)
    yield "get_tuple", lambda: saver.get_tuple(latest(THREAD))


def _times(
    results: Results,
    backend: Backend,
    running: Sequence[Contender],
    turns: Sequence[Turn],
    length: int,
    write: Callable[[int], None],
) -> int:
    """Time each kind of call; the sides and the floors take turns."""
    wanted = (20 if results.quick else 40) if length == target(results.quick) else 6
    sizes = {
        kind: round(row.new_bytes)
        for kind in ("put", "put_writes")
        if (row := results.find("chat", backend.name, running[0].side.name, f"{kind}, counted", length))
        and row.new_bytes
    }
    floors: dict[str, Any] = {SERIALIZING: Serializing(), BARE: Bare(write, sizes)}
    savers = {contender.side.name: contender.saver for contender in running} | floors
    timings = _in_turns(backend, savers, turns[:wanted])
    whole = len(JsonPlusSerializer().dumps_typed(_state(turns[0])["messages"])[1])
    common = {"workload": "chat", "backend": backend.name, "size": length}
    results.add(**common, side=SERIALIZING, operation="messages", new_bytes=whole)
    for name, kinds in timings.items():
        for kind, times in kinds.items():
            results.add(**common, side=name, operation=kind, **timed(times))
    return wanted


def _times_away(
    results: Results, backend: Backend, running: Sequence[Contender], turns: Sequence[Turn], length: int
) -> int:
    """Time the same calls as if the server were on another machine, so that each round trip counts."""
    if running[0].storage.port is None:
        return 0
    wanted = 10
    with ExitStack() as stack:
        savers = {}
        for contender in running:
            assert contender.storage.port is not None  # noqa: S101  # all are on one server
            port = stack.enter_context(distant(contender.storage.port, DISTANCE))
            savers[contender.side.name] = stack.enter_context(contender.side.open(contender.storage.through(port)))
        for saver in savers.values():
            saver.get_tuple(latest(THREAD))
            replayed(turns[:1], saver, THREAD)
        timings = _in_turns(backend, savers, turns[1 : wanted + 1])
    common = {"workload": "chat", "backend": backend.name, "size": length}
    for name, kinds in timings.items():
        for kind, times in kinds.items():
            results.add(**common, side=name, operation=f"{kind}{AWAY}", **timed(times))
    return wanted + 1


def _in_turns(backend: Backend, savers: Mapping[str, Any], turns: Sequence[Turn]) -> dict[str, dict[str, Timings]]:
    """The timings of each saver by kind of call; the savers take turns of a few calls each."""
    timings: dict[str, dict[str, Timings]] = {name: {} for name in savers}
    for began in range(0, len(turns), _BLOCK):
        for name, saver in savers.items():
            settled(backend)
            for turn in turns[began : began + _BLOCK]:
                _time_turn(turn, name, saver, timings[name])
    return timings


def _time_turn(turn: Turn, name: str, saver: Any, timings: dict[str, Timings]) -> None:
    if isinstance(saver, Serializing):
        saver.prepare(_state(turn))
    for kind, act in _acts(turn, saver):
        if name != BARE or kind in ("put", "put_writes"):
            timings.setdefault(kind, Timings()).time(act)


def _state(turn: Turn) -> Any:
    last = turn.calls[-1]
    assert isinstance(last, Put)  # noqa: S101  # a turn ends with its checkpoint
    return last.checkpoint["channel_values"]


def _listing(results: Results, backend: Backend, running: Sequence[Contender], length: int) -> None:
    """Read the whole thread with its states and, which only our saver can, without them."""
    results.progress(f"{backend.name}: listing the chat")
    calls: dict[str, Callable[[Any], Any]] = {"list": lambda saver: list(saver.list(latest(THREAD)))}
    calls["history"] = lambda saver: list(saver.history(latest(THREAD)))
    timings: dict[tuple[str, str], Timings] = {}
    found = 0
    for _ in range(1 if results.quick else 3):
        for contender in running:
            for operation, call in calls.items():
                if operation == "list" or contender.side.is_ours:
                    settle()
                    key = (contender.side.name, operation)
                    found = len(timings.setdefault(key, Timings()).time(partial(call, contender.saver)))
    for contender in running:
        for operation, call in calls.items():
            if (contender.side.name, operation) in timings:
                results.add(
                    workload="list",
                    backend=backend.name,
                    side=contender.side.name,
                    operation=operation,
                    size=length,
                    note=f"{found} checkpoints",
                    **timed(timings[contender.side.name, operation]),
                    **said(contender.count(partial(call, contender.counted)), 1),
                )


def _time_travel(
    results: Results, backend: Backend, running: Sequence[Contender], turns: Sequence[Turn], length: int
) -> None:
    """Read old checkpoints, and put an edited message on them as a fork."""
    results.progress(f"{backend.name}: time travel")
    puts = [turns[round(share * len(turns))].calls[-1] for share in (0.2, 0.4, 0.6, 0.8)]
    timings: dict[tuple[str, str], Timings] = {}
    for _ in range(2 if results.quick else 4):
        for contender in running:
            settled(backend)
            for old in puts:
                assert isinstance(old, Put)  # noqa: S101  # a turn ends with its checkpoint
                config = latest(THREAD)
                config["configurable"]["checkpoint_id"] = old.checkpoint["id"]
                name = contender.side.name
                times = timings.setdefault((name, "get_tuple of an old checkpoint"), Timings())
                times.time(partial(contender.saver.get_tuple, config))
                fork = _edited(old)
                times = timings.setdefault((name, "put of a fork"), Timings())
                times.time(partial(fork.replay, contender.saver, THREAD))
    for (name, operation), times in timings.items():
        results.add(
            workload="time travel", backend=backend.name, side=name, operation=operation, size=length, **timed(times)
        )


def _edited(old: Put) -> Put:
    """The checkpoint that `update_state` would make from an old one, with another last message."""
    messages = [*old.checkpoint["channel_values"]["messages"]]
    messages[-1] = HumanMessage("edited ".ljust(1000, "."), id=uuid4().hex)
    version = f"{len(messages) + 10_000:032}.{uuid4().int % 10**16:016}"
    checkpoint = {
        **old.checkpoint,
        "id": str(uuid6()),
        "channel_values": {**old.checkpoint["channel_values"], "messages": messages},
        "channel_versions": {**old.checkpoint["channel_versions"], "messages": version},
    }
    return replace(old, checkpoint=checkpoint, new_versions={"messages": version}, parent_id=old.checkpoint["id"])
