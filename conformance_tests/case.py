"""The register of test cases."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeAlias

from checkpoint_base.extras import extra
from conformance_tests.contract import CLAUSES, Capability, Clause
from conformance_tests.trial import Colour, Trial

Check: TypeAlias = Callable[[Trial], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One test of one clause. Its name is the sentence that it proves.

    A ``long`` case takes seconds. A ``once`` case runs in only one of the colours that a saver has. A ``fresh`` case
    sets up the storage itself, so it proves most on a storage that has not been set up. ``needs`` is a capability that
    it uses in addition to those that its clause needs.
    """

    clause: Clause
    name: str
    check: Check
    colours: tuple[Colour, ...]
    long: bool
    once: bool = False
    fresh: bool = False
    needs: Capability | None = None

    @property
    def id(self) -> str:
        return f"{self.clause.id}-{self.name}"

    @property
    def sentence(self) -> str:
        return self.name.replace("_", " ")

    def colours_for(self, capabilities: Collection[Capability]) -> tuple[Colour, ...]:
        """The colours of this case in which a saver with these capabilities can run it."""
        has = {
            Colour.SYNC: Capability.SYNC in capabilities,
            Colour.ASYNC: Capability.ASYNC in capabilities,
            Colour.MIXED: {Capability.SYNC, Capability.ASYNC} <= set(capabilities),
        }
        colours = tuple(colour for colour in self.colours if has[colour])
        return colours[-1:] if self.once else colours

    def missing_in(self, capabilities: Collection[Capability]) -> tuple[Capability, ...]:
        """The capabilities that this case needs and that are not among these; if there are none, the case applies."""
        needed = (*self.clause.needs, *((self.needs,) if self.needs else ()))
        return tuple(need for need in needed if need not in capabilities)


_CASES: list[Case] = []


def case(
    clause_id: str,
    *,
    colours: Collection[Colour] = tuple(Colour),
    long: bool = False,
    once: bool = False,
    fresh: bool = False,
    needs: Capability | None = None,
) -> Callable[[Check], Check]:
    """Register a function as a test of a clause. It is called with a `Trial`, once in each colour.

    Args:
        clause_id: the clause that it proves.
        colours: the colours in which it has a meaning, or is worth its time.
        long: it takes seconds rather than milliseconds.
        once: the colour makes no difference to what is tested, so one of those that the saver has is enough.
        fresh: it sets up the storage itself.
        needs: a capability that it uses in addition to those that its clause needs.
    """

    def register(check: Check) -> Check:
        _CASES.append(Case(CLAUSES[clause_id], check.__name__, check, tuple(colours), long, once, fresh, needs))
        return check

    return register


def all_cases() -> tuple[Case, ...]:
    """Every case, in the order of the contract."""
    package = import_module("conformance_tests.cases")
    with extra("conformance"):
        for module in sorted(iter_modules(package.__path__), key=lambda module: module.name):
            import_module(f"conformance_tests.cases.{module.name}")
    order = list(CLAUSES)
    return tuple(sorted(_CASES, key=lambda case: order.index(case.clause.id)))
