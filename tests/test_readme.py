"""What README.md shows works: each Python block runs as a program of its own, each `make` target exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

SECONDS = 60


class Block(NamedTuple):
    line: int
    language: str
    text: str


def blocks() -> list[Block]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [Block(text.count("\n", 0, each.start()) + 1, each[1], each[2]) for each in found]


def programs() -> list[Block]:
    return [block for block in blocks() if block.language == "python"]


@pytest.mark.parametrize("program", programs(), ids=lambda block: f"line {block.line}")
def test_a_python_block_runs_by_itself(program: Block, tmp_path: Path) -> None:
    (tmp_path / "readme.py").write_text(program.text, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "readme.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    for shown in re.findall(r"#\s*prints (.+)$", program.text, flags=re.MULTILINE):
        assert shown in ran.stdout


def test_there_are_python_blocks() -> None:
    assert len(programs()) >= 2


def test_every_make_command_names_a_target() -> None:
    shell = "\n".join(block.text for block in blocks() if block.language in ("console", "sh", "bash", "shell"))
    named = set(re.findall(r"^(?:\$ )?make (\w+)", shell, flags=re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_every_documented_command_of_the_command_line_exists() -> None:
    shell = "\n".join(block.text for block in blocks() if block.language in ("console", "sh", "bash", "shell"))
    named = set(re.findall(r"^\$ checkpoints (?:--store \S+ )?(\w+)", shell, flags=re.MULTILINE))
    assert named
    for command in sorted(named):
        ran = subprocess.run(
            [sys.executable, "-m", "checkpoint_base.cli", command, "--help"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
        )
        assert ran.returncode == 0, ran.stderr
