"""What a saver reports about threads, checkpoints and pending interrupts without loading their state."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from checkpoint_base.errors import InvalidKey
from checkpoint_base.keys import text_key
from checkpoint_base.records import Position
from checkpoint_base.times import LAST_MICROSECOND


@dataclass(frozen=True, slots=True)
class PendingInterrupt:
    """A question that waits for an answer: what ``graph.get_state(config).interrupts`` has for its thread.

    ``checkpoint_ns`` is the root namespace, where a subgraph's question is recorded too, and ``task_id`` the root task
    that asks. ``response_schema`` is the JSON Schema of its answer, if the graph gave one. ``created_at`` is when it
    was last asked, by the clock of the process that ran the graph. ``metadata`` is that of the checkpoint. Pass
    ``cursor`` as ``after=`` to continue behind this one.

    ``error`` says why a question cannot be read: it is damaged, say, or of a class that this process does not have. It
    is listed all the same, without ``value`` and ``interrupt_id``, and keeps no others from being listed; leave its
    answer to a process that can read it. If the checkpoint's metadata cannot be read, it is listed whatever metadata
    was asked for. If its time is damaged, ``created_at`` is the latest that a `datetime` has.
    """

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    interrupt_id: str | None
    value: Any
    response_schema: Any
    created_at: datetime
    metadata: Mapping[str, Any]
    cursor: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ThreadInfo:
    """A thread. ``step`` and ``metadata`` are those of the latest checkpoint of its root namespace.

    ``created_at`` and ``updated_at`` are the times of the first checkpoint and of the last checkpoint or write, by the
    clocks of the processes that stored them. Pass ``cursor`` as ``after=`` to continue behind this one. ``error`` says
    why that checkpoint cannot be read; then ``step`` and ``metadata`` are missing, and the thread is listed whatever
    metadata was asked for. Or it says that a time is damaged, which is then the latest that a `datetime` can have.
    """

    thread_id: str
    created_at: datetime
    updated_at: datetime
    step: int | None
    pending_interrupts: int
    metadata: Mapping[str, Any]
    cursor: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint without its state. ``created_at`` is when the graph made it, or None if that is no ISO 8601 time."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str | None
    created_at: datetime | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a listing: behind the record at ``after``, and behind ``skip`` items of the record ``within``.

    As a text it names its ``listing``: in another one, or in another order, it would silently begin elsewhere.
    """

    after: Position | None = None
    within: Position | None = None
    skip: int = 0

    def text(self, listing: str) -> str:
        places = [listing, _parsable(self.after), _parsable(self.within), self.skip]
        return base64.urlsafe_b64encode(orjson.dumps(places)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str | None, listing: str) -> Cursor:
        """Read a cursor that this listing returned. None is the beginning.

        Raises:
            InvalidKey: no listing returned this, or another one did.
        """
        if text is None:
            return cls()
        try:
            of, after, within, skip = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            cursor = cls(_position(after), _position(within), _whole(skip))
        except (ValueError, TypeError) as error:
            raise InvalidKey(f"{text!r} is not a cursor: pass one that a listing gave you, unchanged") from error
        if of != listing:
            raise InvalidKey(f"{text!r} is a cursor of another listing, {of}: pass one of {listing}")
        return cursor


def _parsable(place: Position | None) -> Position | None:
    """A place with a time that `Cursor.parse` takes, even if the record's is damaged."""
    return place and (min(max(place[0], 0), LAST_MICROSECOND), *place[1:])


def _position(fields: Any) -> Position | None:
    if fields is None:
        return None
    at, thread_id, task_id = fields
    return (_whole(at), text_key("thread_id", thread_id), text_key("task_id", task_id))


def _whole(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**63:
        raise TypeError("times and counts are whole numbers")
    return number
