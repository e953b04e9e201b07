"""Reads the objects of threads, with operations that the store's own are built from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from checkpoint_base.errors import CorruptCheckpoint, damage
from checkpoint_base.perprocess import PerProcess
from checkpoint_base.records import Chunk, ChunkId, StoredCheckpoint, WriteRecord
from checkpoint_base.transport import Operation
from checkpoint_s3.format import (
    HEAD_BYTES,
    Head,
    Items,
    Ledger,
    claimed_end,
    read_head,
    read_items,
    read_ledger,
    read_writes,
    read_writes_place,
)
from checkpoint_s3.groups import CheckpointObject, Group, ThreadObject, WritesObject, grouped, objects
from checkpoint_s3.layout import Keys, segment_text, thread_segment
from checkpoint_s3.memory import Memory, Thread
from checkpoint_s3.stack import missing_chunks, snapshot_of
from checkpoint_s3.transport import PAGE, Batch, Entry, Found, Get, List, Page, Put
from checkpoint_s3.vanished import Vanished

LISTING_SECONDS = 60
"""A listing shows the bucket as of the time in its answer, or of less than this long before."""

LATEST_SECONDS = 2.0
"""Writes stored within this time before a thread's last object are read, for the times that their writers noted."""

JUST_NOW_SECONDS = 5
"""A checkpoint that is stored longer than this after it was written comes from elsewhere: copied, or transferred."""

LEASE = 1 / 6
"""The part of the grace period for which what is known of a thread is relied on. The rest is for requests to arrive."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)

_NO_LEDGER = Ledger()


@dataclass(frozen=True, slots=True)
class State:
    """A thread's ledger as it was read. Without one, it is empty and ``etag`` is None.

    ``age`` and ``now`` are as in `Found`. If ``is_damaged``, the ledger counts as one that hides nothing.
    """

    ledger: Ledger
    etag: str | None
    age: float
    now: int
    is_damaged: bool = False

    def may_be_newer_than(self, page: Page) -> bool:
        """Whether the ledger may have been changed after the listing of this page began."""
        return self.etag is not None and self.now / 1_000_000 - self.age > page.now / 1_000_000 - LISTING_SECONDS


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads from one bucket below one prefix.

    Args:
        keys: the keys below the prefix.
        memories: what each process knows of threads.
        grace: seconds for which hidden objects stay stored.
    """

    keys: Keys
    memories: PerProcess[Memory]
    grace: float

    @property
    def memory(self) -> Memory:
        return self.memories.get()

    @staticmethod
    def elapsed() -> float:
        """Seconds on a clock that runs on while the machine is suspended, if it has one: others go on removing then."""
        return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)

    # Ledgers

    def parsed_ledger(self, thread_id: str, found: Found | None, asked_at: float, *, damaged: bool = False) -> State:
        """Return a thread's state from the answer to a `Get` of its ledger, and renew what is known of the thread.

        Args:
            thread_id: the thread.
            found: the answer.
            asked_at: when the ledger was asked for.
            damaged: whether to accept a ledger that cannot be read.

        Raises:
            CorruptCheckpoint: the ledger cannot be read, and ``damaged`` is false.
            SchemaMismatch: it has a later format.
        """
        thread = self.memory.thread(thread_id)
        state = _state(thread_id, found, damaged=damaged)
        if asked_at >= thread.asked_at and not state.is_damaged:
            if state.ledger.nonce != thread.nonce:
                if asked_at >= thread.asked_at + self.grace:
                    # What was removed since the last look may already be deleted, and no longer be in the ledger.
                    self.memory.forget(thread_id)
                self.memory.hide(thread_id, state.ledger.unseen)
            thread.nonce = state.ledger.nonce
            thread.asked_at = asked_at
            thread.fresh_until = asked_at + self.grace * LEASE
        return state

    def state(self, thread_id: str) -> Operation[State]:
        asked_at = self.elapsed()
        found = yield Get(self.keys.ledger(thread_id))
        return self.parsed_ledger(thread_id, found, asked_at)

    def renew(self, thread_id: str) -> Operation[None]:
        """Make sure that nothing known of a thread can have been deleted physically. This rarely takes a request."""
        if self.elapsed() >= self.memory.thread(thread_id).fresh_until:
            yield from self.state(thread_id)

    def is_overtaken(self, thread_id: str, known: Thread) -> Operation[bool]:
        """Whether something may have been deleted physically since a thread was as ``known``, a copy of what it was.

        A process may be suspended at any time, and a request may be repeated for a while. This rarely takes a request.
        """
        if self.elapsed() < known.fresh_until + self.grace * (1 - LEASE) or self.grace == 0:
            return False
        state = yield from self.state(thread_id)
        return state.ledger.nonce != known.nonce

    # Listings

    def objects(self, thread_id: str, pages: Iterable[Page]) -> Iterator[ThreadObject]:
        """The objects of a thread on these pages of a listing."""
        return objects(thread_id, self.keys.folder(thread_id), entries_of(pages))

    def first_groups(
        self, thread_id: str, call: List, enough: Callable[[Sequence[Group]], bool] | None = None
    ) -> Operation[Sequence[Group]]:
        """The first checkpoints of a listing within a namespace: as many as are enough, or all.

        Later pages are larger than the first, up to the largest that there are.
        """
        state, page = yield from self._first_page(thread_id, call)
        found = [*self.objects(thread_id, [page])]
        limit = call.limit
        while page.last is not None:
            if enough is not None:
                groups = grouped(found, state.ledger)[:-1]  # the last may continue on the next page
                if enough(groups):
                    return groups
            limit = min(4 * limit, PAGE)
            page = yield List(call.prefix, after=page.last, limit=limit)
            found += self.objects(thread_id, [page])
        return grouped(found, state.ledger)

    def _first_page(self, thread_id: str, call: List) -> Operation[tuple[State, Page]]:
        """The first page of a listing within a namespace, with the thread's ledger."""
        asked_at = self.elapsed()
        found, page = yield Batch((Get(self.keys.ledger(thread_id)), call))
        state = self.parsed_ledger(thread_id, found, asked_at)
        if state.may_be_newer_than(page):
            # A copy is complete before the ledger reveals it, but the listing may be older than that. And if the ledger
            # hides the newest checkpoint of the listing, a newer one may have come that the listing does not have yet.
            # While the newest one is visible, ledger and listing fit together.
            groups = grouped(self.objects(thread_id, [page]), state.ledger)
            newest = next((group for group in groups if group.checkpoints), None)
            if state.ledger.veiled or (newest is not None and not newest.visible):
                page = yield call
        if self._may_have_part_of_a_copy(thread_id, [page], asked_at):
            latest = yield Get(self.keys.ledger(thread_id))
            if _etag(latest) != state.etag:
                return (yield from self._first_page(thread_id, call))
        return state, page

    def _may_have_part_of_a_copy(self, thread_id: str, pages: Iterable[Page], asked_at: float) -> bool:
        """Whether a listing may show what a copy has stored since the ledger was asked for, which hides it by now.

        Of what was stored that lately, copies are told by their times of writing, which are those of the source.
        """
        seconds = self.elapsed() - asked_at + 1  # servers tell whole seconds
        recent = (entry for page in pages for entry in page.entries if entry.age(page.now) <= seconds)
        return any(
            isinstance(object_, CheckpointObject)
            and abs(object_.modified - object_.parsed.label.written_at / 1_000_000) > JUST_NOW_SECONDS
            for object_ in objects(thread_id, self.keys.folder(thread_id), recent)
        )

    def everything(self, prefixes: Iterable[str]) -> Operation[Sequence[Sequence[Page]]]:
        """List all keys with each of these prefixes, page by page, all prefixes at the same time."""
        calls = {at: List(prefix) for at, prefix in enumerate(prefixes)}
        pages: list[list[Page]] = [[] for _ in calls]
        while calls:
            answers = yield Batch(calls.values())
            following = {}
            for (at, call), page in zip(calls.items(), answers, strict=True):
                pages[at].append(page)
                if page.last is not None:
                    following[at] = List(call.prefix, after=page.last)
            calls = following
        return pages

    def survey(
        self, thread_ids: Sequence[str], *, damaged: bool = False
    ) -> Operation[Sequence[tuple[State, list[Group]]]]:
        """The ledgers of these threads, and all their objects as listed; ``damaged`` as in `parsed_ledger`."""
        asked_at = self.elapsed()
        answers = yield Batch(Get(self.keys.ledger(thread_id)) for thread_id in thread_ids)
        states = [
            self.parsed_ledger(thread_id, found, asked_at, damaged=damaged)
            for thread_id, found in zip(thread_ids, answers, strict=True)
        ]
        # After the ledgers, because a copy is complete before its ledger reveals it.
        listed = yield from self.everything(self.keys.folder(thread_id) for thread_id in thread_ids)
        surveyed = {}
        doubtful = {}
        for thread_id, state, pages in zip(thread_ids, states, listed, strict=True):
            groups = grouped(self.objects(thread_id, pages), state.ledger)
            surveyed[thread_id] = replace(state, now=pages[0].now), groups
            if self._may_have_part_of_a_copy(thread_id, pages, asked_at):
                doubtful[thread_id] = state.etag
        if doubtful:
            latest = yield Batch(Get(self.keys.ledger(thread_id)) for thread_id in doubtful)
            changed = [id_ for (id_, etag), now in zip(doubtful.items(), latest, strict=True) if _etag(now) != etag]
            if changed:
                again = yield from self.survey(changed, damaged=damaged)
                surveyed |= dict(zip(changed, again, strict=True))
        return [surveyed[thread_id] for thread_id in thread_ids]

    def survey_newest(
        self, thread_id: str, root: str, start: str, enough: Callable[[Sequence[Group]], bool]
    ) -> Operation[Sequence[Group]]:
        """All objects of a thread, but in the folder ``root`` only as many as are enough, from the key ``start`` on.

        A long thread usually has most of its objects in the root namespace, and a listing needs a page of them.
        """
        folder = self.keys.folder(thread_id)
        asked_at = self.elapsed()
        state = yield from self.state(thread_id)
        first = yield List(folder)  # after the ledger, as in `survey`
        groups = grouped(self.objects(thread_id, [first]), state.ledger)
        listed = [first]
        if first.last is not None:
            if not first.entries[0].key.startswith(root):  # other namespaces come first
                ((_, groups),) = yield from self.survey([thread_id])
                return groups
            page, rest = yield Batch((List(root, after=start), List(folder, after=f"{root}~")))
            pages, others = [page], [rest]
            while others[-1].last is not None:
                others.append((yield List(folder, after=others[-1].last)))
            while True:
                groups = grouped(self.objects(thread_id, pages), state.ledger)
                if pages[-1].last is None:
                    break
                groups = groups[:-1]  # the last may continue on the next page
                if enough(groups):
                    break
                pages.append((yield List(root, after=pages[-1].last)))
            groups += grouped(self.objects(thread_id, others), state.ledger)
            listed = [*pages, *others]
        if self._may_have_part_of_a_copy(thread_id, listed, asked_at):
            latest = yield Get(self.keys.ledger(thread_id))
            if _etag(latest) != state.etag:
                ((_, groups),) = yield from self.survey([thread_id])
        return groups

    def survey_all(self, *, damaged: bool = False) -> Operation[Mapping[str, tuple[State, list[Group]]]]:
        """`survey` of all threads, by id."""
        before = yield from self._ledgers()
        (pages,) = yield from self.everything([self.keys.folders])
        by_segment: dict[str, list[Entry]] = {}
        for entry in entries_of(pages):
            segment = entry.key.removeprefix(self.keys.folders).partition("/")[0]
            by_segment.setdefault(segment, []).append(entry)
        after = yield from self._ledgers()
        ids = yield from self.thread_ids(by_segment)
        with_ledger = [id_ for id_ in ids.values() if self.keys.ledger(id_) in before]
        answers = yield Batch(Get(self.keys.ledger(id_)) for id_ in with_ledger)
        ledgers = dict(zip(with_ledger, answers, strict=True))
        surveyed = {}
        changed = []
        for segment, id_ in ids.items():
            found, key = ledgers.get(id_), self.keys.ledger(id_)
            if {before.get(key), after.get(key)} == {found and found.etag}:
                state = replace(_state(id_, found, damaged=damaged), now=pages[-1].now)
                listed = objects(id_, f"{self.keys.folders}{segment}/", by_segment[segment])
                surveyed[id_] = state, grouped(listed, state.ledger)
            else:  # changed meanwhile: it may hide what was listed, or reveal what the listing has only in part
                changed.append(id_)
        again = yield from self.survey(changed, damaged=damaged)
        return surveyed | dict(zip(changed, again, strict=True))

    def _ledgers(self) -> Operation[Mapping[str, str]]:
        """The keys of all ledgers, with their ETags."""
        (pages,) = yield from self.everything([self.keys.ledgers])
        return {entry.key: entry.etag for entry in entries_of(pages) if self.keys.is_ledger(entry.key)}

    def thread_ids(self, segments: Iterable[str]) -> Operation[Mapping[str, str]]:
        """The ids of the threads with these segments, by segment; without those that are digests nobody named."""
        ids = {segment: segment_text(segment) for segment in segments}
        unnamed = [segment for segment, id_ in ids.items() if id_ is None]
        if unnamed:
            answers = yield Batch(Get(self.keys.thread_name(segment)) for segment in unnamed)
            ids |= {segment: found.body.decode() for segment, found in zip(unnamed, answers, strict=True) if found}
        return {segment: id_ for segment, id_ in ids.items() if id_ is not None}

    def name_thread(self, thread_id: str) -> Operation[None]:
        """Store the id of a thread whose segment is only a digest, so that `thread_ids` finds it; once per process."""
        segment, thread = thread_segment(thread_id), self.memory.thread(thread_id)
        if segment_text(segment) is None and not thread.is_named:
            yield Put(self.keys.thread_name(segment), thread_id.encode())
            thread.is_named = True

    # Objects

    def heads(self, checkpoints: Sequence[CheckpointObject]) -> Operation[Sequence[Head]]:
        """The heads of checkpoints, in the same order.

        Raises:
            CorruptCheckpoint: one cannot be read; those that can are remembered.
            SchemaMismatch: one has a later format.
        """
        known = self.memory.heads([each.key for each in checkpoints])
        unknown = {each.key: each for each in checkpoints if each.key not in known}
        bodies = yield from self.beginnings([*unknown])
        damage: CorruptCheckpoint | None = None
        for (key, each), body in zip(unknown.items(), bodies, strict=True):
            try:
                known[key] = read_head(body, each.checkpoint_key)
            except CorruptCheckpoint as error:
                damage = damage or error
        self.memory.remember_heads(known)
        if damage is not None:
            raise damage
        return [known[each.key] for each in checkpoints]

    def readable_heads(self, checkpoints: Sequence[CheckpointObject]) -> Operation[Sequence[Head | None]]:
        """`heads`, with None for each that cannot be read."""
        try:
            return (yield from self.heads(checkpoints))
        except CorruptCheckpoint:
            found: list[Head | None] = []
            for each in checkpoints:  # the readable ones are remembered now
                try:
                    found += yield from self.heads([each])
                except CorruptCheckpoint:
                    found.append(None)
            return found

    def beginnings(self, keys: Sequence[str]) -> Operation[Sequence[bytes]]:
        """The beginning of each object, long enough for its head; less if the object ends before."""
        if not keys:
            return []
        answers = yield Batch(Get(key, HEAD_BYTES) for key in keys)
        bodies = [self._there(found, key) for found, key in zip(answers, keys, strict=True)]
        ends = [claimed_end(body) for body in bodies]
        longer = [at for at, end in enumerate(ends) if end > len(bodies[at]) and len(bodies[at]) >= HEAD_BYTES]
        if longer:
            answers = yield Batch(Get(keys[at], ends[at]) for at in longer)
            for at, found in zip(longer, answers, strict=True):
                bodies[at] = self._there(found, keys[at])
        return bodies

    def contents(self, groups: Sequence[Group], *, remember: bool = False) -> Operation[Sequence[StoredCheckpoint]]:
        """Checkpoints with their values and writes, usually in one request.

        With ``remember``, the next checkpoint can be stored on top of each without reading it again.
        """
        keys: dict[str, None] = {}
        for group in groups:
            keys.update(dict.fromkeys(group.existing.state_keys))
            keys.update(dict.fromkeys(each.key for each in group.writes))
        bodies = yield from self.bodies([*keys])
        items: dict[str, Items] = {}
        found = [self.read(group, bodies, items) for group in groups]
        # Writes may refer to chunks that only an earlier state of their checkpoint has.
        lacking = [
            at
            for at, (group, stored) in enumerate(zip(groups, found, strict=True))
            if group.replaced and missing_chunks(stored.writes, stored.chunks)
        ]
        brought = yield from self.replaced([groups[at] for at in lacking])
        for at, chunks in zip(lacking, brought, strict=True):
            found[at] = replace(found[at], chunks={**chunks, **found[at].chunks})
        if remember:
            for group, stored in zip(groups, found, strict=True):
                held = [items[key] for key in group.existing.state_keys]
                self.memory.remember(stored.record.key, snapshot_of(group.existing.parsed, held, stored))
        return found

    def replaced(self, groups: Sequence[Group]) -> Operation[Sequence[Mapping[ChunkId, Chunk]]]:
        """The chunks of all objects that these checkpoints have or had, replaced and removed ones included.

        Objects that are deleted by now are skipped.
        """
        keys = [dict.fromkeys(key for each in group.checkpoints for key in each.state_keys) for group in groups]
        asked = [*dict.fromkeys(key for some in keys for key in some)]
        if not asked:
            return [{} for _ in groups]
        answers = yield Batch(Get(key) for key in asked)
        there = {key: found.body for key, found in zip(asked, answers, strict=True) if found}
        return [self._chunks([key for key in some if key in there], there) for some in keys]

    def lacking(self, groups: Sequence[Group]) -> Operation[Sequence[Group]]:
        """Those whose writes refer to chunks that only a replaced or removed state of their checkpoint has."""
        found = []
        for group in groups:
            states = group.checkpoint.state_keys if group.checkpoint else []
            bodies = yield from self.bodies([*states, *(each.key for each in group.writes)])
            writes, chunks = read_all_writes(group.writes, bodies)
            if missing_chunks(writes, chunks, self._chunks(states, bodies)):
                found.append(group)
        return found

    def _chunks(self, keys: Iterable[str], bodies: Mapping[str, bytes]) -> dict[ChunkId, Chunk]:
        """The chunks in the objects with these keys, which hold checkpoints."""
        return {id_: chunk for key in keys for id_, chunk in read_items(bodies[key], self.named(key)).chunks.items()}

    def times(self, threads: Sequence[tuple[State, Sequence[Group]]]) -> Operation[Sequence[tuple[int | None, int]]]:
        """When each thread's first checkpoint was put (None without one), and when anything of it was last written."""
        last: list[list[WritesObject]] = []
        for _, groups in threads:
            latest = max((object_.modified for group in groups for object_ in group.current), default=0.0)
            writes = (object_ for group in groups for object_ in group.writes)
            last.append([object_ for object_ in writes if object_.modified >= latest - LATEST_SECONDS])
        noted = yield from self._noted_times([object_ for some in last for object_ in some])
        found = []
        for (state, groups), some in zip(threads, last, strict=True):
            put = [group.checkpoint.parsed.label.written_at for group in groups if group.checkpoint]
            created = [time for time in (state.ledger.created_at, *put) if time is not None]
            written = [noted[object_.key, object_.etag] for object_ in some]
            found.append((min(created, default=None), max([state.ledger.updated_at, *put, *written])))
        return found

    def _noted_times(self, objects_: Sequence[WritesObject]) -> Operation[Mapping[tuple[str, str], int]]:
        """When each object's latest write was made, as its writer noted it, by key and ETag."""
        known = self.memory.write_times([(each.key, each.etag) for each in objects_])
        unknown = [each for each in objects_ if (each.key, each.etag) not in known]
        bodies = yield from self.beginnings([each.key for each in unknown])
        for each, body in zip(unknown, bodies, strict=True):
            try:
                known[each.key, each.etag] = read_writes_place(body, each.name)[2]
            except CorruptCheckpoint:
                known[each.key, each.etag] = int(each.modified * 1_000_000)
        self.memory.remember_write_times(known)
        return known

    def bodies(self, keys: Sequence[str]) -> Operation[Mapping[str, bytes]]:
        if not keys:
            return {}
        answers = yield Batch(Get(key) for key in keys)
        return {key: self._there(found, key) for key, found in zip(keys, answers, strict=True)}

    def named(self, key: str) -> str:
        """An object of a thread, for a message. A very long id of a thread cannot be told from a key."""
        thread_id = segment_text(key.removeprefix(self.keys.folders).partition("/")[0])
        return f"object {key!r}" if thread_id is None else f"object {key!r} of thread {thread_id!r}"

    def _there(self, found: Found | None, key: str) -> bytes:
        if found is None:
            raise Vanished(self.named(key))
        return found.body

    def read(self, group: Group, bodies: Mapping[str, bytes], items: dict[str, Items]) -> StoredCheckpoint:
        """Build a checkpoint from the bodies of its objects, which are given by key.

        ``items`` has what was already parsed of them, by key, and takes in what is parsed here.
        """
        checkpoint = group.existing
        key = checkpoint.checkpoint_key
        head = read_head(bodies[checkpoint.key], key)
        held: list[Items] = []
        chunks: dict[ChunkId, Chunk] = {}
        for part in checkpoint.state_keys:
            if part not in items:
                items[part] = read_items(bodies[part], self.named(part))
            held.append(items[part])
            chunks.update(items[part].chunks)
        values = {}
        for pair in head.record.channels:
            if pair in head.stored:
                found = next((some.values[pair] for some in held if pair in some.values), None)
                if found is None:
                    raise damage(f"checkpoint {key.place}: the value of channel {pair[0]!r} is missing from the store")
                values[pair[0]] = found
        writes, brought = read_all_writes(group.writes, bodies)
        return StoredCheckpoint(head.record, values, tuple(writes), {**brought, **chunks})


def _state(thread_id: str, found: Found | None, *, damaged: bool) -> State:
    if found is None:
        return State(_NO_LEDGER, None, 0.0, 0)
    try:
        ledger = read_ledger(found.body, f"the ledger of thread {thread_id!r}")
    except CorruptCheckpoint:
        if not damaged:
            raise
        return State(_NO_LEDGER, found.etag, found.age, found.now, is_damaged=True)
    return State(ledger, found.etag, found.age, found.now)


def _etag(found: Found | None) -> str | None:
    return found.etag if found else None


def read_all_writes(
    objects_: Iterable[WritesObject], bodies: Mapping[str, bytes]
) -> tuple[list[WriteRecord], dict[ChunkId, Chunk]]:
    """The writes of one checkpoint in these objects, whose bodies are given by key.

    Of ordinary writes with one index, the first stored counts, by object number.
    """
    writes: dict[tuple[str, int], WriteRecord] = {}
    chunks: dict[ChunkId, Chunk] = {}
    for each in sorted(objects_, key=lambda each: each.parsed.number):
        held, brought = read_writes(bodies[each.key], f"object {each.name!r} of thread {each.thread_id!r}")
        for write in held:
            writes.setdefault((write.task_id, write.idx), write)
        chunks.update(brought)
    return list(writes.values()), chunks


def growing() -> Iterator[int]:
    """How many candidates to look at together until enough match: more each time, as matches turn out to be rare."""
    size = 16
    while True:
        yield size
        size = min(4 * size, 1024)


def entries_of(pages: Iterable[Page]) -> Iterable[Entry]:
    return (entry for page in pages for entry in page.entries)
