"""What a run found: rows of figures, and what they were found on. As JSON between the run and the page."""

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
    """The figures of one operation of one side; times in seconds, sizes in bytes, all but the percentiles means.

    ``size`` is that of the workload where it has several: messages of a chat, threads of an inbox. ``new_bytes`` are
    those that ours handed to its store, and ``steps`` the requests that it made one after the other. None is what was
    not measured.
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
    """All that a run found, and how large it was."""

    quick: bool
    rows: list[Row] = field(default_factory=list)
    servers: dict[str, str] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    system: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def add(self, **figures: Any) -> None:
        self.rows.append(Row(**figures))

    def find(self, workload: str, backend: str, side: str, operation: str, size: int | None = None) -> Row | None:
        """The row of one operation; of the greatest size when none is asked for."""
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
        """Take in what another process has found on the same machine."""
        if self.quick != other.quick:
            raise ValueError("a small run and a whole one cannot be put together")
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
    """The figures of a row that come from counting, for each of so many calls."""
    return {
        "sent": total.sent / calls,
        "received": total.received / calls,
        "trips": total.trips / calls,
        "requests": {method: number / calls for method, number in total.requests.items()},
    }
