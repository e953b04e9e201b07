"""Random sequences of operations, carried out on a saver and on the model of the contract. Needs Hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir, storage_directory
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from langgraph.types import Interrupt

from conformance_tests.contract import Capability
from conformance_tests.model import Model, Place, Put
from conformance_tests.trial import Config, ConformanceFailure, Handle, Trial, id_of, ids_of, parent_of, unordered

Writes: TypeAlias = list[tuple[str, Any]]

# Values that every saver keeps, so that a failure here comes from the order of operations; FIDELITY tests other values.
# No strategy draws text, because Hypothesis would write its tables of characters to the current folder.
THREADS = st.sampled_from(["a", "b", "c"])
NAMESPACES = st.sampled_from(["", "child:1"])
CHANNELS = ("x", "y", "z")
VALUES = st.sampled_from([None, 0, 1, "one", "two", [1, 2], {"k": ["v"]}])
CHANGES = st.dictionaries(st.sampled_from(CHANNELS), VALUES, max_size=3)
IDS = st.integers(min_value=0, max_value=2**16 - 1)
TASKS = st.sampled_from(["t1", "t2"])
RUNS = st.sampled_from(["run-1", "run-2", "run-3"])
SOURCES = st.sampled_from(["loop", "update"])
STEPS = st.sampled_from([1, 2])
SPECIAL = st.sampled_from(
    [
        ("__interrupt__", [Interrupt(value="first", id="1" * 32)]),
        ("__interrupt__", [Interrupt(value="second", id="1" * 32)]),
        ("__resume__", ["yes"]),
        ("__resume__", ["yes", "no"]),
        ("__error__", "it broke"),
    ]
)
# What a single call may do has clauses of its own (calls with both kinds of writes, empty calls, the order of writes,
# filters on users' own entries, limits, listings of whole threads). A saver that fails one of those can pass this one.
WRITES = st.one_of(
    st.lists(st.tuples(st.sampled_from(CHANNELS), VALUES), min_size=1, max_size=4),
    # A task has one write to a special channel, so a call has at most one.
    st.lists(SPECIAL, min_size=1, max_size=3, unique_by=lambda write: write[0]),
)
FILTERS = st.one_of(st.none(), st.fixed_dictionaries({}, optional={"source": SOURCES, "step": STEPS, "run_id": RUNS}))
WHICH = st.integers(min_value=0, max_value=7)

LENGTH = 40
"""The number of operations in a sequence."""

PHASES = (Phase.generate, Phase.shrink)
"""Hypothesis finds a sequence that goes wrong, then a shorter one, which may take a minute."""

COMPARE_ALL = 5
"""The interval, in steps, at which everything is compared and not only what changed. It divides LENGTH."""


def run_any_sequence(t: Trial, *, examples: int) -> None:
    """Carry out sequences of operations, the same ones in every run; fail with the shortest one that goes wrong."""
    machine = type("Saver", (_Operations,), {"t": t})
    home = storage_directory(intent_to_write=False).home_directory
    with TemporaryDirectory() as elsewhere:
        # Even without a database, Hypothesis stores notes on the modules it sees. Keep them out of the user's folder.
        set_hypothesis_home_dir(elsewhere)
        try:
            _run(machine, t, examples)
        finally:
            set_hypothesis_home_dir(home)


def _run(machine: type[_Operations], t: Trial, examples: int) -> None:
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=LENGTH,
                derandomize=True,
                database=None,
                deadline=None,
                print_blob=False,
                # Several bugs are raised as a group, whose message names none of them.
                report_multiple_bugs=False,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception as error:
        finding = error.finding if isinstance(error, ConformanceFailure) else f"{type(error).__name__}: {error}"
        notes = "\n".join(getattr(error, "__notes__", ()))
        raise ConformanceFailure(t.clause, f"{finding}\n{notes}") from error


def _declared(capability: Capability) -> Callable[[Any], Any]:
    return precondition(lambda machine: capability in machine.t.subject.capabilities)


class _Operations(RuleBasedStateMachine):
    t: Trial

    @initialize()
    def begin(self) -> None:
        """Put a few checkpoints in two namespaces of a thread. Chance alone would not put as many before the end."""
        self.model = Model()
        self.names: dict[str, str] = {}
        self.changes = 0
        self.copies = 0
        self.steps = 0
        self.changed: set[str] = set()
        self.reopen()
        for number, (ns, run) in enumerate((("", "run-1"), ("child:1", "run-1"), ("", "run-2"), ("", "run-3")), 1):
            metadata = {"source": "loop", "step": 1, "run_id": run}
            self._put(Place("a", ns), 1000 * number, 1, {"x": number}, metadata)

    def teardown(self) -> None:
        if opening := self.__dict__.pop("opening", None):
            opening.__exit__(None, None, None)

    # Operations

    @rule(thread=THREADS, ns=NAMESPACES, id_=IDS, parent=WHICH, changes=CHANGES, source=SOURCES, step=STEPS, run=RUNS)
    def put(
        self, thread: str, ns: str, id_: int, parent: int, changes: dict[str, Any], source: str, step: int, run: str
    ) -> None:
        """Put a checkpoint, with or without a stored parent, that changes some channels."""
        self._put(Place(thread, ns), id_, parent, changes, {"source": source, "step": step, "run_id": run})

    @rule(thread=THREADS, ns=NAMESPACES, id_=IDS, changes=CHANGES, task=TASKS, writes=WRITES)
    def put_writes_before_their_checkpoint(
        self, thread: str, ns: str, id_: int, changes: dict[str, Any], task: str, writes: Writes
    ) -> None:
        place, text = Place(thread, ns), id_of(id_)
        if not self._is_free(text):
            return
        self.handle.put_writes(self._config(place, text), writes, task, f"path {task}")
        self._put(place, id_, 0, changes, {"source": "loop", "step": 1})
        self.model.put_writes(place, text, writes, task, f"path {task}")

    @rule(which=WHICH, task=TASKS, writes=WRITES, more=st.one_of(st.none(), WRITES))
    def put_writes(self, which: int, task: str, writes: Writes, more: Writes | None) -> None:
        """Write to a stored checkpoint, once or twice. Chance alone would seldom come back to the same task of it."""
        if stored := list(self.model.all()):
            place, id_, _ = stored[which % len(stored)]
            for each in (writes, more or ()):
                if each:
                    self.handle.put_writes(self._config(place, id_), each, task, f"path {task}")
                    self.model.put_writes(place, id_, each, task, f"path {task}")
            self.changed.add(place.thread)

    @rule(which=WHICH)
    def put_again(self, which: int) -> None:
        """Repeat a put."""
        if stored := list(self.model.all()):
            place, id_, checkpoint = stored[which % len(stored)]
            self._send(place, id_, checkpoint, checkpoint.versions)
            self.changed.add(place.thread)

    @rule(thread=THREADS)
    def delete_thread(self, thread: str) -> None:
        self.handle.delete_thread(self._real(thread))
        self.model.delete_thread(thread)
        self.changed.add(thread)

    @_declared(Capability.COPY_THREAD)
    @rule(source=THREADS, twice=st.booleans(), go_on_with_copy=st.booleans())
    def copy_thread(self, source: str, twice: bool, go_on_with_copy: bool) -> None:
        """Copy a thread to a new id."""
        self.copies += 1
        target = f"{source} copied {self.copies}"
        for _ in range(1 + twice):
            self.handle.copy_thread(self._real(source), self._real(target))
        self.model.copy_thread(source, target)
        self.changed |= {source, target}
        if go_on_with_copy:
            self.names[source], self.names[target] = self._real(target), self._real(source)

    @_declared(Capability.PRUNE)
    @rule(threads=st.sets(THREADS, min_size=1, max_size=2), strategy=st.sampled_from(["keep_latest", "delete"]))
    def prune(self, threads: set[str], strategy: str) -> None:
        self.handle.prune([self._real(thread) for thread in sorted(threads)], strategy=strategy)
        self.model.prune(threads, strategy)
        self.changed |= threads

    @_declared(Capability.PRUNE_KEEP)
    @rule(threads=st.sets(THREADS, min_size=1, max_size=2), keep=st.integers(1, 4))
    def prune_to(self, threads: set[str], keep: int) -> None:
        """Keep several checkpoints."""
        self.handle.prune([self._real(thread) for thread in sorted(threads)], keep=keep)
        self.model.prune(threads, "keep_latest", keep)
        self.changed |= threads

    @_declared(Capability.DELETE_FOR_RUNS)
    @rule(runs=st.sets(RUNS, min_size=1, max_size=2))
    def delete_for_runs(self, runs: set[str]) -> None:
        # Other tests share the storage, so the runs have names of their own.
        self.handle.delete_for_runs([self._real(run) for run in sorted(runs)])
        self.model.delete_for_runs(runs)
        self.changed |= self._threads()

    @rule()
    def reopen(self) -> None:
        """Close the handle and open another."""
        self.teardown()
        self.opening: AbstractContextManager[Handle] = self.t.opened()
        self.handle = self.opening.__enter__()

    # Expectations

    @rule(thread=THREADS, ns=NAMESPACES, filter_=FILTERS, before=st.one_of(st.none(), IDS, WHICH.map(str)))
    def list_a_namespace(self, thread: str, ns: str, filter_: dict[str, Any] | None, before: int | str | None) -> None:
        """List what is below nothing, any id, or one of those that are there."""
        place = Place(thread, ns)
        stored = sorted(self.model.places.get(place, {}))
        if isinstance(before, str):
            below = stored[int(before) % len(stored)] if stored else None
        else:
            below = None if before is None else id_of(before)
        listed = self.handle.list_namespace(
            self._config(place),
            filter=self._real_metadata(filter_) if filter_ else filter_,
            before=None if below is None else self._config(place, below),
        )
        expected = self.model.list(thread, ns, filter_=filter_, before=below)
        found = ids_of(listed)
        self.t.expect(found, [id_ for _, id_ in expected], "listed a namespace; the ids")

    @invariant()
    def what_changed_is_as_the_model_predicts(self) -> None:
        """Every COMPARE_ALL steps, and so at the end, everything else is compared, too."""
        self.steps += 1
        threads = self._threads() if self.steps % COMPARE_ALL == 0 else self.changed
        self.changed = set()
        for place in sorted(Place(thread, ns) for thread in threads for ns in ("", "child:1")):
            listed = self.handle.list_namespace(self._config(place))
            found = sorted((one.config["configurable"]["checkpoint_id"], self._contents(one)) for one in listed)
            expected = sorted((id_, self._expected(place, id_)) for _, id_ in self.model.list(*place))
            self.t.expect(found, expected, f"listed {place}")
            latest = self.handle.get_tuple(self._config(place))
            known = self.model.get(place)
            self.t.expect(
                latest and self._contents(latest),
                known and self._expected(place, known[0]),
                f"got the latest of {place}",
            )

    # On both the saver and the model

    def _put(self, place: Place, id_: int, parent: int, changes: dict[str, Any], metadata: dict[str, Any]) -> None:
        text = id_of(id_)
        if not self._is_free(text):
            return
        stored = sorted(self.model.places.get(place, {}).items())
        parent_id, before = stored[parent % len(stored)] if stored and parent else (None, Put(None, {}, {}, {}))
        self.changes += 1
        new_versions = dict.fromkeys(changes, f"{self.changes:032}.{id_:016}")
        checkpoint = Put(
            parent_id,
            {**before.values, **changes},
            {**before.versions, **new_versions},
            metadata,
        )
        self._send(place, text, checkpoint, new_versions)
        self.model.put(place, text, checkpoint)
        self.changed.add(place.thread)

    def _send(self, place: Place, id_: str, checkpoint: Put, new_versions: Any) -> None:
        given = self.t.checkpoint(checkpoint.values, id_=id_, versions=checkpoint.versions)
        config = self._config(place, checkpoint.parent)
        stored = self.handle.put(config, given, self._real_metadata(checkpoint.metadata), new_versions)
        self.t.expect(stored["configurable"].get("checkpoint_id"), id_, "put; the id of the config")

    def _contents(self, found: Any) -> str:
        parent = parent_of(found)
        place = (found.config["configurable"]["thread_id"], found.config["configurable"].get("checkpoint_ns", ""))
        stored = {id_ for where, id_, _ in self.model.all() if (self._real(where.thread), where.ns) == place}
        return _text(
            place,
            # A saver may still name a parent that was removed.
            parent if parent in stored else None,
            found.checkpoint["channel_values"],
            found.checkpoint["channel_versions"],
            found.metadata,
            unordered(found.pending_writes),
        )

    def _expected(self, place: Place, id_: str) -> str:
        put = self.model.places[place][id_]
        return _text(
            (self._real(place.thread), place.ns),
            put.parent if put.parent in self.model.places[place] else None,
            put.values,
            put.versions,
            self._real_metadata(put.metadata),
            unordered(put.pending_writes),
        )

    def _threads(self) -> set[str]:
        return {"a", "b", "c", *(place.thread for place in self.model.places)}

    def _is_free(self, id_: str) -> bool:
        return all(id_ != other for _, other, _ in self.model.all())

    def _config(self, place: Place, id_: str | None = None) -> Config:
        return self.t.config(self._real(place.thread), id_, ns=place.ns)

    def _real_metadata(self, metadata: Any) -> dict[str, Any]:
        return {key: self._real(value) if key == "run_id" else value for key, value in metadata.items()}

    def _real(self, name: str) -> str:
        """The name of a thread or run in the storage, where earlier sequences and other tests have left theirs."""
        if name not in self.names:
            self.names[name] = self.t.thread(name.replace(" ", "-"))
        return self.names[name]


def _text(place: Any, parent: Any, values: Any, versions: Any, metadata: Any, writes: Any) -> str:
    parts = {"of": place, "parent": parent, "values": values, "versions": versions, "metadata": dict(metadata)}
    ordered = {name: dict(sorted(part.items())) if isinstance(part, dict) else part for name, part in parts.items()}
    return f"{ordered} writes: {writes}"
