"""Makes docs/benchmarks.md and its charts, only from the results of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import exponent, growth
from benchmarks.plot import Line, chart
from benchmarks.results import Results, Row
from benchmarks.sides import BACKENDS, BARE, OURS, SERIALIZING, Backend
from benchmarks.targets import Outcome, outcomes, overhead
from benchmarks.workloads.chat import AWAY, TARGET, target
from benchmarks.workloads.graphs import MEMORY

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
CHARTS = ROOT / "docs" / "benchmarks"

DOLLARS_PER_REQUEST = {"PUT": 5e-6, "POST": 5e-6, "LIST": 5e-6, "GET": 0.4e-6, "HEAD": 0.4e-6, "DELETE": 0.0}
"""The public prices of S3 Standard in us-east-1; storage and traffic are extra."""

_IN_README = re.compile(r"(<!-- benchmarks: .*? -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)
_CALLS = ("put", "put, nothing new", "put_writes", "get_tuple")
_AWAY_CALLS = tuple(f"{call}{AWAY}" for call in _CALLS)


def write(results: Results, page: Path = PAGE, charts: Path = CHARTS) -> None:
    """Write the page, and its charts into a folder of their own."""
    charts.mkdir(parents=True, exist_ok=True)
    for old in charts.glob("*.svg"):
        old.unlink()
    for name, drawn in _charts(results).items():
        (charts / f"{name}.svg").write_text(drawn)
    page.write_text("\n".join(_page(results)) + "\n")


def in_readme(readme: str, results: Results) -> str:
    """The README with its summary replaced by that of this run."""
    replaced, places = _IN_README.subn(lambda found: found[1] + "\n".join(_summary(results)) + found[2], readme)
    if places != 1:
        raise ValueError("README.md has no place for the summary: <!-- benchmarks: … --> and <!-- /benchmarks -->")
    return replaced


def _summary(results: Results) -> Iterator[str]:
    size = target(results.quick)
    yield f"| a chat of {size} messages | stored | written or sent by a `put` | `put` | `get_tuple` |"
    yield "| --- | --: | --: | --: | --: |"
    for backend in BACKENDS.values():
        for name in _sides(backend):
            rows = {
                operation: results.find("chat", backend.name, name, operation, size)
                for operation in ("all", "put, counted", "put", "get_tuple")
            }
            if not any(rows.values()) or (name == OURS and backend.name == "Redis with modules"):
                continue
            everything, counted, put, got = rows.values()
            yield _row(
                f"**{backend.name}**" if name == OURS else name,
                _bytes(everything.at_rest if everything else None),
                _bytes(counted.sent if counted else None),
                _time(put.p50 if put else None),
                _time(got.p50 if got else None),
            )
    yield ""


# Charts


def _charts(results: Results) -> Mapping[str, str]:
    backends = [backend for backend in BACKENDS.values() if _rows(results, "chat", backend.name)]
    drawn = {"headline": _headline(results, backends)}
    for backend in backends:
        for operation, what in (("put", "storing the chat's next message"), ("get_tuple", "reading the whole chat")):
            drawn[f"{operation}-{_slug(backend)}"] = chart(
                f"{backend.name}: {what}",
                f"p50 of {operation}; dashed lines are floors, which took turns with the rest",
                [*_time_lines(results, backend, operation)],
                x_title="messages in the chat",
                y_text=_time,
            )
    return drawn


def _time_lines(results: Results, backend: Backend, operation: str) -> Iterator[Line]:
    for name in (*_sides(backend), SERIALIZING, BARE):
        points = _points(results, backend.name, name, operation, lambda row: row.p50)
        shown = backend.bare_name if name == BARE else name
        yield Line(shown, points, is_ours=name == OURS, is_floor=name in (SERIALIZING, BARE))


def _headline(results: Results, backends: Sequence[Backend]) -> str:
    lines = []
    for backend in backends:
        for name in _sides(backend):
            if name == OURS and backend.name == "Redis with modules":
                continue
            shown = f"{name} on {backend.name}" if name == OURS else name
            lines.append(
                Line(shown, _points(results, backend.name, name, "all", lambda row: row.at_rest), name == OURS)
            )
    return chart(
        "What a chat costs to keep",
        "Bytes stored for all checkpoints of a chat of 1 KB messages through LangGraph",
        lines,
        x_title="messages in the chat",
        y_text=_bytes,
    )


def _points(
    results: Results, backend: str, side: str, operation: str, figure: Callable[[Row], float | None]
) -> list[tuple[float, float]]:
    rows = [row for row in _rows(results, "chat", backend) if (row.side, row.operation) == (side, operation)]
    return sorted((row.size, value) for row in rows if (value := figure(row)))


def _slug(backend: Backend) -> str:
    return backend.name.lower().replace(" ", "-")


# The page


def _page(results: Results) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "This project's savers and others, on the same servers, in the same run, taking turns."
    small = " with `--quick`: fewer calls, shorter chats, a smaller inbox" if results.quick else ""
    yield f"Run on {results.system.get('date', '?')}{small};"
    yield "[how](#how-this-page-was-made). Times depend on the machine; ratios and counts hold better."
    yield ""
    yield "![bytes at rest by the length of a chat](benchmarks/headline.svg)"
    yield ""
    yield from _targets(results)
    for backend in BACKENDS.values():
        if _rows(results, "chat", backend.name):
            yield from _chat(results, backend)
    yield from _growth(results)
    yield from _listing(results)
    yield from _graphs(results)
    yield from _concurrency(results)
    yield from _inbox(results)
    yield from _dollars(results)
    yield from _how(results)


def _targets(results: Results) -> Iterator[str]:
    found = outcomes(results)
    reached = sum(outcome.is_reached for outcome in found)
    yield "## The figures to reach"
    yield ""
    yield f"{reached} of {len(found)} are reached. *Overhead* is the time of an operation less that of serializing its"
    yield "values with LangGraph's own serializer, which every saver pays. *None* means that our saver was quicker than"
    yield "that serializer alone."
    if (length := target(results.quick)) != TARGET:
        yield ""
        yield f"They are meant for a chat of {TARGET} messages; this run had {length}."
    yield ""
    yield "| figure | target | found | |"
    yield "| --- | --- | --- | --- |"
    for outcome in found:
        sign = "≥" if outcome.at_least else "≤"
        found_ = "none" if outcome.found <= 0 else _ratio(outcome.found, outcome)
        yield _row(outcome.what, f"{sign} {_ratio(outcome.bound, outcome)}", found_, _verdict(outcome))
    yield ""


def _verdict(outcome: Outcome) -> str:
    if outcome.found <= 0:
        return "reached"
    margin = outcome.found / outcome.bound if outcome.at_least else outcome.bound / outcome.found
    if outcome.is_reached:
        return f"reached, {_rough(margin)} times better" if margin >= 1.05 else "reached"
    times = 1 / margin
    short = f"**not reached**, {f'{_rough(times)} times' if times >= 1.1 else f'{100 * (times - 1):.0f} %'} short"
    return f"{short}; {outcome.floor_name} alone is {outcome.floor:.2g}" if outcome.floor else short


def _rough(margin: float) -> str:
    return f"{margin:.0f}" if margin >= 10 else f"{margin:.2g}"


def _chat(results: Results, backend: Backend) -> Iterator[str]:
    sizes = [row.size for row in _rows(results, "chat", backend.name) if row.side != OURS and row.operation == "put"]
    peers = [row.size for row in _rows(results, "chat", backend.name) if row.side == backend.peers[0].name]
    size = min(max(sizes), target(results.quick), max(peers, default=0) or target(results.quick))
    yield f"## {backend.name}: a chat of {size} messages"
    yield ""
    yield f"{results.servers.get(backend.name, '')}; {backend.settings}. Each message has 1 KB, and another channel of"
    yield "20 KB never changes. *put, nothing new* records an input before it is in the state."
    if any(row.operation.endswith(AWAY) for row in _rows(results, "chat", backend.name)):
        away = AWAY.removeprefix(", ")
        yield f"The calls *{away}* go through a proxy that makes each round trip that much longer, as if the server"
        yield "were on another machine."
    yield ""
    wire = "written to files" if backend.is_on_disk and not any(_trips(results, backend, size)) else "sent"
    yield f"| call | side | p50 | overhead | p99 | calls/s | client CPU | {wire} | received | round trips |"
    yield "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |"
    for operation in (*_CALLS, *_AWAY_CALLS):
        for name in (*_sides(backend), SERIALIZING, BARE):
            row = results.find("chat", backend.name, name, operation, size)
            if row is None or row.p50 is None:
                continue
            counted = results.find("chat", backend.name, name, f"{operation}, counted", size)
            near = operation.removesuffix(AWAY)
            where = operation.removeprefix(near)
            over = overhead(results, backend.name, name, near, size, where) if name in _sides(backend) else None
            shown = backend.bare_name if name == BARE else name
            yield _row(
                operation, shown, _time(row.p50), _time(over), _time(row.p99), _number(row.per_second), _time(row.cpu),
                _bytes(counted.sent if counted else None), _bytes((counted.received if counted else None) or None),
                _number((counted.trips if counted else None) or None),
            )  # fmt: skip
    yield ""
    for operation in ("put", "get_tuple"):
        yield f"![{operation} by the length of the chat](benchmarks/{operation}-{_slug(backend)}.svg)"
    yield ""


def _trips(results: Results, backend: Backend, size: int) -> Iterator[float]:
    for row in _rows(results, "chat", backend.name):
        if row.size == size and row.trips:
            yield row.trips


def _growth(results: Results) -> Iterator[str]:
    yield "## Growth"
    yield ""
    yield "The bytes of all checkpoints of the chat, as their server or file system counts them, and how they grow: the"
    yield "exponent of the length that fits the last three lengths."
    yield ""
    sizes = sorted({row.size for row in results.rows if row.workload == "chat" and row.operation == "all"})
    yield f"| backend | side | {' | '.join(f'{size} messages' for size in sizes)} | grows |"
    yield f"| --- | --- |{' --: |' * len(sizes)} --- |"
    for backend in BACKENDS.values():
        for name in _sides(backend):
            points = dict(_points(results, backend.name, name, "all", lambda row: row.at_rest))
            if not points:
                continue
            last = sorted(points)[-3:]
            fit = exponent(last, [points[size] for size in last]) if len(last) == 3 else None
            told = f"{growth(fit)} ({fit:.2f})" if fit is not None else ""
            yield _row(backend.name, name, *(_bytes(points.get(size)) for size in sizes), told)
    yield ""


def _listing(results: Results) -> Iterator[str]:
    rows = [row for row in results.rows if row.workload in ("list", "time travel")]
    if not rows:
        return
    yield "## Listing and time travel"
    yield ""
    yield "`list` of the whole chat with every state; `history`, which loads no state and which only our saver has;"
    yield "reading an old checkpoint; and storing a child of it with the last message edited, as `update_state` does."
    yield ""
    yield "| backend | call | side | messages | p50 | p99 | client CPU | received | round trips |"
    yield "| --- | --- | --- | --: | --: | --: | --: | --: | --: |"
    for row in rows:
        note = f" ({row.note})" if row.note else ""
        yield _row(
            row.backend, f"{row.operation}{note}", row.side, str(row.size), _time(row.p50), _time(row.p99),
            _time(row.cpu), _bytes(row.received or None), _number(row.trips or None),
        )  # fmt: skip
    yield ""


def _graphs(results: Results) -> Iterator[str]:
    about = {
        "fan-out of 16 tasks": "One super-step with 16 tasks, each of which returns 1 KB.",
        "big state": "A channel with 500 documents of 10 KB each; every run changes one of them.",
        "agent": "A model that calls two tools, reads 2 KB from each, calls two more and replies; on a new thread.",
        "resume": "From `Command(resume=…)` to the end of the graph, on a chat of 50 messages, through a saver that "
        "has not seen the thread before.",
    }
    yield "## Whole graphs"
    yield ""
    yield f"`invoke` through LangGraph, including all of LangGraph's own work. {MEMORY} keeps everything in the process"
    yield "and is the floor."
    yield ""
    for workload, text in about.items():
        rows = [row for row in results.rows if row.workload == workload]
        if not rows:
            continue
        yield f"**{workload[0].upper()}{workload[1:]}.** {text}"
        yield ""
        yield "| backend | call | side | p50 | p99 | client CPU | sent | received | round trips | at rest |"
        yield "| --- | --- | --- | --: | --: | --: | --: | --: | --: | --: |"
        for row in rows:
            yield _row(
                row.backend, row.operation, row.side, _time(row.p50), _time(row.p99), _time(row.cpu), _bytes(row.sent),
                _bytes(row.received or None), _number(row.trips or None), _bytes(row.at_rest),
            )  # fmt: skip
        yield ""


def _concurrency(results: Results) -> Iterator[str]:
    rows = [row for row in results.rows if row.workload == "concurrency"]
    if not rows:
        return
    yield "## Many conversations at once"
    yield ""
    yield "Each thread or task has a conversation of its own and makes the calls of a graph one after the other. It had"
    yield "another conversation before, so its connections are open. *Away* means behind a proxy that makes every round"
    yield "trip that much longer, as between two zones of a cloud."
    yield ""
    yield "| backend | with | side | calls/s | |"
    yield "| --- | --- | --- | --: | --- |"
    for row in rows:
        yield _row(row.backend, row.operation, row.side, _number(row.per_second), row.note)
    yield ""


def _inbox(results: Results) -> Iterator[str]:
    rows = [row for row in results.rows if row.workload == "inbox"]
    if not rows:
        return
    yield "## The inbox"
    yield ""
    yield "Finding the threads that wait for a human among many. It is an extension of this project that no peer has."
    yield ""
    yield "| backend | threads | call | p50 | p99 | received | round trips |"
    yield "| --- | --: | --- | --: | --: | --: | --: |"
    for row in rows:
        yield _row(
            row.backend, f"{row.size}, {row.note}", row.operation, _time(row.p50), _time(row.p99),
            _bytes(row.received or None), _number(row.trips or None),
        )  # fmt: skip
    yield ""


def _dollars(results: Results) -> Iterator[str]:
    found = []
    for side in BACKENDS["S3"].sides:
        rows = [
            results.find("chat", "S3", side.name, f"{call}, counted") for call in ("put", "put_writes", "get_tuple")
        ]
        if all(rows):
            found.append((side.name, [row for row in rows if row]))
    if not found:
        return
    yield "## S3: requests and dollars"
    yield ""
    yield "A step is one `put` that adds a message and one `put_writes`. Prices are those of S3 Standard in"
    yield "us-east-1: 5 dollars for a million PUT or LIST, 0.40 for a million GET. Storage is extra: see"
    yield "[Growth](#growth)."
    yield ""
    yield "| side | messages | requests of put | of put_writes | of get_tuple | a million steps | a million reads |"
    yield "| --- | --: | --- | --- | --- | --: | --: |"
    for name, (put, put_writes, get_tuple) in found:
        steps = 1e6 * (_price(put) + _price(put_writes))
        told = (_requests(row) for row in (put, put_writes, get_tuple))
        yield _row(name, str(put.size), *told, f"{steps:.2f} USD", f"{1e6 * _price(get_tuple):.2f} USD")
    yield ""


def _price(row: Row) -> float:
    return sum(DOLLARS_PER_REQUEST[method] * number for method, number in row.requests.items())


def _requests(row: Row) -> str:
    return ", ".join(f"{number:.3g} {method}" for method, number in sorted(row.requests.items())) or "none"


def _how(results: Results) -> Iterator[str]:
    yield "## How this page was made"
    yield ""
    yield "`make bench` writes it: it starts the servers, installs the peers into environments of their own, and"
    yield "measures. The calls that a graph makes to its saver are recorded once and replayed on every side."
    yield "The sides and the floors take turns of a few calls each, so that noise of the machine affects all of them."
    yield "Before each turn, garbage is collected and, for stores on a disk, pending writes are flushed. A proxy counts"
    yield "bytes and round trips, in other calls than those that are timed, from a saver that has already read the"
    yield "thread."
    yield ""
    yield "- **p50, p99** are wall times of single calls; **client CPU** is that of the whole process, per call."
    yield "- **Round trips** count how often a client sent something after it had received something."
    yield f"- **{SERIALIZING}** is LangGraph's own serializer on the values that the call stores or returns."
    yield f"- A **{BARE}** only stores as many bytes as are new to our saver in that call."
    yield ""
    system = results.system
    yield f"{system.get('machine', '')}, Python {system.get('python', '')}; {_versions(system.get('packages', {}))}."
    yield ""
    yield "| backend | server | side | opened with |"
    yield "| --- | --- | --- | --- |"
    for backend in BACKENDS.values():
        if backend.name in results.servers:
            for side in backend.sides:
                yield _row(backend.name, results.servers[backend.name], side.name, side.settings)
    if results.not_run:
        yield ""
        yield "Not run:"
        yield ""
        yield from (f"- {what}: {why}" for what, why in results.not_run.items())


# Figures as text


def _rows(results: Results, workload: str, backend: str) -> list[Row]:
    return [row for row in results.rows if (row.workload, row.backend) == (workload, backend)]


def _sides(backend: Backend) -> list[str]:
    return [side.name for side in backend.sides]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(value: float, outcome: Outcome) -> str:
    if outcome.unit != "x":
        return f"{value:.3g}"
    if 0 < value < 0.2:
        return f"1/{1 / value:.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    size = abs(seconds)
    if size >= 1:
        return f"{seconds:.2f} s"
    if size >= 1e-3:
        return f"{seconds * 1e3:.{2 if size < 1e-2 else 1}f} ms"
    return f"{seconds * 1e6:.0f} µs"


def _bytes(size: float | None) -> str:
    if size is None:
        return "–"
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= one:
            return f"{size / one:.3g} {unit}"
    return f"{size:.0f} B"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _versions(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())
