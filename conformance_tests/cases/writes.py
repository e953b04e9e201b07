"""WRITES: storing pending writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple, writes_sort_key
from langgraph.types import Interrupt

from conformance_tests.case import case
from conformance_tests.trial import MANY, Config, Trial
from conformance_tests.values import messages

_NULL_TASK = "00000000-0000-0000-0000-000000000000"


@case("WRITES-1")
def a_write_comes_back_as_task_channel_and_value(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread, {"a": 1})
    # LangGraph itself writes None to the channels that trigger nodes.
    writes: list[tuple[str, Any]] = [
        ("a", {"deep": [1, "two"]}),
        ("branch:to:b", None),
        ("a", 0),
        ("b", []),
        ("b", ""),
        ("c", False),
    ]
    saver.put_writes(stored, writes, "task-1")
    _expect_writes(t, stored, [("task-1", channel, value) for channel, value in writes], "wrote six values")


@case("WRITES-1")
def writes_of_several_tasks_come_back_together(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread, ns="child:1")
    for task in ("task-1", "task-2", "task-3"):
        saver.put_writes(stored, [("a", task)], task)
    expected = [(task, "a", task) for task in ("task-1", "task-2", "task-3")]
    _expect_writes(t, stored, expected, "three tasks wrote to one checkpoint of a namespace")


@case("WRITES-1", long=True, once=True)
def writes_of_more_tasks_than_any_page_has_come_back(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    for number in range(MANY):
        saver.put_writes(stored, [("a", number)], f"task-{number}")
    expected = [(f"task-{number}", "a", number) for number in range(MANY)]
    _expect_writes(t, stored, expected, f"{MANY} tasks wrote to one checkpoint")


@case("WRITES-1")
def writes_of_a_large_value_that_is_stored_already_come_back(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    large = messages()
    stored = t.put(saver, thread, {"a": large})
    for task in ("task-1", "task-2"):
        saver.put_writes(stored, [("a", large)], task)
    _expect_writes(t, stored, [(task, "a", large) for task in ("task-1", "task-2")], "wrote what the checkpoint holds")


@case("WRITES-1")
def writes_of_a_large_value_that_is_stored_nowhere_else_come_back(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    large = {task: messages(name=task) for task in ("task-1", "task-2")}
    first = t.put(saver, thread, {"a": "small"})
    second = t.put(saver, thread, {"a": "small"}, parent=first, changed=())
    for stored in (first, second):
        for task, value in large.items():
            saver.put_writes(stored, [("a", value)], task)
        expected = [(task, "a", value) for task, value in large.items()]
        _expect_writes(t, stored, expected, "wrote two large values that no checkpoint holds")
    for found in t.open().list(t.config(thread)):
        t.expect_writes(found, expected, "wrote two large values that no checkpoint holds; listed")


@case("WRITES-2")
def writes_before_the_checkpoint_are_there_once_it_is(t: Trial) -> None:
    thread = t.thread()
    checkpoint = t.checkpoint({"a": 1})
    early = t.config(thread, checkpoint["id"])
    t.open().put_writes(early, [("a", 2), ("__interrupt__", ["why?"])], "task-1")
    t.open().put(t.config(thread), checkpoint, {}, checkpoint["channel_versions"])
    expected = [("task-1", "__interrupt__", ["why?"]), ("task-1", "a", 2)]
    _expect_writes(t, early, expected, "wrote, then put the checkpoint")


@case("WRITES-2")
def writes_before_and_after_the_checkpoint_add_up(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    checkpoint = t.checkpoint({"a": 1})
    place = t.config(thread, checkpoint["id"])
    saver.put_writes(place, [("a", 2)], "task-1")
    saver.put(t.config(thread), checkpoint, {}, checkpoint["channel_versions"])
    saver.put_writes(place, [("a", 3)], "task-2")
    _expect_writes(t, place, [("task-1", "a", 2), ("task-2", "a", 3)], "wrote before and after the put")


@case("WRITES-2")
def a_repeated_put_leaves_the_writes_alone(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    checkpoint = t.checkpoint({"a": 1})
    place = t.config(thread, checkpoint["id"])
    for task in ("task-1", "task-2"):
        saver.put(t.config(thread), checkpoint, {}, checkpoint["channel_versions"])
        saver.put_writes(place, [("a", 2), ("__resume__", ["yes"])], task)
    saver.put(t.config(thread), checkpoint, {}, checkpoint["channel_versions"])
    expected = [
        (task, channel, value)
        for task in ("task-1", "task-2")
        for channel, value in (("__resume__", ["yes"]), ("a", 2))
    ]
    _expect_writes(t, place, expected, "put the checkpoint again after its writes")


@case("WRITES-3")
def an_ordinary_write_is_never_replaced(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    saver.put_writes(stored, [("a", "first"), ("b", "first")], "task-1")
    saver.put_writes(stored, [("a", "second"), ("b", "second")], "task-1")
    t.open().put_writes(stored, [("a", "third")], "task-1")
    expected = [("task-1", "a", "first"), ("task-1", "b", "first")]
    _expect_writes(t, stored, expected, "wrote again with other values")


@case("WRITES-3")
def the_position_identifies_a_write_and_not_its_channel(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    saver.put_writes(stored, [("a", 1), ("a", 2)], "task-1")
    saver.put_writes(stored, [("b", 3)], "task-1")
    expected = [("task-1", "a", 1), ("task-1", "a", 2)]
    _expect_writes(t, stored, expected, "wrote twice to one channel, then to another at the first position")


@case("WRITES-3")
def tasks_do_not_share_positions(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    saver.put_writes(stored, [("a", 1)], "task-1")
    saver.put_writes(stored, [("a", 2)], "task-2")
    _expect_writes(t, stored, [("task-1", "a", 1), ("task-2", "a", 2)], "two tasks wrote at the same position")


@case("WRITES-4")
def a_special_write_replaces_the_tasks_earlier_one(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for channel in WRITES_IDX_MAP:
        stored = t.put(saver, thread)
        first, second = (_asked(text) if channel == "__interrupt__" else text for text in ("first", "second"))
        saver.put_writes(stored, [(channel, first)], "task-1")
        t.open().put_writes(stored, [(channel, second)], "task-1")
        _expect_writes(t, stored, [("task-1", channel, second)], f"wrote twice to {channel}")


@case("WRITES-4")
def special_writes_of_other_channels_and_tasks_stay(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    saver.put_writes(stored, [("__interrupt__", _asked("why?"))], "task-1")
    saver.put_writes(stored, [("__interrupt__", _asked("when?"))], "task-2")
    saver.put_writes(stored, [("__resume__", ["because"])], "task-1")
    saver.put_writes(stored, [("__interrupt__", _asked("really?"))], "task-1")
    expected = [
        ("task-1", "__resume__", ["because"]),
        ("task-1", "__interrupt__", _asked("really?")),
        ("task-2", "__interrupt__", _asked("when?")),
    ]
    _expect_writes(t, stored, expected, "two tasks asked, one was answered and asked again")


@case("WRITES-5")
def each_write_of_a_mixed_call_follows_its_own_rule(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    saver.put_writes(stored, [("a", "first"), ("__resume__", ["yes"])], "task-1")
    saver.put_writes(stored, [("a", "second"), ("__resume__", ["yes", "no"])], "task-1")
    expected = [("task-1", "__resume__", ["yes", "no"]), ("task-1", "a", "first")]
    _expect_writes(t, stored, expected, "wrote an ordinary and a special value together, twice")


@case("WRITES-5")
def a_mixed_call_replaces_the_special_write_of_a_call_before(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    saver.put_writes(stored, [("__resume__", ["yes"])], "task-1")
    saver.put_writes(stored, [("__resume__", ["yes", "no"]), ("a", 1)], "task-1")
    expected = [("task-1", "__resume__", ["yes", "no"]), ("task-1", "a", 1)]
    _expect_writes(t, stored, expected, "wrote a special value, then another together with an ordinary one")


@case("WRITES-6")
def writes_sent_again_with_more_behind_them_are_added(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for task in (_NULL_TASK, "task-1"):
        stored = t.put(saver, thread)
        writes = [("a", 1), ("b", 2), ("a", 3)]
        for length in range(1, 4):
            saver.put_writes(stored, writes[:length], task)
        expected = [(task, channel, value) for channel, value in writes]
        _expect_writes(t, stored, expected, f"task {task} wrote one, two, then three values")


@case("WRITES-7")
def writes_are_ordered_by_task_path_task_and_position(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    # Capitals and punctuation, which databases with a language's collation sort differently.
    sent = [
        ("~__pregel_pull, b", "task-2"),
        ("~__pregel_push, 0000000010", "task-1"),
        ("", "task-9"),
        ("~__pregel_pull, B", "task-7"),
        ("~__pregel_push, 0000000002", "task-3"),
        ("~__pregel_pull, a-z", "task-5"),
        ("~__pregel_pull, a", "task-a"),
        ("~__pregel_pull, a", "task-B"),
        ("~__pregel_pull, aa", "task-6"),
    ]
    writes = [("x", 1), ("__interrupt__", ["why?"]), ("b", 2), ("a", 3)]
    for path, task in sent:
        saver.put_writes(stored, writes, task, path)
    keyed = [
        (writes_sort_key(path, task, WRITES_IDX_MAP.get(channel, position)), (task, channel, value))
        for path, task in sent
        for position, (channel, value) in enumerate(writes)
    ]
    expected = [write for _, write in sorted(keyed, key=lambda pair: pair[0])]
    _expect_writes_in_order(t, stored, expected, "nine tasks wrote")


@case("WRITES-7")
def a_thousand_positions_stay_in_order(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread)
    # As a node writes that sends as many tasks.
    saver.put_writes(stored, [("a", number) for number in range(MANY)], "task-1")
    expected = [("task-1", "a", number) for number in range(MANY)]
    _expect_writes_in_order(t, stored, expected, f"one task wrote {MANY} values")


@case("WRITES-8")
def writes_stay_on_their_checkpoint(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first, second, third = t.chain(saver, thread, 3)
    saver.put_writes(second, [("a", 1), ("__resume__", ["yes"])], "task-1")
    expected = [("task-1", "__resume__", ["yes"]), ("task-1", "a", 1)]
    _expect_writes(t, second, expected, "wrote to the second of three checkpoints")
    _expect_writes(t, first, [], "wrote to the second of three checkpoints, got the first")
    _expect_writes(t, third, [], "wrote to the second of three checkpoints, got the third")


@case("WRITES-8")
def a_task_may_write_to_several_checkpoints(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number, stored in enumerate(t.chain(saver, thread, 3)):
        saver.put_writes(stored, [("a", number)], _NULL_TASK)
        _expect_writes(t, stored, [(_NULL_TASK, "a", number)], f"one task wrote to checkpoint {number} of three")


@case("WRITES-8")
def writes_stay_in_their_namespace_and_thread(t: Trial) -> None:
    saver = t.open()
    checkpoint = t.checkpoint({"a": 1})
    one, other = t.thread(), t.thread()
    places = [(one, ""), (one, "child:1"), (one, "child:1|grandchild:2"), (other, "")]
    for thread, ns in places:
        saver.put(t.config(thread, ns=ns), checkpoint, {}, checkpoint["channel_versions"])
    for written, (thread, ns) in enumerate(places):
        saver.put_writes(t.config(thread, checkpoint["id"], ns=ns), [("a", written)], "task-1")
        for number, (thread_, ns_) in enumerate(places):
            _expect_writes(
                t,
                t.config(thread_, checkpoint["id"], ns=ns_),
                [("task-1", "a", number)] if number <= written else [],
                f"wrote to {written + 1} of 4 checkpoints with one id in other places, got number {number + 1}",
            )


@case("WRITES-9")
def no_writes_are_accepted_and_change_nothing(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread, {"a": 1})
    saver.put_writes(stored, [], "task-1")
    _expect_writes(t, stored, [], "wrote nothing")
    saver.put_writes(stored, [("a", 2)], "task-1")
    saver.put_writes(stored, [], "task-1")
    _expect_writes(t, stored, [("task-1", "a", 2)], "wrote, then wrote nothing")


@case("WRITES-9")
def no_writes_make_no_checkpoint(t: Trial) -> None:
    thread = t.thread()
    t.open().put_writes(t.config(thread, t.checkpoint()["id"]), [], "task-1")
    other = t.open()
    t.expect(other.get_tuple(t.config(thread)), None, "wrote nothing to a checkpoint that is not there; the latest")
    t.expect(other.list(t.config(thread)), [], "wrote nothing to a checkpoint that is not there; listed")


def _asked(question: str) -> list[Interrupt]:
    """A question as LangGraph writes it, because it stays pending in a storage that other tests share."""
    return [Interrupt(value=question, id="1" * 32)]


def _expect_writes(t: Trial, config: Config, expected: Sequence[tuple[str, str, Any]], situation: str) -> None:
    t.expect_writes(_found(t, config, situation), expected, situation)


def _expect_writes_in_order(t: Trial, config: Config, expected: Sequence[tuple[str, str, Any]], situation: str) -> None:
    t.expect(_found(t, config, situation).pending_writes, expected, f"{situation}; pending writes in order")


def _found(t: Trial, config: Config, situation: str) -> CheckpointTuple:
    with t.opened() as other:
        return t.expect_found(other.get_tuple(config), situation)
