"""PUT: storing checkpoints."""

from __future__ import annotations

import copy

from conformance_tests.case import case
from conformance_tests.trial import Trial, id_of, parent_of


@case("PUT-1")
def the_config_names_the_stored_checkpoint(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    checkpoint = t.checkpoint({"a": 1})
    config = saver.put(t.config(thread), checkpoint, {}, checkpoint["channel_versions"])
    expected = t.config(thread, checkpoint["id"])["configurable"]
    # A config may hold more than the checkpoint's place.
    t.expect({key: config["configurable"].get(key) for key in expected}, expected, "put a checkpoint; config")


@case("PUT-1")
def the_config_finds_the_stored_checkpoint(t: Trial) -> None:
    config = t.put(t.open(), t.thread(), {"a": 1}, ns="child:1")
    found = t.expect_found(t.open().get_tuple(config), "got the config that put returned")
    t.expect(found.checkpoint["channel_values"], {"a": 1}, "got the config that put returned; values")


@case("PUT-2")
def a_checkpoint_put_twice_is_listed_once(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for _ in range(2):
        t.put(saver, thread, {"a": 1}, id_=id_of(1))
    t.expect(len(t.open().list(t.config(thread))), 1, "the same checkpoint put twice; listed")


@case("PUT-3")
def the_configs_checkpoint_is_the_parent(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first, second = t.chain(saver, thread, 2)
    other = t.open()
    child = t.expect_found(other.get_tuple(second), "put a child")
    t.expect(parent_of(child), first["configurable"]["checkpoint_id"], "put a child; its parent's id")
    root = t.expect_found(other.get_tuple(first), "put a root")
    t.expect(root.parent_config, None, "put a checkpoint without a parent; its parent")


@case("PUT-3")
def the_parent_is_named_with_its_thread_and_namespace(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for ns in ("", "child:1"):
        first, second = t.chain(saver, thread, 2, ns=ns)
        child = t.expect_found(t.open().get_tuple(second), "put a child")
        named = (child.parent_config or {}).get("configurable", {})
        expected = t.config(thread, first["configurable"]["checkpoint_id"], ns=ns)["configurable"]
        found = {key: named.get(key, "") for key in expected}
        t.expect(found, expected, f"put a child in namespace {ns!r}; its parent's config")


@case("PUT-4")
def metadata_is_merged_with_the_config(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    checkpoint = t.checkpoint()
    config = t.config(thread, team="red", tier=3, step="of the config", __own="no", tools=["a"])
    config["metadata"] = {"run_id": "r-1", "team": "blue", "langgraph_node": "n"}
    metadata = {"source": "loop", "step": 7, "parents": {"": "1f0"}, "mine": {"deep": [1, None]}}
    saver.put(config, checkpoint, metadata, {})
    found = t.expect_found(t.open().get_tuple(t.config(thread)), "put with metadata")
    t.expect(
        dict(found.metadata),
        {**metadata, "run_id": "r-1", "team": "blue", "tier": 3},
        "put with metadata and a config with more; metadata",
    )


@case("PUT-5")
def an_unchanged_channel_is_found_by_its_version(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first = t.put(saver, thread, {"kept": "old", "changed": 1}, versions={"kept": "1.1", "changed": "1.1"})
    checkpoint = t.checkpoint({"kept": "old", "changed": 2}, versions={"kept": "1.1", "changed": "2.1"})
    second = saver.put(first, checkpoint, {}, {"changed": "2.1"})
    found = t.expect_found(t.open().get_tuple(second), "put a change of one channel")
    t.expect(
        found.checkpoint["channel_values"], {"kept": "old", "changed": 2}, "put a change of one of two channels; values"
    )


@case("PUT-6")
def a_channel_without_version_or_value_is_absent(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first = t.put(
        saver,
        thread,
        {"dropped": 1, "cleared": 1, "none": None},
        versions={"dropped": "1.1", "cleared": "1.1", "none": "1.1"},
    )
    checkpoint = t.checkpoint({"none": None}, versions={"cleared": "2.1", "none": "1.1"})
    second = saver.put(first, checkpoint, {}, {"cleared": "2.1"})
    found = t.expect_found(t.open().get_tuple(second), "dropped one channel and cleared another")
    t.expect(found.checkpoint["channel_values"], {"none": None}, "dropped one channel and cleared another; values")


@case("PUT-7")
def a_config_without_namespace_is_the_root(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = t.put(saver, thread, {"a": 1})
    saver.put_writes(stored, [("a", 2)], "task-1")
    other = t.open()
    for id_ in ({}, {"checkpoint_id": stored["configurable"]["checkpoint_id"]}):
        situation = f"put to the root namespace, got with {', '.join(['thread_id', *id_])} alone"
        found = t.expect_found(other.get_tuple({"configurable": {"thread_id": thread, **id_}}), situation)
        t.expect(found.checkpoint["channel_values"], {"a": 1}, f"{situation}; values")
        t.expect_writes(found, [("task-1", "a", 2)], situation)


@case("PUT-8")
def arguments_stay_as_they_were(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    checkpoint = t.checkpoint({"a": [1, {"b": (2,)}]})
    arguments = (t.config(thread, team="red"), checkpoint, {"step": 1}, dict(checkpoint["channel_versions"]))
    before = copy.deepcopy(arguments)
    stored = saver.put(*arguments)
    t.expect(arguments, before, "put; its arguments afterwards")
    writes = [("a", [1]), ("__resume__", [2])]
    place = copy.deepcopy(stored)
    saver.put_writes(stored, writes, "task-1")
    t.expect(writes, [("a", [1]), ("__resume__", [2])], "put_writes; its writes afterwards")
    t.expect(stored, place, "put_writes; its config afterwards")


@case("PUT-8")
def arguments_of_reading_stay_as_they_were(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    t.chain(saver, thread, 2)
    for config in ({"configurable": {"thread_id": thread}}, t.config(thread)):
        options = {"filter": {"step": 0}, "before": t.config(thread, "2"), "limit": 1}
        before = copy.deepcopy((config, options))
        t.expect_found(saver.get_tuple(config), "put two checkpoints")
        t.expect(config, before[0], "got the latest; the config afterwards")
        t.expect(len(saver.list(config, **options)), 1, f"put two checkpoints, listed with {options}")
        t.expect((config, options), before, "listed; the arguments afterwards")


@case("PUT-9")
def a_value_that_cannot_be_stored_leaves_nothing_behind(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    first = t.put(saver, thread, {"a": "good"})
    t.expect_error(
        lambda: t.put(saver, thread, {"a": "half", "b": object()}, parent=first, versions={"a": "2.1", "b": "1.1"}),
        "put an object of no known type",
    )
    other = t.open()
    t.expect(len(other.list(t.config(thread))), 1, "a put was refused; listed")
    found = t.expect_found(other.get_tuple(t.config(thread)), "a put was refused")
    t.expect(found.checkpoint["channel_values"], {"a": "good"}, "a put was refused; values of the latest")
