"""The figures that this project aims at, and whether a run has reached them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import Results, Row
from benchmarks.sides import BACKENDS, BARE, OURS, SERIALIZING
from benchmarks.workloads.chat import AWAY, target
from benchmarks.workloads.concurrency import DISTANCE, THREADS

_FAR = f", {DISTANCE * 1000:.0f} ms away"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target and the figure that was found. ``bound`` is the greatest figure allowed, or the least if ``at_least``.

    ``floor`` is the figure of the least work that any saver has to do, and ``floor_name`` names that work.
    """

    what: str
    found: float
    bound: float
    unit: str = "x"
    at_least: bool = False
    floor: float | None = None
    floor_name: str = ""

    @property
    def is_reached(self) -> bool:
        return self.found >= self.bound if self.at_least else self.found <= self.bound


def outcomes(results: Results) -> list[Outcome]:
    """Every target whose figures the run has."""
    found: list[Outcome] = []
    for check in (_postgres, _listing, _redis, _s3, _sqlite, _python):
        found += check(results, target(results.quick))
    return found


def overhead(results: Results, backend: str, side: str, operation: str, size: int, where: str = "") -> float | None:
    """The p50 of an operation, less the p50 of serializing its values with LangGraph's serializer."""
    row = results.find("chat", backend, side, f"{operation}{where}", size)
    floor = results.find("chat", backend, SERIALIZING, operation, size)
    if row is None or floor is None or row.p50 is None or floor.p50 is None:
        return None
    return row.p50 - floor.p50


def _overheads(
    results: Results, backend: str, peer: str, size: int, bounds: dict[str, float], where: str = ""
) -> Iterator[Outcome]:
    for operation, bound in bounds.items():
        ours = overhead(results, backend, OURS, operation, size, where)
        theirs = overhead(results, backend, peer, operation, size, where)
        if ours is not None and theirs is not None:
            # At least a microsecond: in a noisy run, the serializer alone may have taken longer than the operation.
            theirs = max(theirs, 1e-6)
            bare = None if where else results.find("chat", backend, BARE, operation, size)
            yield Outcome(
                f"{backend}: overhead of {operation}{where}, p50, against {peer}",
                ours / theirs,
                bound,
                floor=bare.p50 / theirs if bare and bare.p50 else None,
                floor_name=BACKENDS[backend].bare_name,
            )


def _at_rest(results: Results, backend: str, peer: str, size: int, bound: float) -> Iterator[Outcome]:
    ours, theirs = (results.find("chat", backend, side, "all", size) for side in (OURS, peer))
    if ours and theirs and ours.at_rest and theirs.at_rest:
        what = f"{backend}: bytes at rest, chat of {size} messages, against {peer}"
        yield Outcome(what, ours.at_rest / theirs.at_rest, bound)
    half = results.find("chat", backend, OURS, "all", size // 2)
    if ours and half and ours.at_rest and half.at_rest:
        yield Outcome(f"{backend}: bytes at rest, twice the messages", ours.at_rest / half.at_rest, 2.2)


def _postgres(results: Results, size: int) -> Iterator[Outcome]:
    backend, peer = "PostgreSQL", "langgraph-checkpoint-postgres"
    yield from _at_rest(results, backend, peer, size, 1 / 30)
    yield from _sent(results, backend, size)
    yield from _overheads(results, backend, peer, size, {"put": 1 / 4, "put_writes": 0.8, "get_tuple": 1 / 2})
    ours, bare = overhead(results, backend, OURS, "put", size), results.find("chat", backend, BARE, "put", size)
    if ours and bare and bare.p50:
        yield Outcome(f"{backend}: overhead of put, p50, against one INSERT with commit", ours / bare.p50, 1.5)
    rows = [results.find("concurrency", backend, side, f"{THREADS} threads{_FAR}") for side in (OURS, peer)]
    if rows[0] and rows[1] and rows[0].per_second and rows[1].per_second:
        what = f"{backend}: throughput of {THREADS} threads{_FAR}, against {peer}"
        yield Outcome(what, rows[0].per_second / rows[1].per_second, 5, at_least=True)


def _sent(results: Results, backend: str, size: int) -> Iterator[Outcome]:
    put = results.find("chat", backend, OURS, "put, counted", size)
    value = results.find("chat", backend, SERIALIZING, "messages", size)
    if put and put.sent and value and value.new_bytes:
        yield Outcome(f"{backend}: bytes sent by put, against the whole value", put.sent / value.new_bytes, 1 / 50)


def _listing(results: Results, size: int) -> Iterator[Outcome]:
    backend, peer = "PostgreSQL", "langgraph-checkpoint-postgres"
    ours, theirs = (results.find("list", backend, side, "list", size) for side in (OURS, peer))
    history = results.find("list", backend, OURS, "history", size)
    if ours and theirs and ours.received and theirs.received:
        yield Outcome(f"{backend}: bytes received by list, against {peer}", ours.received / theirs.received, 1 / 20)
    if ours and theirs and ours.p50 and theirs.p50:
        yield Outcome(f"{backend}: time of list, against {peer}", ours.p50 / theirs.p50, 1 / 2)
    if history and theirs and history.p50 and theirs.p50:
        what = f"{backend}: history, times faster than list of {peer}"
        yield Outcome(what, theirs.p50 / history.p50, 20, at_least=True)


def _redis(results: Results, size: int) -> Iterator[Outcome]:
    backend, peer = "Redis", "ValkeySaver"
    for where in ("", AWAY):
        bounds = dict.fromkeys(("put", "put_writes", "get_tuple"), 1 / 2)
        yield from _overheads(results, backend, peer, size, bounds, where)
    yield from _at_rest(results, backend, peer, size, 1 / 10)
    yield from _sent(results, backend, size)


def _s3(results: Results, _: int) -> Iterator[Outcome]:
    for operation, bound in (("put", 1), ("put_writes", 1)):
        if row := results.find("chat", "S3", OURS, f"{operation}, counted"):
            yield Outcome(f"S3: requests of {operation}", sum(row.requests.values()), bound, "")
    row = results.find("chat", "S3", OURS, "get_tuple, counted")
    if row and row.steps is not None:
        yield Outcome("S3: sequential steps of get_tuple", row.steps, 2, "")


def _sqlite(results: Results, size: int) -> Iterator[Outcome]:
    backend, peer = "SQLite", "langgraph-checkpoint-sqlite"
    yield from _overheads(results, backend, peer, size, dict.fromkeys(("put", "put_writes", "get_tuple"), 1 / 2))
    yield from _at_rest(results, backend, peer, size, 1 / 30)


def _python(results: Results, _: int) -> Iterator[Outcome]:
    for operation in ("put", "put_writes", "get_tuple"):
        row: Row | None = results.find("python", "none", OURS, operation)
        if row and row.p50:
            yield Outcome(f"our own Python of {operation} on 1 KB, microseconds", row.p50 * 1e6, 100, "")
