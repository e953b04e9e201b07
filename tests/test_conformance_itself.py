"""The conformance suite is tested too: a broken saver must fail its clause, and no clause goes without one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from checkpoint_base import SQLiteSaver
from conformance_tests.case import all_cases
from conformance_tests.contract import AREAS, CLAUSES, Capability, markdown
from conformance_tests.runner import run_all
from tests.broken_savers import broken_savers

PAIRS = [(clause_id, broken) for clause_id, classes in broken_savers().items() for broken in classes]
DOCS = Path(__file__).parent.parent / "docs"


def test_every_clause_has_a_case_a_broken_saver_and_a_known_area() -> None:
    assert {case.clause.id for case in all_cases()} == set(CLAUSES)
    assert set(broken_savers()) == set(CLAUSES)
    assert {clause.area for clause in CLAUSES.values()} == set(AREAS)


def test_no_two_cases_of_a_clause_have_the_same_name() -> None:
    ids = [case.id for case in all_cases()]
    assert len(ids) == len(set(ids))


def test_the_page_of_the_contract_is_written_from_the_clauses() -> None:
    assert (DOCS / "contract.md").read_text() == markdown(), (
        "run: python -m conformance_tests.contract > docs/contract.md"
    )


@pytest.mark.parametrize(("clause_id", "broken"), PAIRS, ids=[f"{id_}-{broken.__name__}" for id_, broken in PAIRS])
def test_a_broken_saver_fails_its_clause(
    clause_id: str, broken: type[SQLiteSaver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints.db"
    monkeypatch.setenv("BROKEN_SAVER", f"{broken.__module__}:{broken.__name__}")
    monkeypatch.setenv("BROKEN_SAVER_PATH", str(path))
    cases = [case for case in all_cases() if case.clause.id == clause_id]
    results = run_all(
        partial(broken, path), frozenset(Capability), "tests.broken_savers.process:open_broken", cases=cases
    )
    failed = [result for result in results if result.outcome == "failed"]
    assert failed
    assert {result.case.clause.id for result in failed} == {clause_id}
    assert all(result.finding for result in failed)
