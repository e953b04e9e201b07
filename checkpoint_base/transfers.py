"""Copies threads between stores: records and bytes as they are, so nothing is rebuilt, imported or decrypted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from checkpoint_base.cache import SeenChunks
from checkpoint_base.errors import ConflictError, CorruptCheckpoint, UnsupportedOperation, damage
from checkpoint_base.keys import CheckpointKey, thread_key
from checkpoint_base.paging import fitting
from checkpoint_base.records import (
    Ancestry,
    ChannelValue,
    CheckpointRecord,
    Chunk,
    ChunkId,
    InboxQuery,
    ListQuery,
    Missing,
    StoredCheckpoint,
    ValueRecord,
    WriteRecord,
    closure,
)
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.times import damage_of_times
from checkpoint_base.transport import Operation, about, arun, run
from checkpoint_base.two_stores import Directing, Transferred, by_age, checkpoints_of, on, refuse_foreign

_FIRST = 2  # checkpoints read at once with their contents, before it is known how much they hold
_GROWTH = 2  # how many times as many are read next
_WHOLE = 20  # the most of these, if they hold little


def transfer(source: CheckpointSaver, target: CheckpointSaver, thread_id: str) -> int:
    """Copy a thread to another store, under its own id, and read it back; return how many checkpoints were sent.

    The copy has the checkpoints of every namespace with their values, metadata, pending writes and times, and what was
    pruned but is needed to rebuild delta channels. Values keep their bytes, encrypted or compressed as they are. Writes
    whose checkpoint was never stored are left behind: nothing reads them. If the source lacks the thread, nothing is
    copied.

    Repeating it sends only what the target lacks, so it can be stopped at any time, and repeated when the source thread
    has continued. If it continues during the copy, the checkpoints that it had at first are copied. Nothing should
    use the thread in the target meanwhile.

    Raises:
        ConflictError: the target has checkpoints of this thread that the source lacks; or some were removed from the
            source during the copy, which must be repeated. What was sent until then can be read.
        CorruptCheckpoint: the source has lost something that a checkpoint needs.
        UnsupportedOperation: source and target are the same store.
    """
    return transfer_counting(source, target, thread_id).sent


def transfer_counting(source: CheckpointSaver, target: CheckpointSaver, thread_id: str) -> Transferred:
    """`transfer`, which also returns how many checkpoints the target had already."""
    key = thread_key(thread_id)
    return run(about(key, _transfer(source, target, key)), Directing())


async def atransfer(source: CheckpointSaver, target: CheckpointSaver, thread_id: str) -> int:
    """`transfer`, asynchronously."""
    key = thread_key(thread_id)
    return (await arun(about(key, _transfer(source, target, key)), Directing())).sent


def _transfer(source: CheckpointSaver, target: CheckpointSaver, thread_id: str) -> Operation[Transferred]:
    if source.store is target.store:
        raise UnsupportedOperation("source and target are the same store: pass a saver on another one")
    yield from on(source, source.store.setup())
    yield from on(target, target.store.setup())
    records = yield from checkpoints_of(source, thread_id)
    for key, record in records.items():
        if not record.header:
            raise damage(f"{key.place} cannot be read. If a transfer into the source was stopped, repeat that; if not")
        _refuse_damaged_times(key, record.written_at)
    found = yield from checkpoints_of(target, thread_id)
    left_over = {key for key, record in found.items() if not record.header}  # stand-ins of a copy that was stopped
    there = found.keys() - left_over
    refuse_foreign(thread_id, there - records.keys())
    created_at = yield from _created_at(source, thread_id)
    copy = _Copy(source, target, thread_id, records, there, created_at, has_stand_ins=bool(left_over))
    try:
        if records and not found:
            yield from copy.begin()
        children = yield from copy.stand_ins()
        transferred = yield from copy.checkpoints()
    except (ConflictError, CorruptCheckpoint):
        yield from copy.retire_stand_ins()
        raise
    yield from copy.retire_stand_ins()
    yield from copy.check(children)
    return transferred


def _created_at(saver: CheckpointSaver, thread_id: str) -> Operation[int]:
    """Return when a thread was created; 0 if there is none."""
    threads = yield from on(saver, saver.store.threads(InboxQuery(thread_id, limit=1)))
    return threads[0].created_at if threads else 0


@dataclass(slots=True)
class _Copy:
    """The copying of one thread.

    A retired ancestor cannot be read as a checkpoint; only what it contributed to delta channels can. So the target
    gets a stand-in for it, a checkpoint without a header. At the end the stand-ins are removed as a run, and so the
    target retires those that are needed to rebuild other checkpoints.

    A checkpoint that is put again, or in the place of a stand-in, has a later time than what it replaces: S3 keeps
    both and uses the later one.
    """

    source: CheckpointSaver
    target: CheckpointSaver
    thread_id: str
    records: Mapping[CheckpointKey, CheckpointRecord]
    """The checkpoints of the source."""
    had: Set[CheckpointKey]
    """Those that the target had at first."""
    created_at: int
    has_stand_ins: bool
    """Whether the target may have any in sight."""
    seen: SeenChunks = field(default_factory=SeenChunks)
    """The chunks that the target is known to have."""

    @property
    def run_id(self) -> str:
        """The run of the stand-ins."""
        return f"transfer of {self.thread_id}"

    def begin(self) -> Operation[None]:
        """Create the thread in the target with its time of creation, which a store takes from the first put.

        If the thread's first checkpoint has been pruned, another one is put first, under that time; `checkpoints` puts
        it again under its own. It must have no open channels, because those need ancestors. If every one has some, the
        stand-ins are put first, and they have that time as well.
        """
        if self.records[min(self.records, key=by_age)].written_at == self.created_at:
            return
        later = [
            key
            for key, record in self.records.items()
            if record.written_at > self.created_at and not record.open_channels
        ]
        if later:
            first = min(later, key=by_age)
            stored = yield from on(self.source, self.source.store.load(first.namespace, first.checkpoint_id))
            if stored is None:
                raise ConflictError(f"{first.place} {_CHANGED}")
            yield from self._send(replace(stored, record=replace(stored.record, written_at=self.created_at)))

    def stand_ins(self) -> Operation[Sequence[tuple[CheckpointKey, frozenset[str]]]]:
        """Send what checkpoints whose parent cannot be read are rebuilt from.

        Returns, for each such parent, one of its children and the channels that its children rebuild.
        """
        opened: dict[str, set[str]] = {}
        for record in self.records.values():
            opened.setdefault(record.key.checkpoint_ns, set()).update(record.open_channels)
        rebuilt = []
        for parent, children in self._orphans().items():
            channels = frozenset[str]()
            for key in children if opened[parent.checkpoint_ns] else ():
                channels |= yield from self._rebuilt(key, opened[parent.checkpoint_ns])
            here = yield from _ancestry(self.source, children[0], channels)
            # Whatever has open channels is stored only on a parent, even if it has a value of each of them.
            if not (here.writes or any(self.records[key].open_channels for key in children)):
                continue
            rebuilt.append((children[0], channels))
            there = yield from _ancestry(self.target, children[0], channels)
            if not there.writes or _contributions(here) != _contributions(there):
                yield from self._stand_in(parent, here)
        return rebuilt

    def _orphans(self) -> Mapping[CheckpointKey, Sequence[CheckpointKey]]:
        """The checkpoints whose parent is not among those that are sent before them, by that parent."""
        orphans: dict[CheckpointKey, list[CheckpointKey]] = {}
        for key, record in self.records.items():
            if record.parent_id is not None:
                parent = replace(key, checkpoint_id=record.parent_id)
                if parent not in self.records or by_age(parent) >= by_age(key):
                    orphans.setdefault(parent, []).append(key)
        return orphans

    def _rebuilt(self, key: CheckpointKey, opened: Collection[str]) -> Operation[frozenset[str]]:
        """Those delta channels that a checkpoint has no value of: only for them the target keeps ancestors, too."""
        stored = yield from on(self.source, self.source.store.load(key.namespace, key.checkpoint_id))
        if stored is None:
            raise ConflictError(f"{key.place} {_CHANGED}")
        return frozenset(name for name, _ in stored.record.channels if name in opened and name not in stored.values)

    def _stand_in(self, parent: CheckpointKey, ancestry: Ancestry) -> Operation[None]:
        generations = ancestry.writes or ((),)
        keys = [parent]
        for number in range(1, len(generations)):
            name = blake2b(f"{number} {parent.checkpoint_id}".encode(), digest_size=16).hexdigest()
            keys.append(replace(parent, checkpoint_id=f"!{name}"))  # smaller than every id that LangGraph makes
        self.has_stand_ins = True
        following: CheckpointKey | None = None
        for key, writes in zip(reversed(keys), reversed(generations), strict=True):
            seeds = ancestry.seeds if following is None else {}
            values = [ChannelValue(channel, _version(seed), seed) for channel, seed in seeds.items()]
            record = CheckpointRecord(
                key=key,
                parent_id=following.checkpoint_id if following else None,
                header=b"",
                channels=tuple((value.channel, value.version) for value in values),
                open_channels=(),
                terms=b"",
                run_id=self.run_id,
                caller_id=None,
                written_at=self._stand_in_time(key),
            )
            yield from self._put(record, values, ancestry.chunks)
            yield from self._put_writes(key, writes, ancestry.chunks)
            following = key

    def _stand_in_time(self, key: CheckpointKey) -> int:
        """Return the thread's time of creation; or if a checkpoint will replace the stand-in, a time before its own."""
        if key in self.records:
            return max(0, min(self.created_at, self.records[key].written_at - 1))
        return self.created_at

    def retire_stand_ins(self) -> Operation[None]:
        """Hide the stand-ins. Those that something is rebuilt from stay for as long as that needs them."""
        if self.has_stand_ins:
            yield from on(self.target, self.target.store.delete_runs([self.run_id], self.thread_id))

    def checkpoints(self) -> Operation[Transferred]:
        """Send every checkpoint that the target lacks, parents first.

        Each may hold tens of MB, which is known only once it is read, so the number read at once begins low.
        """
        keys = sorted(self.records, key=by_age)
        start = sent = 0
        size = _FIRST
        while start < len(keys):
            window = keys[start : start + size]
            start += len(window)
            number, size = yield from self._window(window, keys[start] if start < len(keys) else None)
            sent += number
        return Transferred(sent, len(keys) - sent)

    def _window(self, window: Sequence[CheckpointKey], above: CheckpointKey | None) -> Operation[tuple[int, int]]:
        """Send what the target lacks of a window, as in `_read`; return how many, and how many to read the next time.

        At no time are more than two copies of the window's contents held, and none when it is done.
        """
        here = yield from _read(self.source, window, above)
        if gone := [key for key in window if key not in here]:
            raise ConflictError(f"{gone[0].place} {_CHANGED}")
        following = fitting(here.values(), growth=_GROWTH, most=_WHOLE)
        missing = yield from self._missing(here, window, above)
        for key in missing:
            yield from self._send(here[key])
        if missing:
            there = yield from _read(self.target, window, above)
            for key in missing:
                if not _holds(there.get(key), here[key]):
                    raise ConflictError(
                        f"{key.place} is not in the target as it was sent: "
                        "something else wrote there. Repeat this while nothing uses the thread in the target"
                    )
        return len(missing), following

    def _missing(
        self,
        here: Mapping[CheckpointKey, StoredCheckpoint],
        window: Sequence[CheckpointKey],
        above: CheckpointKey | None,
    ) -> Operation[Sequence[CheckpointKey]]:
        """The checkpoints of a window that the target lacks, or has in another state."""
        if self.had.isdisjoint(window):
            return window
        there = yield from _read(self.target, window, above)
        for stored in there.values():
            self.seen.add(self.thread_id, stored.chunks)
        return [key for key in window if not _holds(there.get(key), here[key])]

    def check(self, children: Iterable[tuple[CheckpointKey, frozenset[str]]]) -> Operation[None]:
        """Check that both stores rebuild these checkpoints from the same writes and values."""
        for key, channels in children:
            here = yield from _ancestry(self.source, key, channels)
            there = yield from _ancestry(self.target, key, channels)
            if _contributions(here) != _contributions(there):
                raise ConflictError(f"the ancestors of {key.place} {_CHANGED}")

    def _send(self, stored: StoredCheckpoint) -> Operation[None]:
        record = stored.record
        values = [
            ChannelValue(channel, version, stored.values[channel])
            for channel, version in record.channels
            if channel in stored.values
        ]
        yield from self._put(record, values, stored.chunks)
        yield from self._put_writes(record.key, stored.writes, stored.chunks)

    def _put(
        self, record: CheckpointRecord, values: Sequence[ChannelValue], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[None]:
        yield from self._store(
            lambda brought: self.target.store.put(record, values, brought, ()),
            record.key,
            [value.value for value in values],
            chunks,
        )

    def _put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[None]:
        if writes:
            _refuse_damaged_times(key, *(write.written_at for write in writes))
            yield from self._store(
                lambda brought: self.target.store.put_writes(key, writes, brought),
                key,
                [write.value for write in writes],
                chunks,
            )

    def _store(
        self,
        put: Callable[[Mapping[ChunkId, Chunk]], Operation[Missing]],
        key: CheckpointKey,
        values: Sequence[ValueRecord],
        chunks: Mapping[ChunkId, Chunk],
    ) -> Operation[None]:
        """Put something with those chunks of its values that the target is not known to have, or with all of them."""
        needed, lost = closure(values, chunks)
        if lost:
            raise damage(f"{key.place} has lost {len(lost)} of its {len(needed) + len(lost)} chunks")
        missing = yield from on(self.target, put(self.seen.unseen(self.thread_id, needed)))
        if missing.chunks:
            missing = yield from on(self.target, put(needed))
        if missing:
            raise ConflictError(f"the ancestors of {key.place} {_CHANGED}")
        self.seen.add(self.thread_id, needed)


_CHANGED = "changed while it was copied: repeat this, while nothing prunes the source"


def _refuse_damaged_times(key: CheckpointKey, *times: int) -> None:
    """Raise an error for times that no store can have been given: not every store could keep them."""
    if damaged := damage_of_times(*times):
        raise damage(f"{key.place}: {damaged}")


def _read(
    saver: CheckpointSaver, window: Sequence[CheckpointKey], above: CheckpointKey | None
) -> Operation[dict[CheckpointKey, StoredCheckpoint]]:
    """Read the checkpoints of a window, without those that are missing.

    The window is in order; ``above`` is the checkpoint that follows it, None if it ends with the last. Others may have
    been added in between, and any number after the last, so it may take several pages.
    """
    wanted = set(window)
    query = ListQuery(window[0].thread_id, after=above, limit=len(window))
    found: dict[CheckpointKey, StoredCheckpoint] = {}
    while True:
        page = yield from on(saver, saver.store.list(query))
        found |= {stored.position: stored for stored in page if stored.position in wanted}
        is_last = len(page) < query.limit or by_age(page[-1].position) <= by_age(window[0])
        if is_last or len(found) == len(window):
            return found
        query = replace(query, after=page[-1].position, limit=fitting(page, growth=_GROWTH, most=_WHOLE))


def _ancestry(saver: CheckpointSaver, key: CheckpointKey, channels: Collection[str]) -> Operation[Ancestry]:
    if not channels:
        return Ancestry()
    return (yield from on(saver, saver.store.ancestry(key.namespace, key.checkpoint_id, channels)))


def _contributions(ancestry: Ancestry) -> tuple[list[frozenset[WriteRecord]], Mapping[str, ValueRecord]]:
    return [frozenset(writes) for writes in ancestry.writes if writes], dict(ancestry.seeds)


def _holds(found: StoredCheckpoint | None, wanted: StoredCheckpoint) -> bool:
    """Whether a store has a checkpoint as another one has it; more writes than there are allowed."""
    return (
        found is not None
        and found.record == wanted.record
        and dict(found.values) == dict(wanted.values)
        and set(found.writes) >= set(wanted.writes)
        and not closure(_values(wanted), found.chunks)[1]
    )


def _values(stored: StoredCheckpoint) -> list[ValueRecord]:
    return [*stored.values.values(), *(write.value for write in stored.writes)]


def _version(value: ValueRecord) -> str:
    """Return a version that is unique to a value, and the same each time."""
    return "s" + blake2b(value.root + value.refs, digest_size=16).hexdigest()
