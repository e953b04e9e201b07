"""Savers that break LANGGRAPH clauses."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


@breaks("LANGGRAPH-1")
class IgnoresTheLimit(SQLiteSaver):
    def alist(self, config: Any, *, limit: Any = None, **options: Any) -> Any:
        return super().alist(config, **options)


@breaks("LANGGRAPH-1")
class DeclaresPruneWithoutHavingIt(SQLiteSaver):
    aprune = BaseCheckpointSaver.aprune
