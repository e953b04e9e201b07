"""The command `checkpoints conformance`: tests the saver that a factory opens, and prints a report.

This module is imported to list the command, so it imports neither the suite's cases nor what they need.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from checkpoint_base.cli import arguments
from checkpoint_base.cli.rendering import (
    Failure,
    add_row,
    console,
    described,
    number,
    print_json,
    print_table,
    say,
    table_of,
    visible,
)
from conformance_tests.contract import CLAUSES, Capability

if TYPE_CHECKING:
    from conformance_tests.case import Case
    from conformance_tests.report import ClauseReport, Report
    from conformance_tests.runner import Result
    from conformance_tests.trial import Factory, Subject

_BASIS = ("checkpoint-backends", "langgraph-checkpoint", "langgraph")
"""Packages whose versions a page names."""

_COLOURS = frozenset((Capability.SYNC, Capability.ASYNC))

_SHOWN = 800  # characters of a finding; --json and --html have more


def _declared(ctx: click.Context | None, param: click.Parameter | None, texts: Sequence[str]) -> frozenset[Capability]:
    names = [name for text in texts for part in str(text).split(",") if (name := part.strip())]
    unknown = [name for name in names if name not in frozenset(Capability)]
    if unknown:
        raise click.BadParameter(
            f"there is no capability {', '.join(map(repr, unknown))}; write some of {', '.join(Capability)}", ctx, param
        )
    if texts and not _COLOURS & set(names):
        raise click.BadParameter("declare sync, async or both, and whatever else the saver has", ctx, param)
    return frozenset(map(Capability, names))


def _page_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r} to write the page to", ctx, param)
    return path


@click.command()
@click.argument("factory_name", metavar="PACKAGE.MODULE:FACTORY")
@click.option(
    "--declare",
    "capabilities",
    metavar="CAPABILITY",
    multiple=True,
    callback=_declared,
    help=f"What the saver can do and is tested for: {', '.join(Capability)}. Separate several by commas, or repeat the "
    "option. Default: the factory's attribute `capabilities`, or sync and async.",
)
@click.option("--quick", is_flag=True, help="Leave out the cases that take several seconds each.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_page_file,
    help="Also write the whole report to this file, as a page.",
)
@click.pass_context
def conformance(
    ctx: click.Context,
    factory_name: str,
    capabilities: frozenset[Capability],
    quick: bool,
    as_json: bool,
    html: Path | None,
) -> None:
    """Test a saver against the contract of checkpointers.

    Example: checkpoints conformance my_package.savers:open_for_tests --declare sync,async,prune

    FACTORY is called without arguments and must open the same storage each time. It returns the saver, or a sync or
    async context manager of it. Use a storage that is only for tests, because they leave their threads in it.

    What you declare is tested in full, so a declared method that is missing is a failure. The report names what was not
    declared. The exit code is 0 if every tested clause passed, and 1 if one failed or nothing was tested.
    """
    _require_extra()
    from conformance_tests.report import report_of

    # Standard output is for the report. What a saver prints while it is tested goes to standard error.
    with redirect_stdout(sys.stderr):
        subject = _subject(factory_name, capabilities)
        _require_opening(subject)
        results, left_out = _tested(subject, quick=quick)
    report = report_of(factory_name, subject.capabilities, results, left_out=left_out)
    _print(report, as_json, html)
    if not report.ran:
        raise Failure("nothing was tested: no case ran, so nothing is known of this saver")
    ctx.exit(0 if report.conforms else 1)


# Getting at the saver


def _require_extra() -> None:
    from conformance_tests.case import all_cases

    try:
        all_cases()
    except ModuleNotFoundError as error:
        raise Failure(str(error)) from error


def _subject(factory_name: str, capabilities: frozenset[Capability]) -> Subject:
    from conformance_tests.trial import Subject

    factory = arguments.factory(factory_name)
    return Subject(factory, capabilities or _declared_by(factory, factory_name), factory_name)


def _declared_by(factory: Factory, factory_name: str) -> frozenset[Capability]:
    given: Any = getattr(factory, "capabilities", None)
    if given is None:
        click.echo(
            "Note: only sync and async are tested, because nothing else was declared; "
            f"--declare can add {', '.join(capability for capability in Capability if capability not in _COLOURS)}.",
            err=True,
        )
        return _COLOURS
    try:
        declared = _declared(None, None, [given] if isinstance(given, str) else [str(name) for name in given])
    except (TypeError, click.BadParameter) as error:
        raise arguments.wrong_usage(
            f"{factory_name}.capabilities is {given!r}, which does not name capabilities: {error}; "
            "set it to a list like ['sync', 'async'], or pass --declare"
        ) from error
    if not declared:
        raise arguments.wrong_usage(
            f"{factory_name}.capabilities is empty: name at least sync or async there, or pass --declare"
        )
    return declared


def _require_opening(subject: Subject) -> None:
    from conformance_tests.runner import ANOTHER_STORAGE, opens_one_storage
    from conformance_tests.trial import Colour, Trial

    errors: dict[str, list[str]] = {}
    for colour in (Colour.SYNC, Colour.ASYNC):
        if Capability(colour) not in subject.capabilities:
            continue
        try:
            with Trial(next(iter(CLAUSES.values())), subject, colour) as trial:
                trial.open()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # as above
            errors.setdefault(described(error), []).append(colour)
        else:
            if not opens_one_storage(subject, colour):
                raise Failure(f"{subject.factory_name} {ANOTHER_STORAGE}")
            return
    said = "; ".join(f"{' and '.join(colours)}: {error}" for error, colours in errors.items())
    raise Failure(f"the saver cannot be opened; {said}")


# Testing it


def _tested(subject: Subject, *, quick: bool) -> tuple[list[Result], int]:
    """Run the cases; returns their results, and how many results ``quick`` left out."""
    from conformance_tests.case import all_cases
    from conformance_tests.runner import results_of

    left_out = [case for case in all_cases() if quick and case.long and not case.missing_in(subject.capabilities)]
    cases = [case for case in all_cases() if case not in left_out]
    results: list[Result] = []
    with _progress() as progress:
        task = progress.add_task("", total=_count(cases, subject), failed="")
        for case in cases:
            progress.update(task, description=f"{case.clause.id} {case.clause.title}")
            for result in results_of(case, subject):
                results.append(result)
                failed = sum(result.outcome == "failed" for result in results)
                progress.update(task, advance=1, failed=f"{failed} failed" if failed else "")
    return results, _count(left_out, subject)


def _count(cases: Collection[Case], subject: Subject) -> int:
    """How many results these cases have."""
    has = subject.capabilities
    return sum(1 if case.missing_in(has) else len(case.colours_for(has)) for case in cases)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[failed]}"),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


# Printing


def _print(report: Report, as_json: bool, html: Path | None) -> None:
    from conformance_tests.report import document, page

    try:
        if html:
            html.write_text(page(report, _circumstances(report)), encoding="utf-8")
    except OSError as error:
        raise Failure(f"the page cannot be written to {str(html)!r}: {error}") from error
    finally:  # a run takes minutes: what it found is not lost with the page
        if as_json:
            print_json(document(report))
        elif report.ran:
            _print_for_people(report)


def _circumstances(report: Report) -> str:
    made_with = ", ".join(f"{name} {version(name)}" for name in _BASIS)
    return (
        f"Run on {datetime.now(UTC):%-d %B %Y} in {report.seconds:.0f} s, with {made_with}, Python {python_version()}."
    )


def _print_for_people(report: Report) -> None:
    from conformance_tests.report import area_rows, reservations, undeclared_rows, verdict

    rows = area_rows(report)
    some_untested = any(row.untested for row in rows)
    table = table_of("area", "title", "passed", "failed", "not declared", *["not tested"] * some_untested)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        untested = [row.untested or ""] * some_untested
        add_row(table, row.area, row.title, row.passed or "", row.failed or "", row.undeclared or "", *untested)
    print_table(table)
    for each in report.having("failed"):
        _print_failure(each)
    if undeclared := undeclared_rows(report):
        say("")
        say("Not declared, and therefore not tested:")
        for capability, ids in undeclared:
            say(f"  {capability}: {', '.join(ids)}")
    say("")
    for sentence in (*reservations(report), verdict(report)):
        say(sentence)


def _print_failure(failed: ClauseReport) -> None:
    from conformance_tests.report import abridged

    first = failed.failures[0]
    others = len({result.case.name for result in failed.failures}) - 1
    colours = f" ({', '.join(failed.colours)})" if failed.colours else ""
    say("")
    say(f"{failed.clause.id} {failed.clause.title}{colours}")
    _say_indented(failed.clause.says)
    for line in abridged(first.finding, _SHOWN).splitlines():
        _say_indented(line)
    if others:
        _say_indented(f"{number(others, 'other case')} of this clause failed, too; --json and --html have them all")


def _say_indented(sentence: str) -> None:
    console().print(Padding(Text(visible(sentence), overflow="fold"), (0, 0, 0, 2), expand=False))
