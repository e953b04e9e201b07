"""`make demo`, run as a person runs it, and its outcome read from the store it was given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from checkpoint_base import open_saver

ROOT = Path(__file__).resolve().parent.parent

SECONDS = 300  # five interpreters start one after another, perhaps on a busy machine

pytestmark = pytest.mark.timeout(SECONDS + 20)


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )


def test_the_demo_shows_each_command_in_a_process_of_its_own_and_leaves_an_answered_thread(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/demo.db"
    ran = demo(tmp_path, "--store", store)
    assert (ran.returncode, ran.stderr) == (0, "")

    with open_saver(store) as saver:
        [thread] = saver.threads()
        assert list(saver.interrupts()) == []
        final = saver.get_tuple({"configurable": {"thread_id": thread.thread_id}})
    assert final is not None
    values = final.checkpoint["channel_values"]
    assert values["outcome"] == f"249.00 paid to the buyer of {thread.thread_id}"
    assert values["done"] == ["look_up", "ask_human", "pay"]
    assert type(values["amount"]) is Decimal

    asked, listed, answered, history, end = re.split(r"^\[process \d+ ended with status 0\]$", ran.stdout, flags=re.M)
    assert len(set(re.findall(r"^\[process (\d+) ended", ran.stdout, flags=re.M))) == 4
    assert f"{thread.thread_id} waits for an answer: Refund 249.00?" in asked
    assert re.search(rf"^{thread.thread_id}\b.*Refund 249\.00\?", listed, flags=re.M)
    assert values["outcome"] in answered
    assert len(re.findall(r"^[0-9a-f]{8}-[0-9a-f]{4}-6", history, flags=re.M)) == 5
    assert f"The thread {thread.thread_id} is left in {store}." in end


def test_the_demo_fails_when_the_store_forgets_what_the_first_process_stored(tmp_path: Path) -> None:
    ran = demo(tmp_path, "--store", "sqlite://")
    assert ran.returncode == 1
    assert "The demo failed. Expected: one question" in ran.stderr
    assert "It works" not in ran.stdout
