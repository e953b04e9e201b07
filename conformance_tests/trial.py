"""What a test case works with: handles on the saver's storage in one colour, and expectations that cite the clause.

A case is written once and runs in every colour that the saver declares: a `Handle` has the methods of a saver as plain
calls, and calls the saver's sync methods, its async methods, or both alternately.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Never, TypeAlias, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

from conformance_tests.contract import Capability, Clause

T = TypeVar("T")

Config: TypeAlias = dict[str, Any]
Factory: TypeAlias = Callable[[], Any]
"""Opens the saver on the same storage each time. Returns the saver, or a sync or async context manager of it."""

MANY = 1010
"""More than any store returns at once: 1,000 is the most that S3 lists, and a usual limit elsewhere."""

# `Handle.list` hides the built-in of that name from the annotations below it.
_Items: TypeAlias = list[Any]
_Tuples: TypeAlias = list[CheckpointTuple]


@dataclass(frozen=True, slots=True)
class Subject:
    """The saver under test.

    ``factory_name`` is ``package.module:callable`` if other processes can open the same storage.
    """

    factory: Factory
    capabilities: frozenset[Capability]
    factory_name: str | None = None


class Colour(StrEnum):
    """How a case calls the saver: by its sync methods, by its async methods, or alternating between the two."""

    SYNC = "sync"
    ASYNC = "async"
    MIXED = "mixed"


class ConformanceFailure(AssertionError):
    """A clause does not hold."""

    def __init__(self, clause: Clause, finding: str) -> None:
        self.clause = clause
        self.finding = finding
        super().__init__(f"{clause.id} {clause.title}: {finding}")


class Handle:
    """One opened saver. It has every method of the saver's interface under its sync name.

    Where the saver's method yields, the handle's returns a list. ``invoke`` and the other graph methods run a compiled
    graph in the same colour.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], colour: Colour, runner: asyncio.Runner) -> None:
        self.saver = saver
        self._colour = colour
        self._runner = runner
        self._calls = 0

    def get_tuple(self, config: Config) -> CheckpointTuple | None:
        found: CheckpointTuple | None = self._call(self.saver, "get_tuple", config)
        return found

    def put(
        self, config: Config, checkpoint: Mapping[str, Any], metadata: Mapping[str, Any], versions: Mapping[str, Any]
    ) -> Config:
        stored: Config = self._call(self.saver, "put", config, checkpoint, metadata, versions)
        return stored

    def put_writes(self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        self._call(self.saver, "put_writes", config, writes, task_id, task_path)

    def list(self, config: Config | None, **options: Any) -> _Tuples:
        return self._collect(self.saver, "list", config, **options)

    def list_namespace(self, config: Config, **options: Any) -> _Tuples:
        """List a namespace, or one checkpoint of it, and drop everything else from the listing.

        Only the clauses LIST-7 and LIST-8 demand that there is nothing else.
        """
        named = {key: config["configurable"].get(key) for key in ("checkpoint_ns", "checkpoint_id")}
        asked = {key: value for key, value in named.items() if value is not None}
        listed = self._collect(self.saver, "list", config, **options)
        return [found for found in listed if asked.items() <= found.config["configurable"].items()]

    def iterate(self, config: Config | None, **options: Any) -> Iterator[CheckpointTuple]:
        """List lazily, so that the case can call the saver in between."""
        yield from self._iterate("list", config, **options)

    def delete_thread(self, thread_id: str) -> None:
        self._call(self.saver, "delete_thread", thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._call(self.saver, "delete_for_runs", run_ids)

    def copy_thread(self, source: str, target: str) -> None:
        self._call(self.saver, "copy_thread", source, target)

    def prune(self, thread_ids: Sequence[str], **options: Any) -> None:
        self._call(self.saver, "prune", thread_ids, **options)

    def get_delta_channel_history(self, config: Config, channels: Sequence[str]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._call(self.saver, "get_delta_channel_history", config=config, channels=channels)
        return found

    def interrupts(self, **options: Any) -> _Items:
        return self._collect(self.saver, "interrupts", **options)

    def iterate_interrupts(self, **options: Any) -> Iterator[Any]:
        """List interrupts lazily, so that the case reads no more than it needs."""
        yield from self._iterate("interrupts", **options)

    def threads(self, **options: Any) -> _Items:
        return self._collect(self.saver, "threads", **options)

    def invoke(self, graph: Any, value: Any, config: Config, **options: Any) -> Any:
        return self._call(graph, "invoke", value, config, **options)

    def get_state(self, graph: Any, config: Config, **options: Any) -> Any:
        return self._call(graph, "get_state", config, **options)

    def get_state_history(self, graph: Any, config: Config, **options: Any) -> _Items:
        return self._collect(graph, "get_state_history", config, **options)

    def update_state(self, graph: Any, config: Config, values: Any, **options: Any) -> Config:
        updated: Config = self._call(graph, "update_state", config, values, **options)
        return updated

    def _iterate(self, method: str, *args: Any, **options: Any) -> Iterator[Any]:
        if self._is_async_turn():
            listing: AsyncIterator[Any] = getattr(self.saver, f"a{method}")(*args, **options)
            while True:
                try:
                    yield _result(self._runner, _next(listing))
                except StopAsyncIteration:
                    return
        yield from getattr(self.saver, method)(*args, **options)

    def _is_async_turn(self) -> bool:
        self._calls += 1
        return self._colour is Colour.ASYNC or (self._colour is Colour.MIXED and self._calls % 2 == 0)

    def _call(self, target: Any, method: str, *args: Any, **options: Any) -> Any:
        if self._is_async_turn():
            return _result(self._runner, getattr(target, f"a{method}")(*args, **options))
        return getattr(target, method)(*args, **options)

    def _collect(self, target: Any, method: str, *args: Any, **options: Any) -> _Items:
        if self._is_async_turn():
            return _result(self._runner, _collected(getattr(target, f"a{method}")(*args, **options)))
        return [*getattr(target, method)(*args, **options)]


class Trial:
    """One run of one case: opens handles, makes threads and checkpoints, and states what is expected.

    It belongs to the thread that made it, because its event loop does.
    """

    def __init__(self, clause: Clause, subject: Subject, colour: Colour) -> None:
        self.clause = clause
        self.subject = subject
        self.colour = colour
        self._opened = ExitStack()
        self._runner = self._opened.enter_context(asyncio.Runner())

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    # Handles

    def open(self, colour: Colour | None = None) -> Handle:
        """Open another handle on the storage; the trial closes it."""
        return self._opened.enter_context(self.opened(colour))

    def opened(self, colour: Colour | None = None) -> AbstractContextManager[Handle]:
        """Open another handle for a ``with`` block, to close it before the trial ends."""
        return _Opened(self.subject.factory, colour or self.colour, self._runner)

    def another(self) -> Trial:
        """Make a trial like this one, for another thread."""
        return Trial(self.clause, self.subject, self.colour)

    def run(self, awaitable: Any) -> Any:
        """Await something on the trial's event loop."""
        return _result(self._runner, awaitable)

    # Material

    def thread(self, prefix: str = "thread") -> str:
        """A thread id that was never used before."""
        return f"{prefix}-{uuid.uuid4().hex}"

    def spread(self, several: Sequence[T], turn: int = 0) -> Sequence[T]:
        """All of these items or, if the case runs in all colours, a different part of them in each colour.

        This is for items that need not be combined with every colour. Another ``turn`` gives another case another part.
        """
        if not {Capability.SYNC, Capability.ASYNC} <= self.subject.capabilities:
            return several
        parts = min(len(several), len(Colour))
        return several[(list(Colour).index(self.colour) + turn) % parts :: parts]

    def config(self, thread_id: str, checkpoint_id: str | None = None, *, ns: str = "", **entries: Any) -> Config:
        """A config for a thread, with further entries of its ``configurable``."""
        named = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
        return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, **named, **entries}}

    def checkpoint(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        id_: str | None = None,
        versions: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A checkpoint that holds these values, by default at version 1 of each channel."""
        values = dict(values or {})
        return {
            "v": 4,
            "id": id_ or str(uuid6()),
            "ts": datetime.now(UTC).isoformat(),
            "channel_values": values,
            "channel_versions": dict.fromkeys(values, _FIRST_VERSION) if versions is None else dict(versions),
            "versions_seen": {},
            "updated_channels": None,
        }

    def put(
        self,
        handle: Handle,
        thread_id: str,
        values: Mapping[str, Any] | None = None,
        *,
        parent: Config | None = None,
        ns: str = "",
        id_: str | None = None,
        versions: Mapping[str, Any] | None = None,
        changed: Collection[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Config:
        """Put a checkpoint with these values; returns its config.

        As LangGraph does, pass unchanged values, too: only the channels in ``changed`` are new, by default all of them.
        """
        checkpoint = self.checkpoint(values, id_=id_, versions=versions)
        config = self.config(thread_id, parent["configurable"]["checkpoint_id"] if parent else None, ns=ns)
        entries = {"source": "loop", "step": 0, "parents": {}, **(metadata or {})}
        new_channels = checkpoint["channel_values"] if changed is None else changed
        new_versions = {channel: checkpoint["channel_versions"][channel] for channel in new_channels}
        return handle.put(config, checkpoint, entries, new_versions)

    def chain(self, handle: Handle, thread_id: str, length: int, *, ns: str = "", **metadata: Any) -> list[Config]:
        """Put this many checkpoints, each the parent of the next, with a channel ``n`` that counts; oldest first."""
        stored: list[Config] = []
        for number in range(length):
            stored.append(
                self.put(
                    handle,
                    thread_id,
                    {"n": number},
                    versions={"n": f"{number + 1:032}.0000000000000001"},
                    parent=stored[-1] if stored else None,
                    ns=ns,
                    metadata={"step": number, **metadata},
                )
            )
        return stored

    # Expectations

    def expect(self, found: Any, expected: Any, situation: str) -> None:
        """Fail unless ``found`` equals ``expected``; ``situation`` says what was done and what is compared."""
        if found != expected:
            said = f"expected {_short(expected)}, got {_short(found)}"
            # In what is too long to be shown, the difference may be in what was left out.
            where = (
                "" if _is_short(expected) and _is_short(found) else f"; they differ{_first_difference(found, expected)}"
            )
            self.fail(f"{situation}; {said}{where}")

    def expect_that(self, holds: bool, situation: str) -> None:
        """Fail unless a condition holds; ``situation`` says what was done and what should be true."""
        if not holds:
            self.fail(situation)

    def expect_found(self, found: CheckpointTuple | None, situation: str) -> CheckpointTuple:
        """Fail if there is no checkpoint."""
        if found is None:
            self.fail(f"{situation}; expected a checkpoint, got None")
        return found

    def expect_writes(self, found: CheckpointTuple, expected: Iterable[tuple[str, str, Any]], situation: str) -> None:
        """Fail unless a checkpoint has exactly these pending writes, in any order."""
        self.expect(unordered(found.pending_writes), unordered(expected), f"{situation}; pending writes")

    def expect_error(self, call: Callable[[], Any], situation: str) -> Exception:
        """Fail unless the call raises an exception; returns the exception."""
        try:
            result = call()
        except Exception as error:  # noqa: BLE001  # any class will do: savers have their own
            raised = error
        else:
            self.fail(f"{situation}; expected an error, got {_short(result)}")
        return raised

    def fail(self, finding: str) -> Never:
        """Fail, with what was found."""
        raise ConformanceFailure(self.clause, finding)


class _Opened(AbstractContextManager[Handle]):
    """Opens and closes what a factory returns, whether it is a saver or a sync or async context manager of one."""

    def __init__(self, factory: Factory, colour: Colour, runner: asyncio.Runner) -> None:
        self._factory = factory
        self._colour = colour
        self._runner = runner
        self._given: Any = None

    def __enter__(self) -> Handle:
        self._given = self._open()
        saver = self._given
        if self._is_async(saver):
            saver = self._runner.run(saver.__aenter__())
        elif isinstance(saver, AbstractContextManager):
            saver = saver.__enter__()
        if not isinstance(saver, BaseCheckpointSaver):
            raise TypeError(
                f"the factory gave a {type(saver).__name__}, which is neither a BaseCheckpointSaver "
                "nor a sync or async context manager of one"
            )
        return Handle(saver, self._colour, self._runner)

    def __exit__(self, *error: object) -> None:
        if self._is_async(self._given):
            self._runner.run(self._given.__aexit__(None, None, None))
        elif isinstance(self._given, AbstractContextManager):
            self._given.__exit__(None, None, None)

    def _is_async(self, given: Any) -> bool:
        if not isinstance(given, AbstractAsyncContextManager):
            return False
        return self._colour is Colour.ASYNC or not isinstance(given, AbstractContextManager)

    def _open(self) -> Any:
        if self._colour is Colour.SYNC:
            return self._factory()
        # Some async savers need a running event loop when they are constructed.
        return self._runner.run(_called(self._factory))


_FIRST_VERSION = f"{1:032}.0000000000000001"


def id_of(number: int) -> str:
    """A checkpoint id. A greater number makes a greater id."""
    return f"1f000000-0000-6000-8000-{number:012x}"


def ids_of(listed: Iterable[CheckpointTuple]) -> list[str]:
    return [found.config["configurable"]["checkpoint_id"] for found in listed]


def threads_of(listed: Iterable[CheckpointTuple]) -> list[str]:
    return [found.config["configurable"]["thread_id"] for found in listed]


def parent_of(found: CheckpointTuple) -> str | None:
    """The id of its parent."""
    id_: str | None = (found.parent_config or {}).get("configurable", {}).get("checkpoint_id")
    return id_


def accepts(call: Callable[..., object], *arguments: object) -> bool:
    """Make a call, and tell whether it was accepted. Any exception is a refusal, because savers have their own."""
    try:
        call(*arguments)
    except Exception:  # noqa: BLE001  # as the docstring says
        return False
    return True


def unordered(writes: Iterable[tuple[str, str, Any]] | None) -> list[tuple[str, str, Any]]:
    """Pending writes in an order of our own, to compare them: only WRITES-7 demands an order."""
    return sorted(writes or (), key=lambda write: (write[0], write[1], repr(write[2])))


def _result(runner: asyncio.Runner, awaitable: Awaitable[T]) -> T:
    """Await something without making its result that of a task.

    On the main thread, CPython 3.11's `Runner.run` ends by computing the repr of the task and does not use it. With a
    large result, that takes seconds.
    """
    results: list[T] = []

    async def keep() -> None:
        results.append(await awaitable)

    runner.run(keep())
    return results[0]


async def _called(factory: Factory) -> Any:
    return factory()


async def _next(listing: AsyncIterator[Any]) -> Any:
    return await anext(listing)


async def _collected(listing: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in listing]


_LONGEST = 300


def _is_short(value: Any) -> bool:
    return len(repr(value)) <= _LONGEST


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:140]} … {text[-140:]} ({len(text)} characters)"


def _first_difference(found: Any, expected: Any, place: str = "") -> str:
    """Say where two unequal values differ first, and how."""
    found_parts, expected_parts = _parts(found), _parts(expected)
    if type(found) is type(expected) and (found_parts or expected_parts):
        for name in {**expected_parts, **found_parts}:
            if name not in found_parts:
                return f" at {place}{name}: expected {_short(expected_parts[name])}, got nothing"
            if name not in expected_parts:
                return f" at {place}{name}: expected nothing, got {_short(found_parts[name])}"
            if found_parts[name] != expected_parts[name]:
                return _first_difference(found_parts[name], expected_parts[name], f"{place}{name}")
    if isinstance(found, str) and isinstance(expected, str):
        pairs = enumerate(zip(found, expected, strict=False))
        same = next((number for number, (one, other) in pairs if one != other), min(len(found), len(expected)))
        same = max(0, same - 20)  # and a little of what is the same
        found, expected, place = found[same:], expected[same:], f"{place} from character {same}"
    return f" at {place.strip() or 'the top'}: expected {_short(expected)}, got {_short(found)}"


def _parts(value: Any) -> dict[str, Any]:
    """What a container holds, by how one would write its place."""
    match value:
        case dict():
            return {f"[{key!r}]": part for key, part in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return {f".{name}": part for name, part in zip(value._fields, value, strict=True)}
        case list() | tuple():
            return {f"[{number}]": part for number, part in enumerate(value)}
    return {}
