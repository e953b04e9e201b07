"""The contract of a checkpointer, proved for `dict://`: pytest runs the whole suite."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest

from checkpoint_base import CheckpointSaver, open_saver
from conformance_tests import Capability, SaverConformance


class TestDict(SaverConformance):
    capabilities = frozenset(Capability) - {Capability.PROCESSES}  # its storage is in this process

    @pytest.fixture
    def factory(self) -> Callable[[], CheckpointSaver]:
        return partial(open_saver, f"dict://{uuid4().hex}")
