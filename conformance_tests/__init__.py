"""The conformance suite for LangGraph checkpointers. It tests any saver, whether of this project or not."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance_tests.contract import CLAUSES, Capability, Clause
    from conformance_tests.runner import run_all
    from conformance_tests.suite import SaverConformance
    from conformance_tests.trial import ConformanceFailure

__all__ = ["CLAUSES", "Capability", "Clause", "ConformanceFailure", "SaverConformance", "run_all"]

_HOMES = {
    "CLAUSES": "contract",
    "Capability": "contract",
    "Clause": "contract",
    "ConformanceFailure": "trial",
    "SaverConformance": "suite",
    "run_all": "runner",
}


def __getattr__(name: str) -> object:
    # Imported on demand: every pytest run loads the pytest plugin, which must not import LangGraph, and the suite also
    # runs without pytest.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from checkpoint_base.extras import extra

    with extra("conformance"):
        return getattr(import_module(f"conformance_tests.{_HOMES[name]}"), name)
