"""Savers that each break one clause of the contract, to prove that the suite notices.

Each is a small subclass of `SQLiteSaver` that does one thing wrong, as some real saver did.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from checkpoint_base import SQLiteSaver

Broken = TypeVar("Broken", bound=type[SQLiteSaver])

_BROKEN: dict[str, list[type[SQLiteSaver]]] = {}


def breaks(*clause_ids: str) -> Callable[[Broken], Broken]:
    """Register a saver class that must fail each of these clauses. It is enough to break its sync methods."""

    def register(broken: Broken) -> Broken:
        for clause_id in clause_ids:
            _BROKEN.setdefault(clause_id, []).append(broken)
        return broken

    return register


def broken_savers() -> dict[str, list[type[SQLiteSaver]]]:
    """The broken savers of each clause."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return _BROKEN
