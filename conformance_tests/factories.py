"""Factories that other processes can import by name."""

from __future__ import annotations

import os

from checkpoint_base import CheckpointSaver, open_saver


def from_environment() -> CheckpointSaver:
    """Open the store whose URL is in CHECKPOINT_STORE."""
    return open_saver(os.environ["CHECKPOINT_STORE"])
