"""The long run: one kind of fault after the other on every backend, until the time is up; and the page about it.

`make soak MINUTES=30 SEED=7` runs it. Runs with the same seed do the same things in the same order for as long as
they last.
"""

from __future__ import annotations

import asyncio
import json
import logging
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from checkpoint_base import open_saver
from tests.faults.acts import ACTS
from tests.faults.atomicity import CHANGES, calls_on
from tests.faults.backends import BACKENDS, Backend, ServerBackend, Servers
from tests.faults.crashes import COLOURS, DURABILITIES, Runs, every_request, from_outside
from tests.faults.damage import damaged, worked_on
from tests.faults.figures import Figures
from tests.faults.outages import CUTS, RESTARTS, TROUBLES, Restarts, through_a_proxy
from tests.faults.proxy import Proxy
from tests.faults.races import raced
from tests.faults.worker import Processes

TEMPLATE = Path(__file__).with_name("reliability.md")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"

NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "redis": "Redis", "s3": "S3"}

KILLS_A_ROUND = 24
CALLS_A_ROUND = 20

Exercise = Callable[[Backend, Processes, random.Random], Figures]


def runs_killed(backend: Backend, processes: Processes, chance: random.Random) -> Figures:
    """A graph's run is killed before or after a request, and finished by another process."""
    runs = Runs(processes, backend, chance.choice(DURABILITIES), chance.choice(COLOURS))
    whole = runs.whole()
    plans = every_request(whole)
    return runs.crashed(whole, chance.sample(plans, min(backend.most(KILLS_A_ROUND), len(plans))))


def runs_killed_from_outside(backend: Backend, processes: Processes, chance: random.Random) -> Figures:
    """A graph's run is killed three times in a row by SIGKILL, at any moment, and finished by another process."""
    runs = Runs(processes, backend, chance.choice(DURABILITIES), "sync")
    whole = runs.whole()
    return runs.crashed(whole, from_outside(whole, chance, backend.most(8)))


def calls_killed(backend: Backend, processes: Processes, chance: random.Random) -> Figures:
    """A single call is killed before or after a request, and made again."""
    with calls_on(backend) as calls:
        acts = chance.sample(CHANGES, 4)
        return calls.killed(processes, acts, chance.choice(COLOURS), most=backend.most(8), first=chance.randrange(8))


def connections_cut(backend: Backend, _: Processes, chance: random.Random) -> Figures:
    """A message on the connection is lost, cut or reset in the middle of a call, which is then made again."""
    if not isinstance(backend, ServerBackend):
        return Figures()
    with (
        Proxy(*backend.address) as proxy,
        calls_on(backend) as calls,
        asyncio.Runner() as runner,
        open_saver(backend.url_through(proxy.host, proxy.port), deadline=0) as through,
    ):
        figures = calls.disturbed(
            proxy, through, chance.sample(ACTS, 4), chance.sample(CUTS, len(CUTS)), chance.choice(COLOURS), runner,
            most=backend.most(40), every_fault=False,
        )  # fmt: skip
        runner.run(through.aclose())
        return figures


def races(backend: Backend, processes: Processes, chance: random.Random) -> Figures:
    """Three processes, each with threads and event loops, work on shared threads and on their own."""
    return raced(processes, backend, seed=str(chance.random()), calls=backend.most(CALLS_A_ROUND))


def damage(backend: Backend, _: Processes, chance: random.Random) -> Figures:
    """Stored bytes are changed behind the backend's back, then read, changed and deleted."""
    figures = damaged(backend, times=backend.most(120), seed=str(chance.random()))
    figures += worked_on(backend, times=backend.most(24), seed=str(chance.random()))
    return figures


EXERCISES: dict[str, Exercise] = {
    "processes killed at a request of a run": runs_killed,
    "processes killed from outside during a run": runs_killed_from_outside,
    "processes killed at a request of a call": calls_killed,
    "messages lost, cut or reset during a call": connections_cut,
    "many callers at once": races,
    "stored bytes changed": damage,
}


def jobs(servers: Servers, processes: Processes, seed: int) -> Iterator[tuple[str, str, Callable[[], Figures]]]:
    """Yield without end what to do: the kind, the backend, and a function that does it once."""
    for number in count():
        for name in BACKENDS:
            for kind, exercise in EXERCISES.items():
                chance = random.Random(f"{seed} {number} {name} {kind}")

                def once(name: str = name, exercise: Exercise = exercise, chance: random.Random = chance) -> Figures:
                    with servers.backend(name) as backend:
                        return exercise(backend, processes, chance)

                yield kind, NAMES[name], once
        outages = [(title.partition(" ")[0], title, opened) for title, opened in RESTARTS.items()]
        for title, (happens, deadline) in TROUBLES.items():
            outages += [
                (NAMES[name], title, through_a_proxy(name, happens, deadline=deadline))
                for name in BACKENDS
                if name != "sqlite"
            ]
        random.Random(f"{seed} {number}").shuffle(outages)
        for name, title, opened in outages:

            def outage(opened: Restarts = opened, seed: str = f"{seed} {number} {title}") -> Figures:
                with opened(servers) as there:
                    return raced(
                        processes, there.backend, seed=seed, calls=there.backend.most(CALLS_A_ROUND), url=there.url,
                        deadline=there.deadline, strike=there.strike, most=there.most,
                    )  # fmt: skip

            yield "servers that restart, fail over, go silent or cannot be reached", _of(name), outage


def _of(name: str) -> str:
    return "PostgreSQL" if name == "PgBouncer" else name


@click.command(help=__doc__)
@click.option(
    "--minutes", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Begin nothing after that."
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Also write the results here.")
@click.option("--no-page", is_flag=True, help="Leave docs/reliability.md as it is.")
def main(minutes: float, seed: int, json_file: str | None, no_page: bool) -> None:
    console = Console(stderr=True)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns about connections that are broken on purpose
    table: dict[str, dict[str, Figures]] = {}
    began = time.monotonic()
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    shown = Progress(*columns, console=console, disable=not console.is_terminal)
    with Servers() as servers, Processes() as processes, shown as progress:
        bar = progress.add_task("starting servers", total=60 * minutes)
        for kind, name, once in jobs(servers, processes, seed):
            passed = time.monotonic() - began
            # Once round at least: a page without one of the kinds would promise more than was tried.
            is_whole = all(len(row) == len(NAMES) - (each in _WITHOUT_SQLITE) for each, row in table.items())
            if passed > 60 * minutes and len(table) == len(EXERCISES) + 1 and is_whole:
                break
            progress.update(bar, description=f"{name}: {kind}", completed=passed)
            figures = once()
            row = table.setdefault(kind, {})
            if name != "SQLite" or kind not in _WITHOUT_SQLITE:
                row[name] = row.get(name, Figures())
                row[name] += figures
            for loss in figures.losses:
                console.print(f"lost: {loss}", style="red", markup=False)
        versions = [server.version for server in servers.started.values()]
    results = {
        "seed": seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": [
            f"Python {platform.python_version()}",
            *(f"{name} {version(name)}" for name in ("langgraph", "langgraph-checkpoint")),
            *versions,
        ],
        "figures": {kind: {name: asdict(figures) for name, figures in row.items()} for kind, row in table.items()},
    }
    if json_file:
        Path(json_file).write_text(json.dumps(results, indent=1), encoding="utf-8")
    if not no_page:
        PAGE.write_text(page(results), encoding="utf-8")
    total = _total(results)
    print(
        f"{total.crashes} crashes, {total.faults} faults and {total.damages} damages in {results['minutes']} minutes; "
        f"{total.operations} operations checked; {len(total.losses)} losses"
    )
    sys.exit(1 if total.losses else 0)


_WITHOUT_SQLITE = (
    "messages lost, cut or reset during a call",
    "servers that restart, fail over, go silent or cannot be reached",
)


def page(results: dict[str, Any]) -> str:
    """Return the page about a run."""
    total = _total(results)
    losses = len(total.losses)
    lines = [
        f"The last run, on {results['date']} with seed {results['seed']}, took {results['minutes']} minutes on "
        + ", ".join(results["versions"])
        + ".\n\n",
        "| crashes | faults of connections and servers | changed values | operations checked | losses |\n",
        "| --- | --- | --- | --- | --- |\n",
        f"| {total.crashes:,} | {total.faults:,} | {total.damages:,} | {total.operations:,} | {losses:,} |\n\n",
        "## By kind\n\n",
        "Each cell has the number of faults and, after the slash, that of the operations checked meanwhile.\n\n",
        f"| | {' | '.join(NAMES.values())} |\n",
        f"|{' --- |' * (len(NAMES) + 1)}\n",
    ]
    for kind, row in results["figures"].items():
        cells = [_cell(Figures(**row[name])) if name in row else "–" for name in NAMES.values()]
        lines.append(f"| {kind} | {' | '.join(cells)} |\n")
    if losses:
        lines += ["\n## Losses\n\n", *(f"- {' '.join(loss.split())[:300]}\n" for loss in total.losses[:50])]
    return TEMPLATE.read_text(encoding="utf-8").replace("<!-- results -->\n", "".join(lines))


def _cell(figures: Figures) -> str:
    broken = figures.crashes + figures.faults + figures.damages
    return f"{broken:,} / {figures.operations:,}"


def _total(results: dict[str, Any]) -> Figures:
    total = Figures()
    for row in results["figures"].values():
        for figures in row.values():
            total += Figures(**figures)
    return total


if __name__ == "__main__":
    main()
