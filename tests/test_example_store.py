"""The example of a store of one's own: it works as an installed package does, and the page about it tells the truth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import UnsupportedOperation, open_saver
from conformance_tests import Capability
from conformance_tests.case import all_cases
from conformance_tests.trial import Colour

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "dict_store"
PAGE = (ROOT / "docs" / "writing-a-store.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)

SECONDS = 110


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """What an installation adds to `sys.path`: the package, and its entry points. Building a wheel needs a network."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tmp_path / "site-packages"
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return [str(site), str(EXAMPLE / "src")]


def run(*arguments: str, path: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )


def test_the_examples_own_tests_pass(installed: list[str], tmp_path: Path) -> None:
    # A third of the suite: every case that can alternate sync and async calls, and takes less than a second.
    report = tmp_path / "report.xml"
    chosen = ["-m", "not conformance_long", f"-k-{Colour.MIXED}]"]
    options = ["-q", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    ran = run("-m", "pytest", *chosen, *options, path=installed, cwd=EXAMPLE)
    assert ran.returncode == 0, ran.stdout + ran.stderr

    declared = set(Capability) - {Capability.PROCESSES}
    expected = [case for case in all_cases() if case.applies_to(declared) and not case.long]
    expected = [case for case in expected if Colour.MIXED in case.colours_for(declared)]
    tests = ElementTree.parse(report).getroot().findall("testsuite/testcase")
    assert len(tests) == len(expected) > 200
    assert not [test.get("name") for test in tests if len(test)]  # neither failed nor skipped


def test_open_saver_opens_the_scheme_of_an_installed_package(
    installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in installed:
        monkeypatch.syspath_prepend(folder)
    with (
        open_saver("dict://x?deadline=5") as saver,
        open_saver("dict://x", compression="zstd") as same,
        open_saver("dict://y") as other,
    ):
        assert type(saver).__name__ == "DictSaver"
        assert saver._transport.deadline == 5
        saver.put({"configurable": {"thread_id": "1", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
        assert [thread.thread_id for thread in same.threads()] == ["1"]
        assert list(other.threads()) == []
    with pytest.raises(UnsupportedOperation, match="closed"):
        saver.setup()
    for url in ("dict://", "dict://x/y", "dict://x?colour=blue", "dict://x#y"):
        with pytest.raises(UnsupportedOperation, match="write dict://name"):
            open_saver(url)


@pytest.mark.parametrize(
    ("language", "text"),
    [pytest.param(*block, id=f"block {number}") for number, block in enumerate(BLOCKS, 1) if block[0] != "console"],
)
def test_a_block_of_the_page_is_part_of_the_example_or_runs(language: str, text: str, tmp_path: Path) -> None:
    files = [file for ending in ("py", "toml") for file in EXAMPLE.rglob(f"*.{ending}")]
    if any(text in file.read_text(encoding="utf-8") for file in files):
        return
    assert language == "python", "neither part of the example nor a program"
    program = tmp_path / "test_page.py"
    program.write_text(text, encoding="utf-8")
    # Of a test file only one clause: the savers of others need not pass them all.
    pytest_alone = ["-m", "pytest", "-q", "-k", "PUT-1"] if "SaverConformance" in text else []
    ran = run(*pytest_alone, program.name, path=[], cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for shown in re.findall(r"#\s*prints (.+)$", text, flags=re.MULTILINE):
        assert shown in ran.stdout


def test_the_page_has_all_of_the_test_file() -> None:
    assert (EXAMPLE / "tests" / "test_conformance.py").read_text(encoding="utf-8") in [text for _, text in BLOCKS]
