"""The conformance suite, bound to a saver of ours by its URL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from checkpoint_base import CheckpointSaver, open_saver
from conformance_tests import Capability, SaverConformance


class SuiteOnURL(SaverConformance):
    """Runs on the store that a subclass names in a fixture ``url``, in other processes as well."""

    capabilities = frozenset(Capability)

    @pytest.fixture
    def factory(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], CheckpointSaver]:
        monkeypatch.setenv("CHECKPOINT_STORE", url)
        return partial(open_saver, url)

    @pytest.fixture
    def factory_name(self) -> str:
        return "conformance_tests.factories:from_environment"
