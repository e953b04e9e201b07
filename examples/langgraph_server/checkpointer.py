"""The checkpointer of a LangGraph server, on any store: `langgraph.json` names this file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from checkpoint_base import CheckpointSaver, open_saver


@asynccontextmanager
async def open_checkpointer() -> AsyncIterator[CheckpointSaver]:
    """Open the saver when the server starts, and close it when the server stops."""
    async with open_saver(os.environ["CHECKPOINT_STORE"]) as saver:
        yield saver
