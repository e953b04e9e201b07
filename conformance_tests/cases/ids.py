"""IDS: ids."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from conformance_tests.case import case
from conformance_tests.trial import Config, Handle, Trial, accepts, ids_of

# Each is appended to the same id. In a store that takes one of these characters for a separator or a wildcard, or folds
# it into another, two of these ids are the same.
_ENDINGS = (
    "", ":", "::", ":a", "|a", "/", "/a", "/../a", "-a", ".a", "_a", "#a", "$a", "+a", "%", "%3Aa", "%a", "*", "?",
    "[a]", "{a}", "\\", "\\a", "'a", '"a', " ", " a", "\ta", "\na", "a", "A", "é", "e\u0301", "É", "\u212b", "Å",
    "ß", "ss", "\ufb01", "fi",
)  # fmt: skip
_SEPARATORS = (":", "|", "/", "#", "_", "-", ".", " ")


@case("IDS-1")
def thread_ids_that_look_alike_are_different(t: Trial) -> None:
    saver, base = t.open(), t.thread()
    for number, ending in enumerate(_ENDINGS):
        t.put(saver, base + ending, {"n": number})
    other = t.open()
    for number, ending in enumerate(_ENDINGS):
        _expect_value(t, other, t.config(base + ending), number, f"threads whose ids end alike, got …{ending!r}")
        t.expect(len(other.list(t.config(base + ending))), 1, f"put threads whose ids end alike, listed …{ending!r}")


@case("IDS-1")
def namespaces_that_look_alike_are_different(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number, ending in enumerate(_ENDINGS):
        t.put(saver, thread, {"n": number}, ns=f"child{ending}")
    other = t.open()
    for number, ending in enumerate(_ENDINGS):
        config = t.config(thread, ns=f"child{ending}")
        _expect_value(t, other, config, number, f"namespaces that end alike, got …{ending!r}")
        t.expect(len(other.list_namespace(config)), 1, f"put namespaces that end alike, listed …{ending!r}")


@case("IDS-1")
def checkpoint_ids_that_look_alike_are_different(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number, ending in enumerate(_ENDINGS):
        # Each has a version of its own, so that only the ids could be mixed up.
        t.put(saver, thread, {"n": number}, id_=f"1f0{ending}", versions={"n": f"{number + 1:032}.1"})
    other = t.open()
    for number, ending in enumerate(_ENDINGS):
        config = t.config(thread, f"1f0{ending}")
        _expect_value(t, other, config, number, f"checkpoints whose ids end alike, got …{ending!r}")


@case("IDS-1")
def task_ids_that_look_alike_are_different(t: Trial) -> None:
    saver = t.open()
    stored = t.put(saver, t.thread())
    # LangGraph makes task ids itself, and they never have a backslash.
    endings = [ending for ending in _ENDINGS if "\\" not in ending]
    for number, ending in enumerate(endings):
        saver.put_writes(stored, [("a", number)], f"task{ending}")
    found = t.expect_found(t.open().get_tuple(stored), "wrote from tasks whose ids end alike")
    expected = sorted((f"task{ending}", "a", number) for number, ending in enumerate(endings))
    t.expect_writes(found, expected, "wrote from tasks whose ids end alike")


@case("IDS-1")
def ids_that_join_alike_are_different(t: Trial) -> None:
    saver, base = t.open(), t.thread()
    places: list[tuple[str, str, str]] = []
    for sign in _SEPARATORS:
        thread, child = f"{base}{sign}1", f"x{sign}y"
        places += [
            (thread, "x", "1f0"),
            (base, f"1{sign}x", "1f0"),
            (thread, "", child),
            (thread, "x", "y"),
            (thread, child, "z"),
            (thread, "x", f"y{sign}z"),
            (f"{thread}{sign}x", "", f"y{sign}z"),
        ]
    for number, (thread, ns, id_) in enumerate(places):
        t.put(saver, thread, {"n": number}, ns=ns, id_=id_, versions={"n": f"{number + 1:032}.1"})
        saver.put_writes(t.config(thread, id_, ns=ns), [("a", number)], "task-1")
    other = t.open()
    for number, (thread, ns, id_) in enumerate(places):
        situation = f"checkpoints whose ids join to the same text, got {id_!r} in {ns!r} of …{thread[len(base) :]!r}"
        config = t.config(thread, id_, ns=ns)
        _expect_value(t, other, config, number, situation)
        found = t.expect_found(other.get_tuple(config), situation)
        t.expect_writes(found, [("task-1", "a", number)], f"put {situation}")


@case("IDS-1")
def tasks_whose_ids_join_alike_with_a_position_are_different(t: Trial) -> None:
    saver = t.open()
    stored = t.put(saver, t.thread())
    tasks = [f"task{sign}{number}" for sign in ("", *_SEPARATORS) for number in ("1", "11", f"1{sign}1")]
    expected = [(task, "a", f"{task}, {position}") for task in dict.fromkeys(tasks) for position in range(12)]
    for task in dict.fromkeys(tasks):
        saver.put_writes(stored, [("a", f"{task}, {position}") for position in range(12)], task)
    found = t.expect_found(t.open().get_tuple(stored), "wrote from tasks whose ids end with digits")
    t.expect_writes(found, expected, "wrote from tasks whose ids end with digits, twelve times each")


@case("IDS-1")
def a_wildcard_names_itself_only(t: Trial) -> None:
    saver, base = t.open(), t.thread()
    t.put(saver, f"{base}-ab", {"n": 1}, ns="child:1")
    t.put(saver, f"{base}-ac", {"n": 2}, ns="child:1")
    other = t.open()
    for pattern in (
        "*",
        "-a*",
        "-a?",
        "-a[bc]",
        "%",
        "-a%",
        "-a_",
        "_ab",
        ".*",
        "-a.",
        "-ab|-ac",
        "-ab,-ac",
        "-{ab,ac}",
    ):
        for config in (
            t.config(base + pattern, ns="child:1"),
            t.config(f"{base}-ab", ns=pattern),
            t.config(f"{base}-ab", pattern, ns="child:1"),
        ):
            asked = {**config["configurable"], "thread_id": config["configurable"]["thread_id"].replace(base, "…")}
            t.expect(other.get_tuple(config), None, f"put other ids, got {asked}")
            t.expect(len(other.list_namespace(config)), 0, f"put other ids, listed {asked}; how many")


@case("IDS-2")
def an_integer_thread_is_found_by_every_reading_method(t: Trial) -> None:
    saver, number = t.open(), _integer()
    stored = t.put(saver, number, {"n": 1})
    place = t.config(number, stored["configurable"]["checkpoint_id"])
    saver.put_writes(place, [("a", 1)], "task-1")
    _expect_thread(t, number, "put to an integer thread, read by the integer")


@case("IDS-3")
def a_config_without_thread_raises(t: Trial) -> None:
    saver, checkpoint = t.open(), t.checkpoint({"a": 1})
    nameless: Config = {"configurable": {"checkpoint_ns": ""}}
    addressed: Config = {"configurable": {"checkpoint_ns": "", "checkpoint_id": checkpoint["id"]}}
    put = partial(saver.put, nameless, checkpoint, {}, checkpoint["channel_versions"])
    t.expect_error(put, "put without a thread")
    t.expect_error(partial(saver.put_writes, addressed, [("a", 1)], "task-1"), "wrote without a thread")
    for config in (nameless, addressed):
        t.expect_error(partial(saver.get_tuple, config), "got without a thread")
    other = t.open()
    for thread in ("None", "null", "undefined", ""):
        _expect_nothing(t, other, t.config(thread, checkpoint["id"]), f"put without a thread, read thread {thread!r}")


@case("IDS-4")
def an_impossible_thread_id_is_refused_or_kept(t: Trial) -> None:
    base = t.thread()
    other = t.open()
    for id_, what in _impossible(base):
        _put_impossible(t, id_, "", t.checkpoint()["id"], f"put a thread_id {what}")
        for near in _alike(id_, base):
            _expect_nothing(t, other, t.config(near), f"put a thread_id {what}, read another")
    _put_impossible(t, "", "", t.checkpoint()["id"], "put an empty thread_id")


@case("IDS-4")
def an_impossible_namespace_is_refused_or_kept(t: Trial) -> None:
    other = t.open()
    for ns, what in _impossible("child:1"):
        thread = t.thread()
        _put_impossible(t, thread, ns, t.checkpoint()["id"], f"put a namespace {what}")
        for near in ("", *_alike(ns, "child:1")):
            _expect_nothing(t, other, t.config(thread, ns=near), f"put a namespace {what}, read another")


@case("IDS-4")
def an_impossible_checkpoint_id_is_refused_or_kept(t: Trial) -> None:
    other = t.open()
    for id_, what in _impossible("1f000000"):
        thread = t.thread()
        _put_impossible(t, thread, "", id_, f"put a checkpoint_id {what}")
        for near in _alike(id_, "1f000000"):
            _expect_nothing(t, other, t.config(thread, near), f"put a checkpoint_id {what}, read another")


@case("IDS-4")
def an_empty_checkpoint_id_is_refused_or_kept(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    checkpoint = {**t.checkpoint({"a": 1}), "id": ""}
    kept = accepts(saver.put, t.config(thread), checkpoint, {}, checkpoint["channel_versions"])
    # It can be found only as the latest, because a config with an empty checkpoint_id asks for the latest.
    found = t.open().get_tuple(t.config(thread))
    situation = f"put an empty checkpoint_id, which was {'accepted' if kept else 'refused'}; id of the latest"
    t.expect(found and found.checkpoint["id"], "" if kept else None, situation)


@case("IDS-4")
def an_impossible_task_id_is_refused_or_kept(t: Trial) -> None:
    for id_, what in (*_impossible("task-1"), ("", "that is empty")):
        saver = t.open()
        stored = t.put(saver, t.thread())
        kept = accepts(saver.put_writes, stored, [("a", 1)], id_)
        situation = f"wrote with a task_id {what}, which was {'accepted' if kept else 'refused'}"
        found = t.expect_found(t.open().get_tuple(stored), situation)
        t.expect_writes(found, [(id_, "a", 1)] if kept else [], f"{situation}")


@case("IDS-4")
def long_ids_that_begin_alike_are_refused_or_kept_apart(t: Trial) -> None:
    saver, other = t.open(), t.open()
    for length in (100, 256, 512):
        chance = "".join(uuid.uuid4().hex for _ in range(16))[: length - 1]  # a new thread each time
        endings = [chance + ending for ending in "1748205936"]
        what = f"ids of {length} characters that differ in the last, and were accepted"
        threads = [(id_, "", "1f0") for id_ in endings]
        checkpoints = [(chance[:32], "", id_) for id_ in endings]
        for name, places in (("thread", threads), ("checkpoint", checkpoints)):
            configs = [t.config(thread, id_, ns=ns) for thread, ns, id_ in places]
            kept = [
                (number, config)
                for number, config in enumerate(configs)
                if accepts(_put_number, t, saver, config, number)
            ]
            for number, config in kept:
                _expect_value(t, other, config, number, f"{name} {what}")
                t.expect(len(other.list_namespace(config)), 1, f"put {name} {what}; listed by one of them")
        greatest_first = sorted((config["configurable"]["checkpoint_id"] for _, config in kept), reverse=True)
        listed = ids_of(other.list(t.config(chance[:32])))
        t.expect(listed, greatest_first, f"put checkpoint {what}; listed")
        latest = other.get_tuple(t.config(chance[:32]))
        t.expect([latest.checkpoint["id"]] if latest else [], greatest_first[:1], f"put checkpoint {what}; the latest")
        stored = t.put(saver, t.thread())
        written = [(id_, "a", number) for number, id_ in enumerate(endings)]
        kept_writes = [write for write in written if accepts(saver.put_writes, stored, [("a", write[2])], write[0])]
        found = t.expect_found(other.get_tuple(stored), f"wrote from task {what}")
        t.expect_writes(found, kept_writes, f"wrote from task {what}")


@case("IDS-5")
def namespaces_of_deep_subgraphs_work(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    ns = ""
    spaces = []
    for level in range(1, 26):
        ns += f"{'|' if ns else ''}research_agent_{level}:{uuid.uuid4()}"
        if level in (1, 2, 5, 10, 15, 20, 25):
            # Add a sibling that differs only in its last character.
            spaces += [ns, ns[:-1] + ("0" if ns[-1] == "1" else "1")]
    for number, space in enumerate(spaces):
        stored = t.put(saver, thread, {"n": number}, ns=space)
        saver.put_writes(stored, [("a", number)], "task-1")
    other = t.open()
    for number, space in enumerate(spaces):
        config = t.config(thread, ns=space)
        situation = f"subgraphs down to level 25, got a namespace of {len(space)} characters"
        _expect_value(t, other, config, number, situation)
        found = t.expect_found(other.get_tuple(config), situation)
        t.expect(found.config["configurable"].get("checkpoint_ns"), space, f"put {situation}; namespace")
        t.expect_writes(found, [("task-1", "a", number)], f"put {situation}")
        t.expect(len(other.list_namespace(config)), 1, f"put {situation}; listed")


def _expect_value(t: Trial, handle: Handle, config: Config, number: int, situation: str) -> None:
    found = t.expect_found(handle.get_tuple(config), f"put {situation}")
    t.expect(found.checkpoint["channel_values"], {"n": number}, f"put {situation}; values")


def _put_number(t: Trial, saver: Handle, config: Config, number: int) -> None:
    """Put a checkpoint at a place, with a version of its own, so that only the ids could be mixed up."""
    checkpoint = t.checkpoint({"n": number}, id_=config["configurable"]["checkpoint_id"], versions={"n": f"{number}.1"})
    named = config["configurable"]
    space = t.config(named["thread_id"], ns=named["checkpoint_ns"])
    saver.put(space, checkpoint, {}, checkpoint["channel_versions"])


def _integer() -> Any:
    """A number that was never used before, and that fits into every store's integers."""
    return uuid.uuid4().int >> 66


def _expect_thread(t: Trial, thread: Any, situation: str) -> None:
    other = t.open()
    latest = t.expect_found(other.get_tuple(t.config(thread)), f"{situation}, got the latest")
    by_id = t.config(thread, latest.checkpoint["id"])
    found = t.expect_found(other.get_tuple(by_id), f"{situation}, got it by its id")
    for config in (t.config(thread), {"configurable": {"thread_id": thread}}, by_id):
        listed = other.list(config)
        t.expect(len(listed), 1, f"{situation}; listed")
        for tuple_ in (latest, found, *listed):
            t.expect(tuple_.checkpoint["channel_values"], {"n": 1}, f"{situation}; values")
            t.expect_writes(tuple_, [("task-1", "a", 1)], f"{situation}")


def _impossible(base: str) -> list[tuple[str, str]]:
    # Random hex digits, because a store that compresses its keys easily holds 10,000 equal characters.
    long = base + "".join(uuid.uuid4().hex for _ in range(320))
    return [
        (f"{base}\x00x", "with NUL"),
        (f"{base}\x00", "that ends with NUL"),
        (f"{base}\ud800x", "with a lone high surrogate"),
        (f"{base}\udcffx", "with a lone low surrogate"),
        (long[:10_000], "of 10,000 characters"),
    ]


def _alike(id_: str, base: str) -> list[str]:
    """The ids that this one becomes in stores that cut, strip, replace or escape."""
    utf_8 = id_.encode("utf-8", "surrogatepass")
    encoded = [
        *(id_.encode("utf-8", errors) for errors in ("ignore", "replace", "backslashreplace", "xmlcharrefreplace")),
        *(utf_8.decode("utf-8", errors).encode() for errors in ("ignore", "replace", "backslashreplace")),
        *(utf_8.replace(b"\x00", text) for text in (b"", b" ", b"?", b"\\x00", b"\\u0000", b"%00")),
        *(utf_8[:length] for length in (64, 100, 127, 128, 191, 255, 256, 511, 512, 767, 1000, 1024, 2048, 4096)),
    ]
    decoded = [text.decode("utf-8", "ignore") for text in encoded]
    return [text for text in dict.fromkeys((base, *decoded)) if text != id_ and "\x00" not in text]


def _put_impossible(t: Trial, thread: str, ns: str, id_: str, situation: str) -> None:
    """Put a checkpoint, and expect every other call to be consistent with whether it was accepted."""
    saver = t.open()
    checkpoint = t.checkpoint({"a": 1}, id_=id_)
    space, place = t.config(thread, ns=ns), t.config(thread, id_, ns=ns)
    if not accepts(saver.put, space, checkpoint, {}, checkpoint["channel_versions"]):
        situation = f"{situation}, which was refused"
        t.expect_error(partial(saver.put_writes, place, [("a", 1)], "task-1"), f"{situation}; wrote to it")
        _expect_nothing(t, t.open(), place, f"{situation}; read it")
        return
    situation = f"{situation}, which was accepted"
    saver.put_writes(place, [("a", 1)], "task-1")
    other = t.open()
    found = t.expect_found(other.get_tuple(place), situation)
    # Other tests use the empty thread_id, too.
    listed = [tuple_ for tuple_ in other.list_namespace(space) if thread or tuple_.checkpoint["id"] == id_]
    t.expect(len(listed), 1, f"{situation}; listed")
    for tuple_ in (found, *listed):
        named = {name: tuple_.config["configurable"].get(name) for name in place["configurable"]}
        t.expect(named, place["configurable"], f"{situation}; its config")
        t.expect(tuple_.checkpoint["id"], id_, f"{situation}; its id")
        t.expect(tuple_.checkpoint["channel_values"], {"a": 1}, f"{situation}; values")
        t.expect_writes(tuple_, [("task-1", "a", 1)], f"{situation}")


def _expect_nothing(t: Trial, handle: Handle, config: Config, situation: str) -> None:
    """Expect that nothing is found; what was refused may be refused again."""
    for read in (handle.get_tuple, handle.list_namespace):
        try:
            found = read(config)
        except Exception:  # noqa: BLE001, S112  # savers have their own
            continue
        t.expect_that(not found, f"{situation}; expected nothing, got a checkpoint")
