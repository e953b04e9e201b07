"""LIST: listing checkpoints."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from conformance_tests.case import case
from conformance_tests.trial import MANY, Colour, Config, Handle, Trial, id_of, threads_of, unordered

_PATIENCE_SECONDS = 10.0


@case("LIST-1")
def checkpoints_are_listed_by_descending_id(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (2, 5, 1, 4, 3):
        t.put(saver, thread, id_=id_of(number))
    t.expect(_numbers(t.open().list(t.config(thread))), [5, 4, 3, 2, 1], "put the checkpoints 2, 5, 1, 4, 3; listed")


@case("LIST-1")
def whatever_is_listed_is_listed_by_descending_id(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(1, 7):
        t.put(saver, thread, ns=("", "child:1", "child:2")[number % 3], id_=id_of(number))
    # Which namespaces are listed without one is for LIST-7 to test.
    listed = _numbers(t.open().list(_whole(thread)))
    expected = sorted(listed, reverse=True)
    t.expect(listed, expected, "put 6 checkpoints to three namespaces, cycling, listed without a namespace")


@case("LIST-2")
def before_lists_smaller_ids_only(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (4, 2, 8, 6):
        t.put(saver, thread, id_=id_of(number))
    other = t.open()
    for before, expected in ((8, (6, 4, 2)), (4, (2,)), (2, ()), (5, (4, 2)), (9, (8, 6, 4, 2)), (1, ())):
        listed = other.list(t.config(thread), before=t.config(thread, id_of(before)))
        t.expect(_numbers(listed), list(expected), f"put the checkpoints 4, 2, 8, 6; listed before {before}")


@case("LIST-3")
def limit_bounds_how_many_are_listed(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(1, 5):
        t.put(saver, thread, id_=id_of(number))
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
        t.put(saver, thread, id_=id_of(number), metadata=metadata)
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
    # Within each of the two lists, no values are equal, either in Python or in JSON. True and 1 are equal in Python.
    numbers_and_containers: list[Any] = [
        "", "1", 1, 0, -7, 2**40, 2.5, "2.5", None, "None", "null", "[]", "é", "e\u0301", "x" * 2000,
        [], [1], [1, 2], [2, 1], {}, {"a": 1}, {"a": 1, "b": [None]}, {"b": {"a": 1}},
    ]  # fmt: skip
    for values in (numbers_and_containers, [True, False, None, "True", "true", "False", "", [True], {"a": False}]):
        saver, thread = t.open(), t.thread()
        for number, value in enumerate(values):
            t.put(saver, thread, id_=id_of(number), metadata={"mine": value})
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
        saver.put(config, t.checkpoint(id_=id_of(number)), {"step": 1}, {})
    other = t.open()
    for filter_ in ({"team": "team-2"}, {"run_id": "run-2"}, {"team": "team-2", "run_id": "run-2", "step": 1}):
        listed = other.list(t.config(thread), filter=filter_)
        t.expect(_numbers(listed), [2], f"put two configs with entries of their own, listed with {filter_}")


@case("LIST-5")
def filter_before_and_limit_apply_together(t: Trial) -> None:
    thread = _put_loops_and_updates(t, 8)
    for source, before, limit, expected in (
        ("loop", None, 2, (7, 5)),
        ("update", 6, None, (4, 2)),
        ("loop", 6, 1, (5,)),
        ("loop", 6, 2, (5, 3)),
        ("update", 5, 9, (4, 2)),
        ("loop", 1, 3, ()),
        (None, 6, 3, (5, 4, 3)),
    ):
        _expect_narrowed(t, thread, source, before, limit, expected)


@case("LIST-5", colours=(Colour.SYNC, Colour.ASYNC))
def they_apply_together_however_long_the_history_is(t: Trial) -> None:
    thread = _put_loops_and_updates(t, 230)
    _expect_narrowed(t, thread, "update", 221, None, range(220, 0, -2))
    _expect_narrowed(t, thread, "loop", 200, 95, range(199, 9, -2))
    _expect_narrowed(t, thread, None, 229, 215, range(228, 13, -1))


def _put_loops_and_updates(t: Trial, count: int) -> str:
    """Put checkpoints from 1 on, those of odd number from a loop and the others from an update."""
    saver, thread = t.open(), t.thread()
    for number in range(1, count + 1):
        # Filters on an entry that LangGraph itself makes; whether others work is for LIST-4 to test.
        t.put(saver, thread, id_=id_of(number), metadata={"source": "loop" if number % 2 else "update"})
    return thread


def _expect_narrowed(
    t: Trial, thread: str, source: str | None, before: int | None, limit: int | None, expected: Iterable[int]
) -> None:
    listed = t.open().list(
        t.config(thread),
        filter=None if source is None else {"source": source},
        before=None if before is None else t.config(thread, id_of(before)),
        limit=limit,
    )
    situation = f"put checkpoints, those of odd number from a loop; listed source {source} before {before}"
    t.expect(_numbers(listed), list(expected), f"{situation} with limit {limit}")


@case("LIST-6")
def no_config_lists_every_thread(t: Trial) -> None:
    saver = t.open()
    missing = {_place(t.put(saver, t.thread())) for _ in range(4)}
    # Other tests share the storage. These checkpoints are the newest, so stop as soon as all were found.
    for listed in t.open().iterate(None):
        missing.discard(_place(listed.config))
        if not missing:
            break
    t.expect(sorted(missing), [], "put to four threads, listed with a config of None; missing")


@case("LIST-6")
def no_config_is_narrowed_like_any_other(t: Trial) -> None:
    saver, run = t.open(), t.thread("run")
    threads = [t.thread() for _ in range(2)]
    for number in range(1, 7):
        # Other tests share the storage, so filter on an entry that LangGraph itself makes; LIST-4 tests other entries.
        of_run = run if number < 5 else t.thread("run")
        ns = "child:1" if number == 3 else ""
        t.put(saver, threads[number % 2], ns=ns, id_=id_of(number), metadata={"run_id": of_run})
    other = t.open()
    situation = "put 1 to 4 of one run and 5 and 6 of others to two threads, listed a config of None"
    for before, limit, expected in ((None, None, {1, 2, 3, 4}), (4, None, {1, 2, 3}), (4, 3, {1, 2, 3})):
        options = {"before": before and t.config(threads[0], id_of(before)), "limit": limit}
        listed = _numbers(other.list(None, filter={"run_id": run}, **options))
        t.expect(sorted(listed), sorted(expected), f"{situation}, that run before {before} with limit {limit}")
    # Which of them a limit leaves depends on the order, which is for LIST-1 to test.
    listed = _numbers(other.list(None, filter={"run_id": run}, limit=2))
    t.expect_that(
        len(listed) == 2 and {*listed} <= {1, 2, 3, 4},
        f"{situation}, that run with limit 2; expected two of it, got {listed}",
    )


@case("LIST-7")
def a_namespace_in_the_config_lists_that_one(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    numbers = {"": (1, 4), "child": (2, 6), "child:1": (3, 5)}
    for ns, of_ns in numbers.items():
        for number in of_ns:
            t.put(saver, thread, ns=ns, id_=id_of(number))
    t.put(saver, t.thread(), id_=id_of(7))
    other = t.open()
    for ns, of_ns in numbers.items():
        listed = other.list(t.config(thread, ns=ns))
        t.expect(_numbers(listed), list(reversed(of_ns)), f"put to three namespaces, listed {ns!r}")
    t.expect(other.list(t.config(thread, ns="child:2")), [], "put to three namespaces, listed a fourth")


@case("LIST-7")
def a_config_without_namespace_lists_the_whole_thread(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    stored = [t.put(saver, thread, ns=ns, id_=id_of(1)) for ns in ("", "child", "child:1")]
    t.put(saver, t.thread(), id_=id_of(1))
    listed = t.open().list(_whole(thread))
    t.expect(
        sorted(_place(tuple_.config) for tuple_ in listed),
        sorted(_place(config) for config in stored),
        "put one id to three namespaces, listed the thread without a namespace",
    )


@case("LIST-7")
def a_whole_thread_is_narrowed_like_a_namespace(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(1, 7):
        source = "loop" if number % 2 else "update"
        t.put(saver, thread, ns=("", "child:1")[number > 3], id_=id_of(number), metadata={"source": source})
    other = t.open()
    situation = "put 1 to 3 to the root and 4 to 6 to another namespace, those of odd number from a loop"
    for filter_, before, expected in (
        ({"source": "loop"}, None, [1, 3, 5]),
        ({"source": "update"}, 6, [2, 4]),
        (None, 3, [1, 2]),
    ):
        listed = other.list(_whole(thread), filter=filter_, before=before and t.config(thread, id_of(before)))
        t.expect(sorted(_numbers(listed)), expected, f"{situation}; listed with the filter {filter_} before {before}")
    listed = other.list(_whole(thread), limit=4)
    t.expect(len(listed), 4, f"{situation}; listed with limit 4")


@case("LIST-8")
def a_checkpoint_id_in_the_config_lists_that_one(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in (1, 2, 3):
        t.put(saver, thread, id_=id_of(number))
    other = t.open()
    for number, expected in ((1, (1,)), (2, (2,)), (3, (3,)), (4, ())):
        listed = other.list(t.config(thread, id_of(number)))
        t.expect(_numbers(listed), list(expected), f"put the checkpoints 1 to 3, listed the config of {number}")
        listed = other.list({"configurable": {"thread_id": thread, "checkpoint_id": id_of(number)}})
        situation = f"put the checkpoints 1 to 3, listed the config of {number} without a namespace"
        t.expect(_numbers(listed), list(expected), situation)
    listed = other.list(t.config(thread, id_of(2)), filter={"source": "update"})
    t.expect(_numbers(listed), [], "put checkpoints of a loop, listed the config of one with a filter for updates")


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
    nested = t.put(saver, t.thread(), {"a": 3}, ns="child:1")
    for config in (root, child):
        saver.put_writes(config, [("a", 1), ("__interrupt__", ["why?"])], "task-2", "~__pregel_pull, b")
        saver.put_writes(config, [("a", 2)], "task-1", "~__pregel_pull, c")
    other = t.open()
    listed = other.list(t.config(thread))
    t.expect(len(listed), 2, "put two checkpoints; listed")
    for tuple_ in (*listed, *other.list(t.config(nested["configurable"]["thread_id"], ns="child:1"))):
        id_ = tuple_.config["configurable"]["checkpoint_id"]
        got = t.expect_found(other.get_tuple(_config(tuple_)), f"got the listed checkpoint {id_}")
        for part, of_list in _parts(tuple_).items():
            t.expect(
                of_list, _parts(got)[part], f"compared the listed checkpoint {id_} with what get_tuple gives; {part}"
            )
    (newest,) = (tuple_ for tuple_ in listed if _place(tuple_.config) == _place(child))
    t.expect(newest.checkpoint["channel_values"], {"a": 2, "kept": "text"}, "listed a checkpoint; its values")
    expected = [("task-2", "__interrupt__", ["why?"]), ("task-2", "a", 1), ("task-1", "a", 2)]
    t.expect_writes(newest, expected, "listed a checkpoint with writes")


@case("LIST-11", colours=(Colour.SYNC, Colour.ASYNC))
def a_long_history_is_listed_whole_and_in_order(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(230):
        versions = {"n": f"{number + 1:032}.1"}
        t.put(saver, thread, {"n": number}, id_=id_of(number), versions=versions)
    newest_first = tuple(range(229, -1, -1))
    situation = "put 230 checkpoints"
    listed = t.open().list(t.config(thread))
    t.expect(_numbers(listed), list(newest_first), f"{situation}; listed")
    t.expect(
        [tuple_.checkpoint["channel_values"].get("n") for tuple_ in listed], list(newest_first), f"{situation}; values"
    )


@case("LIST-11", long=True, once=True)
def a_history_longer_than_any_page_is_listed_whole(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    for number in range(MANY):
        t.put(saver, thread, id_=id_of(number))
    listed = _numbers(t.open().list(t.config(thread)))
    t.expect(len(listed), MANY, f"put {MANY} checkpoints to a thread; how many are listed")
    t.expect(listed, list(range(MANY - 1, -1, -1)), f"put {MANY} checkpoints to a thread; listed")


@case("LIST-11", long=True, once=True)
def more_threads_than_any_page_has_are_all_listed(t: Trial) -> None:
    saver, run = t.open(), t.thread("run")
    threads = [t.thread() for _ in range(MANY)]
    for thread in threads:
        t.put(saver, thread, metadata={"run_id": run})
    listed = threads_of(t.open().list(None, filter={"run_id": run}))
    t.expect(len(listed), MANY, f"put to {MANY} threads; how many checkpoints a listing with a config of None has")
    t.expect(sorted(listed), sorted(threads), f"put to {MANY} threads, listed a config of None; the threads")


@case("LIST-11", colours=(Colour.SYNC, Colour.ASYNC), long=True)
def a_history_of_many_megabytes_is_listed_whole(t: Trial) -> None:
    # More than stores return at once: a list that every step extends, and bytes that are new at every step.
    chance = random.Random(11)
    saver, thread = t.open(), t.thread()
    messages = [chance.randbytes(500).hex() for _ in range(1500)]
    states: list[dict[str, Any]] = []
    for number in range(10):
        messages = [*messages, f"message {number}"]
        states.insert(0, {"messages": messages, "bytes": chance.randbytes(300_000), "n": number})
        versions = dict.fromkeys(states[0], f"{number + 1:032}.1")
        t.put(saver, thread, states[0], id_=id_of(number), versions=versions)
    listed = t.open().list(t.config(thread))
    situation = "put 10 checkpoints of 1.5 MB and 300 KB that is new in each"
    t.expect(_numbers(listed), list(range(9, -1, -1)), f"{situation}; listed")
    for tuple_, state in zip(listed, states, strict=True):
        same = tuple_.checkpoint["channel_values"] == state
        t.expect_that(same, f"{situation}; the values of number {state['n']} changed")


@case("LIST-11", colours=(Colour.SYNC, Colour.ASYNC))
def equal_ids_in_several_namespaces_are_each_listed_once(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    # Three checkpoints with each id, so that a page of a round size ends among equal ids.
    namespaces = ("", "child:1", "child:2")
    stored = [t.put(saver, thread, id_=id_of(number), ns=ns) for ns in namespaces for number in range(35)]
    listed = Counter(_place(tuple_.config) for tuple_ in t.open().list(_whole(thread)))
    # Which namespaces are listed without one is for LIST-7 to test.
    has = {ns for _, ns, _ in listed}
    expected = Counter(place for place in map(_place, stored) if place[1] in has)
    t.expect_that(bool(has), "put to three namespaces of a thread, listed without a namespace; expected something")
    situation = "put 35 ids to three namespaces of one thread, listed without a namespace"
    t.expect(sorted((expected - listed).elements()), [], f"{situation}; missing")
    t.expect(sorted((listed - expected).elements()), [], f"{situation}; too many")


@case("LIST-11")
def checkpoints_of_many_threads_with_the_same_id_are_listed_once_each(t: Trial) -> None:
    saver, run = t.open(), t.thread("run")
    threads = [t.thread() for _ in range(30)]  # copies have the ids of their source
    for thread in threads:
        t.put(saver, thread, id_=id_of(1), metadata={"run_id": run})
    listed = threads_of(t.open().list(None, filter={"run_id": run}))
    t.expect(sorted(listed), sorted(threads), "put the same id to 30 threads, listed a config of None; the threads")


# What injections into SQL, JSON paths and search languages are made of. All of it is printable text that people use in
# keys and values, so a filter on it must work like any other.
_ORDINARY = (
    "' OR 1=1 --", "') OR ('1'='1", "x'; DROP TABLE checkpoints; --", "a.b", "$.a", "$", "a b", " ", "a'b", 'a"b',
    "%", "_", "*", "?", "[a]", "a*", "@a:{b}", "(a|b)", "-a", "a,b", "a:b", "{}", "[]", "\\", "\\'", "a\\u0000b",
    "$where", "%s", ":a", "NULL", "é",
)  # fmt: skip
# A store may be unable to hold these, so it may raise any error.
_IMPOSSIBLE = ("", "\x00", "a\x00b", "a\nb", "\x1b", "\ud800")


@case("LIST-12")
def hostile_filters_that_equal_nothing_match_nothing(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    # What a filter would find if it misread the hostile texts.
    for number, mine in enumerate(("ab", "a", "b", "x", True, 1, {"a": 1, "b": "x"}, ["a"])):
        t.put(saver, thread, id_=id_of(number), metadata={"mine": mine, "a": {"b": "x"}, "ab": "x", "b": 1})
    other = t.open()
    for text in (*_ORDINARY, *_IMPOSSIBLE):
        for filter_ in ({text: "x"}, {"mine": text}, {text: text}, {text: 1}, {"b": 1, text: "x"}):
            _expect_matches_or_refusal(t, other, thread, filter_, (), any_error=text in _IMPOSSIBLE)
    t.expect(len(t.open().list(t.config(thread))), 8, "put eight checkpoints, listed hostile filters, listed all")


@case("LIST-12")
def hostile_filters_match_nothing_but_what_equals_them(t: Trial) -> None:
    thread = _put_hostile_metadata(t)
    other = t.open()
    for number, text in enumerate(_ORDINARY):
        for filter_ in ({"mine": text}, {text: "x"}, {text: "x", "mine": text}):
            _expect_matches_or_refusal(t, other, thread, filter_, (number,))


@case("LIST-4")
def a_filter_on_any_printable_text_is_answered(t: Trial) -> None:
    thread = _put_hostile_metadata(t)
    other = t.open()
    for number, text in enumerate(_ORDINARY):
        for filter_ in ({"mine": text}, {text: "x"}):
            situation = f"put metadata with keys and values of signs, listed with the filter {filter_}"
            try:
                listed = other.list(t.config(thread), filter=filter_)
            except _REFUSALS as error:
                t.fail(f"{situation}; expected {[number]}, was refused with {type(error).__name__}: {error}")
            t.expect(_numbers(listed), [number], situation)


_REFUSALS = (ValueError, TypeError, NotImplementedError)
"""What a saver raises that checks a filter. A database error means that the filter reached the database unchecked."""


def _put_hostile_metadata(t: Trial) -> str:
    saver, thread = t.open(), t.thread()
    for number, text in enumerate(_ORDINARY):
        t.put(saver, thread, id_=id_of(number), metadata={"mine": text, text: "x", "a": {"b": "y"}})
    return thread


def _expect_matches_or_refusal(
    t: Trial, handle: Handle, thread: str, filter_: dict[str, Any], expected: Iterable[int], *, any_error: bool = False
) -> None:
    """Fail unless a filter lists exactly what equals it, or is refused before anything is listed."""
    listed = []
    situation = f"listed with the filter {filter_}"
    try:
        for tuple_ in handle.iterate(t.config(thread), filter=filter_):
            listed.append(tuple_)  # noqa: PERF402  # what came before an error counts
    except Exception as error:  # noqa: BLE001  # told apart below
        if listed or not (any_error or isinstance(error, _REFUSALS)):
            t.fail(f"{situation}; expected matches or a refusal, it broke with {type(error).__name__}: {error}")
        return
    t.expect(_numbers(listed), list(expected), f"{situation}, which was not refused; wrong result")


def _in_time(t: Trial, act: Callable[[Trial], None], situation: str) -> None:
    """Act on a thread and a trial of its own, so that a saver that deadlocks fails instead of hanging."""
    outcome: list[Exception | None] = []

    def run() -> None:
        try:
            with t.another() as inner:
                act(inner)
        except Exception as error:  # noqa: BLE001  # raised again by the waiting thread
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


def _numbers(listed: Iterable[CheckpointTuple]) -> list[int]:
    """The numbers from which these checkpoints' ids were made."""
    return [int(tuple_.config["configurable"]["checkpoint_id"].rpartition("-")[2], 16) for tuple_ in listed]


def _config(tuple_: CheckpointTuple) -> Config:
    return {**tuple_.config}


def _place(config: Any) -> tuple[str, str, str]:
    named = config["configurable"]
    return (named.get("thread_id", ""), named.get("checkpoint_ns", ""), named.get("checkpoint_id", ""))


def _whole(thread: str) -> Config:
    """A config for a thread that leaves the namespace open."""
    return {"configurable": {"thread_id": thread}}


def _parts(tuple_: CheckpointTuple) -> dict[str, Any]:
    """A tuple's parts, ready to compare: of its configs only the place, because they may hold more."""
    return {
        "place": _place(tuple_.config),
        "checkpoint": tuple_.checkpoint,
        "metadata": tuple_.metadata,
        "parent": _place(tuple_.parent_config) if tuple_.parent_config else None,
        "pending writes": unordered(tuple_.pending_writes),
    }
