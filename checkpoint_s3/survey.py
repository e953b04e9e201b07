"""Finds out which objects a thread has: lists them, and asks the thread's ledger which of them are to be seen."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from checkpoint_base.errors import CorruptCheckpoint
from checkpoint_base.keys import NamespaceKey
from checkpoint_base.per_process import PerProcess
from checkpoint_base.transport import Operation
from checkpoint_s3.format import Ledger, read_ledger
from checkpoint_s3.groups import CheckpointObject, Group, ThreadObject, grouped, objects
from checkpoint_s3.layout import Keys, id_segment, segment_text, thread_segment
from checkpoint_s3.memory import LEASE, Memory, Thread
from checkpoint_s3.transport import PAGE, Batch, Entry, Found, Get, List, Page, Put

LISTING_SECONDS = 60
"""A listing shows the bucket as of the time in its answer, or of less than this long before."""

NEWEST = 32
"""Names listed to find one checkpoint: enough for the writes of 30 tasks. Each takes the client 50 us."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)

_NO_LEDGER = Ledger()


@dataclass(frozen=True, slots=True)
class ReadLedger:
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
class Surveyor:
    """Lists the objects of threads in one bucket below one prefix.

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

    def parsed_ledger(
        self, thread_id: str, found: Found | None, asked_at: float, *, accept_damaged: bool = False
    ) -> ReadLedger:
        """Return a thread's ledger from the answer to a `Get` of it, and renew what is known of the thread.

        Args:
            thread_id: the thread.
            found: the answer.
            asked_at: when the ledger was asked for.
            accept_damaged: whether to accept a ledger that cannot be read.

        Raises:
            CorruptCheckpoint: the ledger cannot be read, and ``accept_damaged`` is false.
            SchemaMismatch: it has a later format.
        """
        read = _parsed(thread_id, found, accept_damaged=accept_damaged)
        if not read.is_damaged:
            self.memory.renew(thread_id, read.ledger, asked_at, self.grace)
        return read

    def ledger(self, thread_id: str) -> Operation[ReadLedger]:
        asked_at = self.elapsed()
        found = yield Get(self.keys.ledger(thread_id))
        return self.parsed_ledger(thread_id, found, asked_at)

    def renew(self, thread_id: str) -> Operation[None]:
        """Make sure that nothing known of a thread can have been deleted physically. This rarely takes a request."""
        if self.elapsed() >= self.memory.thread(thread_id).fresh_until:
            yield from self.ledger(thread_id)

    def is_overtaken(self, thread_id: str, known: Thread) -> Operation[bool]:
        """Whether something may have been deleted physically since a thread was as ``known`` (see `Memory.known`).

        A process may be suspended at any time, and a request may be repeated for a while. This rarely takes a request.
        """
        if self.elapsed() < known.fresh_until + self.grace * (1 - LEASE) or self.grace == 0:
            return False
        read = yield from self.ledger(thread_id)
        return read.ledger.nonce != known.nonce

    # Listings

    def objects(self, thread_id: str, pages: Iterable[Page]) -> Iterator[ThreadObject]:
        """The objects of a thread on these pages of a listing."""
        return objects(thread_id, self.keys.folder(thread_id), entries_of(pages))

    def find(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[Group | None]:
        """One checkpoint of a namespace, or its latest: usually one request."""
        call = List(self.keys.space(key, checkpoint_id), limit=NEWEST)
        groups = yield from self.first_groups(key.thread_id, call, enough=1)
        return next((group for group in groups if group.visible), None)

    def first_groups(self, thread_id: str, call: List, *, enough: int | None = None) -> Operation[Sequence[Group]]:
        """The first checkpoints of a listing within a namespace until enough of them are visible; all, if it is None.

        Later pages are larger than the first, up to the largest that there are.
        """
        read, page = yield from self._first_page(thread_id, call)
        found = [*self.objects(thread_id, [page])]
        limit = call.limit
        while page.last is not None:
            if enough is not None and (groups := _enough(found, read.ledger, enough)) is not None:
                return groups
            limit = min(4 * limit, PAGE)
            page = yield List(call.prefix, after=page.last, limit=limit)
            found += self.objects(thread_id, [page])
        return grouped(found, read.ledger)

    def _first_page(self, thread_id: str, call: List) -> Operation[tuple[ReadLedger, Page]]:
        """The first page of a listing within a namespace, with the thread's ledger."""
        asked_at = self.elapsed()
        found, page = yield Batch((Get(self.keys.ledger(thread_id)), call))
        read = self.parsed_ledger(thread_id, found, asked_at)
        if read.may_be_newer_than(page):
            # A copy is complete before the ledger reveals it, but the listing may be older than that. And if the ledger
            # hides the newest checkpoint of the listing, a newer one may have come that the listing does not have yet.
            # While the newest one is visible, ledger and listing fit together.
            groups = grouped(self.objects(thread_id, [page]), read.ledger)
            newest = next((group for group in groups if group.checkpoints), None)
            if read.ledger.veiled or (newest is not None and not newest.visible):
                page = yield call
        if (yield from self._outdated({thread_id: (read, [page])}, asked_at)):
            return (yield from self._first_page(thread_id, call))
        return read, page

    def _outdated(
        self, listed: Mapping[str, tuple[ReadLedger, Sequence[Page]]], asked_at: float
    ) -> Operation[list[str]]:
        """The threads that must be listed again, because a copy may have begun after their ledgers were asked for.

        ``listed`` has the ledger and the listing of each thread by its id. This rarely takes a request.
        """
        doubtful = [
            thread_id
            for thread_id, (_, pages) in listed.items()
            if self._may_have_part_of_a_copy(thread_id, pages, asked_at)
        ]
        if not doubtful:
            return []
        latest = yield Batch(Get(self.keys.ledger(thread_id)) for thread_id in doubtful)
        etags = [found.etag if found else None for found in latest]
        return [thread_id for thread_id, etag in zip(doubtful, etags, strict=True) if etag != listed[thread_id][0].etag]

    def _may_have_part_of_a_copy(self, thread_id: str, pages: Iterable[Page], asked_at: float) -> bool:
        """Whether a listing may show what a copy has stored since the ledger was asked for, which hides it by now.

        Of what was stored that lately, copies are told by their names.
        """
        seconds = self.elapsed() - asked_at + 1  # servers tell whole seconds
        recent = (entry for page in pages for entry in page.entries if entry.age(page.now) <= seconds)
        return any(
            isinstance(object_, CheckpointObject) and object_.parsed.label.is_copy
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
        self, thread_ids: Sequence[str], *, accept_damaged: bool = False
    ) -> Operation[Sequence[tuple[ReadLedger, list[Group]]]]:
        """The ledgers of these threads, and all their objects as listed; ``accept_damaged`` as in `parsed_ledger`."""
        asked_at = self.elapsed()
        answers = yield Batch(Get(self.keys.ledger(thread_id)) for thread_id in thread_ids)
        ledgers = [
            self.parsed_ledger(thread_id, found, asked_at, accept_damaged=accept_damaged)
            for thread_id, found in zip(thread_ids, answers, strict=True)
        ]
        # After the ledgers, because a copy is complete before its ledger reveals it.
        listed = yield from self.everything(self.keys.folder(thread_id) for thread_id in thread_ids)
        threads = dict(zip(thread_ids, zip(ledgers, listed, strict=True), strict=True))
        surveyed = {
            thread_id: (replace(read, now=pages[0].now), grouped(self.objects(thread_id, pages), read.ledger))
            for thread_id, (read, pages) in threads.items()
        }
        if outdated := (yield from self._outdated(threads, asked_at)):
            again = yield from self.survey(outdated, accept_damaged=accept_damaged)
            surveyed |= dict(zip(outdated, again, strict=True))
        return [surveyed[thread_id] for thread_id in thread_ids]

    def survey_newest(self, thread_id: str, below: str | None, enough: int) -> Operation[Sequence[Group]]:
        """All objects of a thread; in its root namespace, from ``below`` on and until enough checkpoints are visible.

        A long thread usually has most of its objects in the root namespace, and a listing needs a page of them.
        """
        folder, root = self.keys.folder(thread_id), self.keys.space(NamespaceKey(thread_id, ""))
        asked_at = self.elapsed()
        read = yield from self.ledger(thread_id)
        first = yield List(folder)  # after the ledger, as in `survey`
        if first.last is None:
            pages, groups = [first], grouped(self.objects(thread_id, [first]), read.ledger)
        elif first.entries[0].key.startswith(root):
            pages, groups = yield from self._newest_of_root(thread_id, read, below, enough)
        else:  # other namespaces come first
            ((_, groups),) = yield from self.survey([thread_id])
            return groups
        if (yield from self._outdated({thread_id: (read, pages)}, asked_at)):
            ((_, groups),) = yield from self.survey([thread_id])
        return groups

    def _newest_of_root(
        self, thread_id: str, read: ReadLedger, below: str | None, enough: int
    ) -> Operation[tuple[list[Page], list[Group]]]:
        """`survey_newest` for a thread whose root namespace comes first in a listing; with the pages listed."""
        folder, root = self.keys.folder(thread_id), self.keys.space(NamespaceKey(thread_id, ""))
        # Another namespace may have a checkpoint with the id ``below``, too: the root namespace's comes last.
        start = f"{root}{id_segment(below)}" if below else ""
        page, rest = yield Batch((List(root, after=start), List(folder, after=f"{root}~")))
        others = [rest]
        while others[-1].last is not None:
            others.append((yield List(folder, after=others[-1].last)))
        pages, found = [page], [*self.objects(thread_id, [page])]
        while pages[-1].last is not None:
            if (groups := _enough(found, read.ledger, enough)) is not None:
                break
            pages.append((yield List(root, after=pages[-1].last)))
            found += self.objects(thread_id, pages[-1:])
        else:
            groups = grouped(found, read.ledger)
        return [*pages, *others], [*groups, *grouped(self.objects(thread_id, others), read.ledger)]

    def survey_all(self, *, accept_damaged: bool = False) -> Operation[Mapping[str, tuple[ReadLedger, list[Group]]]]:
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
                read = replace(_parsed(id_, found, accept_damaged=accept_damaged), now=pages[-1].now)
                listed = objects(id_, f"{self.keys.folders}{segment}/", by_segment[segment])
                surveyed[id_] = read, grouped(listed, read.ledger)
            else:  # changed meanwhile: it may hide what was listed, or reveal what the listing has only in part
                changed.append(id_)
        again = yield from self.survey(changed, accept_damaged=accept_damaged)
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


def _parsed(thread_id: str, found: Found | None, *, accept_damaged: bool) -> ReadLedger:
    if found is None:
        return ReadLedger(_NO_LEDGER, None, 0.0, 0)
    try:
        ledger = read_ledger(found.body, f"the ledger of thread {thread_id!r}")
    except CorruptCheckpoint:
        if not accept_damaged:
            raise
        return ReadLedger(_NO_LEDGER, found.etag, found.age, found.now, is_damaged=True)
    return ReadLedger(ledger, found.etag, found.age, found.now)


def _enough(found: Iterable[ThreadObject], ledger: Ledger, wanted: int) -> list[Group] | None:
    """The checkpoints of a listing so far but the last, which may go on; None if fewer than ``wanted`` are visible."""
    if sum(isinstance(object_, CheckpointObject) for object_ in found) < wanted:
        return None  # grouping them all for each page takes long
    groups = grouped(found, ledger)[:-1]
    return groups if sum(group.visible is not None for group in groups) >= wanted else None


def entries_of(pages: Iterable[Page]) -> Iterable[Entry]:
    return (entry for page in pages for entry in page.entries)
