"""The conformance suite, bound to a saver of ours by its URL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from checkpoint_base import CheckpointSaver, open_saver
from conformance_tests import Capability, SaverConformance
from conformance_tests.case import Case
from conformance_tests.trial import Colour

FULL = "CHECKPOINT_TEST_FULL"
"""The environment variable with which every case runs on every server."""


class SuiteOnURL(SaverConformance):
    """Runs on the store that a subclass names in a fixture ``url``, in other processes as well."""

    capabilities = frozenset(Capability)

    @classmethod
    def has_its_own_colour(cls, case: Case, colour: Colour) -> bool:
        """Whether a case runs in both colours and this is one, not both by turns; or runs in both by turns alone."""
        return colour is not Colour.MIXED or case.colours_for(cls.capabilities) == (Colour.MIXED,)

    @pytest.fixture
    def factory(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], CheckpointSaver]:
        monkeypatch.setenv("CHECKPOINT_STORE", url)
        return partial(open_saver, url)

    @pytest.fixture
    def factory_name(self) -> str:
        return "conformance_tests.factories:from_environment"
