"""Measures this project's savers and others side by side, and writes docs/benchmarks.md.

    python -m benchmarks.run [--quick] [--only WORKLOAD …] [--backend NAME …] [--json FILE]
    python -m benchmarks.run --from FILE …

The peers are installed into temporary environments that `uv` makes, one for each backend, and all sides of a backend
run in the same process. The page is written only after a whole run, unless ``--page`` asks for it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.page import PAGE, README, in_readme, write
from benchmarks.results import Results
from benchmarks.sides import BACKENDS
from benchmarks.support import ROOT, install_redis_stack, python_with
from benchmarks.targets import outcomes
from tests.servers.processes import ServerUnavailable

WORKLOADS = ("python", "chat", "graphs", "concurrency", "inbox")


def measure(quick: bool, workloads: Sequence[str], name: str, to: Path) -> None:
    """Run workloads on one backend, in an environment with its peers. Writes the results to the file after each one."""
    backend, results = BACKENDS[name], Results(quick)
    results.system = _system([package for side in backend.sides for package in side.packages])
    for workload in workloads:
        if workload == "inbox" and not backend.inbox_threads:
            continue
        try:
            importlib.import_module(f"benchmarks.workloads.{workload}").run(results, backend)
        except ServerUnavailable as error:
            results.not_run[name] = str(error)
            break
        except Exception as error:  # noqa: BLE001  # a side's failure is a finding, and the run goes on
            traceback.print_exc()
            results.not_run[f"{name}, {workload}"] = f"{type(error).__name__}: {error}".partition("\n")[0]
        finally:
            to.write_text(json.dumps(results.document()))


def _system(packages: Sequence[str]) -> dict[str, Any]:
    with open("/proc/cpuinfo") as cpus:
        models = {line.partition(":")[2].strip() for line in cpus if line.startswith("model name")}
    return {
        "date": f"{datetime.now(UTC):%-d %B %Y}",
        "machine": f"{platform.system()} {platform.machine()} with {os.cpu_count()} CPUs ({', '.join(models)})",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in ("langgraph", "langgraph-checkpoint", *packages)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer calls, shorter chats, a smaller inbox")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=WORKLOADS, metavar="WORKLOAD",
                        help=f"some of {', '.join(WORKLOADS)}")  # fmt: skip
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=tuple(BACKENDS), metavar="NAME",
                        help=f"some of {', '.join(BACKENDS)}")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results here")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md even after a partial run")
    parser.add_argument("--from", nargs="+", type=Path, metavar="FILE", dest="kept",
                        help="do not measure: write the page from results that --json kept")  # fmt: skip
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measure(options.quick, options.only, options.backend[0], options.json)
        return
    if options.kept:
        results = together(options.kept)
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = _measured(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(results.document(), indent=1))
    is_whole = (tuple(options.only), tuple(options.backend)) == (WORKLOADS, tuple(BACKENDS))
    if options.kept or options.page or is_whole:
        write(results)
        print(f"written: {PAGE.relative_to(ROOT)}")
        if not results.quick and all(any(row.backend == name for row in results.rows) for name in BACKENDS):
            README.write_text(in_readme(README.read_text(), results))
            print(f"written: the summary in {README.relative_to(ROOT)}")
    for outcome in outcomes(results):
        print(f"{'reached    ' if outcome.is_reached else 'not reached'}  {outcome.found:8.3f}  {outcome.what}")
    if results.not_run:
        sys.exit("\n".join(f"not run: {what}: {why}" for what, why in results.not_run.items()))


def together(files: Sequence[Path]) -> Results:
    """The results of several runs on one machine, as those of one run."""
    first, *others = (Results.of(json.loads(file.read_text())) for file in files)
    for other in others:
        first.merge(other)
    return first


def _measured(options: argparse.Namespace, folder: Path) -> Results:
    """Measure on each backend in a process of its own, in an environment with its peers."""
    results = Results(options.quick)
    if "Redis with modules" in options.backend:
        install_redis_stack(folder / "redis-stack")
    for name in options.backend:
        to = folder / "results.json"
        to.unlink(missing_ok=True)
        packages = [package for side in BACKENDS[name].sides for package in side.requires]
        only = [workload for workload in options.only if workload != "python" or name == options.backend[0]]
        command = [*python_with(packages), "-m", "benchmarks.run", "--here", "--backend", name, "--json", str(to)]
        command += [*["--quick"] * options.quick, *(["--only", *only] if only else [])]
        done = subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603  # this module
        if to.exists():
            results.merge(Results.of(json.loads(to.read_text())))
        if done.returncode:
            results.not_run[name] = f"its run ended with exit code {done.returncode}"
    return results


if __name__ == "__main__":
    main()
