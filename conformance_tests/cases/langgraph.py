"""LANGGRAPH: LangGraph's own suite."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import validate
from langgraph.checkpoint.conformance.capabilities import Capability as Theirs
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer

from conformance_tests.case import case
from conformance_tests.contract import Capability
from conformance_tests.trial import Colour, Trial

OPTIONAL = {
    Theirs.COPY_THREAD: Capability.COPY_THREAD,
    Theirs.PRUNE: Capability.PRUNE,
    Theirs.DELETE_FOR_RUNS: Capability.DELETE_FOR_RUNS,
}


@case("LANGGRAPH-1", colours=(Colour.ASYNC,), long=True)
def langgraphs_own_suite_passes(t: Trial) -> None:
    saver = t.open().saver

    async def opened() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        yield saver

    skipped = {theirs.value for theirs, ours in OPTIONAL.items() if ours not in t.subject.capabilities}
    report = t.run(validate(RegisteredCheckpointer(type(saver).__name__, opened, skipped)))
    findings: list[str] = []
    for theirs in Theirs:
        result = report.results[theirs.value]
        if theirs.value in skipped or result.passed:
            continue
        # Their suite reports success for methods that do not exist.
        findings += [failure.strip().rstrip(":") for failure in result.failures] or [f"{theirs.value}: not implemented"]
    t.expect_that(not findings, f"{len(findings)} of LangGraph's own tests fail: {'; '.join(findings)}")
