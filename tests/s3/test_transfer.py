"""Threads of another store, transferred to S3."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from checkpoint_base import SQLiteSaver, open_saver, transfer
from conformance_tests import graphs


def test_checkpoints_of_runs_and_of_pruned_threads_are_in_s3_as_they_were(saver: SQLiteSaver, moto_url: str) -> None:
    """There what was replaced stays beside its successor, and which of them counts follows from their times."""
    for number in range(12):
        config: Any = {"configurable": {"thread_id": f"t{number}"}, "metadata": {"run_id": f"run {number}"}}
        if number % 3 == 2:
            graphs.delta_graph(saver, graphs.LONG, "go on?").invoke(graphs.both("input"), config)
        else:
            graphs.one_question(saver, Counter()).invoke({"log": []}, config)
        if number % 3 > 0:
            saver.prune([f"t{number}"])
    with open_saver(moto_url) as target:
        for info in saver.threads():
            transfer(saver, target, info.thread_id)
    with open_saver(moto_url) as target:
        assert list(target.list(None)) == list(saver.list(None))
        for here, there in zip(saver.threads(), target.threads(), strict=True):
            kind, expected = int(here.thread_id[1:]) % 3, here
            if kind > 0:  # the last write may have been pruned
                assert there.updated_at <= here.updated_at
                expected = replace(here, updated_at=there.updated_at, cursor=there.cursor)
            if kind == 1:  # S3 knows when a thread began from what it has kept of it
                expected = replace(expected, created_at=there.created_at)
            assert there == expected
