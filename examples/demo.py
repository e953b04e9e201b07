"""Shows the main job: a graph asks in one process, waits in the store, and is answered in another process.

Runs the commands that a person would type, each in a process of its own, and then checks the outcome in the store.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
from contextlib import chdir
from pathlib import Path
from uuid import uuid4

from checkpoint_base import open_saver

ROOT = Path(__file__).resolve().parent.parent

AMOUNT = "249.00"

EVERY_NODE_ONCE = ["look_up", "ask_human", "pay"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--store", metavar="URL", help="where to keep the graph; a temporary SQLite file if not given")
    store = parser.parse_args().store
    if store:
        thread = f"order-{uuid4().hex[:8]}"  # new each time, so that the demo can be repeated on the same store
        show(store, thread)
        print(f"The thread {thread} is left in {store}.")
    else:
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            show("sqlite:///refunds.db", "order-17")


def show(store: str, thread: str) -> None:
    approval = ["python", "-m", "examples.approval"]
    at = ["--store", store]

    say("A refund needs a person's approval. One process runs the graph up to that question, and ends.")
    run(*approval, "ask", *at, "--thread", thread, "--amount", AMOUNT)
    check(pending(store, thread) == 1, f"one question of {thread} is in the store")

    say("Nothing runs now: the graph is only in the store, and everything that waits there can be listed.")
    run("checkpoints", *at, "interrupts")

    say("Later, another process answers. The graph goes on where it stopped.")
    run(*approval, "answer", *at, "--thread", thread, "--approve")

    say("What happened, newest first:")
    run("checkpoints", *at, "history", thread)

    check(pending(store, thread) == 0, f"no question of {thread} is left")
    with open_saver(store) as saver:
        found = saver.get_tuple({"configurable": {"thread_id": thread}})
    final = found.checkpoint["channel_values"] if found else {}
    check(final.get("outcome") == f"{AMOUNT} paid to the buyer of {thread}", f"the refund is paid, in {final}")
    check(final.get("done") == EVERY_NODE_ONCE, f"every node ran once, in {final}")
    say(
        "It works: the question outlived the process that asked it, and another process answered. "
        "Every step ran once, so the refund was paid once."
    )


def say(text: str) -> None:
    print(f"{textwrap.fill(text, 80)}\n", flush=True)


def run(*command: str) -> None:
    """Show a command as a person would type it, and run it with this interpreter; end the demo if it fails."""
    means = {"python": [], "checkpoints": ["-m", "checkpoint_base.cli"]}[command[0]]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    print(f"$ {shlex.join(command)}", flush=True)
    process = subprocess.Popen(  # noqa: S603  # our own commands
        [sys.executable, *means, *command[1:]],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"},
    )
    status = process.wait()
    print(f"[process {process.pid} ended with status {status}]\n", flush=True)
    check(status == 0, f"status 0 of {shlex.join(command)}")


def pending(store: str, thread: str) -> int:
    with open_saver(store) as saver:
        return len(list(saver.interrupts(thread_id=thread)))


def check(holds: bool, expected: str) -> None:
    if not holds:
        sys.exit(f"The demo failed. Expected: {expected}")


if __name__ == "__main__":
    main()
