"""The figures of a run of faults."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Self


@dataclass(slots=True)
class Figures:
    """Counts, which add up, and losses: sentences, of which there must be none.

    ``crashes`` are processes that were killed; ``faults`` those of connections and servers; ``operations`` calls whose
    result was checked; ``damages`` stored values that were changed behind the adapter's back.
    """

    crashes: int = 0
    faults: int = 0
    operations: int = 0
    damages: int = 0
    losses: list[str] = field(default_factory=list)

    def __iadd__(self, other: Figures) -> Self:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self

    def check(self) -> None:
        """Fail when there are losses."""
        assert not self.losses, f"{len(self.losses)} losses; the first: " + "\n".join(self.losses[:5])
