"""LIST: listing checkpoints."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from conformance_tests.case import case
from conformance_tests.trial import Colour, Config, Handle, Trial

_PATIENCE_SECONDS = 10.0


@case("LIST-1")
def checkpoints_are_listed_by_descending_id(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (2, 5, 1, 4, 3):
        t.put(saver, thread, id_=_id(number))
    t.expect(_numbers(t.open().list(t.config(thread))), [5, 4, 3, 2, 1], "put the checkpoints 2, 5, 1, 4, 3; listed")


@case("LIST-1")
def namespaces_are_listed_by_descending_id_together(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(1, 7):
        t.put(saver, thread, ns=("", "child:1", "child:2")[number % 3], id_=_id(number))
    listed = _numbers(t.open().list(_whole(thread)))
    t.expect(listed, [6, 5, 4, 3, 2, 1], "put 6 checkpoints in turns to three namespaces; listed")


@case("LIST-2")
def before_lists_smaller_ids_only(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (4, 2, 8, 6):
        t.put(saver, thread, id_=_id(number))
    other = t.open()
    for before, expected in ((8, (6, 4, 2)), (4, (2,)), (2, ()), (5, (4, 2)), (9, (8, 6, 4, 2)), (1, ())):
        listed = other.list(t.config(thread), before=t.config(thread, _id(before)))
        t.expect(_numbers(listed), list(expected), f"put the checkpoints 4, 2, 8, 6; listed before {before}")


@case("LIST-3")
def limit_bounds_how_many_are_listed(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(1, 5):
        t.put(saver, thread, id_=_id(number))
    other = t.open()
    everything = (4, 3, 2, 1)
    for limit, expected in ((1, (4,)), (2, (4, 3)), (4, everything), (5, everything), (0, ()), (None, everything)):
        listed = other.list(t.config(thread), limit=limit)
        t.expect(_numbers(listed), list(expected), f"put the checkpoints 1 to 4; listed with limit {limit}")


@case("LIST-4")
def a_filter_matches_equal_metadata_of_any_key(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number, metadata in enumerate(
        (
            {"source": "input", "step": 0, "team": "red", "tier": 1},
            {"source": "loop", "step": 1, "team": "red", "tier": 2},
            {"source": "loop", "step": 2, "team": "blue", "tier": 1},
        )
    ):
        t.put(saver, thread, id_=_id(number), metadata=metadata)
    other = t.open()
    filters: tuple[tuple[dict[str, Any] | None, tuple[int, ...]], ...] = (
        (None, (2, 1, 0)),
        ({}, (2, 1, 0)),
        ({"source": "loop"}, (2, 1)),
        ({"step": 0}, (0,)),
        ({"team": "red"}, (1, 0)),
        ({"team": "re"}, ()),
        ({"team": "Red"}, ()),
        ({"team": "red", "tier": 2}, (1,)),
        ({"source": "loop", "step": 2, "team": "blue", "tier": 1}, (2,)),
        ({"source": "loop", "step": 2, "team": "red", "tier": 1}, ()),
        ({"team": "green"}, ()),
        ({"unknown": "red"}, ()),
    )
    for filter_, expected in filters:
        listed = other.list(t.config(thread), filter=filter_)
        t.expect(_numbers(listed), list(expected), f"listed with the filter {filter_}")


@case("LIST-4")
def a_filter_matches_equal_metadata_of_any_type(t: Trial) -> None:
    # Within each of the two no values are equal, neither to Python nor to JSON; True and 1 are to one of them.
    numbers_and_containers: list[Any] = [
        "", "1", 1, 0, -7, 2**40, 2.5, "2.5", None, "None", "null", "[]", "é", "e\u0301", "x" * 2000,
        [], [1], [1, 2], [2, 1], {}, {"a": 1}, {"a": 1, "b": [None]}, {"b": {"a": 1}},
    ]  # fmt: skip
    for values in (numbers_and_containers, [True, False, None, "True", "true", "False", "", [True], {"a": False}]):
        saver, thread = t.open(), t.thread()
        for number, value in enumerate(values):
            t.put(saver, thread, id_=_id(number), metadata={"mine": value})
        other = t.open()
        for number, value in enumerate(values):
            filter_ = {"mine": value}
            listed = other.list(t.config(thread), filter=filter_)
            t.expect(_numbers(listed), [number], f"put {len(values)} values, listed with the filter {filter_}")


@case("LIST-4")
def a_filter_matches_the_entries_of_the_config(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (1, 2):
        config = t.config(thread, team=f"team-{number}")
        config["metadata"] = {"run_id": f"run-{number}"}
        saver.put(config, t.checkpoint(id_=_id(number)), {"step": 1}, {})
    other = t.open()
    for filter_ in ({"team": "team-2"}, {"run_id": "run-2"}, {"team": "team-2", "run_id": "run-2", "step": 1}):
        listed = other.list(t.config(thread), filter=filter_)
        t.expect(_numbers(listed), [2], f"put two configs with entries of their own, listed with {filter_}")


@case("LIST-5")
def filter_before_and_limit_apply_together(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(1, 9):
        t.put(saver, thread, id_=_id(number), metadata={"team": "red" if number % 2 else "blue"})
    other = t.open()
    for team, before, limit, expected in (
        ("red", None, 2, (7, 5)),
        ("blue", 6, None, (4, 2)),
        ("red", 6, 1, (5,)),
        ("red", 6, 2, (5, 3)),
        ("blue", 5, 9, (4, 2)),
        ("blue", 5, 0, ()),
        ("red", 1, 3, ()),
        (None, 6, 3, (5, 4, 3)),
    ):
        options: dict[str, Any] = {
            "filter": None if team is None else {"team": team},
            "before": None if before is None else t.config(thread, _id(before)),
            "limit": limit,
        }
        listed = other.list(t.config(thread), **options)
        situation = f"put eight checkpoints, those of odd number with team red; listed team {team} before {before}"
        t.expect(_numbers(listed), list(expected), f"{situation} with limit {limit}")


@case("LIST-6")
def no_config_lists_every_thread(t: Trial) -> None:
    saver, batch = t.open(), uuid.uuid4().hex
    stored = [t.put(saver, t.thread(), ns=ns, metadata={"batch": batch}) for ns in ("", "child:1") for _ in range(2)]
    listed = t.open().list(None, filter={"batch": batch})
    t.expect(
        sorted(_place(tuple_.config) for tuple_ in listed),
        sorted(_place(config) for config in stored),
        "put to four threads, listed with a config of None and their metadata",
    )


@case("LIST-6")
def no_config_lists_without_a_filter(t: Trial) -> None:
    t.put(t.open(), t.thread())
    # The storage is shared with other tests, so this looks no further than it must.
    listed = t.open().list(None, limit=1)
    t.expect(len(listed), 1, "put a checkpoint, listed with a config of None and limit 1; how many")


@case("LIST-7")
def a_namespace_in_the_config_lists_that_one(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    numbers = {"": (1, 4), "child": (2, 6), "child:1": (3, 5)}
    for ns, of_ns in numbers.items():
        for number in of_ns:
            t.put(saver, thread, ns=ns, id_=_id(number))
    t.put(saver, t.thread(), id_=_id(7))
    other = t.open()
    for ns, of_ns in numbers.items():
        listed = other.list(t.config(thread, ns=ns))
        t.expect(_numbers(listed), list(reversed(of_ns)), f"put to three namespaces, listed {ns!r}")
    t.expect(other.list(t.config(thread, ns="child:2")), [], "put to three namespaces, listed a fourth")


@case("LIST-7")
def a_config_without_namespace_lists_the_whole_thread(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = [t.put(saver, thread, ns=ns, id_=_id(1)) for ns in ("", "child", "child:1")]
    t.put(saver, t.thread(), id_=_id(1))
    listed = t.open().list(_whole(thread))
    t.expect(
        sorted(_place(tuple_.config) for tuple_ in listed),
        sorted(_place(config) for config in stored),
        "put one id to three namespaces, listed the thread without a namespace",
    )


@case("LIST-8")
def a_checkpoint_id_in_the_config_lists_that_one(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (1, 2, 3):
        t.put(saver, thread, id_=_id(number))
    other = t.open()
    for number, expected in ((1, (1,)), (2, (2,)), (3, (3,)), (4, ())):
        listed = other.list(t.config(thread, _id(number)))
        t.expect(_numbers(listed), list(expected), f"put the checkpoints 1 to 3, listed the config of {number}")


@case("LIST-9")
def the_saver_reads_while_a_listing_is_consumed(t: Trial) -> None:
    def loop(inner: Trial) -> None:
        saver, thread = inner.open(), inner.thread()
        inner.chain(saver, thread, 3)
        read = []
        for listed in saver.iterate(inner.config(thread)):
            found = inner.expect_found(saver.get_tuple(_config(listed)), "got a checkpoint while it was listed")
            read.append(found.checkpoint["channel_values"]["n"])
            inner.expect(len(saver.list(inner.config(thread))), 3, "listed while a listing was consumed; how many")
        inner.expect(read, [2, 1, 0], "got each of three checkpoints while they were listed; values")

    _in_time(t, loop, "read in the loop over a listing")


@case("LIST-9")
def the_saver_writes_while_a_listing_is_consumed(t: Trial) -> None:
    def loop(inner: Trial) -> None:
        saver, thread = inner.open(), inner.thread()
        stored = inner.chain(saver, thread, 3)
        seen = []
        for listed in saver.iterate(inner.config(thread)):
            number = listed.checkpoint["channel_values"]["n"]
            saver.put_writes(_config(listed), [("a", number)], "task-1")
            inner.put(saver, thread, {"n": number}, parent=_config(listed), ns=f"child:{number}")
            inner.put(saver, inner.thread(), {"n": number})
            seen.append(listed.config["configurable"]["checkpoint_id"])
        expected = [config["configurable"]["checkpoint_id"] for config in reversed(stored)]
        inner.expect(seen, expected, "stored while a listing was consumed; listed")
        other = inner.open()
        for number, config in enumerate(stored):
            found = inner.expect_found(other.get_tuple(config), "wrote while a listing was consumed")
            inner.expect(found.pending_writes, [("task-1", "a", number)], "wrote while a listing was consumed; writes")

    _in_time(t, loop, "stored in the loop over a listing")


@case("LIST-10")
def a_listed_tuple_equals_the_one_that_is_got(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    root = t.put(saver, thread, {"a": [1, {"b": 2}], "kept": "text"}, metadata={"team": "red"})
    version = "00000000000000000000000000000002.0000000000000001"
    first_version = t.checkpoint({"kept": ""})["channel_versions"]["kept"]
    versions = {"a": version, "kept": first_version}
    checkpoint = t.checkpoint({"a": 2, "kept": "text"}, versions=versions)
    child_config = t.config(thread, root["configurable"]["checkpoint_id"])
    child = saver.put(child_config, checkpoint, {"step": 1}, {"a": version})
    t.put(saver, thread, {"a": 3}, ns="child:1")
    for config in (root, child):
        saver.put_writes(config, [("a", 1), ("__interrupt__", ["why?"])], "task-2", "~__pregel_pull, b")
        saver.put_writes(config, [("a", 2)], "task-1", "~__pregel_pull, c")
    other = t.open()
    listed = other.list(_whole(thread))
    t.expect(len(listed), 3, "put three checkpoints; listed")
    for tuple_ in listed:
        id_ = tuple_.config["configurable"]["checkpoint_id"]
        got = t.expect_found(other.get_tuple(_config(tuple_)), f"got the listed checkpoint {id_}")
        for part, of_list in _parts(tuple_).items():
            t.expect(
                of_list, _parts(got)[part], f"compared the listed checkpoint {id_} with what get_tuple gives; {part}"
            )
    newest_of_root = other.list(t.config(thread))[0]
    t.expect(newest_of_root.checkpoint["channel_values"], {"a": 2, "kept": "text"}, "listed a checkpoint; its values")
    expected = [("task-2", "__interrupt__", ["why?"]), ("task-2", "a", 1), ("task-1", "a", 2)]
    t.expect(newest_of_root.pending_writes, expected, "listed a checkpoint with writes; its writes")


@case("LIST-11", colours=(Colour.SYNC, Colour.ASYNC))
def a_long_history_is_listed_whole_and_in_order(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(230):
        versions = {"n": f"{number + 1:032}.1"}
        t.put(saver, thread, {"n": number}, id_=_id(number), versions=versions, metadata={"odd": number % 2})
    other = t.open()
    newest_first = tuple(range(229, -1, -1))
    situation = "put 230 checkpoints"
    listed = other.list(t.config(thread))
    t.expect(_numbers(listed), list(newest_first), f"{situation}; listed")
    t.expect(
        [tuple_.checkpoint["channel_values"].get("n") for tuple_ in listed], list(newest_first), f"{situation}; values"
    )
    listed = other.list(_whole(thread), limit=215)
    t.expect(_numbers(listed), list(newest_first[:215]), f"{situation}; listed with limit 215")
    listed = other.list(t.config(thread), filter={"odd": 1}, before=t.config(thread, _id(220)))
    t.expect(_numbers(listed), list(range(219, -1, -2)), f"{situation}; those of odd number before 220")


@case("LIST-11", colours=(Colour.SYNC, Colour.ASYNC))
def equal_ids_in_many_places_are_each_listed_once(t: Trial) -> None:
    saver, batch = t.open(), uuid.uuid4().hex
    threads = [t.thread(), t.thread()]
    # Three of most ids in one thread and four in both, so that no page of a round size ends between two ids.
    places = [(threads[0], "", 35), (threads[0], "child:1", 35), (threads[0], "child:2", 35), (threads[1], "", 34)]
    stored = [
        t.put(saver, thread, id_=_id(number), ns=ns, metadata={"batch": batch})
        for thread, ns, length in places
        for number in range(length)
    ]
    other = t.open()
    for config, whose, what in ((_whole(threads[0]), threads[:1], "one thread"), (None, threads, "every thread")):
        expected = Counter(_place(config_) for config_ in stored if _place(config_)[0] in whose)
        listed = Counter(_place(tuple_.config) for tuple_ in other.list(config, filter={"batch": batch}))
        situation = f"put 35 ids to three namespaces of one thread and one of another, listed {what}"
        t.expect(sorted((expected - listed).elements()), [], f"{situation}; missing")
        t.expect(sorted((listed - expected).elements()), [], f"{situation}; too many")


# What injections into SQL, JSON paths and search languages are made of. All of it is printable text that people do use
# in keys and values, so a filter has to answer about it like about any other.
_ORDINARY = (
    "' OR 1=1 --", "') OR ('1'='1", "x'; DROP TABLE checkpoints; --", "a.b", "$.a", "$", "a b", " ", "a'b", 'a"b',
    "%", "_", "*", "?", "[a]", "a*", "@a:{b}", "(a|b)", "-a", "a,b", "a:b", "{}", "[]", "\\", "\\'", "a\\u0000b",
    "$where", "%s", ":a", "NULL", "é",
)  # fmt: skip
# These a store may be unable to hold, and nothing could be found by them there: refusing them clearly is as good as
# finding nothing.
_REFUSABLE = ("", "\x00", "a\x00b", "a\nb", "\x1b", "\ud800")


@case("LIST-12")
def hostile_filters_that_equal_nothing_match_nothing(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    # What a careless reading of the hostile texts would find.
    for number, mine in enumerate(("ab", "a", "b", "x", True, 1, {"a": 1, "b": "x"}, ["a"])):
        t.put(saver, thread, id_=_id(number), metadata={"mine": mine, "a": {"b": "x"}, "ab": "x", "b": 1})
    other = t.open()
    for text in (*_ORDINARY, *_REFUSABLE):
        for filter_ in ({text: "x"}, {"mine": text}, {text: text}, {text: 1}, {"b": 1, text: "x"}):
            _expect_filtered(t, other, thread, filter_, (), refusable=text in _REFUSABLE)
    t.expect(len(t.open().list(t.config(thread))), 8, "put eight checkpoints, listed hostile filters, listed all")


@case("LIST-12")
def hostile_filters_match_what_equals_them(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number, text in enumerate(_ORDINARY):
        t.put(saver, thread, id_=_id(number), metadata={"mine": text, text: "x", "a": {"b": "y"}})
    other = t.open()
    for number, text in enumerate(_ORDINARY):
        for filter_ in ({"mine": text}, {text: "x"}, {text: "x", "mine": text}):
            _expect_filtered(t, other, thread, filter_, (number,))


def _expect_filtered(
    t: Trial, handle: Handle, thread: str, filter_: dict[str, Any], expected: Iterable[int], *, refusable: bool = False
) -> None:
    listed = []
    try:
        for tuple_ in handle.iterate(t.config(thread), filter=filter_):
            listed.append(tuple_)  # noqa: PERF402  # what came before an error counts
    except Exception as error:  # noqa: BLE001  # savers have their own
        if not refusable or listed:
            t.fail(f"listed with the filter {filter_}; expected no error, got {type(error).__name__}: {error}")
        return
    t.expect(_numbers(listed), list(expected), f"listed with the filter {filter_}")


def _in_time(t: Trial, act: Callable[[Trial], None], situation: str) -> None:
    """Do something on a thread and a trial of its own, so that a saver which deadlocks fails instead of hanging."""
    outcome: list[Exception | None] = []

    def run() -> None:
        try:
            # The event loop of a trial belongs to the thread that it was made on.
            with Trial(t.clause, t.factory, t.colour, t.capabilities, t.factory_name) as inner:
                act(inner)
        except Exception as error:  # noqa: BLE001  # raised again by who waits
            outcome.append(error)
        else:
            outcome.append(None)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(_PATIENCE_SECONDS)
    if not outcome:
        t.fail(f"{situation}; expected an end, but it still hangs after {_PATIENCE_SECONDS:g} seconds")
    if outcome[0] is not None:
        raise outcome[0]


def _id(number: int) -> str:
    return f"1f000000-0000-6000-8000-{number:012x}"


def _numbers(listed: Iterable[CheckpointTuple]) -> list[int]:
    """The numbers that these checkpoints' ids were made of."""
    return [int(tuple_.config["configurable"]["checkpoint_id"].rpartition("-")[2], 16) for tuple_ in listed]


def _config(tuple_: CheckpointTuple) -> Config:
    return {**tuple_.config}


def _place(config: Any) -> tuple[str, str, str]:
    named = config["configurable"]
    return (named["thread_id"], named["checkpoint_ns"], named["checkpoint_id"])


def _whole(thread: str) -> Config:
    """A config for a thread that leaves the namespace open."""
    return {"configurable": {"thread_id": thread}}


def _parts(tuple_: CheckpointTuple) -> dict[str, Any]:
    """A tuple's parts as they can be compared: a config may hold more than the checkpoint's place."""
    return {
        "place": _place(tuple_.config),
        "checkpoint": tuple_.checkpoint,
        "metadata": tuple_.metadata,
        "parent": _place(tuple_.parent_config) if tuple_.parent_config else None,
        "pending writes": tuple_.pending_writes or [],
    }
