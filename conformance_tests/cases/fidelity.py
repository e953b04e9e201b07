"""FIDELITY: values come back as they were, or are refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import CheckpointTuple

from conformance_tests import values
from conformance_tests.case import case
from conformance_tests.trial import Colour, Config, Handle, Trial, accepts

Make = Callable[[], dict[str, Any]]


@case("FIDELITY-1")
def texts_and_numbers_in_a_state_stay_as_they_are(t: Trial) -> None:
    _expect_unchanged(t, values.texts_and_numbers, _InState(t))


@case("FIDELITY-2")
def containers_in_a_state_stay_as_they_are(t: Trial) -> None:
    _expect_unchanged(t, values.containers, _InState(t))


@case("FIDELITY-3")
def library_types_in_a_state_stay_as_they_are(t: Trial) -> None:
    _expect_unchanged(t, values.library_types, _InState(t))


@case("FIDELITY-4")
def objects_in_a_state_stay_as_they_are(t: Trial) -> None:
    _expect_unchanged(t, values.objects, _InState(t))


@case("FIDELITY-5")
def values_of_writes_stay_as_they_are(t: Trial) -> None:
    _expect_unchanged(t, values.every_value, _InWrites(t))


@case("FIDELITY-6")
def values_in_metadata_stay_as_they_are(t: Trial) -> None:
    _expect_unchanged(t, values.every_value, _InMetadata(t))


@case("FIDELITY-6")
def names_in_metadata_stay_as_they_are(t: Trial) -> None:
    entries = [_Value(text, name, lambda: 1) for name, text in values.NAMES.items()]
    _expect_all_unchanged(t, entries, _InMetadata(t))


@case("FIDELITY-6")
def texts_of_the_config_stay_as_they_are_in_metadata(t: Trial) -> None:
    """LangGraph's own helper removes NUL from the scalar entries of the config when it adds them to the metadata."""
    saver, other = t.open(), t.open()
    for name, text in {"an ordinary text": "red", **values.NAMES}.items():
        thread, checkpoint = t.thread(), t.checkpoint()
        config = t.config(thread, mine=text)
        if accepts(saver.put, config, checkpoint, {"source": "loop", "step": 0}, {}):
            found = t.expect_found(other.get_tuple(t.config(thread)), f"put with {text!a} in the config")
            if text == "red" and "mine" not in found.metadata:
                return  # whether they are stored at all is for PUT-4 to test
            t.expect(found.metadata.get("mine"), text, f"put with {text!a} ({name}) in the config; metadata")


@case("FIDELITY-7")
def a_channel_keeps_its_name(t: Trial) -> None:
    saver, other = t.open(), t.open()
    for name, channel in values.NAMES.items():
        thread = t.thread()
        config = t.config(thread)
        situation = f"put a channel whose name is {channel!a} ({name})"
        if not accepts(t.put, saver, thread, {channel: 1}):
            t.expect(other.get_tuple(config), None, f"{situation}, which was refused; found")
            continue
        for found in (other.get_tuple(config), *other.list(config)):
            kept = t.expect_found(found, situation).checkpoint
            t.expect(kept["channel_values"], {channel: 1}, f"{situation}; values")
            t.expect(list(kept["channel_versions"]), [channel], f"{situation}; channels with a version")
        t.expect(len(other.list(config)), 1, f"{situation}; listed")


@case("FIDELITY-7")
def the_channel_of_a_write_keeps_its_name(t: Trial) -> None:
    saver, other = t.open(), t.open()
    for name, channel in values.NAMES.items():
        config = t.put(saver, t.thread())
        refused = not accepts(saver.put_writes, config, [(channel, 1)], "task-1")
        found = t.expect_found(other.get_tuple(config), f"wrote to a channel whose name is {channel!a} ({name})")
        t.expect_writes(
            found,
            [] if refused else [("task-1", channel, 1)],
            f"wrote to a channel whose name is {channel!a} ({name}){', which was refused' if refused else ''}",
        )


@case("FIDELITY-7")
def similar_channel_names_are_kept_apart(t: Trial) -> None:
    saver, thread, state = t.open(), t.thread(), {}
    for name in values.NAMES.values():
        if accepts(t.put, saver, t.thread(), {name: 1}):
            state[name] = f"of {name!a}"
    config = t.put(saver, thread, state)
    found = t.expect_found(t.open().get_tuple(config), "put a channel of every name")
    t.expect(found.checkpoint["channel_values"], state, "put a channel of every name in one checkpoint; values")


@case("FIDELITY-7")
def channels_whose_names_join_alike_with_a_version_are_kept_apart(t: Trial) -> None:
    saver = t.open()
    for sign in ("", *":|/#_-. "):
        versions = {"a": f"1{sign}1.1", f"a{sign}1": "1.1", f"a1{sign}1": ".1", "a1": f"{sign}1.1"}
        state = {name: f"of {name!a}" for name in versions}
        config = t.put(saver, t.thread(), state, versions=versions)
        found = t.expect_found(t.open().get_tuple(config), f"put channels whose names and versions join with {sign!r}")
        situation = f"put channels whose names and versions join alike with {sign!r}; values"
        t.expect(found.checkpoint["channel_values"], state, situation)


@case("FIDELITY-8", colours=(Colour.SYNC, Colour.ASYNC), long=True)
def values_of_five_megabytes_come_back(t: Trial) -> None:
    chance = random.Random(8)
    large = {
        "text": "é\U0001f600\n\\" + chance.randbytes(2_500_000).hex(),
        "bytes": chance.randbytes(5_000_000),
        "zeros": bytes(5_000_000),
        "list": [f"{number:040}" for number in range(100_000)],
        "dict": {f"key {number}": {"n": number, "pair": [number, -number]} for number in range(20_000)},
    }
    saver, other = t.open(), t.open()
    for kind, value in large.items():
        situation = f"put {kind} of several megabytes"
        config = t.put(saver, t.thread(), {"large": value, "small": 1})
        found = t.expect_found(other.get_tuple(config), situation)
        t.expect_that(found.checkpoint["channel_values"] == {"large": value, "small": 1}, f"{situation}; it changed")
        saver.put_writes(config, [("large", value)], "task-1")
        found = t.expect_found(other.get_tuple(config), situation)
        t.expect_that(found.pending_writes == [("task-1", "large", value)], f"{situation} as a write; it changed")


@case("FIDELITY-8", colours=(Colour.SYNC, Colour.ASYNC), long=True)
def a_list_that_is_edited_comes_back_as_it_was_at_every_step(t: Trial) -> None:
    _expect_every_step(t, "list of messages", _edited(_message))


@case("FIDELITY-8", colours=(Colour.SYNC, Colour.ASYNC), long=True)
def a_list_of_plain_values_that_is_edited_comes_back_as_it_was_at_every_step(t: Trial) -> None:
    _expect_every_step(t, "list", _edited(_plain))


@case("FIDELITY-8", colours=(Colour.SYNC, Colour.ASYNC), long=True)
def a_text_that_is_edited_comes_back_as_it_was_at_every_step(t: Trial) -> None:
    _expect_every_step(t, "text", ((step, "".join(map(str, items))) for step, items in _edited(_plain)))


@case("FIDELITY-9")
def what_is_done_to_the_given_objects_later_changes_nothing_stored(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    state, written, metadata = _growing("state"), _growing("write"), ["metadata"]
    config = t.put(saver, thread, {"a": state, "b": [state]}, metadata={"mine": metadata})
    saver.put_writes(config, [("a", written)], "task-1")
    for given in (state, written, metadata):
        _grow(given)
    situation = "changed the objects that had been put and written"
    for handle in (saver, t.open()):
        for found in (handle.get_tuple(config), *handle.list(t.config(thread))):
            _expect_as_it_was(t, found, situation)


@case("FIDELITY-9")
def what_is_done_to_the_received_objects_changes_nothing_stored(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    state = _growing("state")
    config = t.put(saver, thread, {"a": state, "b": [state]}, metadata={"mine": ["metadata"]})
    saver.put_writes(config, [("a", _growing("write"))], "task-1")
    situation = "changed what had been got and listed"
    for handle in (saver, t.open()):
        for _ in range(2):
            for found in (handle.get_tuple(config), *handle.list(t.config(thread))):
                received = _expect_as_it_was(t, found, situation)
                parts: list[Any] = [received.checkpoint["channel_values"], received.metadata, received.checkpoint]
                for part in parts:
                    for value in part.values():
                        _grow(value)
                    part["later"] = 1
                for _, _, value in received.pending_writes or ():
                    _grow(value)


@case("FIDELITY-9")
def checkpoints_that_are_listed_together_share_nothing(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    values, versions = {"kept": _growing("state")}, {"kept": "1.1"}
    stored = [t.put(saver, thread, values, versions=versions)]
    stored.append(t.put(saver, thread, values, versions=versions, changed=[], parent=stored[0]))
    for found in saver.list(t.config(thread)):
        t.expect(
            found.checkpoint["channel_values"],
            {"kept": _growing("state")},
            "put a value that two checkpoints have, changed it in the first that was listed; in the second",
        )
        _grow(found.checkpoint["channel_values"]["kept"])


@dataclass(frozen=True, slots=True)
class _Value:
    """A value to store under a key; ``name`` is what findings call it."""

    key: str
    name: str
    make: Callable[[], Any]


class _InState:
    """Puts values into channels, and reads them."""

    def __init__(self, t: Trial) -> None:
        self.t = t
        self.saver = t.open()
        self.other = t.open()

    def store(self, entries: dict[str, Any]) -> tuple[Config, bool]:
        """Store values in a thread of their own; returns its config, and whether the saver accepted them."""
        thread = self.t.thread()
        return self.t.config(thread), accepts(self.put, thread, entries)

    def put(self, thread: str, entries: dict[str, Any]) -> None:
        self.t.put(self.saver, thread, entries)

    def read(self, config: Config) -> Mapping[str, Any]:
        found = self.t.expect_found(self.other.get_tuple(config), "put values")
        return found.checkpoint["channel_values"]

    def left(self, config: Config) -> list[Any]:
        """What a refused call has left behind."""
        return self.other.list(config)


class _InMetadata(_InState):
    """Puts values into the metadata."""

    def put(self, thread: str, entries: dict[str, Any]) -> None:
        self.t.put(self.saver, thread, metadata=entries)

    def read(self, config: Config) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.t.expect_found(self.other.get_tuple(config), "put metadata").metadata
        return found


class _InWrites(_InState):
    """Writes values to a stored checkpoint."""

    def store(self, entries: dict[str, Any]) -> tuple[Config, bool]:
        config = self.t.put(self.saver, self.t.thread())
        return config, accepts(self.saver.put_writes, config, list(entries.items()), "task-1")

    def read(self, config: Config) -> Mapping[str, Any]:
        return {channel: value for _, channel, value in self.left(config)}

    def left(self, config: Config) -> list[Any]:
        return self.t.expect_found(self.other.get_tuple(config), "wrote values").pending_writes or []


def _expect_unchanged(t: Trial, make: Make, place: _InState) -> None:
    """Store each value, and once more within a list."""
    entries: list[_Value] = []
    for name in make():
        key = f"value_{len(entries)}"
        entries += [
            _Value(key, name, lambda name=name: make()[name]),  # type: ignore[misc]  # its default
            _Value(f"{key}_in_a_list", name, lambda name=name: [make()[name]]),  # type: ignore[misc]
        ]
    _expect_all_unchanged(t, entries, place)


def _expect_all_unchanged(t: Trial, entries: Sequence[_Value], place: _InState) -> None:
    """Report everything that changed in one failure, with the first finding for each name."""
    findings: dict[str, str] = {}
    for name, finding in _changes(place, entries):
        findings.setdefault(name, finding)
    said = "; ".join(f"{name}: {finding}" for name, finding in findings.items())
    situation = f"stored {len(entries)} values, each of which must come back as it was or be refused"
    t.expect_that(not findings, f"{situation}; {len(findings)} did neither: {said}")


def _changes(place: _InState, entries: Sequence[_Value]) -> Iterator[tuple[str, str]]:
    """Store all values in one call. If it is refused or changes some, store fewer at a time, in the end one by one."""
    config, stored = place.store({entry.key: entry.make() for entry in entries})
    (alone, *more) = entries
    if not stored:
        if left := place.left(config):
            yield _named(entries), f"was refused and left {left!a:.200} behind"
        if more:
            for half in (entries[: len(entries) // 2], entries[len(entries) // 2 :]):
                yield from _changes(place, half)
        return
    try:
        found = place.read(config)
    except Exception as error:  # noqa: BLE001  # reported with the value's name
        if not more:
            yield alone.name, f"was accepted; reading raised {type(error).__name__}: {error!s:.200}"
            return
        closer = list(entries)
    else:
        changed = {
            entry.key: difference
            for entry in entries
            if (difference := values.difference(found.get(entry.key, "nothing"), entry.make()))
        }
        if not more:
            yield from ((alone.name, difference) for difference in changed.values())
            return
        closer = [entry for entry in entries if entry.key in changed]
    said = [found for entry in closer for found in _changes(place, [entry])]
    yield from said
    if closer and not said:
        yield _named(closer), "changed, or could not be read, only when stored together"


def _named(entries: Sequence[_Value]) -> str:
    return entries[0].name if len(entries) == 1 else f"a call with {len(entries)} values"


def _expect_every_step(t: Trial, kind: str, steps: Iterator[tuple[str, Any]]) -> None:
    """Put each step as the next checkpoint, and read it and the one before; at the end, read all of them."""
    saver, other, thread = t.open(), t.open(), t.thread()
    stored: list[tuple[str, Config, Any]] = []
    for number, (step, value) in enumerate(steps, 1):
        parent = stored[-1][1] if stored else None
        config = t.put(saver, thread, {"grown": value}, versions={"grown": f"{number:032}.0"}, parent=parent)
        stored.append((step, config, value))
        _expect_steps(t, other, kind, stored[-2:])
    _expect_steps(t, t.open(), kind, stored)


def _expect_steps(t: Trial, handle: Handle, kind: str, stored: list[tuple[str, Config, Any]]) -> None:
    for step, config, value in stored:
        situation = f"a {kind} was changed step by step and is now at {stored[-1][0]!r}; the checkpoint of {step!r}"
        found = t.expect_found(handle.get_tuple(config), situation)
        t.expect_that(found.checkpoint["channel_values"] == {"grown": value}, f"{situation} is not what was put")


def _edited(item: Callable[[random.Random, int], Any]) -> Iterator[tuple[str, list[Any]]]:
    """A list that grows, is edited and shrinks: pairs of what was done and the list after it."""
    chance = random.Random(9)
    items = [item(chance, number) for number in range(300)]
    yield "first", list(items)
    for number in (300, 301):
        items.append(item(chance, number))
        yield f"appended {number}", list(items)
    items.extend(item(chance, number) for number in range(302, 600))
    yield "appended many", list(items)
    items[250] = item(chance, 1000)
    yield "replaced one in the middle", list(items)
    items[100:100] = [item(chance, 2000), item(chance, 2001)]
    yield "inserted in the middle", list(items)
    del items[400:420]
    yield "removed from the middle", list(items)
    items.insert(0, item(chance, 3000))
    yield "inserted in front", list(items)
    items.reverse()
    yield "reversed", list(items)
    del items[50:]
    yield "shortened", list(items)
    items.append(item(chance, 4000))
    yield "appended to the shortened", list(items)
    yield "emptied", []


def _message(chance: random.Random, number: int) -> Any:
    text = f"message {number} " + "".join(chance.choices("abcdefgh ", k=chance.choice((10, 700, 3000))))
    return AIMessage(text, id=f"m-{number}") if number % 2 else HumanMessage(text, id=f"m-{number}")


def _plain(chance: random.Random, number: int) -> Any:
    return {
        "number": number,
        "pair": [number, 1.0],
        "text": "é" * chance.choice((0, 5, 500)),
        "raw": chance.randbytes(9),
    }


def _growing(name: str) -> dict[str, Any]:
    """A value with parts that can be changed in place, including a message, as in most states."""
    return {"list": [name], "message": HumanMessage(name, id=name)}


def _grow(value: Any) -> None:
    """Change everything in it that can be changed in place."""
    match value:
        case {"list": items, "message": message}:
            items.append("later")
            message.content = "later"
            value["later"] = 1
        case dict():
            value["later"] = 1
        case list():
            value.append("later")


def _expect_as_it_was(t: Trial, found: CheckpointTuple | None, situation: str) -> CheckpointTuple:
    found = t.expect_found(found, situation)
    expected = {"a": _growing("state"), "b": [_growing("state")]}
    t.expect(found.checkpoint["channel_values"], expected, f"{situation}; values")
    t.expect(sorted(found.checkpoint["channel_versions"]), ["a", "b"], f"{situation}; channels with a version")
    t.expect(found.metadata.get("mine"), ["metadata"], f"{situation}; metadata")
    t.expect_writes(found, [("task-1", "a", _growing("write"))], situation)
    return found
