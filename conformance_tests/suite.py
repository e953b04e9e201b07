"""The suite as a pytest class: subclass it, give it your saver, and run pytest."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import pytest

from conformance_tests.case import Case, all_cases
from conformance_tests.contract import Capability
from conformance_tests.runner import ANOTHER_STORAGE, opens_one_storage, run_case
from conformance_tests.trial import Colour, ConformanceFailure, Factory, Subject


class SaverConformance:
    """Proves the contract for one saver::

        class TestMySaver(SaverConformance):
            capabilities = {Capability.SYNC, Capability.ASYNC, Capability.PRUNE}

            @pytest.fixture
            def factory(self, tmp_path):
                return lambda: MySaver(tmp_path / "checkpoints")

    ``factory`` opens the saver on the same storage each time it is called within a test. It returns the saver, or a
    sync or async context manager of it. All tests may share one storage, because they use thread ids of their own.

    For `Capability.PROCESSES`, also override ``factory_name``. Other processes import the callable that it names, which
    must open the same storage as ``factory``.
    """

    capabilities: ClassVar[Collection[Capability]]

    every_colour: ClassVar[bool] = True
    """False runs each case in one colour only, which takes a third of the time. Use it for a further installation of a
    saver that another class tests in every colour."""

    @pytest.fixture
    def factory(self) -> Factory:
        raise TypeError(f"{type(self).__name__} must define a fixture `factory` that opens its saver")

    @pytest.fixture
    def factory_name(self) -> str | None:
        return None

    def test_clause(self, case: Case, colour: Colour, factory: Factory, factory_name: str | None) -> None:
        subject = Subject(factory, frozenset(self.capabilities), factory_name)
        try:
            run_case(case, subject, colour)
        except ConformanceFailure as failure:
            failure.add_note(f"{case.clause.id} requires: {case.clause.says}\nThe reason: {case.clause.why}")
            if not opens_one_storage(subject, colour):
                failure.add_note(f"{type(self).__name__}.factory {ANOTHER_STORAGE}")
            raise

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if metafunc.function.__name__ != "test_clause":
            return
        declared = getattr(self, "capabilities", ())
        if unknown := sorted(set(declared) - {*Capability}):
            raise TypeError(
                f"{type(self).__name__} declares {unknown}, which are not capabilities: use {', '.join(Capability)}"
            )
        if not {Capability.SYNC, Capability.ASYNC} & set(declared):
            raise TypeError(
                f"{type(self).__name__} must declare its capabilities, at least Capability.SYNC or Capability.ASYNC"
            )
        metafunc.parametrize(
            ("case", "colour"),
            [
                pytest.param(
                    case, colour, id=f"{case.id}-{colour}", marks=[pytest.mark.conformance_long] if case.long else []
                )
                for case in all_cases()
                if not case.missing_in(declared)
                for colour in case.colours_for(declared)[0 if self.every_colour else -1 :]
            ],
        )
