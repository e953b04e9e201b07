"""What the branches of a pruned thread are rebuilt from is the same in another store, whatever they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, StateGraph

from checkpoint_base import SQLiteSaver, transfer
from tests.conftest import config_of

CHANNELS = ("x", "y")


def place(id_: str | None) -> Any:
    return config_of("t", checkpoint_ns="", checkpoint_id=id_)


def put(saver: SQLiteSaver, id_: str, parent: str | None, opened: Sequence[str], *, run: str = "gone") -> None:
    """Put a checkpoint with a value of each channel that is not ``opened``, and a write to each channel."""
    checkpoint: Any = {**empty_checkpoint(), "id": id_, "channel_versions": dict.fromkeys(CHANNELS, id_)}
    checkpoint["channel_values"] = {name: [f"{name} in {id_}"] for name in CHANNELS if name not in opened}
    metadata: Any = {"run_id": run, "counters_since_delta_snapshot": dict.fromkeys(opened, (1, 1))}
    stored = saver.put(place(parent), checkpoint, metadata, checkpoint["channel_versions"])
    saver.put_writes(stored, [(name, f"{name} of {id_}") for name in CHANNELS], "task")


def histories(saver: SQLiteSaver, id_: str, *channels: str) -> dict[str, list[Any]]:
    """What each channel of a checkpoint is rebuilt from: the value at first, and what was written since."""
    found = saver.get_delta_channel_history(config=place(id_), channels=channels)
    return {name: [each.get("seed"), *(value for _, _, value in each["writes"])] for name, each in found.items()}


def test_branches_of_one_removed_parent_may_rebuild_different_channels(
    source: SQLiteSaver, target: SQLiteSaver
) -> None:
    put(source, "1", None, ())
    put(source, "2", "1", CHANNELS)
    put(source, "3", "2", ("x",), run="kept")
    put(source, "4", "2", ("y",), run="kept")
    source.delete_for_runs(["gone"])
    assert transfer(source, target, "t") == 2
    for saver in (source, target):
        assert [each.checkpoint_id for each in saver.history(None)] == ["4", "3"]
        assert histories(saver, "3", "x") == {"x": [["x in 1"], "x of 1", "x of 2"]}
        assert histories(saver, "4", "y") == {"y": [["y in 1"], "y of 1", "y of 2"]}


def test_branches_that_each_have_several_removed_ancestors_are_rebuilt_each_from_its_own(
    source: SQLiteSaver, target: SQLiteSaver
) -> None:
    for branch in "ab":
        put(source, f"{branch}1", None, ())
        put(source, f"{branch}2", f"{branch}1", CHANNELS)
        put(source, f"{branch}3", f"{branch}2", CHANNELS)
        put(source, f"{branch}4", f"{branch}3", CHANNELS, run="kept")
    source.delete_for_runs(["gone"])
    assert transfer(source, target, "t") == 2
    for saver in (source, target):
        assert [each.checkpoint_id for each in saver.history(None)] == ["b4", "a4"]
        for branch in "ab":
            assert histories(saver, f"{branch}4", *CHANNELS) == {
                name: [[f"{name} in {branch}1"], *(f"{name} of {branch}{number}" for number in (1, 2, 3))]
                for name in CHANNELS
            }


def test_a_channel_that_has_not_changed_since_a_removed_ancestor_needs_nothing_of_it(
    source: SQLiteSaver, target: SQLiteSaver
) -> None:
    def graph(saver: SQLiteSaver) -> Any:
        def joined(items: list[str], writes: Sequence[list[str]]) -> list[str]:
            return [*items, *(item for write in writes for item in write)]

        state: Any = {
            "often": Annotated[list[str], DeltaChannel(joined, list, snapshot_frequency=1)],
            "seldom": Annotated[list[str], DeltaChannel(joined, list, snapshot_frequency=5000)],
        }
        builder: Any = StateGraph(TypedDict("State", state))  # type: ignore[operator]
        builder.add_node("adds", lambda _: {"seldom": ["added"]})
        builder.add_edge(START, "adds")
        return builder.compile(checkpointer=saver)

    given = {"often": ["given"], "seldom": ["given"]}
    expected = graph(source).invoke(given, config_of("t"), durability="sync")
    source.prune(["t"])
    assert transfer(source, target, "t") == 1
    assert transfer(source, target, "t") == 0
    assert graph(target).get_state(config_of("t")).values == expected
    target.prune(["t"])
    assert graph(target).get_state(config_of("t")).values == expected
