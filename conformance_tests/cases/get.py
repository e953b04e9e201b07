"""GET: finding a checkpoint."""

from __future__ import annotations

from typing import Any

from conformance_tests.case import case
from conformance_tests.trial import Config, Trial, id_of, ids_of


@case("GET-1")
def what_does_not_exist_is_none(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread, {"a": 1}, ns="child:1")
    other = t.open()
    checkpoint_id = stored["configurable"]["checkpoint_id"]
    for config, what in (
        (t.config(t.thread()), "a thread that does not exist"),
        (t.config(t.thread(), checkpoint_id), "another thread's checkpoint"),
        (t.config(thread), "a namespace that does not exist"),
        (t.config(thread, checkpoint_id), "another namespace's checkpoint"),
        (t.config(thread, t.checkpoint()["id"], ns="child:1"), "a checkpoint that does not exist"),
    ):
        t.expect(other.get_tuple(config), None, f"got {what}")


@case("GET-1")
def writes_alone_are_no_checkpoint(t: Trial) -> None:
    thread = t.thread()
    place = t.config(thread, t.checkpoint()["id"])
    t.open().put_writes(place, [("a", 1)], "task-1")
    other = t.open()
    t.expect(other.get_tuple(place), None, "wrote to a checkpoint that is not there yet, got it")
    t.expect(other.get_tuple(t.config(thread)), None, "wrote to a checkpoint that is not there yet, got the latest")


@case("GET-2")
def the_latest_is_the_greatest_id(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (2, 5, 1, 4, 3):
        t.put(saver, thread, id_=id_of(number))
    _expect_id(t, t.config(thread), id_of(5), "put the checkpoints 2, 5, 1, 4, 3; the latest")


@case("GET-2")
def putting_an_old_checkpoint_again_does_not_make_it_the_latest(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (1, 2, 1):
        t.put(saver, thread, id_=id_of(number))
    _expect_id(t, t.config(thread), id_of(2), "put the checkpoints 1, 2, 1; the latest")


@case("GET-2")
def ids_are_compared_as_text(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for id_ in ("2", "10", "1"):
        t.put(saver, thread, id_=id_)
    _expect_id(t, t.config(thread), "2", "put the checkpoints '2', '10', '1'; the latest")


@case("GET-2")
def text_is_compared_by_code_point(t: Trial) -> None:
    saver = t.open()
    # Each is greater than the one before, but not in most languages' order, in that of UTF-16, or if case is ignored.
    for smaller, greater in (
        ("B", "a"),
        ("Z", "_"),
        ("_", "a"),
        ("z", "é"),
        ("1-2", "12"),
        ("\uff21", "😀"),
        ("a", "a "),
    ):
        for ids in ((smaller, greater), (greater, smaller)):
            thread = t.thread()
            for id_ in ids:
                t.put(saver, thread, id_=id_)
            _expect_id(t, t.config(thread), greater, f"put the checkpoints {ids}; the latest")
            listed = ids_of(t.open().list(t.config(thread)))
            t.expect(listed, [greater, smaller], f"put the checkpoints {ids}; listed")


@case("GET-2")
def every_namespace_has_its_own_latest(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    latest = {"": 1, "child:1": 3, "child:2": 2}
    for ns, number in latest.items():
        t.put(saver, thread, ns=ns, id_=id_of(number))
    for ns, number in latest.items():
        _expect_id(t, t.config(thread, ns=ns), id_of(number), f"put one checkpoint in each of three; latest of {ns!r}")


@case("GET-3")
def a_checkpoint_is_found_by_its_id(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    chain = t.chain(saver, thread, 5)
    for number, stored in enumerate(chain):
        _expect_id(t, stored, stored["configurable"]["checkpoint_id"], f"put five checkpoints, got number {number}")
        with t.opened() as other:
            found = t.expect_found(other.get_tuple(stored), f"put five checkpoints, got number {number}")
        t.expect(found.checkpoint["channel_values"], {"n": number}, f"got checkpoint {number} of five; values")
        t.expect(found.metadata.get("step"), number, f"got checkpoint {number} of five; step of its metadata")


@case("GET-4")
def the_savers_own_versions_come_back_equal(t: Trial) -> None:
    saver = t.open()
    first = saver.saver.get_next_version(None, None)
    _expect_versions(t, {"a": first, "b": saver.saver.get_next_version(first, None)})


@case("GET-4")
def versions_come_back_as_the_type_they_were(t: Trial) -> None:
    # LangGraph's interface allows versions of three types, and another saver may have begun the thread.
    _expect_versions(t, {"a": "00000000000000000000000000000001.0.123", "b": "2"})
    _expect_versions(t, {"a": 1, "b": 12345678901})
    _expect_versions(t, {"a": 1.5, "b": 2.0})


@case("GET-5")
def a_checkpoint_is_found_in_its_own_namespace_only(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    spaces = ["", "child", "child:1", "child:1|grandchild:1"]
    # All have the same id and the same version of the channel: only the namespace tells them apart.
    for ns in spaces:
        t.put(saver, thread, {"where": ns}, ns=ns, id_=id_of(1))
    other = t.open()
    for ns in spaces:
        for config in (t.config(thread, ns=ns), t.config(thread, id_of(1), ns=ns)):
            situation = f"put one id in four namespaces, got {config['configurable']}"
            found = t.expect_found(other.get_tuple(config), situation)
            t.expect(found.checkpoint["channel_values"], {"where": ns}, f"{situation}; values")
            t.expect(found.config["configurable"].get("checkpoint_ns"), ns, f"{situation}; namespace")
    t.expect(other.get_tuple(t.config(thread, ns="child:2")), None, "got the latest of a fifth namespace")


@case("GET-6")
def every_field_of_a_checkpoint_comes_back(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for updated_channels in (["a", "b"], [], None):
        fields = {"v": 4, "ts": "2024-02-29T23:59:59.123456+00:00", "updated_channels": updated_channels}
        checkpoint = {**t.checkpoint({"a": 1}), **fields}
        stored = saver.put(t.config(thread), checkpoint, {}, checkpoint["channel_versions"])
        other = t.open()
        for found in (other.get_tuple(stored), *other.list(stored)):
            whole = t.expect_found(found, f"put a checkpoint with {fields}").checkpoint
            t.expect({name: whole.get(name) for name in fields}, fields, "put a checkpoint; these fields of it")


def _expect_id(t: Trial, config: Config, expected: str, situation: str) -> None:
    with t.opened() as other:
        found = t.expect_found(other.get_tuple(config), situation)
    t.expect(found.checkpoint["id"], expected, f"{situation}; id")
    t.expect(found.config["configurable"].get("checkpoint_id"), expected, f"{situation}; id in its config")


def _expect_versions(t: Trial, versions: dict[str, Any]) -> None:
    saver, thread = t.open(), t.thread()
    values = dict.fromkeys(versions, "value")
    versions = {**versions, "cleared": versions["a"]}  # like a channel that was emptied
    checkpoint = t.checkpoint(values, versions=versions)
    checkpoint["versions_seen"] = {"__input__": {}, "node": dict(versions), "other": {"a": versions["a"]}}
    stored = saver.put(t.config(thread), checkpoint, {}, versions)
    found = t.expect_found(t.open().get_tuple(stored), f"put the versions {versions}").checkpoint
    for part in ("channel_versions", "versions_seen"):
        t.expect(_typed(found.get(part)), _typed(checkpoint[part]), f"put the versions {versions}; {part}")
    t.expect(found["channel_values"], checkpoint["channel_values"], f"put the versions {versions}; values")


def _typed(versions: Any) -> Any:
    """The versions with their types, because 1 equals 1.0."""
    if isinstance(versions, dict):
        return {name: _typed(version) for name, version in versions.items()}
    return (type(versions).__name__, versions)
