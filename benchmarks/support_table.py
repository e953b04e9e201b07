"""The support table: which clauses of the contract savers fulfil. It is written from results, so it cannot lie.

``python -m benchmarks.support_table NAME=FILE …`` reads the documents that ``checkpoints conformance --json``
printed, and prints Markdown. The same documents always give the same table.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpoint_base.cli.rendering import number, visible
from conformance_tests.contract import AREAS
from conformance_tests.report import abridged

_SHOWN = 400  # characters of a finding

_USAGE = "write NAME=FILE for each saver, FILE being what `checkpoints conformance … --json` printed"


def table(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of areas and savers, and what each saver failed, from the savers' documents by name."""
    return "\n".join(_lines(documents)) + "\n"


def summary(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each saver: how many of the tested clauses hold, and the areas in which some do not."""
    lines = [_row("saver", "clauses that hold", "areas in which some do not"), _row("---", "---", "---")]
    for name, document in documents.items():
        areas = dict.fromkeys(clause["area"] for clause in document["clauses"] if clause["outcome"] == "failed")
        lines.append(_row(name, _cell(document["clauses"]), ", ".join(areas)))
    return "\n".join(lines) + "\n"


def _lines(documents: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "<!-- Written by `python -m benchmarks.support_table` from the suite's results; run it again instead of"
    yield "     editing. -->"
    yield ""
    yield _row("area", *documents)
    yield _row("---", *("---" for _ in documents))
    for area, title in AREAS.items():
        yield _row(title, *(_cell(document["clauses"], area) for document in documents.values()))
    yield _row("**all areas**", *(_cell(document["clauses"]) for document in documents.values()))
    yield ""
    yield "How many of the tested clauses of the contract hold. “–” means that the saver declares none of them."
    for name, document in documents.items():
        yield from _saver(name, document)


def _cell(clauses: Sequence[Mapping[str, Any]], area: str | None = None) -> str:
    count = Counter(clause["outcome"] for clause in clauses if area in (None, clause["area"]))
    passed, failed, untested = (count[outcome] for outcome in ("passed", "failed", "untested"))
    parts = []
    if tested := passed + failed:
        parts.append(f"{passed} of {tested}" if failed else f"all {passed}")
    if untested:
        parts.append(f"{untested} not tested")
    if parts and count["undeclared"]:
        parts.append(f"{count['undeclared']} not declared")
    return ", ".join(parts) or "–"


def _saver(name: str, document: Mapping[str, Any]) -> Iterator[str]:
    failed = [clause for clause in document["clauses"] if clause["outcome"] == "failed"]
    summary = document["summary"]
    left_out = f"; {summary['long_cases_left_out']} long ones were left out" if summary["long_cases_left_out"] else ""
    yield ""
    yield f"## {_text(name)}"
    yield ""
    yield f"Declares {', '.join(f'`{capability}`' for capability in document['capabilities'])}."
    yield f"{number(summary['cases'], 'case')} ran{left_out}."
    yield f"{number(len(failed), 'clause')} failed{':' if failed else '.'}"
    if failed:
        yield ""
    for clause in failed:
        case = next(case for case in clause["cases"] if case["outcome"] == "failed")
        finding = _code(abridged(case["finding"].strip().partition("\n")[0], _SHOWN))
        yield f"- **{_text(clause['id'])}** {_text(clause['title'])}{_text(_only_in(clause['cases']))}: {finding}"


def _only_in(cases: Sequence[Mapping[str, Any]]) -> str:
    """The colours in which a clause fails, if it holds in others."""
    ran = dict.fromkeys(case["colour"] for case in cases if case["colour"])
    fails = [colour for colour in ran if any(case["outcome"] == "failed" for case in cases if case["colour"] == colour)]
    return f", in {' and '.join(fails)} only" if len(fails) < len(ran) and fails else ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(_text(cell) if cell not in ('---', '**all areas**') else cell for cell in cells)} |"


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", visible(text))


def _code(text: str) -> str:
    """Text as a code span, fenced by more backticks than it has in a row, so that nothing in it acts as Markdown."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {visible(text)} {fence}"


def _read(arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The documents by name.

    Raises:
        ValueError: an argument is wrong, or a file holds no results.
    """
    documents: dict[str, dict[str, Any]] = {}
    for argument in arguments:
        name, _, path = argument.partition("=")
        if not (name and path) or name in documents:
            raise ValueError(f"{argument!r}: {_USAGE}, every name once")
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            tested = document["clauses"] and document["capabilities"] and document["summary"]["cases"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path!r} cannot be read ({type(error).__name__}: {error}): {_USAGE}") from error
        if not tested:
            raise ValueError(f"{path!r} has no results, nothing was tested: {_USAGE}")
        documents[name] = document
    if not documents:
        raise ValueError(_USAGE)
    return documents


def main(arguments: Sequence[str]) -> int:
    """Print the table of these NAME=FILE arguments; returns the exit code."""
    try:
        documents = _read(arguments)
    except ValueError as error:
        print(f"Error: {visible(str(error))}", file=sys.stderr)
        return 2
    sys.stdout.write(table(documents))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
