"""Lists threads, and the questions on which threads wait for a human."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from checkpoint_base.errors import CorruptCheckpoint
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.metadata import has_terms
from checkpoint_base.paging import PAGE_BYTES
from checkpoint_base.records import (
    CheckpointRecord,
    Chunk,
    ChunkId,
    InboxQuery,
    InterruptRecord,
    ThreadRecord,
    WriteRecord,
    closure,
    unreadable,
    unreadable_question,
)
from checkpoint_base.transport import Operation
from checkpoint_s3.format import read_writes
from checkpoint_s3.groups import Group, WritesObject, latest_of
from checkpoint_s3.housekeeping import housekeeping
from checkpoint_s3.layout import ROOT, id_segment, nonce, parse_marker, task_digest
from checkpoint_s3.reader import Reader, candidates, read_all_writes
from checkpoint_s3.stack import missing_chunks
from checkpoint_s3.survey import ReadLedger, entries_of
from checkpoint_s3.transport import Batch, Delete, Entry, Put
from checkpoint_s3.vanished import Changed

_THREADS_AT_ONCE = 100
"""The most threads of which writes are read at the same time, about `PAGE_BYTES` of them. Then only questions stay."""


@dataclass(frozen=True, slots=True)
class _Marker:
    """Says that a task of a checkpoint may be waiting. The checkpoint's writes say whether it is."""

    entry: Entry
    thread: str
    checkpoint_id: str
    task: str


@dataclass(frozen=True, slots=True)
class _Latest:
    """The latest checkpoint of a thread's root namespace, with its writes.

    Of the writes it has those that tell what is pending, and of the chunks those of the questions. But ``elsewhere``
    names the object of each question whose chunks it does not hold, by task id and index.

    If anything is damaged, ``record`` has no header, and a question without a value replaces each unreadable special
    write, which may be one. Neither can be read, so a listing shows them with an error.
    """

    group: Group
    record: CheckpointRecord
    writes: Sequence[WriteRecord]
    chunks: Mapping[ChunkId, Chunk]
    elsewhere: Mapping[tuple[str, int], WritesObject]
    is_damaged: bool

    @property
    def thread_id(self) -> str:
        return self.record.key.thread_id

    def has_terms(self, wanted: Sequence[bytes]) -> bool:
        return self.is_damaged or has_terms(self.record.terms, wanted)

    @property
    def pending(self) -> Sequence[WriteRecord]:
        settled = {write.task_id for write in self.writes if write.settles}
        return [write for write in self.writes if write.questions and write.task_id not in settled]


@dataclass(slots=True)
class _Told:
    """What the writes of a checkpoint tell, as far as they have been read; the attributes are as in `_Latest`."""

    seen: set[tuple[str, int]] = field(default_factory=set)
    writes: list[WriteRecord] = field(default_factory=list)
    chunks: dict[ChunkId, Chunk] = field(default_factory=dict)
    elsewhere: dict[tuple[str, int], WritesObject] = field(default_factory=dict)
    damaged: list[WritesObject] = field(default_factory=list)

    def take_in(self, object_: WritesObject, body: bytes, room: int) -> int:
        """Take in an object, after those of a lower number. Returns how many bytes of ``room`` its questions take."""
        try:
            writes, chunks = read_writes(body, object_.described)
        except CorruptCheckpoint:
            self.damaged.append(object_)
            return 0
        taken = 0
        for write in writes:
            place = (write.task_id, write.idx)
            if place in self.seen:
                continue
            self.seen.add(place)
            if write.questions or write.settles:
                self.writes.append(write)
            if write.questions:
                asked, _ = closure([write.value], chunks)
                size = _bytes(asked)
                if size and taken + size > room:
                    self.elsewhere[place] = object_
                else:
                    self.chunks.update(asked)
                    taken += size
        return taken


class Inbox:
    """Lists threads and interrupts.

    A marker that is older than the grace period and has no question is taken to be left over from a crash.

    Args:
        reader: what the store reads with; its surveyor is what it lists with.
    """

    def __init__(self, reader: Reader) -> None:
        self._surveyor = reader.surveyor
        self._reader = reader

    def marker(self, key: CheckpointKey, task_id: str) -> Put:
        """The request that marks a task which is about to ask. Each marker has a name of its own."""
        name = f"{id_segment(key.checkpoint_id)}.{task_digest(task_id)}.{nonce()}"
        return Put(self._surveyor.keys.markers(key.thread_id) + name, b"")

    def mark_again(self, group: Group, *, copied_to: str | None = None) -> Operation[None]:
        """Put new markers for a checkpoint that becomes the latest, or for its copy: old ones may have been deleted."""
        bodies = yield from self._reader.bodies([each.key for each in group.writes])
        writes, _ = read_all_writes(group.writes, bodies)
        key = CheckpointKey(copied_to or group.thread_id, "", group.checkpoint_id)
        asking = sorted({write.task_id for write in writes if write.questions})
        if asking:
            yield Batch(self.marker(key, task_id) for task_id in asking)

    # Threads

    def threads(self, query: InboxQuery) -> Operation[Sequence[ThreadRecord]]:
        if query.thread_id is None:
            surveyed = yield from self._surveyor.survey_all(accept_damaged=True)
        else:
            ((read, groups),) = yield from self._surveyor.survey([query.thread_id], accept_damaged=True)
            surveyed = {query.thread_id: (read, groups)}
        listed = {thread_id: place for thread_id, place in surveyed.items() if any(group.visible for group in place[1])}
        times = yield from self._reader.times([*listed.values()])
        positions = [
            (updated_at, thread_id, created_at or updated_at)
            for thread_id, (created_at, updated_at) in zip(listed, times, strict=True)
            if query.is_behind((updated_at, thread_id, ""))
        ]
        positions.sort(reverse=query.order == "newest")
        page: list[ThreadRecord] = []
        for some in candidates(positions, page, query):
            found = yield from self._latest([listed[thread_id] for _, thread_id, _ in some], room=0)
            for updated_at, thread_id, created_at in some:
                latest = found.get(thread_id)
                if latest is None:
                    if not query.terms:
                        page.append(ThreadRecord(thread_id, created_at, updated_at, None, 0))
                elif latest.has_terms(query.terms):
                    questions = sum(write.questions for write in latest.pending)
                    page.append(ThreadRecord(thread_id, created_at, updated_at, latest.record, questions))
        return page[: query.limit]

    # Interrupts

    def interrupts(self, query: InboxQuery) -> Operation[Sequence[InterruptRecord]]:
        """One page or several: to find one takes finding all that wait."""
        waiting = yield from self._waiting(query)
        found: list[InterruptRecord] = []
        size = 0
        for start in range(0, len(waiting), query.limit):
            page = yield from self._read_again(waiting[start : start + query.limit])
            lacking = {each.thread_id: each.group for each, write in page if missing_chunks([write], each.chunks)}
            states = yield from self._states(lacking)
            for each, write in page:
                # A question may refer to chunks of the state in which it was asked.
                chunks, _ = closure([write.value], each.chunks, states.get(each.thread_id, {}))
                size += _bytes(chunks)
                found.append(InterruptRecord(each.record, write, chunks))
            if size >= PAGE_BYTES or (query.wanted is not None and len(found) >= query.wanted):
                break
        return found

    def _waiting(self, query: InboxQuery) -> Operation[Sequence[tuple[_Latest, WriteRecord]]]:
        """All pending questions from where a query's page begins, in its order. Stale markers are deleted, too."""
        (pages,) = yield from self._surveyor.everything([self._surveyor.keys.markers(query.thread_id)])
        markers = self._markers(entries_of(pages))
        now = max(page.now for page in pages)
        segments = {marker.thread for marker in markers}
        if query.thread_id is None:
            ids = yield from self._surveyor.thread_ids(segments)
        else:
            ids = dict.fromkeys(segments, query.thread_id)
        surveyed = yield from self._surveyor.survey([*ids.values()], accept_damaged=True)
        latest = yield from self._latest(surveyed, room=PAGE_BYTES)
        groups = [group for _, groups in surveyed for group in groups]
        yield from housekeeping(self._repair(markers, ids, groups, latest, now))
        waiting = [
            (each, write)
            for each in latest.values()
            if each.has_terms(query.terms)
            for write in each.pending
            if query.is_behind((write.written_at, each.thread_id, write.task_id))
        ]
        waiting.sort(
            key=lambda found: (found[1].written_at, found[0].thread_id, found[1].task_id),
            reverse=query.order == "newest",
        )
        return waiting

    def _read_again(
        self, page: Sequence[tuple[_Latest, WriteRecord]]
    ) -> Operation[Sequence[tuple[_Latest, WriteRecord]]]:
        """The questions of a page with their chunks: those that were too large to be held are read once more."""
        sources = [each.elsewhere.get((write.task_id, write.idx)) for each, write in page]
        bodies = yield from self._reader.bodies([*{source.key: None for source in sources if source}])
        read = []
        for (each, write), source in zip(page, sources, strict=True):
            if source is None:
                read.append((each, write))
                continue
            told = _Told()
            told.take_in(source, bodies[source.key], PAGE_BYTES)
            if write not in told.writes:  # another question has replaced it, or it is damaged now
                raise Changed(each.thread_id)
            read.append((replace(each, chunks=told.chunks), write))
        return read

    def _states(self, groups: Mapping[str, Group]) -> Operation[Mapping[str, Mapping[ChunkId, Chunk]]]:
        """The chunks of checkpoints and their writes, by thread; without those that cannot be read."""
        try:
            states = yield from self._reader.contents([*groups.values()])
        except CorruptCheckpoint:
            found: dict[str, Mapping[ChunkId, Chunk]] = {}
            if len(groups) > 1:
                for thread_id, group in groups.items():
                    found |= yield from self._states({thread_id: group})
            return found
        return {stored.record.key.thread_id: stored.chunks for stored in states}

    def _markers(self, entries: Iterable[Entry]) -> list[_Marker]:
        markers = []
        for entry in entries:
            thread, _, name = entry.key.removeprefix(self._surveyor.keys.markers()).partition("/")
            if (parsed := parse_marker(name)) is not None:
                markers.append(_Marker(entry, thread, *parsed))
        return markers

    def _repair(
        self,
        markers: Sequence[_Marker],
        ids: Mapping[str, str],
        groups: Sequence[Group],
        latest: Mapping[str, _Latest],
        now: int,
    ) -> Operation[None]:
        """Delete markers that can no longer lead to a pending question: of older checkpoints, and of finished tasks."""
        # Thousands of tasks of one thread may have a marker.
        written = {(group.thread_id, group.checkpoint_id) for group in groups if group.space == ROOT and group.writes}
        waiting = {
            (thread_id, task_digest(write.task_id)) for thread_id, found in latest.items() for write in found.pending
        }
        stale = []
        for marker in markers:
            if marker.entry.age(now) < self._surveyor.grace:
                continue  # its question may be on its way
            thread_id = ids.get(marker.thread, "")
            found = latest.get(thread_id)
            if found is not None and found.is_damaged:
                continue
            is_over = found is not None and (
                found.group.checkpoint_id > marker.checkpoint_id
                or (found.group.checkpoint_id == marker.checkpoint_id and (thread_id, marker.task) not in waiting)
            )
            if is_over or (thread_id, marker.checkpoint_id) not in written:
                stale.append(marker)
        if stale:
            yield Batch(Delete(marker.entry.key, marker.entry.etag) for marker in stale)

    def _latest(
        self, threads: Sequence[tuple[ReadLedger, Sequence[Group]]], *, room: int
    ) -> Operation[dict[str, _Latest]]:
        """The latest checkpoint of each thread's root namespace, by thread; without those that have no visible one.

        They hold no more than ``room`` bytes of questions.
        """
        places: list[tuple[ReadLedger, Group]] = []
        for read, groups in threads:
            if (group := latest_of(groups)) is not None:
                places.append((read, group))
        found: dict[str, _Latest] = {}
        for start in range(0, len(places), _THREADS_AT_ONCE):
            some = yield from self._read_latest(places[start : start + _THREADS_AT_ONCE], room)
            room -= sum(_bytes(each.chunks) for each in some)
            found |= {each.thread_id: each for each in some}
        return found

    def _read_latest(self, places: Sequence[tuple[ReadLedger, Group]], room: int) -> Operation[list[_Latest]]:
        """These checkpoints, each given with the ledger of its thread."""
        heads = yield from self._reader.readable_heads([group.existing for _, group in places])
        told = [_Told() for _ in places]
        objects = [(some, object_) for some, (_, group) in zip(told, places, strict=True) for object_ in group.writes]
        for portion in _portions(objects):
            bodies = yield from self._reader.bodies([object_.key for _, object_ in portion])
            for some, object_ in portion:
                room -= some.take_in(object_, bodies[object_.key], room)
        found = []
        for (read, group), head, some in zip(places, heads, told, strict=True):
            # One for a task, as questions are. Of the task's id, only the digest is known.
            asked_at = {
                each.parsed.task: int(each.modified * 1_000_000) for each in some.damaged if each.parsed.kind == "x"
            }
            writes = [*some.writes, *(unreadable_question(*place) for place in asked_at.items())]
            is_damaged = head is None or bool(some.damaged) or read.is_damaged
            key = CheckpointKey(group.thread_id, "", group.checkpoint_id)
            record = unreadable(key) if head is None or is_damaged else head.record
            found.append(_Latest(group, record, writes, some.chunks, some.elsewhere, is_damaged))
        return found


def _portions(objects: Iterable[tuple[_Told, WritesObject]]) -> Iterator[list[tuple[_Told, WritesObject]]]:
    """Objects that are read at once: about `PAGE_BYTES`."""
    portion: list[tuple[_Told, WritesObject]] = []
    size = 0
    for some, object_ in objects:
        if portion and size + object_.size > PAGE_BYTES:
            yield portion
            portion, size = [], 0
        portion.append((some, object_))
        size += object_.size
    if portion:
        yield portion


def _bytes(chunks: Mapping[ChunkId, Chunk]) -> int:
    return sum(len(chunk.body) for chunk in chunks.values())
