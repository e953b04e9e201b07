"""Runs cases on a saver and yields the result of each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from conformance_tests.case import Case, all_cases
from conformance_tests.contract import CLAUSES, Capability
from conformance_tests.trial import Colour, ConformanceFailure, Factory, Subject, Trial

ANOTHER_STORAGE = (
    "opens another storage each time: what one saver has put, the next one does not find. "
    "Open the same storage in every call; if a saver keeps everything in its memory, return the same saver each time"
)

Outcome: TypeAlias = Literal["passed", "failed", "undeclared"]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a case in one colour; ``finding`` says why it failed, and ``trace`` where."""

    case: Case
    colour: Colour | None
    outcome: Outcome
    finding: str = ""
    trace: str = ""
    seconds: float = 0.0


def run_case(case: Case, subject: Subject, colour: Colour) -> None:
    """Run one case in one colour.

    Raises:
        ConformanceFailure: the clause does not hold, or the saver raised an error that it must not raise.
    """
    try:
        with Trial(case.clause, subject, colour) as trial:
            case.check(trial)
    except ConformanceFailure:
        raise
    except Exception as error:
        finding = f"{case.sentence}; raised {type(error).__name__}: {error}"
        raise ConformanceFailure(case.clause, finding) from error


def opens_one_storage(subject: Subject, colour: Colour) -> bool:
    """Whether a second handle finds what the first has put. Otherwise, no case can prove anything.

    True even if the saver raises, or if the first handle does not find the checkpoint either: the cases report that.
    """
    try:
        with Trial(CLAUSES["PUT-1"], subject, colour) as trial:
            handle = trial.open()
            config = trial.put(handle, trial.thread("storage"), {"a": 1})
            return handle.get_tuple(config) is None or trial.open().get_tuple(config) is not None
    except Exception:  # noqa: BLE001  # any class will do: savers have their own
        return True


def run_all(
    factory: Factory,
    capabilities: Collection[Capability],
    factory_name: str | None = None,
    *,
    long: bool = True,
    cases: Collection[Case] | None = None,
) -> Iterator[Result]:
    """Run every case that applies, in every colour that the saver declares, and yield each result as it comes.

    A case for which a capability is not declared yields one result that says so.

    Args:
        factory: opens the saver on the same storage each time.
        capabilities: what the saver declares.
        factory_name: ``package.module:callable``, if other processes can open the same storage.
        long: False leaves out the cases that take seconds.
        cases: all cases by default.
    """
    subject = Subject(factory, frozenset(capabilities), factory_name)
    for case in all_cases() if cases is None else cases:
        if long or not case.long or case.missing_in(subject.capabilities):
            yield from results_of(case, subject)


def results_of(case: Case, subject: Subject) -> Iterator[Result]:
    """Run one case in every colour that the saver declares, or yield one result that says what it does not declare."""
    if missing := case.missing_in(subject.capabilities):
        yield Result(case, None, "undeclared", f"needs {' and '.join(missing)}")
        return
    for colour in case.colours_for(subject.capabilities):
        began = time.perf_counter()
        try:
            run_case(case, subject, colour)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:  # noqa: BLE001  # SystemExit would end the run, perhaps with success
            found = failure.finding if isinstance(failure, ConformanceFailure) else _ending(case, failure)
            trace = "".join(traceback.format_exception(failure))
            yield Result(case, colour, "failed", found, trace, time.perf_counter() - began)
        else:
            yield Result(case, colour, "passed", seconds=time.perf_counter() - began)


def _ending(case: Case, error: BaseException) -> str:
    return f"{case.sentence}; ended the run by {type(error).__name__}: {error}"
