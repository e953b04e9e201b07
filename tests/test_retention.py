"""What is kept when checkpoints are removed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from checkpoint_base.retention import Skeleton, all_but_runs, ended_calls, retain


class Counted(dict[str, Skeleton]):
    """Counts how often one of its checkpoints is looked at."""

    looks = 0

    def __getitem__(self, id_: str) -> Skeleton:
        self.looks += 1
        return super().__getitem__(id_)


def needed_by_each(skeletons: Mapping[str, Skeleton], kept: Any, stored: Any) -> tuple[dict[str, set[str]], set[Any]]:
    """Go from every kept checkpoint all the way by itself."""
    opened = {channel for skeleton in skeletons.values() for channel in skeleton.open_channels}
    needed: dict[str, set[str]] = {}
    seeds = set()
    for id_ in kept:
        for channel in opened & skeletons[id_].versions.keys():
            at, passed = id_, {id_}
            while (channel, skeletons[at].versions.get(channel)) not in stored:
                parent = skeletons[at].parent_id
                if parent is None or parent not in skeletons or parent in passed:
                    break
                passed.add(parent)
                needed.setdefault(parent, set()).add(channel)
                at = parent
            else:
                seeds.add((channel, skeletons[at].versions[channel]))
    return needed, seeds


def test_long_histories_with_an_open_channel_are_gone_through_once() -> None:
    size = 3000
    skeletons = Counted(
        {
            f"{n:05}": Skeleton(f"{n - 1:05}" if n else None, "gone" if n % 100 == 50 else "run", None,
                                {"log": f"{n}"}, frozenset({"log"} if n else ()), False)
            for n in range(size)
        }
    )  # fmt: skip
    found = retain(
        skeletons, {("log", "0")}, lambda visible: {id_ for id_, one in visible.items() if one.run_id == "run"}
    )
    assert len(found.retired) == size // 100
    assert not found.removed
    assert skeletons.looks < 6 * size


def test_what_is_kept_is_what_each_kept_checkpoint_needs_by_itself() -> None:
    chance = random.Random(7)
    for _ in range(400):
        ids = [f"{n}" for n in range(chance.randint(1, 12))]
        channels = ["a", "b", "c"]
        skeletons = {
            id_: Skeleton(
                chance.choice([*ids, "lost", None]),
                chance.choice(["gone", "run"]),
                None,
                {channel: f"{chance.randint(1, 6)}" for channel in channels if chance.random() < 0.9},
                frozenset(channel for channel in channels if chance.random() < 0.5),
                retired=chance.random() < 0.2,
            )
            for id_ in ids
        }
        stored = {(channel, f"{version}") for channel in channels for version in range(1, 7) if chance.random() < 0.25}
        kept = {id_ for id_ in ids if skeletons[id_].run_id == "run" and not skeletons[id_].retired}
        found = retain(skeletons, stored, all_but_runs(["gone"]))
        needed, seeds = needed_by_each(skeletons, kept, stored)
        assert found.retired == {id_: channels for id_, channels in needed.items() if id_ not in kept}
        assert found.removed == skeletons.keys() - kept - needed.keys()
        held = seeds | {version for id_ in kept for version in skeletons[id_].versions.items()}
        assert found.values == stored - held


def test_a_call_that_began_within_another_call_goes_though_that_one_stays() -> None:
    checkpoints = (("", "2", None, True), ("call", "7", "2", True), ("its own call", "8", "7", True))
    ends = ended_calls(1, checkpoints)
    assert [ends([(id_, caller_id)]) for _, id_, caller_id, _ in checkpoints] == [False, False, True]


def test_a_call_that_began_at_a_checkpoint_that_is_out_of_sight_has_ended() -> None:
    ends = ended_calls(1, [("", "1", None, False), ("", "2", None, True)])
    assert [ends([("9", caller_id)]) for caller_id in ("1", "2", "of another thread", None)] == [True] + [False] * 3
