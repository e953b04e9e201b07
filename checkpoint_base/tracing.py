"""Spans of OpenTelemetry: how long each call of a saver took. A program that does not use OpenTelemetry has none."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

_API = "opentelemetry.trace"


def span(call: str, store: object) -> AbstractContextManager[Any]:
    """Return a span for one call. It is the current one while that lasts, and records the error that ends it.

    Only the message of an error has ids: they may be personal, and not everybody who reads traces may see them.
    """
    if _API not in sys.modules:  # a program that traces has imported it
        return nullcontext()
    started: AbstractContextManager[Any] = _tracer().start_as_current_span(
        f"checkpoint {call}",
        kind=sys.modules[_API].SpanKind.CLIENT,
        attributes={"db.operation.name": call, "checkpoint.store": type(store).__name__},
    )
    return started


def note(event: str, error: Exception) -> None:
    """Add an event to the current span."""
    if _API in sys.modules:
        sys.modules[_API].get_current_span().add_event(event, {"exception.message": str(error)})


@cache
def _tracer() -> Any:
    # Not imported at the top: whoever has it installed and does not use it should not wait for it.
    from opentelemetry import trace

    return trace.get_tracer("checkpoint_base")
