"""Times: stored as microseconds since 1970-01-01 UTC, shown as a `datetime`, and as LangGraph writes them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

_BEGINNING, _LAST = datetime.fromtimestamp(0, UTC), datetime.max.replace(tzinfo=UTC)
LAST_MICROSECOND = (_LAST - _BEGINNING) // timedelta(microseconds=1)


def now() -> int:
    """The time in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


def instant(microseconds: int) -> datetime:
    """Convert microseconds since 1970-01-01 UTC. What no time can have becomes the last that there is."""
    return _LAST if _is_damaged(microseconds) else _BEGINNING + timedelta(microseconds=microseconds)


def microseconds(at: datetime) -> int:
    """Convert a time to microseconds since 1970-01-01 UTC; 0 for any before."""
    return max(0, (at - _BEGINNING) // timedelta(microseconds=1))


def time_in(text: Any) -> datetime | None:
    """The time that LangGraph writes into a checkpoint, or None if a caller has put something else there.

    One without an offset counts as UTC, so that all times can be compared.
    """
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def damage_of_times(*times: int) -> str | None:
    """Why a listing cannot show these times, in microseconds; None if it can."""
    damaged = [str(each) for each in times if _is_damaged(each)]
    return f"a stored time is damaged: {', '.join(damaged)} microseconds since 1970" if damaged else None


def _is_damaged(microseconds: int) -> bool:
    return not 0 <= microseconds <= LAST_MICROSECOND
