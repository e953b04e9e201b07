"""LIFECYCLE: opening and closing, and all operations in any order."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

from conformance_tests.case import case
from conformance_tests.stateful import run_any_sequence
from conformance_tests.trial import Colour, Config, Handle, Trial, unordered

AT_ONCE = 8


@case("LIFECYCLE-1")
def opening_many_times_at_once_is_no_error(t: Trial) -> None:
    # Nothing in this test opens the storage earlier, so if it is new, this is the first time.
    def open_and_put(own: Trial, thread: str, together: threading.Barrier) -> None:
        together.wait()
        with own.opened() as handle:
            own.put(handle, thread, {"a": thread})

    _expect_all_put(t, open_and_put, f"opened {AT_ONCE} times at once")


@case("LIFECYCLE-1", fresh=True)
def setting_up_many_times_at_once_is_no_error(t: Trial) -> None:
    def set_up_and_put(own: Trial, thread: str, together: threading.Barrier) -> None:
        with own.opened() as handle:
            together.wait()
            _set_up(own, handle)
            own.put(handle, thread, {"a": thread})

    _expect_all_put(t, set_up_and_put, f"opened {AT_ONCE} times, and set up at once where there is something to set up")


def _expect_all_put(t: Trial, act: Callable[[Trial, str, threading.Barrier], None], situation: str) -> None:
    """Let callers do this at once, each to a thread of its own. Fail unless all finish, and what they put is there."""
    together = threading.Barrier(AT_ONCE, timeout=30)
    errors: list[BaseException] = []
    threads = [t.thread() for _ in range(AT_ONCE)]

    def call(thread: str) -> None:
        try:
            with t.another() as own:
                act(own, thread, together)
        except threading.BrokenBarrierError:
            pass  # another caller raised an error, or hangs
        except BaseException as error:  # noqa: BLE001  # reported on the test's thread
            errors.append(error)
            together.abort()

    callers = [threading.Thread(target=call, args=(thread,), daemon=True) for thread in threads]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    t.expect_that(not any(caller.is_alive() for caller in callers), f"{situation}; it hung")
    t.expect([repr(error) for error in errors], [], f"{situation}; errors")
    t.expect_that(not together.broken, f"{situation}; some had not got through after 30 s")
    other = t.open()
    for thread in threads:
        found = t.expect_found(other.get_tuple(t.config(thread)), f"{situation}, and put")
        t.expect(found.checkpoint["channel_values"], {"a": thread}, f"{situation}, and put; values")


@case("LIFECYCLE-1")
def opening_again_changes_nothing(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    config = _put_with_writes(t, saver, thread)
    before = saver.get_tuple(config)
    for _ in range(3):
        with t.opened() as another:
            t.expect(another.get_tuple(config), before, "opened again; the checkpoint")
    t.expect(saver.get_tuple(config), before, "opened again and closed; the checkpoint by the first handle")
    t.put(saver, thread, {"a": 2}, parent=config, versions={"a": "2.0"})
    t.expect(len(t.open().list(t.config(thread))), 2, "opened again and closed, put by the first handle; listed")


@case("LIFECYCLE-1")
def setting_up_again_changes_nothing(t: Trial) -> None:
    saver, thread = t.open(), t.thread()
    config = _put_with_writes(t, saver, thread)
    before = saver.get_tuple(config)
    for _ in range(2):
        _set_up(t, saver)
    t.expect(saver.get_tuple(config), before, "set up again; the checkpoint")


@case("LIFECYCLE-2")
def everything_is_there_after_every_handle_was_closed(t: Trial) -> None:
    threads = [t.thread() for _ in range(3)]
    stored = []
    for thread in threads:
        with t.opened() as handle, t.opened() as another:
            config = _put_with_writes(t, handle, thread)
            nested = t.put(another, f"{thread}-nested", {"b": [thread]}, ns="child:1")
            stored.append([handle.get_tuple(config), another.get_tuple(nested)])
    with t.opened() as handle:
        for thread, before in zip(threads, stored, strict=True):
            nested = t.config(f"{thread}-nested", ns="child:1")
            found = [handle.get_tuple(t.config(thread)), handle.get_tuple(nested)]
            t.expect(_comparable(found), _comparable(before), "closed every handle and opened another; checkpoints")
            t.expect(len(handle.list(t.config(thread))), 1, "closed every handle and opened another; listed")


@case("LIFECYCLE-3", colours=(Colour.MIXED,))
def each_colour_reads_what_the_other_stored(t: Trial) -> None:
    for first, second in ((Colour.SYNC, Colour.ASYNC), (Colour.ASYNC, Colour.SYNC)):
        thread = t.thread()
        with t.opened(first) as handle:
            config = _put_with_writes(t, handle, thread)
            before = [handle.get_tuple(config), *handle.list(t.config(thread))]
        with t.opened(second) as handle:
            found = [handle.get_tuple(config), *handle.list(t.config(thread))]
            t.expect(_comparable(found), _comparable(before), f"stored {first}, read {second}; the checkpoint")
            t.put(handle, thread, {"a": "new"}, parent=config, versions={"a": "2.0"})
        with t.opened(first) as handle:
            latest = t.expect_found(handle.get_tuple(t.config(thread)), f"went on {second}, read {first}")
            t.expect(latest.checkpoint["channel_values"], {"a": "new"}, f"went on {second}, read {first}; values")


@case("LIFECYCLE-3", colours=(Colour.MIXED,))
def one_handle_is_used_in_both_colours(t: Trial) -> None:
    saver = t.open(Colour.MIXED).saver
    for put_async in (True, False):
        checkpoint = t.checkpoint({"a": 1})
        arguments = (t.config(t.thread()), checkpoint, {"step": 0}, checkpoint["channel_versions"])
        config = t.run(saver.aput(*arguments)) if put_async else saver.put(*arguments)  # type: ignore[arg-type]  # plain
        found = saver.get_tuple(config) if put_async else t.run(saver.aget_tuple(config))
        values = t.expect_found(found, "put in one colour, got in the other").checkpoint["channel_values"]
        t.expect(values, {"a": 1}, "put in one colour, got in the other; values")


@case("LIFECYCLE-4", long=True)
def any_sequence_of_operations_leaves_what_the_model_predicts(t: Trial) -> None:
    # The other two colours test each operation. What goes wrong only between colours shows after fewer examples.
    run_any_sequence(t, examples=6 if t.colour is Colour.MIXED else 9)


def _set_up(t: Trial, handle: Handle) -> None:
    """Call the saver's ``setup`` or ``asetup``, or both, if it has them; in some async savers, ``setup`` is awaited."""
    names = {Colour.SYNC: ("setup",), Colour.ASYNC: ("asetup",), Colour.MIXED: ("setup", "asetup")}[t.colour]
    found = [name for name in names if hasattr(handle.saver, name)] or ["setup"] * hasattr(handle.saver, "setup")
    for name in found:
        coming = getattr(handle.saver, name)()
        if inspect.isawaitable(coming):
            t.run(coming)


def _put_with_writes(t: Trial, handle: Handle, thread: str) -> Config:
    config = t.put(handle, thread, {"a": [1, {"b": thread}], "c": "x"}, metadata={"mine": thread})
    handle.put_writes(config, [("a", 1), ("__interrupt__", [thread])], "task-1", "path-1")
    return config


def _comparable(found: list[Any]) -> list[Any]:
    """Tuples without their configs, which may hold more or fewer entries."""
    return [one and (one.checkpoint, dict(one.metadata), unordered(one.pending_writes)) for one in found]
