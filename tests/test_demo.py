"""`make demo`, run as a person runs it, and its outcome read from the store it was given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from checkpoint_base import open_saver

ROOT = Path(__file__).resolve().parent.parent

SECONDS = 100  # five interpreters start one after another


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


def test_the_demo_leaves_an_answered_thread_in_the_store_it_is_given(tmp_path: Path) -> None:
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
    assert f"The thread {thread.thread_id} is left in {store}." in ran.stdout


def test_the_demo_shows_the_question_and_the_history_each_from_a_process_of_its_own(tmp_path: Path) -> None:
    ran = demo(tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")

    asked, listed, answered, history = re.split(r"^\[process \d+ ended with status 0\]$", ran.stdout, flags=re.M)[:4]
    assert len(set(re.findall(r"^\[process (\d+) ended", ran.stdout, flags=re.M))) == 4
    assert "order-17 waits for an answer: Refund 249.00?" in asked
    assert re.search(r"^order-17\b.*Refund 249\.00\?", listed, flags=re.M)
    assert "249.00 paid to the buyer of order-17" in answered
    assert len(re.findall(r"^[0-9a-f]{8}-[0-9a-f]{4}-6", history, flags=re.M)) == 5
    assert list(tmp_path.iterdir()) == []


def test_the_demo_fails_when_the_store_forgets_what_the_first_process_stored(tmp_path: Path) -> None:
    ran = demo(tmp_path, "--store", "sqlite://")
    assert ran.returncode == 1
    assert "The demo failed. Expected: one question" in ran.stderr
    assert "It works" not in ran.stdout
