"""What an operation does when somebody has removed what it was about to read: it begins again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from checkpoint_base.errors import damage, kept_changing
from checkpoint_base.transport import Operation

P = ParamSpec("P")
T = TypeVar("T")

_LOOKS = 5
"""How often an operation begins, before what it does not find is taken for lost."""


class Vanished(Exception):
    """A listed object, which the message names, is gone, because somebody has removed it since. Look again."""


class Changed(Vanished):
    """Somebody has changed a thread meanwhile. Look again."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"thread {thread_id!r} has changed")
        self.thread_id = thread_id


def again_if_vanished(operation: Callable[P, Operation[T]]) -> Callable[P, Operation[T]]:
    """Let an operation begin again when it raises `Vanished`.

    Raises:
        ConflictError: at the last attempt, too, somebody has changed the thread meanwhile.
        CorruptCheckpoint: an object is still missing at the last attempt.
    """

    @wraps(operation)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> Operation[T]:
        vanished: Vanished | None = None
        for _ in range(_LOOKS):
            try:
                return (yield from operation(*args, **kwargs))
            except Vanished as error:
                vanished = error
        if isinstance(vanished, Changed):
            raise kept_changing(vanished.thread_id) from vanished
        raise damage(f"{vanished} is missing from the bucket") from vanished

    return repeated
