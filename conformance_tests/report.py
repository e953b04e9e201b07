"""The results of a run, clause by clause: as rows of a table, as JSON, and as a page. Nothing here does I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, TypeAlias

from checkpoint_base.cli.rendering import number, visible
from conformance_tests.contract import AREAS, CLAUSES, Capability, Clause
from conformance_tests.runner import Result

ClauseOutcome: TypeAlias = Literal["passed", "failed", "undeclared", "untested"]

_LONGEST = 4000  # characters of a finding on a page; the JSON document has all of it
_FEW = 3  # parts of a finding that fit in one line: what was done, what was expected, what happened


@dataclass(frozen=True, slots=True)
class ClauseReport:
    """The results of all cases of a clause."""

    clause: Clause
    results: tuple[Result, ...]

    @property
    def outcome(self) -> ClauseOutcome:
        """``untested`` if the clause applies, but none of its cases ran."""
        outcomes = {result.outcome for result in self.results}
        return next((outcome for outcome in _BY_WEIGHT if outcome in outcomes), "untested")

    @property
    def failures(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.outcome == "failed")

    @property
    def colours(self) -> tuple[str, ...]:
        """The colours in which the clause failed."""
        return tuple(dict.fromkeys(str(result.colour) for result in self.failures if result.colour))


_BY_WEIGHT: tuple[ClauseOutcome, ...] = ("failed", "passed", "undeclared")


@dataclass(frozen=True, slots=True)
class AreaRow:
    """An area of the contract with its clauses counted by outcome."""

    area: str
    title: str
    passed: int
    failed: int
    undeclared: int
    untested: int


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run: every clause of the contract, in its order. ``left_out`` counts the long cases that did not run."""

    factory: str
    capabilities: tuple[Capability, ...]
    clauses: tuple[ClauseReport, ...]
    left_out: int = 0

    @property
    def ran(self) -> int:
        """How many cases ran; a case counts once in each colour."""
        return sum(result.outcome != "undeclared" for each in self.clauses for result in each.results)

    @property
    def conforms(self) -> bool:
        """Whether something ran, and nothing failed."""
        return self.ran > 0 and not self.having("failed")

    @property
    def seconds(self) -> float:
        return sum(result.seconds for each in self.clauses for result in each.results)

    def having(self, outcome: ClauseOutcome) -> tuple[ClauseReport, ...]:
        return tuple(each for each in self.clauses if each.outcome == outcome)


def report_of(
    factory: str, capabilities: Collection[Capability], results: Iterable[Result], *, left_out: int = 0
) -> Report:
    """Gather results by clause."""
    found: dict[str, list[Result]] = {id_: [] for id_ in CLAUSES}
    for result in results:
        found[result.case.clause.id].append(result)
    return Report(
        factory,
        tuple(capability for capability in Capability if capability in capabilities),
        tuple(ClauseReport(clause, tuple(found[id_])) for id_, clause in CLAUSES.items()),
        left_out,
    )


def area_rows(report: Report) -> list[AreaRow]:
    """A row for each area of the contract, in its order."""
    counts = {area: Counter[str]() for area in AREAS}
    for each in report.clauses:
        counts[each.clause.area][each.outcome] += 1
    return [
        AreaRow(area, AREAS[area], count["passed"], count["failed"], count["undeclared"], count["untested"])
        for area, count in counts.items()
    ]


def undeclared_rows(report: Report) -> list[tuple[Capability, tuple[str, ...]]]:
    """The capabilities that were not declared, each with the clauses that were not tested because of that."""
    undeclared = [capability for capability in Capability if capability not in report.capabilities]
    clauses = [each.clause for each in report.having("undeclared")]
    rows = [(missing, tuple(clause.id for clause in clauses if missing in clause.needs)) for missing in undeclared]
    return [(missing, ids) for missing, ids in rows if ids]


def verdict(report: Report) -> str:
    """One sentence that sums up the run."""
    passed, failed = report.having("passed"), report.having("failed")
    cases = number(report.ran, "case")
    if not report.ran:
        return "Nothing was tested: no case ran."
    tested = len(passed) + len(failed)
    if failed:
        return f"Does not conform: {len(failed)} of {number(tested, 'tested clause')} failed, in {cases}."
    return f"Conforms: {_all_of(tested, 'tested clause')} passed, in {cases}."


def reservations(report: Report) -> list[str]:
    """Sentences on what the verdict does not cover, although it was declared or is required."""
    said = []
    if report.left_out:
        said.append(f"--quick left out {number(report.left_out, 'long case')}.")
    if untested := report.having("untested"):
        ids = ", ".join(each.clause.id for each in untested)
        said.append(f"Not tested, because none of their cases runs with these options and colours: {ids}.")
    return said


def document(report: Report) -> dict[str, Any]:
    """The report as a JSON document."""
    outcomes = Counter(each.outcome for each in report.clauses)
    return {
        "factory": report.factory,
        "capabilities": [str(capability) for capability in report.capabilities],
        "clauses": [
            {
                "id": each.clause.id,
                "title": each.clause.title,
                "area": each.clause.area,
                "says": each.clause.says,
                "needs": [str(need) for need in each.clause.needs],
                "outcome": each.outcome,
                "cases": [
                    {
                        "name": result.case.name,
                        "colour": result.colour and str(result.colour),
                        "outcome": result.outcome,
                        "finding": result.finding,
                        "seconds": round(result.seconds, 4),
                    }
                    for result in each.results
                ],
            }
            for each in report.clauses
        ],
        "summary": {
            "conforms": report.conforms,
            "passed": outcomes["passed"],
            "failed": outcomes["failed"],
            "undeclared": outcomes["undeclared"],
            "untested": outcomes["untested"],
            "cases": report.ran,
            "failed_cases": sum(len(each.failures) for each in report.clauses),
            "long_cases_left_out": report.left_out,
            "seconds": round(report.seconds, 3),
        },
    }


# The page


def page(report: Report, circumstances: str) -> str:
    """The report as one HTML page that loads nothing else: no script, no font, no picture.

    ``circumstances`` is a sentence on when the run was made, and with which versions.
    """
    return "\n".join(_page(report, circumstances)) + "\n"


def _page(report: Report, circumstances: str) -> Iterator[str]:
    factory = _html(report.factory)
    yield "<!doctype html>"
    yield '<html lang="en">'
    yield '<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>Conformance of {factory}</title>"
    yield f"<style>{_STYLE}</style>"
    yield "<main>"
    yield f'<header class="{"good" if report.conforms else "bad"}">'
    yield f"<p>Conformance of a LangGraph checkpointer</p><h1>{factory}</h1>"
    yield f'<p class="verdict">{_html(verdict(report))}</p>'
    yield from (f"<p>{_html(sentence)}</p>" for sentence in reservations(report))
    yield f"<p><small>declared</small> {_pills(report.capabilities)}</p>"
    if missing := [capability for capability in Capability if capability not in report.capabilities]:
        yield f'<p class="undeclared"><small>not declared</small> {_pills(missing)}</p>'
    yield f'<p class="why">{_html(circumstances)}</p>'
    yield "</header>"
    yield from _areas(report)
    yield from _failures(report)
    yield from _undeclared(report)
    yield from _clauses(report)
    yield "</main>"
    yield "</html>"


def _areas(report: Report) -> Iterator[str]:
    rows = area_rows(report)
    outcomes = [outcome for outcome in _NAMES if outcome != "untested" or any(row.untested for row in rows)]
    heads = "".join(f'<th scope="col">{_NAMES[outcome]}</th>' for outcome in outcomes)
    yield f'<h2>By area</h2><table><thead><tr><th scope="col">clauses of</th>{heads}</tr></thead><tbody>'
    for row in rows:
        counts = [(outcome, getattr(row, outcome)) for outcome in outcomes]
        cells = "".join(f'<td class="{outcome}">{count}</td>' if count else "<td></td>" for outcome, count in counts)
        yield f'<tr><th scope="row"><a href="#{row.area}">{_html(row.title)}</a></th>{cells}</tr>'
    totals = "".join(f"<td>{len(report.having(outcome))}</td>" for outcome in outcomes)
    yield f'</tbody><tfoot><tr><th scope="row">all areas</th>{totals}</tr></tfoot></table>'


def _failures(report: Report) -> Iterator[str]:
    failed = report.having("failed")
    if failed:
        yield f"<h2>What failed <small>{number(len(failed), 'clause')}</small></h2>"
    for each in failed:
        yield f'<section class="card"><h3>{_title(each.clause)}</h3>'
        yield f"<p>{_prose(each.clause.says)}</p>"
        findings: dict[tuple[str, str], list[str]] = {}
        for result in each.failures:
            colours = findings.setdefault((result.case.sentence, result.finding), [])
            colours += [str(result.colour)] if result.colour else []
        for (sentence, finding), colours in findings.items():
            yield f"<h4>{_html(sentence)} {_pills(colours)}</h4>"
            yield f"<pre>{_finding(abridged(finding, _LONGEST))}</pre>"
        yield "</section>"


def _undeclared(report: Report) -> Iterator[str]:
    rows = undeclared_rows(report)
    if rows:
        yield "<h2>What is not declared</h2><p>These clauses were not tested.</p><ul>"
    for capability, ids in rows:
        yield f"<li><b>{capability}</b>: {_prose(capability.meaning)}. {', '.join(ids)}</li>"
    if rows:
        yield "</ul>"


def _clauses(report: Report) -> Iterator[str]:
    yield "<h2>Every clause</h2>"
    for area, title in AREAS.items():
        yield f'<h3 id="{area}">{_html(title)}</h3>'
        for each in report.clauses:
            if each.clause.area != area:
                continue
            mark = f'<span class="{each.outcome}">{_MARKS[each.outcome]} {_NAMES[each.outcome]}</span>'
            yield f"<details><summary>{mark} {_title(each.clause)}</summary><p>{_prose(each.clause.says)}</p>"
            yield f'<p class="why">{_prose(each.clause.why)}</p>'
            if each.clause.needs:
                yield f"<p>Needs {' and '.join(f'<code>{need}</code>' for need in each.clause.needs)}.</p>"
            yield "<ul>"
            for result in each.results:
                about = f"{result.colour or ''} {result.seconds:.2f} s" if result.seconds else str(result.colour or "")
                name = f"{_MARKS[result.outcome]} {_html(result.case.sentence)}"
                yield f'<li><span class="{result.outcome}">{name}</span> <small>{about}</small></li>'
            yield "</ul></details>"


def _title(clause: Clause) -> str:
    return f"<b>{clause.id}</b> {_html(clause.title)}"


def _pills(names: Iterable[str]) -> str:
    return " ".join(f'<span class="pill">{name}</span>' for name in names)


def _html(text: str) -> str:
    """Text as HTML. Characters that hide or reorder those around them are written as escapes."""
    return "\n".join(escape(visible(line)) for line in text.split("\n"))


def _prose(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", _html(text))


def _finding(text: str) -> str:
    """A finding. If it has many parts, each is on a line of its own."""
    parts = text.split("; ")
    if len(parts) <= _FEW:
        return _html(text)
    *others, last = map(_html, parts)
    return "".join(f"<span>{part};</span>" for part in others) + f"<span>{last}</span>"


def abridged(text: str, longest: int) -> str:
    """The text, without its middle if it is longer than this many characters."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]} ({len(text)} characters)"


def _all_of(count: int, noun: str) -> str:
    return f"the one {noun}" if count == 1 else f"all {number(count, noun)}"


_NAMES: dict[ClauseOutcome, str] = {
    "passed": "passed",
    "failed": "failed",
    "undeclared": "not declared",
    "untested": "not tested",
}
_MARKS: dict[ClauseOutcome, str] = {"passed": "✓", "failed": "✗", "undeclared": "–", "untested": "○"}

_STYLE = """
:root {
  --paper: #fff; --ink: #1d2330; --soft: #667085; --line: #e3e6ec; --card: #f7f8fa;
  --passed: #14804a; --failed: #c0262d; --failed-card: #fdf3f3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171d; --ink: #e4e7ee; --soft: #98a1b3; --line: #2c323d; --card: #1c2028;
    --passed: #4cc38a; --failed: #ff7b7f; --failed-card: #2a1b1e;
  }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 54rem; margin: 0 auto; padding: 1rem 1rem 4rem }
h1, h2, h3, h4, p, li, summary, pre { overflow-wrap: anywhere }
h1 { margin: 0; font: 600 1.5rem/1.3 ui-monospace, monospace }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.3rem }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem }
h4 { margin: 1rem 0 .3rem; font-size: .9rem; font-weight: 500 }
h3 b, summary b { font-family: ui-monospace, monospace; font-size: .92em }
p { margin: .4rem 0 }
small, .why, header p:first-child { color: var(--soft); font-size: .85rem; font-weight: 400 }
header { margin-top: 1rem; padding: 1rem 1.25rem; border: 1px solid var(--line); border-radius: .6rem;
  border-left-width: .45rem; background: var(--card) }
.good { border-left-color: var(--passed) } .bad { border-left-color: var(--failed) }
.verdict { font-size: 1.15rem; font-weight: 600 }
.good .verdict, .passed { color: var(--passed) } .bad .verdict, .failed { color: var(--failed) }
.undeclared, .untested { color: var(--soft) }
.pill { display: inline-block; padding: 0 .55rem; border: 1px solid var(--line); border-radius: 1rem;
  background: var(--paper); color: var(--ink); font-size: .8rem; font-weight: 400 }
.undeclared .pill { color: var(--soft); background: none; border-style: dashed }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .4rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: bottom }
th:first-child { text-align: left; font-weight: 400 }
thead th { color: var(--soft); font-size: .8rem; font-weight: 400 }
thead th + th { width: 14% }
@media (max-width: 30rem) { table { font-size: .85rem } th, td { padding: .35rem .2rem } thead th { font-size: .7rem } }
td.passed, td.failed, tfoot td { font-weight: 600 }
tbody a { color: inherit; text-decoration-color: var(--line); text-underline-offset: .2em }
.card { margin: 1rem 0; padding: .2rem 1.1rem 1rem; border: 1px solid var(--line); border-radius: .6rem;
  background: var(--failed-card) }
.card h3 { margin-top: .8rem }
code, pre { font: .85em/1.5 ui-monospace, monospace }
pre { margin: 0; padding: .6rem .8rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--paper); white-space: pre-wrap }
pre span { display: block; padding-left: 1.5em; text-indent: -1.5em }
ul { padding-left: 1.2rem }
details { border-bottom: 1px solid var(--line); padding: .35rem 0 }
details ul { list-style: none; padding-left: .4rem; font-size: .9rem }
summary { cursor: pointer } summary span { display: inline-block; min-width: 7.2rem; font-size: .9rem }
"""
