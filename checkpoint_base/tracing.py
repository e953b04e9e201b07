"""Spans of OpenTelemetry: how long each call of a saver took. A program without OpenTelemetry has none."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

try:
    from opentelemetry import trace
except ImportError:
    _TRACER = None
else:
    _TRACER = trace.get_tracer("checkpoint_base")


def span(call: str, store: object) -> AbstractContextManager[Any]:
    """Return a span for one call. It is the current one while that lasts, and records the error that ends it.

    Only the message of an error has ids: they may be personal, and not everybody who reads traces may see them.
    """
    if _TRACER is None:
        return nullcontext()
    return _TRACER.start_as_current_span(
        f"checkpoint {call}",
        kind=trace.SpanKind.CLIENT,
        attributes={"db.operation.name": call, "checkpoint.store": type(store).__name__},
    )


def note(event: str, error: Exception) -> None:
    """Add an event to the current span."""
    if _TRACER is not None:
        trace.get_current_span().add_event(event, {"exception.message": str(error)})
