"""Pruning and deleting threads; and deleting the objects of what was removed, once nobody can still be reading them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from checkpoint_base.errors import StoreUnavailable
from checkpoint_base.retention import Choice, Skeleton, all_but_runs, retain, the_latest
from checkpoint_base.transport import Operation
from checkpoint_s3.format import UNREADABLE, Head, Ledger, Pair, checkpoint_digest, ledger_object, without
from checkpoint_s3.groups import CheckpointObject, Group, WritesObject, carriers, names_of, objects
from checkpoint_s3.inbox import Inbox
from checkpoint_s3.layout import run_digest, space_segment
from checkpoint_s3.reader import Reader, State, Vanished, entries_of
from checkpoint_s3.transport import Batch, Delete, Entry, Page, Put

CHANGING_SECONDS = 60
"""How long a change of a ledger may take after the time that it says."""

COPYING_SECONDS = 24 * 3600
"""After this time a copy that was not completed is swept up."""

_MICROSECONDS = 1_000_000
_ATTEMPTS = 50


class Remover:
    """Takes objects of threads out of sight, and deletes them later.

    Args:
        reader: what the store reads with.
        inbox: marks again what waits on a checkpoint that becomes the latest.
    """

    def __init__(self, reader: Reader, inbox: Inbox) -> None:
        self._reader = reader
        self._inbox = inbox
        self._delay = reader.grace + min(reader.grace, CHANGING_SECONDS)
        """How long after the time that a removal says its objects are deleted."""

    # Removing

    def delete(self, thread_ids: Sequence[str]) -> Operation[None]:
        for thread_id in dict.fromkeys(thread_ids):

            def everything(state: State, groups: Sequence[Group]) -> Operation[Ledger | None]:
                yield from ()
                return _hiding(state, names_of(groups).values(), retired={}, created_at=None, updated_at=0)

            yield from self._change(thread_id, everything, damaged=True)
            yield from self._delete_markers(thread_id)
        yield from self.sweep()

    def prune(self, thread_ids: Sequence[str]) -> Operation[None]:
        for thread_id in dict.fromkeys(thread_ids):
            yield from self._retain(thread_id, the_latest)
        yield from self.sweep()

    def delete_runs(self, run_ids: frozenset[str]) -> Operation[None]:
        digests = {run_digest(run_id) for run_id in run_ids}
        surveyed = yield from self._reader.survey_all()
        suspects = [
            (thread_id, visible)
            for thread_id, (_, groups) in surveyed.items()
            for group in groups
            if (visible := group.visible) and visible.parsed.label.run in digests
        ]
        heads = yield from self._reader.heads(suspects)
        threads = {
            thread_id
            for (thread_id, _), head in zip(suspects, heads, strict=True)
            if head.record.run_id is not None and head.record.run_id in run_ids
        }
        for thread_id in sorted(threads):
            yield from self._retain(thread_id, all_but_runs(run_ids))
        yield from self.sweep()

    def _retain(self, thread_id: str, choose: Choice) -> Operation[None]:
        """Remove the visible checkpoints of a thread that are not chosen, and what only they need."""

        def decide(state: State, groups: Sequence[Group]) -> Operation[Ledger | None]:
            present = [group for group in groups if group.checkpoint]
            heads = yield from self._reader.heads([(thread_id, group.existing) for group in present])
            places = [_Place(group, head) for group, head in zip(present, heads, strict=True)]
            hidden, retired, kept = _retained(places, choose)
            hidden += [
                other
                for group in present
                for other in group.others
                if isinstance(other, CheckpointObject) and other.digest not in state.ledger.unseen
            ]
            if not hidden and retired == dict(state.ledger.retired):
                return None
            root = [group for group in groups if group.space == space_segment("") and group.visible]
            latest = max(
                (group for group in root if group in kept), key=lambda group: group.checkpoint_id, default=None
            )
            if latest is not None and any(group.checkpoint_id > latest.checkpoint_id for group in root):
                yield from self._inbox.mark_again(thread_id, latest)
            ((created_at, updated_at),) = yield from self._reader.times([(thread_id, state, groups)])
            return _hiding(
                state, hidden, retired=retired, created_at=created_at if kept else None, updated_at=updated_at
            )

        yield from self._change(thread_id, decide)

    def _change(
        self,
        thread_id: str,
        decide: Callable[[State, Sequence[Group]], Operation[Ledger | None]],
        *,
        damaged: bool = False,
    ) -> Operation[None]:
        """Replace a thread's ledger by what is decided on the thread as it is; again when somebody else was quicker.

        With ``damaged`` also one that cannot be read.
        """
        note = self.note(thread_id)
        for _ in range(_ATTEMPTS):
            ((state, groups),) = yield from self._reader.survey([thread_id], damaged=damaged)
            ledger = (yield from decide(state, groups)) if groups or state.is_damaged else None
            if ledger is None:
                return
            # First of all a note that there is something to sweep: it does no harm when there is not.
            yield note
            if (yield from self.replace(thread_id, state, ledger)):
                return
        raise StoreUnavailable(f"thread {thread_id!r} is being changed by others all the time")

    def note(self, thread_id: str) -> Put:
        """The request that notes a thread for sweeping: before each change of its ledger a note of its own."""
        return Put(self._reader.keys.note(thread_id), b"")

    def replace(self, thread_id: str, state: State, ledger: Ledger) -> Operation[bool]:
        ledger = replace(ledger, nonce=os.urandom(8))
        key = self._reader.keys.ledger(thread_id)
        done = yield Put(key, ledger_object(ledger), if_absent=state.etag is None, if_match=state.etag)
        # Refused, or repeated after it was done and its answer got lost: look. This also renews what is known.
        now = yield from self._reader.state(thread_id)
        return done is not None or now.ledger.nonce == ledger.nonce

    def amend(self, thread_id: str, change: Callable[[State], Ledger]) -> Operation[None]:
        """Change a thread's ledger, again when somebody else was quicker."""
        for _ in range(_ATTEMPTS):
            ((state, _),) = yield from self._reader.survey([thread_id])
            if (yield from self.replace(thread_id, state, change(state))):
                return
        raise StoreUnavailable(f"thread {thread_id!r} is being changed by others all the time")

    def unveil(self, thread_id: str, names: Iterable[str]) -> Operation[None]:
        """Let be seen what is stored under these names, although a copy that was not completed meant to use them."""
        digests = frozenset(map(checkpoint_digest, names))
        yield from self.amend(
            thread_id, lambda state: replace(state.ledger, veiled=without(state.ledger.veiled, digests))
        )

    def _delete_markers(self, thread_id: str) -> Operation[None]:
        (pages,) = yield from self._reader.everything([self._reader.keys.markers(thread_id)])
        old = [
            Delete(entry.key)
            for page in pages
            for entry in page.entries
            if self._is_over(self._reader.grace, entry, page)
        ]
        if old:
            yield Batch(old)

    @staticmethod
    def _is_over(seconds: float, entry: Entry, page: Page) -> bool:
        return seconds == 0 or entry.age(page.now) >= seconds

    # Sweeping

    def sweep(self) -> Operation[None]:
        """Delete the objects, in all threads, of what was removed so long ago that nobody can still be reading them."""
        notes = self._reader.keys.notes
        (pages,) = yield from self._reader.everything([notes])
        due: dict[str, list[Entry]] = {}
        for page in pages:
            for entry in page.entries:
                if self._is_over(self._delay, entry, page):
                    due.setdefault(entry.key.removeprefix(notes).partition("/")[0], []).append(entry)
        for segment, thread_id in (yield from self._reader.thread_ids(due)).items():
            try:
                ((state, groups),) = yield from self._reader.survey([thread_id])
                is_done = state.etag is None or (yield from self._sweep_thread(thread_id, state, groups))
            except (*UNREADABLE, Vanished):
                continue  # whoever reads this thread is told; it must keep nobody from other ones
            if is_done:
                # What is not due yet has later notes.
                yield Batch(Delete(entry.key, entry.etag) for entry in due[segment])

    def _sweep_thread(self, thread_id: str, state: State, groups: Sequence[Group]) -> Operation[bool]:
        """Delete what is due of one thread; whether no copy is being made of which something may be left over."""
        due_before = state.now - int(self._delay * _MICROSECONDS)
        ledger = state.ledger
        due = frozenset[bytes]().union(*(digests for since, digests in ledger.hidden if since <= due_before))
        late = {
            token for token, (since, _) in ledger.veiled.items() if since <= state.now - COPYING_SECONDS * _MICROSECONDS
        }
        left_over = frozenset[bytes]().union(*(ledger.veiled[token][1] for token in late))
        left_over -= frozenset[bytes]().union(*(names for t, (_, names) in ledger.veiled.items() if t not in late))
        folder = self._reader.keys.folder(thread_id)
        going = {
            name: object_
            for name, object_ in names_of(groups).items()
            if object_.digest in due or checkpoint_digest(name) in left_over
        }
        stands = carriers(groups, going.keys() - (yield from self._under_writes(thread_id, groups, going)))
        deleted = [object_ for name, object_ in going.items() if name not in stands]
        if deleted:
            yield Batch(
                Delete(folder + object_.name, object_.etag if isinstance(object_, WritesObject) else None)
                for object_ in deleted
            )
        (pages,) = yield from self._reader.everything([folder])
        left = {object_.digest for object_ in objects(entries_of(pages), folder)}
        hidden = tuple(
            (since, rest)
            for since, digests in ledger.hidden
            if (rest := digests & left if since <= due_before else digests)
        )
        veiled = {
            token: batch
            for token, batch in ledger.veiled.items()
            if token not in late and (batch[1] or batch[0] > state.now - 2 * CHANGING_SECONDS * _MICROSECONDS)
        }
        swept = replace(ledger, hidden=hidden, veiled=veiled)
        if (hidden, veiled) != (ledger.hidden, dict(ledger.veiled)):
            yield from self.replace(thread_id, state, swept)
        return not veiled

    def _under_writes(
        self, thread_id: str, groups: Sequence[Group], going: Collection[str]
    ) -> Operation[frozenset[str]]:
        """The checkpoints that are going although writes stand on their state, which was replaced or removed since."""
        suspects = [
            (thread_id, group) for group in groups if group.writes and any(c.name in going for c in group.checkpoints)
        ]
        lacking = yield from self._reader.lacking(suspects)
        return frozenset(each.name for _, group in lacking for each in group.checkpoints)


@dataclass(frozen=True, slots=True)
class _Place:
    """A checkpoint that is there, visible or retired."""

    group: Group
    head: Head

    @property
    def skeleton(self) -> Skeleton:
        record, retired = self.head.record, self.group.retired
        return Skeleton(
            parent_id=record.parent_id,
            run_id=record.run_id,
            versions=dict(record.channels),
            open_channels=frozenset(record.open_channels) if retired is None else retired,
            retired=retired is not None,
        )


def _retained(
    places: Sequence[_Place], choose: Choice
) -> tuple[list[CheckpointObject | WritesObject], dict[bytes, frozenset[str]], list[Group]]:
    """What of a thread is to be hidden, which checkpoints become retired, as a ledger has them, and which are kept."""
    hidden: list[CheckpointObject | WritesObject] = []
    retired: dict[bytes, frozenset[str]] = {}
    kept: list[Group] = []
    for space in dict.fromkeys(place.group.space for place in places):
        here = {place.group.checkpoint_id: place for place in places if place.group.space == space}
        stored = frozenset[Pair]().union(*(place.head.stored for place in here.values()))
        decided = retain({id_: place.skeleton for id_, place in here.items()}, stored, choose)
        for id_, place in here.items():
            if id_ in decided.removed:
                hidden += [place.group.existing, *place.group.writes]
            elif id_ in decided.retired:
                retired[place.group.existing.digest] = decided.retired[id_]
            else:
                kept.append(place.group)
    return hidden, retired, kept


def _hiding(
    state: State,
    objects_: Iterable[CheckpointObject | WritesObject],
    *,
    retired: Mapping[bytes, frozenset[str]],
    created_at: int | None,
    updated_at: int,
) -> Ledger | None:
    """A ledger that hides these objects, too; None when that changes nothing."""
    ledger = state.ledger
    digests = frozenset(object_.digest for object_ in objects_) - ledger.unseen
    if not (digests or state.is_damaged) and retired == dict(ledger.retired):
        return None
    return replace(
        ledger,
        created_at=created_at,
        updated_at=updated_at,
        hidden=(*ledger.hidden, (state.now, digests)),
        retired=retired,
    )
