"""The example of a store of one's own: it works as an installed package does."""

from __future__ import annotations

import os
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

SECONDS = 590

pytestmark = pytest.mark.timeout(SECONDS + 10)  # a third of the suite in one process


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
    expected = [case for case in all_cases() if not case.missing_in(declared) and not case.long]
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
        assert saver.deadline == 5
        saver.put({"configurable": {"thread_id": "1", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
        assert [thread.thread_id for thread in same.threads()] == ["1"]
        assert list(other.threads()) == []
    with pytest.raises(UnsupportedOperation, match="closed"):
        saver.setup()
    for url in ("dict://", "dict://x/y", "dict://x?colour=blue", "dict://x#y"):
        with pytest.raises(UnsupportedOperation, match="write dict://name"):
            open_saver(url)
