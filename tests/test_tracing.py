"""What traces of a program show of its savers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, get_current_span

from checkpoint_base import SQLiteSaver, StoreUnavailable, tracing
from checkpoint_base.transport import Retrying
from tests.test_transport import Echo

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
WAITING: Any = {"configurable": {**CONFIG["configurable"], "checkpoint_id": "checkpoint"}}


class Traced:
    """A program with spans of its own, and those of all that have ended."""

    def __init__(self) -> None:
        self._ended = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._ended))
        self.tracer: Tracer = provider.get_tracer("program")

    def spans(self) -> list[ReadableSpan]:
        """The spans that ended since the last call."""
        spans = self._ended.get_finished_spans()
        self._ended.clear()
        return [*spans]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Traced:
    traced = Traced()
    monkeypatch.setattr(tracing, "_tracer", lambda: traced.tracer)
    return traced


@pytest.fixture
def saver(program: Traced) -> Iterator[SQLiteSaver]:
    with SQLiteSaver.from_conn_string(":memory:") as opened:
        program.spans()
        yield opened


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_every_call_has_a_span_within_that_of_its_caller(program: Traced, saver: SQLiteSaver, colour: str) -> None:
    calls: dict[str, tuple[Any, ...]] = {
        "setup": (),
        "put": (CONFIG, empty_checkpoint(), {}, {}),
        "put_writes": (WAITING, [("channel", 1)], "task"),
        "get_tuple": (CONFIG,),
        "list": (None,),
        "history": (None,),
        "threads": (),
        "interrupts": (),
        "get_delta_channel_history": (),
        "copy_thread": ("thread", "copy"),
        "prune": (["thread"],),
        "delete_for_runs": (["run"],),
        "delete_thread": ("thread",),
    }
    options = {"get_delta_channel_history": {"config": CONFIG, "channels": ["channel"]}}

    def call(name: str) -> None:
        found = getattr(saver, name)(*calls[name], **options.get(name, {}))
        if name in ("list", "history", "threads", "interrupts"):
            list(found)

    async def acall(name: str) -> None:
        found = getattr(saver, f"a{name}")(*calls[name], **options.get(name, {}))
        if name in ("list", "history", "threads", "interrupts"):
            _ = [each async for each in found]
        else:
            await found

    for name in calls:
        with program.tracer.start_as_current_span("a request") as request:
            if colour == "sync":
                call(name)
            else:
                asyncio.run(acall(name))
        ours, _ = program.spans()
        assert ours.name == f"checkpoint {name}"
        assert ours.parent == request.get_span_context()
        assert ours.attributes == {"db.operation.name": name, "checkpoint.store": "SQLiteStore"}
        assert ours.status.status_code is StatusCode.UNSET
        assert not ours.events


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_listing_has_a_span_for_each_page_and_none_while_its_caller_works(
    program: Traced, saver: SQLiteSaver, colour: str
) -> None:
    for _ in range(150):
        saver.put(CONFIG, empty_checkpoint(), {}, {})
    program.spans()

    async def consume() -> None:
        async for _ in saver.ahistory(CONFIG):
            assert not get_current_span().is_recording()

    if colour == "async":
        asyncio.run(consume())
    else:
        for _ in saver.history(CONFIG):
            assert not get_current_span().is_recording()
    assert [each.name for each in program.spans()] == ["checkpoint history"] * 2


def test_calls_at_once_have_a_span_each_within_that_of_their_own_caller(program: Traced, saver: SQLiteSaver) -> None:
    async def request(number: int) -> int:
        with program.tracer.start_as_current_span(f"request {number}") as span:
            await saver.aget_tuple(CONFIG)
            return span.get_span_context().span_id

    async def work() -> list[int]:
        return await asyncio.gather(*[request(number) for number in range(20)])

    callers = asyncio.run(work())
    parents = [each.parent and each.parent.span_id for each in program.spans() if each.name == "checkpoint get_tuple"]
    assert sorted(callers) == sorted(each for each in parents if each)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_span_shows_every_repetition_and_the_error_at_the_end(
    program: Traced, saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch, colour: str
) -> None:
    down = Echo(failures=10**9)
    read = saver.get_tuple if colour == "sync" else lambda config: asyncio.run(saver.aget_tuple(config))
    with monkeypatch.context() as patch:
        patch.setattr(saver, "transport", Retrying(down, deadline=0.2))
        with pytest.raises(StoreUnavailable):
            read(CONFIG)
    (span,) = program.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["trying again"] * (down.attempts - 1) + ["exception"]
    assert {(event.attributes or {})["exception.message"] for event in span.events} == {"not now"}


@pytest.mark.parametrize("is_installed", [True, False])
def test_a_program_that_does_not_use_opentelemetry_does_not_load_it(is_installed: bool) -> None:
    program = """
import sys
if sys.argv[1] == "False":
    sys.modules["opentelemetry"] = None
from checkpoint_base import SQLiteSaver
from langgraph.checkpoint.base import empty_checkpoint
config = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
with SQLiteSaver.from_conn_string(":memory:") as saver:
    saver.put(config, empty_checkpoint(), {}, {})
    print(len(list(saver.list(config))), "opentelemetry.trace" in sys.modules)
"""
    command = [sys.executable, "-c", program, str(is_installed)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "1 False\n"


def test_the_provider_of_a_program_gets_the_spans_from_when_it_is_set_up() -> None:
    program = """
import sys
from contextlib import nullcontext
from checkpoint_base import SQLiteSaver, tracing
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
with SQLiteSaver.from_conn_string(":memory:") as saver:
    list(saver.threads())
    is_free = isinstance(tracing.span("threads", saver.store), nullcontext)
    ended = InMemorySpanExporter()
    trace.set_tracer_provider(provider := TracerProvider())
    provider.add_span_processor(SimpleSpanProcessor(ended))
    list(saver.threads())
    print(is_free, [span.name for span in ended.get_finished_spans()])
"""
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert shown == "True ['checkpoint threads']\n"
