"""What importing the package costs, compared with langgraph-checkpoint: `python -m benchmarks.imports`.

The imports alternate, each in a new interpreter. The time is CPU time, less that of an empty interpreter.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median

REPETITIONS = 9
THEIRS = "import langgraph.checkpoint.base, langgraph.checkpoint.serde.jsonplus"
OURS = "import checkpoint_base"


def seconds(statement: str) -> float:
    """The CPU time of an interpreter that runs this statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603  # our own statements
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    taken: dict[str, list[float]] = {"pass": [], THEIRS: [], OURS: []}
    for _ in range(REPETITIONS):
        for statement, times in taken.items():
            times.append(seconds(statement))
    empty, theirs, ours = (median(times) for times in taken.values())
    print(f"langgraph-checkpoint {(theirs - empty) * 1e3:5.0f} ms")
    print(f"checkpoint_base      {(ours - empty) * 1e3:5.0f} ms, with langgraph-checkpoint, which it imports")
    print(f"ratio                {(ours - empty) / (theirs - empty):5.2f}")


if __name__ == "__main__":
    main()
