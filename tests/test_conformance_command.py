"""`checkpoints conformance` and the support table, on good, broken, empty and hostile savers."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from pkgutil import ModuleInfo
from typing import Any

import pytest
from click.testing import CliRunner, Result
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks import support_table
from checkpoint_base import SQLiteSaver, cli
from conformance_tests import case as register
from conformance_tests.case import Case, all_cases
from conformance_tests.contract import AREAS, CLAUSES, Capability
from conformance_tests.trial import Colour, Trial
from tests.broken_savers.put import ForgetsTheParent

HOSTILE = "</pre><script>alert(1)</script>\x1b]0;owned\x07 \u202e ``` | [x](y) &amp;\n<img src=//evil onerror=x>"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
COLOURS = tuple(Colour)


class CannotPrune(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        raise NotImplementedError

    async def aprune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        raise NotImplementedError


class Bare(BaseCheckpointSaver[Any]):
    """Implements nothing."""


class Prints(SQLiteSaver):
    def __init__(self, *args: Any, **options: Any) -> None:
        print("opened")
        super().__init__(*args, **options)


def passes(t: Trial) -> None:
    t.open()


def fails(t: Trial) -> None:
    t.fail(HOSTILE)


def fails_in_sync(t: Trial) -> None:
    t.expect_that(t.colour is not Colour.SYNC, "found in sync")


def fails_again(t: Trial) -> None:
    t.fail("something else")


def fails_in_many_parts(t: Trial) -> None:
    t.fail("; ".join(f"part {number} <b>" for number in range(5)))


def fails_at_length(t: Trial) -> None:
    t.fail(f"began{'.' * 10_000}ended")


def opens_and_fails(t: Trial) -> None:
    t.open()
    t.fail("opened")


def leaves(t: Trial) -> None:
    raise SystemExit(0)


def is_cancelled(t: Trial) -> None:
    raise asyncio.CancelledError


def made(clause_id: str, check: Callable[[Trial], None], *, colours: Any = COLOURS, long: bool = False) -> Case:
    return Case(CLAUSES[clause_id], check.__name__, check, tuple(colours), long)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the command run only these cases."""

    def set_cases(*cases: Case) -> None:
        monkeypatch.setattr(register, "all_cases", lambda: cases)

    return set_cases


@pytest.fixture
def only_of(only: Callable[..., None]) -> Callable[..., None]:
    """Make the command run only the suite's own short cases of these clauses."""

    def set_clauses(*clause_ids: str) -> None:
        only(*(case for case in all_cases() if case.clause.id in clause_ids and not case.long))

    return set_clauses


@pytest.fixture
def serve(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make a module with a factory that opens this saver; returns the factory's name for the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def served(opens: Any = SQLiteSaver, **attributes: Any) -> str:
        def factory() -> Any:
            return opens(path) if isinstance(opens, type) and issubclass(opens, SQLiteSaver) else opens()

        for name, value in attributes.items():
            setattr(factory, name, value)
        module = type(sys)("factories_of_the_test")
        module.__dict__["factory"] = factory
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return f"{module.__name__}:factory"

    return served


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, ["conformance", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert not UNSAFE.search(result.stdout + result.stderr)
    return result


def document(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = call(*arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def outcomes(printed: dict[str, Any]) -> dict[str, str]:
    return {clause["id"]: clause["outcome"] for clause in printed["clauses"] if clause["outcome"] != "untested"}


# Savers


def test_a_good_saver_conforms(serve: Callable[..., str], only_of: Callable[..., None]) -> None:
    only_of("PUT-1", "PUT-3", "GET-1", "PRUNE-2")
    result = call(serve(capabilities=["sync", "async", "prune"]))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("Conforms: all 4 tested clauses passed, in ")


def test_a_broken_saver_fails_its_clause_which_is_named_once_with_colours_and_finding(
    serve: Callable[..., str], only_of: Callable[..., None]
) -> None:
    only_of("PUT-1", "PUT-3")
    result = call(serve(ForgetsTheParent), "--declare", "sync")
    assert result.exit_code == 1
    assert result.stdout.count("PUT-3") == 1
    assert "\nPUT-3 parent (sync)\n  The parent of a stored checkpoint is " in result.stdout
    assert "PUT-1 " not in result.stdout
    assert "Does not conform: 1 of 2 tested clauses failed" in result.stdout


def test_a_factory_that_opens_another_storage_each_time_is_refused_before_anything_is_tested(
    serve: Callable[..., str], only_of: Callable[..., None]
) -> None:
    only_of("PUT-2")
    for capabilities in (["sync"], ["async"]):
        result = call(serve(InMemorySaver, capabilities=capabilities))
        assert (result.exit_code, result.stdout) == (1, "")
        assert "factories_of_the_test:factory opens another storage each time" in " ".join(result.stderr.split())
    saver = InMemorySaver()
    assert call(serve(lambda: saver, capabilities=["sync", "async"])).exit_code == 0


def test_a_saver_that_implements_nothing_fails_loudly(serve: Callable[..., str], only_of: Callable[..., None]) -> None:
    only_of("PUT-1", "WRITES-1", "GET-1", "LIST-1", "DELETE-3")
    name = serve(Bare)
    code, printed = document(name)
    assert code == 1
    assert printed["summary"]["conforms"] is False
    assert set(outcomes(printed).values()) == {"failed"}
    table = call(name)
    assert table.exit_code == 1
    assert "Does not conform: 5 of 5 tested clauses failed" in table.stdout
    assert "NotImplementedError" in table.stdout


def test_what_is_not_declared_is_reported_and_what_is_declared_and_missing_fails(
    serve: Callable[..., str], only_of: Callable[..., None]
) -> None:
    only_of("PUT-1", "PRUNE-1", "PRUNE-2")
    name = serve(CannotPrune)
    code, printed = document(name, "--declare", "sync")
    assert code == 0
    assert outcomes(printed) == {"PUT-1": "passed", "PRUNE-1": "undeclared", "PRUNE-2": "undeclared"}
    assert "  prune: PRUNE-1, PRUNE-2\n" in call(name, "--declare", "sync").stdout
    code, printed = document(name, "--declare", "sync", "--declare", "prune")
    assert code == 1
    assert outcomes(printed) == {"PUT-1": "passed", "PRUNE-1": "failed", "PRUNE-2": "failed"}


def test_what_a_saver_prints_does_not_get_into_the_report(serve: Callable[..., str], only: Callable[..., None]) -> None:
    only(made("PUT-1", passes))
    result = call(serve(Prints, capabilities="sync"), "--json")
    assert json.loads(result.stdout)["summary"]["conforms"] is True
    assert "opened" in result.stderr


def test_other_processes_are_given_the_name_of_the_factory(
    serve: Callable[..., str], only: Callable[..., None]
) -> None:
    names = []
    only(made("PUT-1", lambda t: names.append(t.subject.factory_name), colours=[Colour.SYNC]))
    name = serve()
    assert call(name).exit_code == 0
    assert names == [name]


# Reports


def test_the_table_and_the_json_document_agree(serve: Callable[..., str], only: Callable[..., None]) -> None:
    only(
        made("PUT-1", passes),
        made("PUT-2", passes),
        made("PUT-2", fails, colours=[Colour.ASYNC, Colour.MIXED]),
        made("PUT-2", fails_again),
        made("GET-1", passes, colours=[Colour.SYNC]),
        made("COPY-1", passes),
    )
    name = serve()
    code, printed = document(name)
    table = call(name)
    assert code == table.exit_code == 1
    assert [clause["id"] for clause in printed["clauses"]] == list(CLAUSES)
    for area, title in AREAS.items():
        row = next(line for line in table.stdout.splitlines() if line.startswith(f"{area} "))
        counted = [clause["outcome"] for clause in printed["clauses"] if clause["area"] == area]
        counts = [counted.count(outcome) for outcome in ("passed", "failed", "undeclared", "untested")]
        assert row.split(title)[1].split() == [str(count) for count in counts if count]
    summary = printed["summary"]
    assert (summary["passed"], summary["failed"], summary["undeclared"]) == (2, 1, 1)
    assert (summary["cases"], summary["failed_cases"]) == (12, 5)
    failed = next(clause for clause in printed["clauses"] if clause["outcome"] == "failed")
    assert {key: failed[key] for key in ("id", "title", "area", "says", "needs")} == {
        "id": "PUT-2",
        "title": "idempotency",
        "area": "PUT",
        "says": CLAUSES["PUT-2"].says,
        "needs": [],
    }
    assert [(each["name"], each["colour"], each["outcome"]) for each in failed["cases"]][:4] == [
        ("passes", "sync", "passed"),
        ("passes", "async", "passed"),
        ("passes", "mixed", "passed"),
        ("fails", "async", "failed"),
    ]
    assert {each["finding"] for each in failed["cases"]} == {"", HOSTILE, "something else"}
    assert "PUT-2 idempotency (async, mixed, sync)\n" in table.stdout
    assert "  1 other case of this clause failed, too" in table.stdout


def test_every_clause_that_failed_is_told_with_what_was_found(
    serve: Callable[..., str], only: Callable[..., None]
) -> None:
    only(made("PUT-2", fails_again), made("PUT-3", passes), made("GET-1", fails_in_many_parts))
    table = call(serve(capabilities=["sync"])).stdout
    assert f"\nPUT-2 idempotency (sync)\n  {CLAUSES['PUT-2'].says}\n  something else\n" in table
    assert f"\nGET-1 missing (sync)\n  {CLAUSES['GET-1'].says}\n  part 0 <b>; " in table
    assert "PUT-3" not in table


def test_a_clause_of_which_some_cases_are_not_declared_has_passed_if_the_others_have(
    serve: Callable[..., str], only: Callable[..., None]
) -> None:
    only(made("COPY-1", passes), replace(made("COPY-1", fails), needs=Capability.PRUNE))
    for capabilities, outcome in ((["sync", "copy_thread"], "passed"), (["sync", "copy_thread", "prune"], "failed")):
        code, printed = document(serve(capabilities=capabilities))
        assert (code, outcomes(printed)) == (int(outcome == "failed"), {"COPY-1": outcome})


def test_the_document_tells_how_long_each_case_took_and_how_many_clauses_have_none(
    serve: Callable[..., str], only: Callable[..., None]
) -> None:
    only(made("PUT-1", passes), made("PUT-2", opens_and_fails), made("PRUNE-1", passes))
    printed = document(serve())[1]
    took = [each["seconds"] for clause in printed["clauses"][:2] for each in clause["cases"]]
    assert len(took) == 2 * len(COLOURS)
    assert min(took) > 0
    assert printed["summary"]["seconds"] == pytest.approx(sum(took), abs=0.01)
    assert printed["summary"]["untested"] == len(CLAUSES) - 3


def test_the_page_and_the_json_document_agree(
    serve: Callable[..., str], only: Callable[..., None], tmp_path: Path
) -> None:
    only(
        made("PUT-1", passes),
        made("PUT-2", passes),
        made("PUT-2", fails, colours=[Colour.ASYNC, Colour.MIXED]),
        made("PUT-3", fails_again, colours=[Colour.SYNC]),
        made("GET-1", passes, colours=[Colour.SYNC]),
        made("COPY-1", passes),
    )
    printed = document(serve(), "--html", "report.html")[1]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = {"passed": "✓ passed", "failed": "✗ failed", "undeclared": "– not declared", "untested": "○ not tested"}
    by_area = {area: Counter[str]() for area in AREAS}
    for clause in printed["clauses"]:
        by_area[clause["area"]][clause["outcome"]] += 1
        outcome = clause["outcome"]
        title = f'<span class="{outcome}">{shown[outcome]}</span> <b>{clause["id"]}</b>'
        listed = page.partition(title)[2].partition("</details>")[0]
        assert re.findall(r'<li><span class="(\w+)">(.) ([\w ]+)</span> <small>(\w*)', listed) == [
            (each["outcome"], shown[each["outcome"]][0], each["name"].replace("_", " "), each["colour"] or "")
            for each in clause["cases"]
        ]
    for area, counts in by_area.items():
        row = page.partition(f'<a href="#{area}">')[2].partition("</tr>")[0]
        assert {outcome: int(count) for outcome, count in re.findall(r'<td class="(\w+)">(\d+)</td>', row)} == counts
    totals = re.findall(r"<td>(\d+)</td>", page.partition("<tfoot>")[2].partition("</tfoot>")[0])
    assert [int(total) for total in totals] == [printed["summary"][outcome] for outcome in shown]
    headings = re.findall(r"<h4>(\w+(?: \w+)*) (.*)</h4>", page)
    assert [(name, re.findall(r">(\w+)</span>", pills)) for name, pills in headings] == [
        ("fails", ["async", "mixed"]),
        ("fails again", ["sync"]),
    ]
    assert re.findall(r"<li><b>(\w+)</b>: .*\. (.*)</li>", page) == [("copy_thread", "COPY-1")]
    missing = page.partition("<small>not declared</small>")[2].partition("</p>")[0]
    assert re.findall(r">(\w+)</span>", missing) == [each for each in Capability if each not in ("sync", "async")]


def test_what_was_found_is_not_lost_with_a_page_that_cannot_be_written(
    serve: Callable[..., str], only: Callable[..., None], tmp_path: Path
) -> None:
    def takes_its_place(t: Trial) -> None:
        (tmp_path / "report.html").mkdir(exist_ok=True)

    only(made("PUT-1", takes_its_place))
    name = serve()
    result = call(name, "--html", "report.html")
    (tmp_path / "report.html").rmdir()
    printed = call(name, "--html", "report.html", "--json")
    for ended in (result, printed):
        assert ended.exit_code == 1
        assert "Error: the page cannot be written to 'report.html': " in ended.stderr
    assert result.stdout.splitlines()[-1].startswith("Conforms: ")
    assert json.loads(printed.stdout)["summary"]["conforms"] is True


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.outside: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.outside += [
            (name, value) for name, value in attrs if name in ("src", "href") and not (value or "").startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_hostile_findings_as_text_and_needs_nothing_from_elsewhere(
    serve: Callable[..., str], only: Callable[..., None], tmp_path: Path
) -> None:
    only(made("PUT-2", fails), made("PUT-3", fails_in_many_parts), made("GET-1", passes), made("PRUNE-1", passes))
    result = call(serve(), "--html", "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert not page.outside
    assert "url(" not in text
    assert "@import" not in text
    assert not UNSAFE.search(text)
    assert r"</pre><script>alert(1)</script>\x1b]0;owned\x07 \u202e ``` | [x](y) &amp;" in page.text
    assert all(clause.id in page.text for clause in CLAUSES.values())
    assert result.stdout.splitlines()[-1] in page.text
    assert ";".join(f"part {number} <b>" for number in range(5)) in page.text
    assert f"langgraph-checkpoint {version('langgraph-checkpoint')}" in page.text
    assert '<header class="bad">' in text
    assert text.count("<summary>") == len(CLAUSES)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_a_long_finding_is_abridged_but_in_the_json(
    serve: Callable[..., str], only: Callable[..., None], tmp_path: Path
) -> None:
    only(made("PUT-2", fails_at_length, colours=[Colour.SYNC]))
    name = serve()
    table = call(name, "--html", "report.html").stdout
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for shown in (table, page):
        assert "began..." in shown
        assert "ended (10010 characters)" in shown
        assert 200 < shown.count(".") < 5000
    [failed] = [each for each in document(name)[1]["clauses"] if each["id"] == "PUT-2"]
    assert len(failed["cases"][0]["finding"]) == 10_010


def test_quick_leaves_long_cases_out_and_says_so(
    serve: Callable[..., str], only: Callable[..., None], tmp_path: Path
) -> None:
    long = [made("PUT-2", fails, long=True), made("PUT-1", fails, long=True), made("PRUNE-1", fails, long=True)]
    only(made("PUT-1", passes), *long)
    assert document(serve(), "--quick")[1]["summary"]["long_cases_left_out"] == 2 * len(COLOURS)
    name = serve(capabilities=["sync"])
    code, printed = document(name, "--quick")
    assert code == 0
    assert outcomes(printed) == {"PUT-1": "passed", "PRUNE-1": "undeclared"}
    assert printed["summary"]["long_cases_left_out"] == 2
    table = call(name, "--quick", "--html", "report.html").stdout
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<header class="good">' in page
    for shown in (table, page):
        assert "--quick left out 2 long cases." in shown
    assert "PUT-2" in table.partition("Not tested")[2]
    assert document(name)[0] == 1


def test_a_clause_without_a_case_in_the_declared_colours_has_not_passed(
    serve: Callable[..., str], only: Callable[..., None]
) -> None:
    only(made("PUT-1", passes), made("PUT-2", passes, colours=[Colour.MIXED]))
    assert outcomes(document(serve(), "--declare", "async")[1]) == {"PUT-1": "passed"}


# Capabilities


@pytest.mark.parametrize(
    ("attribute", "arguments", "declared"),
    [
        (None, ["--declare", "sync", "--declare", "prune"], ["sync", "prune"]),
        (None, ["--declare", "prune, async"], ["async", "prune"]),
        (["sync"], ["--declare", "async"], ["async"]),
        (["sync", "threads"], [], ["sync", "threads"]),
        (frozenset({Capability.ASYNC, Capability.DELTA}), [], ["async", "delta"]),
        ("sync,prune", [], ["sync", "prune"]),
    ],
)
def test_capabilities_are_declared_by_option_or_by_the_factory(
    serve: Callable[..., str], only: Callable[..., None], attribute: Any, arguments: list[str], declared: list[str]
) -> None:
    only(made("PUT-1", passes))
    result = call(serve(capabilities=attribute), *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["capabilities"] == declared


def test_without_a_declaration_sync_and_async_are_tested_and_a_note_says_so(
    serve: Callable[..., str], only: Callable[..., None]
) -> None:
    only(made("PUT-1", passes))
    result = call(serve(), "--json")
    assert json.loads(result.stdout)["capabilities"] == ["sync", "async"]
    assert "--declare" in result.stderr
    assert "prune" in result.stderr


# What cannot be tested


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such_module:factory"], "no_such_module"),
        (["no_such_module"], "PACKAGE.MODULE:FACTORY"),
        (["os:"], "PACKAGE.MODULE:FACTORY"),
        ([".relative:factory"], "cannot be imported"),
        (["raises_when_imported:factory"], "ZeroDivisionError"),
        (["ends_when_imported:factory"], "SystemExit"),
        (["os:nothing"], "os:nothing does not exist"),
        (["os:sep"], "os:sep is not callable"),
        (["{good}", "--declare", "sync,flying"], "no capability 'flying'; write some of sync, async"),
        (["{good}", "--declare", "prune"], "declare sync, async or both"),
        (["{good}", "--html", "no/such/folder/x.html"], "no folder"),
        ([], "PACKAGE.MODULE:FACTORY"),
    ],
    ids=str,
)
def test_a_wrong_command_line_ends_with_2_and_says_what_to_write(
    serve: Callable[..., str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "raises_when_imported.py").write_text("1 / 0")
    (tmp_path / "ends_when_imported.py").write_text("raise SystemExit(0)")
    result = call(*(argument.format(good=serve()) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize("attribute", [["sync", "flying"], ["prune"], [], 7, [["sync"]]], ids=str)
def test_a_wrong_attribute_of_the_factory_ends_with_2(serve: Callable[..., str], attribute: Any) -> None:
    result = call(serve(capabilities=attribute))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--declare" in result.stderr


def refuses() -> None:
    raise PermissionError("the door is \x1b[31mlocked")


def ends() -> None:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("opens", "said"),
    [
        (refuses, "PermissionError: the door is \\x1b[31mlocked"),
        (ends, "SystemExit: 0"),
        (lambda: 7, "int, which is neither a BaseCheckpointSaver nor a sync or async context manager of one"),
        (lambda: None, "NoneType, which is neither a BaseCheckpointSaver nor a sync or async context manager of one"),
    ],
    ids=["raises", "ends the program", "no saver", "nothing"],
)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_saver_that_cannot_be_opened_ends_with_1_and_no_traceback(
    serve: Callable[..., str], opens: Any, said: str, form: list[str]
) -> None:
    result = call(serve(opens, capabilities=["sync", "async"]), *form)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the saver cannot be opened; sync and async: ")
    assert result.stderr.endswith(f"{said}\n")


def test_a_run_without_a_case_ends_with_1(serve: Callable[..., str], only: Callable[..., None], tmp_path: Path) -> None:
    name = serve()
    for cases in ([], [made("PRUNE-1", passes)], [made("PUT-1", passes, colours=[])]):
        only(*cases)
        result = call(name, "--html", "report.html")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "nothing was tested" in result.stderr
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert '<header class="bad">' in page
        assert "Nothing was tested: no case ran." in page
        code, printed = document(name)
        assert (code, printed["summary"]["conforms"], printed["summary"]["cases"]) == (1, False, 0)


@pytest.mark.parametrize("check", [leaves, is_cancelled])
def test_a_case_that_ends_the_program_has_failed_and_the_rest_is_run(
    serve: Callable[..., str], only: Callable[..., None], check: Callable[[Trial], None]
) -> None:
    only(made("PUT-1", check), made("PUT-2", passes))
    code, printed = document(serve())
    assert code == 1
    assert outcomes(printed) == {"PUT-1": "failed", "PUT-2": "passed"}


def test_a_clause_that_needs_several_capabilities_is_named_with_those_that_are_missing(
    serve: Callable[..., str], only: Callable[..., None]
) -> None:
    only(made("PUT-1", passes), made("PRUNE-1", passes), made("PRUNE-6", passes))
    for capabilities, told in (
        (["sync"], ["prune: PRUNE-1, PRUNE-6", "delta: PRUNE-6"]),
        (["sync", "prune"], ["delta: PRUNE-6"]),
        (["sync", "prune", "delta"], []),
    ):
        lines = call(serve(capabilities=capabilities)).stdout.splitlines()
        assert sorted(line.strip() for line in lines if line.startswith("  ")) == sorted(told)


def test_an_interrupt_ends_with_130(serve: Callable[..., str], only: Callable[..., None], tmp_path: Path) -> None:
    def interrupted(*_: Trial) -> None:
        raise KeyboardInterrupt

    (tmp_path / "interrupted_when_imported.py").write_text("raise KeyboardInterrupt")
    only(made("PUT-1", interrupted))
    for name in (serve(capabilities=["sync"]), "interrupted_when_imported:factory"):
        assert call(name).exit_code == 130
    only(made("PUT-1", passes))
    assert call(serve(interrupted, capabilities=["sync"])).exit_code == 130


def test_without_the_extra_an_error_says_how_to_install_it(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "iter_modules", lambda _: [ModuleInfo(None, "no_such_part", False)])
    result = call(serve())
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'no_such_part\': pip install "checkpoint-backends[conformance]"' in result.stderr


def test_the_help_is_there_without_the_extra() -> None:
    program = (
        "import sys\n"
        "for name in ('pytest', 'hypothesis', 'langgraph.pregel', 'langgraph.checkpoint.conformance'):\n"
        "    sys.modules[name] = None\n"
        "from checkpoint_base.cli import main\nmain(sys.argv[1:])"
    )
    for arguments, said in ([["--help"], "conformance  Test a saver"], [["conformance", "--help"], "--declare"]):
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, encoding="utf-8", timeout=60, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert said in ran.stdout


def test_a_terminal_gets_a_progress_bar_and_the_factory_may_be_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from checkpoint_base import SQLiteSaver\ndef open_it():\n    return SQLiteSaver('mine.db')\n"
    )
    program = (
        "import sys\n"
        "sys.path = [entry for entry in sys.path if entry]\n"
        "from conformance_tests import case\n"
        "cases = [each for each in case.all_cases() if each.clause.id == 'PUT-1']\n"
        "case.all_cases = lambda: cases\n"
        "from checkpoint_base.cli import main\nmain(['conformance', 'mine:open_it', '--declare=sync', '--json'])"
    )
    screen, stderr = pty.openpty()
    document = (tmp_path / "document").open("wb")
    started = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=document,
        stderr=stderr,
    )
    document.close()
    os.close(stderr)
    shown = b""
    with suppress(OSError):  # until the process has ended, and with it the terminal
        while True:
            shown += os.read(screen, 65536)
    os.close(screen)
    assert started.wait(60) == 0, shown
    assert outcomes(json.loads((tmp_path / "document").read_text())) == {"PUT-1": "passed"}
    assert "PUT-1 config" in shown.decode()


# The support table


@pytest.fixture
def documents(serve: Callable[..., str], only: Callable[..., None], tmp_path: Path) -> Callable[[Iterable[Case]], Path]:
    def written(cases: Iterable[Case], capabilities: Iterable[str] = ("sync",)) -> Path:
        only(*cases)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(call(serve(capabilities=capabilities), "--json", "--quick").stdout, encoding="utf-8")
        return path

    return written


def test_the_support_table_has_a_cell_for_each_area_and_saver(
    documents: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    good = documents([made(id_, passes) for id_ in CLAUSES])
    bad = documents([made(id_, fails if id_ == "PUT-2" else passes, long=id_ == "GET-1") for id_ in CLAUSES])
    arguments = [f"good={good}", f"bad | hostile={bad}"]
    assert support_table.main(arguments) == 0
    table = capsys.readouterr().out
    assert support_table.main(arguments) == 0
    assert capsys.readouterr().out == table
    lines = table.splitlines()
    assert lines[0].startswith("<!-- Written by `python -m benchmarks.support_table`")
    assert r"| area | good | bad \| hostile |" in lines
    assert "| Storing checkpoints | all 9 | 8 of 9 |" in lines
    assert "| Finding a checkpoint | all 6 | all 5, 1 not tested |" in lines
    assert "| Copying threads | – | – |" in lines
    assert lines.count("0 clauses failed.") == 1
    assert "Declares `sync`." in lines
    (item,) = [line for line in lines if line.startswith("- ")]
    assert item.startswith(
        "- **PUT-2** idempotency: ```` </pre><script>alert(1)</script>\\x1b]0;owned\\x07 \\u202e ``` |"
    )
    assert item.endswith(" ````")
    assert not UNSAFE.search(table)


def test_the_support_table_names_the_colours_of_a_clause_that_holds_in_others(
    documents: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [made("PUT-1", fails_in_sync), made("PUT-2", fails), made("PUT-3", fails_in_sync, colours=[Colour.SYNC])]
    assert support_table.main([f"both={documents(cases, ['sync', 'async'])}"]) == 0
    items = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert items == [
        "- **PUT-1** config, in sync only",
        "- **PUT-2** idempotency",
        "- **PUT-3** parent",
    ]


def test_the_support_table_refuses_what_holds_no_results(
    documents: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, empty = documents([made("PUT-1", passes)]), documents([])
    other = tmp_path / "other.json"
    other.write_text('{"clauses": []}')
    for arguments in (
        [],
        ["name"],
        [f"name={tmp_path}/missing.json"],
        [f"name={other}"],
        [f"name={empty}"],
        [f"name={good}", f"name={good}"],
    ):
        assert support_table.main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "NAME=FILE" in said.err
