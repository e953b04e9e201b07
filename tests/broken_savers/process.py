"""Savers that break PROCESS clauses, and how another process opens a broken saver."""

from __future__ import annotations

import fcntl
import os
import time
from importlib import import_module
from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


def open_broken() -> SQLiteSaver:
    """Open the saver whose class BROKEN_SAVER names, as ``module:name``, on the file BROKEN_SAVER_PATH."""
    module, _, name = os.environ["BROKEN_SAVER"].partition(":")
    saver: SQLiteSaver = getattr(import_module(module), name)(os.environ["BROKEN_SAVER_PATH"])
    return saver


@breaks("PROCESS-1")
class KeepsAFileForEachProcess(SQLiteSaver):
    def __init__(self, path: Any) -> None:
        super().__init__(f"{path}.{os.getpid()}")


@breaks("PROCESS-2")
class RefusesWhileAnotherProcessWrites(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        with open(f"{os.environ['BROKEN_SAVER_PATH']}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(0.005)
            return super().put(config, checkpoint, metadata, new_versions)
