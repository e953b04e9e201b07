"""The results of a run: rows of figures, and the versions and machine that they belong to. Kept as JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import Any

from benchmarks.measure import Timings, percentile
from benchmarks.wire import Said


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one operation of one side: times in seconds, sizes in bytes. All except the percentiles are means.

    ``size`` is the size of the workload, if it has several: messages of a chat, threads of an inbox. ``new_bytes`` are
    the bytes that our saver passed to its store, and ``steps`` the requests that it made one after the other. A figure
    that was not measured is None.
    """

    workload: str
    backend: str
    side: str
    operation: str
    size: int = 0
    calls: int = 0
    p50: float | None = None
    p99: float | None = None
    per_second: float | None = None
    cpu: float | None = None
    sent: float | None = None
    received: float | None = None
    trips: float | None = None
    requests: Mapping[str, float] = field(default_factory=dict)
    new_bytes: float | None = None
    steps: float | None = None
    at_rest: int | None = None
    note: str = ""


@dataclass(slots=True)
class Results:
    """All results of a run. ``quick`` says that it was a small one."""

    quick: bool
    rows: list[Row] = field(default_factory=list)
    servers: dict[str, str] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def add(self, **figures: Any) -> None:
        self.rows.append(Row(**figures))

    def find(self, workload: str, backend: str, side: str, operation: str, size: int | None = None) -> Row | None:
        """The row of one operation; without a ``size``, the row of the greatest size."""
        found = [
            row
            for row in self.rows
            if (row.workload, row.backend, row.side, row.operation) == (workload, backend, side, operation)
            and size in (None, row.size)
        ]
        return max(found, key=lambda row: row.size) if found else None

    def progress(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def merge(self, other: Results) -> None:
        """Add the results of another process on the same machine."""
        if self.quick != other.quick:
            raise ValueError("a quick run and a whole one cannot be put together")
        packages = {**self.system.get("packages", {}), **other.system.get("packages", {})}
        self.rows += other.rows
        self.servers |= other.servers
        self.not_run |= other.not_run
        self.system = {**other.system, "packages": packages}

    def document(self) -> dict[str, Any]:
        return {
            "quick": self.quick,
            "system": self.system,
            "servers": self.servers,
            "not_run": self.not_run,
            "rows": [asdict(row) for row in self.rows],
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Results:
        return cls(
            document["quick"],
            [Row(**row) for row in document["rows"]],
            document["servers"],
            document["not_run"],
            document["system"],
        )


def timed(timings: Timings) -> dict[str, Any]:
    """The figures of a row that come from timing."""
    return {
        "calls": len(timings.wall),
        "p50": timings.p50,
        "p99": percentile(timings.wall, 0.99),
        "per_second": 1 / mean(timings.wall),
        "cpu": mean(timings.cpu),
    }


def said(total: Said, calls: int) -> dict[str, Any]:
    """The figures of a row that come from counting, per call."""
    return {
        "sent": total.sent / calls,
        "received": total.received / calls,
        "trips": total.trips / calls,
        "requests": {method: number / calls for method, number in total.requests.items()},
    }
