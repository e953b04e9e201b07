"""What a process remembers of the threads that it works on, so that it reads and sends less."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Generic, TypeVar

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.records import Chunk, ChunkId
from checkpoint_s3.format import Head, Ledger, chunk_size, name_digest
from checkpoint_s3.stack import Snapshot

K = TypeVar("K")
V = TypeVar("V")

MEMORY_BYTES = 64 * 1024 * 1024
DRAFT_BYTES = 4 * 1024 * 1024
SNAPSHOTS = 4
HEADS_BYTES = 16 * 1024 * 1024
WRITE_TIMES = 16384
THREADS = 4096
SPACES = 4096
"""The most namespaces that are remembered, however little they hold. Those that were used last stay."""

LEASE = 1 / 6
"""The part of the grace period for which what is known of a thread is relied on. The rest is for requests to arrive."""


@dataclass(slots=True)
class Space:
    """What is remembered of one namespace.

    ``snapshots`` are the last checkpoints by id, and ``drafts`` the chunks that writes brought. ``written`` has, by
    checkpoint id and task id, the next number for an object of ordinary writes, and the indices that are stored.
    """

    snapshots: OrderedDict[str, Snapshot] = field(default_factory=OrderedDict)
    drafts: dict[ChunkId, Chunk] = field(default_factory=dict)
    draft_bytes: int = 0
    written: dict[tuple[str, str], tuple[int, set[int]]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        # The last checkpoints share their older objects, unless each step has replaced everything.
        segments = {id(segment): segment.size for known in self.snapshots.values() for segment in known.segments}
        return self.draft_bytes + sum(segments.values())

    def forget(self, hidden: frozenset[bytes]) -> None:
        """Forget which writes are stored, and the checkpoints with these digests."""
        self.written.clear()
        going = [id_ for id_, known in self.snapshots.items() if name_digest(known.name.text()) in hidden]
        for id_ in going:
            del self.snapshots[id_]


@dataclass(slots=True)
class Thread:
    """What is remembered of a thread, and until when (``fresh_until``) none of it can have been deleted physically.

    ``nonce`` and ``unseen`` are those of its ledger, which was last asked for at ``asked_at``.
    """

    spaces: dict[str, Space] = field(default_factory=dict)
    fresh_until: float = 0.0
    asked_at: float = 0.0
    nonce: bytes | None = None
    unseen: frozenset[bytes] = frozenset()
    is_named: bool = False


def _head_bytes(head: Head) -> int:
    """How much memory a head takes, roughly: Python's objects take more than what they hold."""
    record = head.record
    texts = sum(len(channel) + len(version) for channel, version in record.channels)
    return 1200 + len(record.header) + len(record.terms) + texts + 280 * len(record.channels)


class Recent(Generic[K, V]):
    """Facts that stay true, of which the last are remembered: as many as weigh ``most`` together."""

    def __init__(self, most: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._lock = Lock()
        self._facts: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._most = most
        self._weigh = weigh

    def known(self, keys: Iterable[K]) -> dict[K, V]:
        """What is remembered of these keys."""
        with self._lock:
            return {key: self._facts[key] for key in keys if key in self._facts}

    def remember(self, facts: Mapping[K, V]) -> None:
        with self._lock:
            for key, fact in facts.items():
                if key in self._facts:
                    self._weight -= self._weigh(self._facts[key])
                self._facts[key] = fact
                self._facts.move_to_end(key)
                self._weight += self._weigh(fact)
                while self._weight > self._most:
                    _, oldest = self._facts.popitem(last=False)
                    self._weight -= self._weigh(oldest)


class Memory:
    """What one process knows of the threads that it has worked on lately. Losing it costs requests, never data.

    ``heads`` are by key, which never gets another object. ``write_times`` are those of the latest write in an object,
    by its key and ETag.
    """

    def __init__(self) -> None:
        self.heads = Recent[str, Head](HEADS_BYTES, _head_bytes)
        self.write_times = Recent[tuple[str, str], int](WRITE_TIMES)
        self._lock = Lock()
        self._threads: OrderedDict[str, Thread] = OrderedDict()
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._size = 0

    def thread(self, thread_id: str) -> Thread:
        with self._lock:
            return self._thread(thread_id)

    def known(self, thread_id: str) -> Thread:
        """A copy of what a thread's ledger has told so far. It shares its ``spaces`` with the thread."""
        with self._lock:
            return replace(self._thread(thread_id))

    def renew(self, thread_id: str, ledger: Ledger, asked_at: float, grace: float) -> None:
        """Take in a thread's ledger, and forget what it hides, unless one that was asked for later is known already.

        Answers may arrive in any order, at several callers at once: each is taken in as a whole.

        Args:
            thread_id: the thread.
            ledger: its ledger.
            asked_at: when the ledger was asked for.
            grace: seconds for which hidden objects stay stored.
        """
        with self._lock:
            thread = self._thread(thread_id)
            if asked_at < thread.asked_at:
                return
            if ledger.nonce != thread.nonce:
                if asked_at >= thread.asked_at + grace:
                    # What was removed since the last look may already be deleted, and no longer be in the ledger.
                    self._forget_spaces(thread_id, thread)
                thread.nonce, thread.unseen = ledger.nonce, ledger.unseen
                for space in thread.spaces.values():
                    space.forget(thread.unseen)
            thread.asked_at, thread.fresh_until = asked_at, asked_at + grace * LEASE

    def snapshot(self, key: CheckpointKey) -> Snapshot | None:
        space = self.thread(key.thread_id).spaces.get(key.checkpoint_ns)
        return space.snapshots.get(key.checkpoint_id) if space else None

    def space(self, key: NamespaceKey) -> Space:
        thread = self.thread(key.thread_id)
        with self._lock:
            space = thread.spaces.setdefault(key.checkpoint_ns, Space())
        self._weigh(key)
        return space

    def remember(self, key: CheckpointKey, snapshot: Snapshot, nonce: bytes | None) -> None:
        """Keep a checkpoint for the next one, unless the thread's ledger is no longer the one with this ``nonce``.

        What a process has read or stored before it was suspended may have been removed since, and deleted, so that not
        even the ledger tells. Other calls may already have noticed.
        """
        thread, place = self.thread(key.thread_id), key.namespace
        space = self.space(place)
        with self._lock:
            if thread.nonce != nonce or name_digest(snapshot.name.text()) in thread.unseen:
                return
            space.snapshots[key.checkpoint_id] = snapshot
            space.snapshots.move_to_end(key.checkpoint_id)
            while len(space.snapshots) > SNAPSHOTS:
                space.snapshots.popitem(last=False)
            space.written = {place: known for place, known in [*space.written.items()] if place[0] in space.snapshots}
        self._weigh(place)

    def remember_writes(self, key: CheckpointKey, chunks: Mapping[ChunkId, Chunk]) -> None:
        """Keep the chunks that writes brought: the next checkpoint of the namespace is likely to need them."""
        place = key.namespace
        space = self.space(place)
        brought = sum(map(chunk_size, chunks.values()))
        with self._lock:
            if space.draft_bytes + brought > DRAFT_BYTES:
                space.drafts, space.draft_bytes = {}, 0
            space.drafts.update(chunks)
            space.draft_bytes += brought
        self._weigh(place)

    def drafts(self, key: NamespaceKey) -> Mapping[ChunkId, Chunk]:
        space = self.space(key)
        with self._lock:
            return dict(space.drafts)

    def _thread(self, thread_id: str) -> Thread:
        """What is remembered of a thread, which now was used last; the lock is held."""
        thread = self._threads.setdefault(thread_id, Thread())
        self._threads.move_to_end(thread_id)
        if len(self._threads) > THREADS:
            self._forget_spaces(*self._threads.popitem(last=False))
        return thread

    def _weigh(self, key: NamespaceKey) -> None:
        """Note a namespace's size, and that it was just used. Forget the least recently used ones beyond the limits."""
        place = (key.thread_id, key.checkpoint_ns)
        with self._lock:
            thread = self._threads.get(key.thread_id)
            space = thread.spaces.get(key.checkpoint_ns) if thread else None
            if space is None:
                return
            self._size += space.size - self._sizes.get(place, 0)
            self._sizes[place] = space.size
            self._sizes.move_to_end(place)
            while len(self._sizes) > 1 and (self._size > MEMORY_BYTES or len(self._sizes) > SPACES):
                (thread_id, checkpoint_ns), size = self._sizes.popitem(last=False)
                self._size -= size
                self._threads[thread_id].spaces.pop(checkpoint_ns, None)

    def _forget_spaces(self, thread_id: str, thread: Thread) -> None:
        """Forget what a thread's namespaces hold; the lock is held."""
        for checkpoint_ns in thread.spaces:
            self._size -= self._sizes.pop((thread_id, checkpoint_ns), 0)
        thread.spaces.clear()
