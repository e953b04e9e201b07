"""Carries out several operations side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, TypeVar

from checkpoint_base.transport import Operation
from checkpoint_s3.transport import Batch

T = TypeVar("T")


def together(operations: Sequence[Operation[T]]) -> Operation[list[T]]:
    """Carry out independent operations: what they request at the same time is one request. Returns their results.

    An error of a request ends all of them.
    """
    results: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(operations)))
    while answers:
        asked = {}
        for at, answer in answers.items():
            try:
                request = operations[at].send(answer)
            except StopIteration as done:
                results[at] = done.value
            else:
                asked[at] = request if isinstance(request, Batch) else Batch([request]), isinstance(request, Batch)
        found = iter((yield Batch(call for calls, _ in asked.values() for call in calls)) if asked else ())
        answers = {
            at: [*islice(found, len(calls))] if is_batch else next(found) for at, (calls, is_batch) in asked.items()
        }
    return [results[at] for at in range(len(operations))]
