"""Prunes and deletes threads, and later deletes the objects of what was removed, when nobody can be reading them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from checkpoint_base.errors import CorruptCheckpoint, SchemaMismatch, kept_changing
from checkpoint_base.records import ChannelVersion
from checkpoint_base.retention import Choice, Placed, Skeleton, all_but_runs, retain, the_latest
from checkpoint_base.transport import Operation, for_each
from checkpoint_s3.format import Head, Ledger, ledger_object, name_digest, new_nonce
from checkpoint_s3.groups import Group, ThreadObject, WritesObject, carriers, latest_of, names_of
from checkpoint_s3.housekeeping import housekeeping
from checkpoint_s3.inbox import Inbox
from checkpoint_s3.layout import run_digest
from checkpoint_s3.reader import Reader
from checkpoint_s3.survey import ReadLedger
from checkpoint_s3.together import together
from checkpoint_s3.transport import Batch, Delete, Entry, List, Page, Put
from checkpoint_s3.vanished import Vanished

CHANGING_SECONDS = 60
"""A change of a ledger may take effect this long after the time that it records."""

COPYING_SECONDS = 24 * 3600
"""A copy that is still incomplete this long after it began is swept up."""

SWEPT = 8
"""How many threads are swept when a saver is opened, and at least by a removal. Each takes seven requests or more."""

SWEPT_OBJECTS = 100
"""The most objects of a thread that are deleted when a saver is opened, or beside a copy."""

_SWEPT_TOGETHER = 16
"""How many threads are swept side by side."""

_ATTEMPTS = 50
"""How often a change of a ledger is tried that others get ahead of."""

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Change:
    """A thread's ledger before and after a removal, and the objects that this was decided on."""

    before: Ledger
    after: Ledger
    groups: Sequence[Group]

    def taken_back(self, read: ReadLedger, _: Sequence[Group]) -> Ledger:
        """The ledger, which others may have changed since, with what the removal hid.

        What it retired may stay so: nothing of that is hidden, and the next attempt would not keep it either.
        """
        ledger, gone = read.ledger, self.after.removed - self.before.removed
        return replace(
            ledger,
            hidden=tuple((since, digests - gone) for since, digests in ledger.hidden),
            retired={**ledger.retired, **self.before.retired},
        )


class Remover:
    """Hides objects of threads, and deletes them later.

    Args:
        reader: what the store reads with; its surveyor is what it lists with.
        inbox: marks waiting tasks when a removal makes an older checkpoint the latest.
    """

    def __init__(self, reader: Reader, inbox: Inbox) -> None:
        self._surveyor = reader.surveyor
        self._reader = reader
        self._inbox = inbox
        self._delay = self._surveyor.grace + min(self._surveyor.grace, CHANGING_SECONDS)
        """How many seconds lie between the time that a removal records and the deletion of its objects, at least."""

    # Removing

    def delete(self, thread_ids: Sequence[str]) -> Operation[None]:
        def everything(read: ReadLedger, groups: Sequence[Group]) -> Ledger | None:
            return _hiding(read, names_of(groups).values(), retired={}, created_at=None, updated_at=0)

        for thread_id in dict.fromkeys(thread_ids):
            yield from self.amend(thread_id, everything, accept_damaged=True)
            yield from self._delete_markers(thread_id)
        yield from self.sweep(_swept_for(thread_ids))

    def prune(self, thread_ids: Sequence[str], keep: int) -> Operation[None]:
        def pruned(id_: str) -> Operation[None]:
            return self._retain(id_, partial(the_latest, keep))

        yield from self._act_and_sweep(dict.fromkeys(thread_ids), pruned, _swept_for(thread_ids))

    def delete_runs(self, run_ids: frozenset[str], thread_id: str | None) -> Operation[None]:
        """A given thread is not searched for. A search looks at every thread anyway, so it also sweeps all of them."""
        threads = [thread_id] if thread_id is not None else (yield from self._threads_of(run_ids))
        swept = _swept_for(threads) if thread_id is not None else None
        yield from self._act_and_sweep(threads, lambda id_: self._retain(id_, lambda _: all_but_runs(run_ids)), swept)

    def _act_and_sweep(
        self, thread_ids: Iterable[str], act: Callable[[str], Operation[None]], swept: int | None
    ) -> Operation[None]:
        """Act on each thread and then sweep, even if one of them is damaged."""
        try:
            yield from for_each(thread_ids, act)
        except CorruptCheckpoint:
            yield from self.sweep(swept)
            raise
        yield from self.sweep(swept)

    def _threads_of(self, run_ids: frozenset[str]) -> Operation[Sequence[str]]:
        """The threads that have visible checkpoints of these runs, or may have some that cannot be read."""
        digests = {run_digest(run_id) for run_id in run_ids}
        surveyed = yield from self._surveyor.survey_all(accept_damaged=True)
        suspects = [
            visible
            for _, groups in surveyed.values()
            for group in groups
            if (visible := group.visible) and visible.parsed.label.run in digests
        ]
        heads = yield from self._reader.readable_heads(suspects)
        threads = {
            suspect.thread_id
            for suspect, head in zip(suspects, heads, strict=True)
            if head is None or head.record.run_id in run_ids
        }
        return sorted(threads)

    def _retain(self, thread_id: str, choosing: Callable[[Iterable[Placed]], Choice]) -> Operation[None]:
        """Remove the visible checkpoints of a thread that are not chosen, and what only they need.

        ``choosing`` is told all checkpoints of the thread. If a child of one that was removed has been put meanwhile,
        the removal is taken back, and begins again.

        Raises:
            ConflictError: others kept changing the thread.
        """

        def retaining(read: ReadLedger, groups: Sequence[Group]) -> Operation[Ledger | None]:
            present = [group for group in groups if group.checkpoint]
            heads = yield from self._reader.heads([group.existing for group in present])
            places = [_Place(group, head) for group, head in zip(present, heads, strict=True)]
            hidden, retired, kept = _retained(places, choosing([place.placed for place in places]))
            unseen = read.ledger.unseen
            hidden += [other for group in present for other in group.replaced if other.digest not in unseen]
            if not hidden and retired == dict(read.ledger.retired):
                return None
            yield from self._mark_latest(groups, kept)
            ((created_at, updated_at),) = yield from self._reader.times([(read, groups)])
            return _hiding(
                read, hidden, retired=retired, created_at=created_at if kept else None, updated_at=updated_at
            )

        for _ in range(_ATTEMPTS):
            change = yield from self._amend(thread_id, retaining)
            if change is None:
                return
            ((_, groups),) = yield from self._surveyor.survey([thread_id])
            if not (yield from self._has_orphan(groups, names_of(change.groups))):
                return
            yield from self.amend(thread_id, change.taken_back)
        raise kept_changing(thread_id)

    def _has_orphan(self, groups: Sequence[Group], seen: Collection[str]) -> Operation[bool]:
        """Whether a checkpoint that was not ``seen`` before a removal lacks writes of its parent to its open channels.

        What it refers to by its name stays in any case (see `carriers`).
        """
        new = [group for group in groups if group.visible and group.existing.name not in seen]
        heads = yield from self._reader.heads([group.existing for group in new])
        parents = {group.place: group for group in groups}
        for group, head in zip(new, heads, strict=True):
            opened, parent = head.record.open_channels, parents.get((group.space, head.record.parent_id or ""))
            if opened and parent is not None and not parent.has_writes_to(opened):
                return True
        return False

    def _mark_latest(self, groups: Sequence[Group], kept: Sequence[Group]) -> Operation[None]:
        """Mark the waiting tasks of the root namespace's latest checkpoint that is kept, if it was not the latest."""
        latest = latest_of(kept)
        if latest is not None and latest is not latest_of(groups):
            yield from self._inbox.mark_again(latest)

    def amend(
        self,
        thread_id: str,
        change: Callable[[ReadLedger, Sequence[Group]], Ledger | None],
        *,
        accept_damaged: bool = False,
    ) -> Operation[None]:
        """Replace a thread's ledger with what ``change`` makes of it and the thread's objects; None changes nothing.

        If another process changes the ledger meanwhile, this starts again. With ``accept_damaged``, a ledger that
        cannot be read is replaced, too.

        Raises:
            ConflictError: others kept changing it.
        """

        def changing(read: ReadLedger, groups: Sequence[Group]) -> Operation[Ledger | None]:
            yield from ()  # a change that takes no requests
            return change(read, groups)

        yield from self._amend(thread_id, changing, accept_damaged=accept_damaged)

    def _amend(
        self,
        thread_id: str,
        changing: Callable[[ReadLedger, Sequence[Group]], Operation[Ledger | None]],
        *,
        accept_damaged: bool = False,
    ) -> Operation[_Change | None]:
        """`amend`, with a change that may take requests. Returns what was changed, if anything was."""
        note = Put(self._surveyor.keys.note(thread_id), b"")
        for _ in range(_ATTEMPTS):
            ((read, groups),) = yield from self._surveyor.survey([thread_id], accept_damaged=accept_damaged)
            ledger = yield from changing(read, groups)
            if ledger is None:
                return None
            # The note, for sweeping, comes first: it does no harm when there is nothing to sweep.
            yield note
            if (yield from self.replace(thread_id, read, ledger)):
                return _Change(read.ledger, ledger, groups)
        raise kept_changing(thread_id)

    def replace(self, thread_id: str, read: ReadLedger, ledger: Ledger) -> Operation[bool]:
        """Replace the ledger that was ``read``. False if it has been changed since."""
        ledger = replace(ledger, nonce=new_nonce())
        key = self._surveyor.keys.ledger(thread_id)
        done = yield Put(key, ledger_object(ledger), if_absent=read.etag is None, if_match=read.etag)
        # A refusal may be of a repeated request whose first answer was lost, so look. This also renews what is known.
        now = yield from self._surveyor.ledger(thread_id)
        return done is not None or now.ledger.nonce == ledger.nonce

    def unveil(self, thread_id: str, names: Iterable[str]) -> Operation[None]:
        """Make visible what is stored under these names, although a copy that was not completed had veiled them."""
        digests = frozenset(map(name_digest, names))
        yield from self.amend(thread_id, lambda read, _: read.ledger.unveiled(digests))

    def _delete_markers(self, thread_id: str) -> Operation[None]:
        (pages,) = yield from self._surveyor.everything([self._surveyor.keys.markers(thread_id)])
        old = [
            Delete(entry.key)
            for page in pages
            for entry in page.entries
            if self._is_over(self._surveyor.grace, entry, page)
        ]
        if old:
            yield Batch(old)

    @staticmethod
    def _is_over(seconds: float, entry: Entry, page: Page) -> bool:
        return seconds == 0 or entry.age(page.now) >= seconds

    # Sweeping

    def tidy(self, threads: int = SWEPT) -> Operation[None]:
        """Sweep a few threads, and a part of those that are long, beside something else."""
        yield from housekeeping(self.sweep(threads, SWEPT_OBJECTS))

    def sweep(self, threads: int | None = None, objects: int | None = None) -> Operation[None]:
        """Delete the objects that were removed so long ago that nobody can still be reading them.

        Args:
            threads: of how many threads at most; None sweeps all.
            objects: how many of each thread at most.
        """
        due = yield from self._due(threads)
        # By chance, so that those that cannot be swept, because they are damaged, say, keep no others from it for ever.
        chosen = [*due] if threads is None else random.sample([*due], min(threads, len(due)))
        for start in range(0, len(chosen), _SWEPT_TOGETHER):
            some = chosen[start : start + _SWEPT_TOGETHER]
            ids = yield from self._surveyor.thread_ids(some)
            yield from together([self._sweep_noted(id_, due[segment], objects) for segment, id_ in ids.items()])

    def _due(self, enough: int | None) -> Operation[Mapping[str, list[Entry]]]:
        """The notes that are due, by segment of their thread; listing stops once it has found ``enough`` threads."""
        notes = self._surveyor.keys.notes
        due: dict[str, list[Entry]] = {}
        after: str | None = ""
        while after is not None and (enough is None or len(due) < enough):
            page = yield List(notes, after=after)
            for entry in page.entries:
                if self._is_over(self._delay, entry, page):
                    due.setdefault(entry.key.removeprefix(notes).partition("/")[0], []).append(entry)
            after = page.last
        return due

    def _sweep_noted(self, thread_id: str, notes: Sequence[Entry], most: int | None) -> Operation[None]:
        """Sweep a thread; delete its notes, all of which are due, if nothing is left that is."""
        try:
            ((read, groups),) = yield from self._surveyor.survey([thread_id])
            is_done = read.etag is None or (yield from self._sweep_thread(thread_id, read, groups, most))
        except (CorruptCheckpoint, SchemaMismatch, Vanished):
            return  # readers of this thread are told
        if is_done:
            # Whatever is not due yet has later notes.
            yield Batch(Delete(note.key, note.etag) for note in notes)

    def _sweep_thread(
        self, thread_id: str, read: ReadLedger, groups: Sequence[Group], most: int | None
    ) -> Operation[bool]:
        """Delete what is due of one thread, ``most`` objects of it.

        False if some are left, or while the ledger has copies that may leave something to sweep up.
        """
        ledger, now = read.ledger, read.now
        due_before = now - int(self._delay * _MICROSECONDS)
        due = {digest for since, digests in ledger.hidden if since <= due_before for digest in digests}
        copying = {
            token: (since, names)
            for token, (since, names) in ledger.veiled.items()
            if since > now - COPYING_SECONDS * _MICROSECONDS
        }
        left_over = ledger.veiled_names - replace(ledger, veiled=copying).veiled_names
        going = {
            name: object_
            for name, object_ in names_of(groups).items()
            if object_.digest in due or name_digest(name) in left_over
        }
        if not (yield from self._delete(groups, going, most)):
            return False
        (pages,) = yield from self._surveyor.everything([self._surveyor.keys.folder(thread_id)])
        left = {object_.digest for object_ in self._surveyor.objects(thread_id, pages)}
        hidden = tuple(
            (since, rest)
            for since, digests in ledger.hidden
            if (rest := digests & left if since <= due_before else digests)
        )
        veiled = {
            token: (since, names)
            for token, (since, names) in copying.items()
            if names or since > now - 2 * CHANGING_SECONDS * _MICROSECONDS
        }
        if (hidden, veiled) != (ledger.hidden, dict(ledger.veiled)):
            yield from self.replace(thread_id, read, replace(ledger, hidden=hidden, veiled=veiled))
        return not veiled

    def _delete(self, groups: Sequence[Group], going: Mapping[str, ThreadObject], most: int | None) -> Operation[bool]:
        """Delete these objects of a thread, given by name, but for those that hold a part of what stays.

        Of the others, the first ``most`` are deleted. Returns whether these were all.
        """
        needed = carriers(groups, going.keys() - (yield from self._needed_by_writes(groups, going)))
        deleted = [object_ for name, object_ in going.items() if name not in needed]
        if deleted:
            yield Batch(
                Delete(object_.key, object_.etag if isinstance(object_, WritesObject) else None)
                for object_ in deleted[:most]
            )
        return most is None or len(deleted) <= most

    def _needed_by_writes(self, groups: Sequence[Group], going: Collection[str]) -> Operation[frozenset[str]]:
        """The names of all checkpoints under ids whose writes refer to chunks of a replaced or removed one."""
        suspects = [group for group in groups if group.writes and any(c.name in going for c in group.checkpoints)]
        lacking = yield from self._reader.lacking(suspects)
        return frozenset(each.name for group in lacking for each in group.checkpoints)


def _swept_for(removed: Collection[str]) -> int:
    """How many threads a removal of these sweeps: more than it removes, so that what is due becomes less."""
    return max(SWEPT, 2 * len(removed))


@dataclass(frozen=True, slots=True)
class _Place:
    """A checkpoint that exists, visible or retired."""

    group: Group
    head: Head

    @property
    def placed(self) -> Placed:
        group = self.group
        return (group.space, group.checkpoint_id, self.head.record.caller_id, group.retired is None)

    @property
    def skeleton(self) -> Skeleton:
        record, retired = self.head.record, self.group.retired
        return Skeleton(
            parent_id=record.parent_id,
            run_id=record.run_id,
            caller_id=record.caller_id,
            versions=dict(record.channels),
            open_channels=frozenset(record.open_channels) if retired is None else retired,
            retired=retired is not None,
        )


def _retained(
    places: Sequence[_Place], choose: Choice
) -> tuple[list[ThreadObject], dict[bytes, frozenset[str]], list[Group]]:
    """Decide which objects of a thread to hide, which checkpoints to retire (as in a ledger), and which to keep."""
    hidden: list[ThreadObject] = []
    retired: dict[bytes, frozenset[str]] = {}
    kept: list[Group] = []
    spaces: dict[str, dict[str, _Place]] = {}
    for place in places:
        spaces.setdefault(place.group.space, {})[place.group.checkpoint_id] = place
    for here in spaces.values():
        stored = frozenset[ChannelVersion]().union(*(place.head.stored for place in here.values()))
        decided = retain({id_: place.skeleton for id_, place in here.items()}, stored, choose)
        for id_, place in here.items():
            if id_ in decided.removed:
                hidden += place.group.current
            elif id_ in decided.retired:
                retired[place.group.existing.digest] = decided.retired[id_]
            else:
                kept.append(place.group)
    return hidden, retired, kept


def _hiding(
    read: ReadLedger,
    objects_: Iterable[ThreadObject],
    *,
    retired: Mapping[bytes, frozenset[str]],
    created_at: int | None,
    updated_at: int,
) -> Ledger | None:
    """The ledger that hides these objects in addition; None if that changes nothing."""
    ledger = read.ledger
    digests = frozenset(object_.digest for object_ in objects_) - ledger.unseen
    if not (digests or read.is_damaged) and retired == dict(ledger.retired):
        return None
    return replace(
        ledger,
        created_at=created_at,
        updated_at=updated_at,
        hidden=(*ledger.hidden, (read.now, digests)),
        retired=retired,
    )
