"""What a process remembers of the threads that it works on, so that it reads and sends less."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.records import Chunk, ChunkId
from checkpoint_s3.format import Head, checkpoint_digest, chunk_size
from checkpoint_s3.stack import Snapshot

K = TypeVar("K")
V = TypeVar("V")

MEMORY_BYTES = 64 * 1024 * 1024
DRAFT_BYTES = 4 * 1024 * 1024
SNAPSHOTS = 4
HEADS = 2048
WRITE_TIMES = 16384
THREADS = 4096
SPACES = 4096
"""The most namespaces that are remembered, however little they hold. Those that were used last stay."""


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


class Memory:
    """What one process knows of the threads that it has worked on lately. Losing it costs requests, never data."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._threads: OrderedDict[str, Thread] = OrderedDict()
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._write_times: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._size = 0

    def thread(self, thread_id: str) -> Thread:
        with self._lock:
            thread = self._threads.setdefault(thread_id, Thread())
            self._threads.move_to_end(thread_id)
            if len(self._threads) > THREADS:
                self._drop(next(iter(self._threads)))
            return thread

    def forget(self, thread_id: str) -> None:
        """Forget all checkpoints and writes of a thread."""
        with self._lock:
            if thread := self._threads.get(thread_id):
                self._drop_spaces(thread_id, thread)

    def hide(self, thread_id: str, unseen: frozenset[bytes]) -> None:
        """Forget what a thread's ledger hides."""
        thread = self.thread(thread_id)
        with self._lock:
            thread.unseen = unseen
            for space in thread.spaces.values():
                space.written.clear()
                hidden = [
                    id_
                    for id_, snapshot in space.snapshots.items()
                    if checkpoint_digest(snapshot.name.text()) in unseen
                ]
                for id_ in hidden:
                    del space.snapshots[id_]

    def snapshot(self, key: CheckpointKey) -> Snapshot | None:
        space = self.thread(key.thread_id).spaces.get(key.checkpoint_ns)
        return space.snapshots.get(key.checkpoint_id) if space else None

    def space(self, key: NamespaceKey) -> Space:
        thread = self.thread(key.thread_id)
        with self._lock:
            space = thread.spaces.setdefault(key.checkpoint_ns, Space())
        self._weigh(key)
        return space

    def remember(self, key: CheckpointKey, snapshot: Snapshot) -> None:
        thread, place = self.thread(key.thread_id), key.namespace
        space = self.space(place)
        with self._lock:
            if checkpoint_digest(snapshot.name.text()) in thread.unseen:
                return  # removed while it was being read
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

    def heads(self, keys: Collection[str]) -> dict[str, Head]:
        """The known heads of the objects with these keys. They stay valid, because a key never gets another object."""
        with self._lock:
            return {key: self._heads[key] for key in keys if key in self._heads}

    def write_times(self, objects: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The known times of the latest write in objects, which are given by key and ETag."""
        with self._lock:
            return {place: self._write_times[place] for place in objects if place in self._write_times}

    def remember_heads(self, heads: Mapping[str, Head]) -> None:
        with self._lock:
            _keep(self._heads, heads, HEADS)

    def remember_write_times(self, times: Mapping[tuple[str, str], int]) -> None:
        with self._lock:
            _keep(self._write_times, times, WRITE_TIMES)

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

    def _drop(self, thread_id: str) -> None:
        """Forget a thread; the lock is held."""
        self._drop_spaces(thread_id, self._threads.pop(thread_id))

    def _drop_spaces(self, thread_id: str, thread: Thread) -> None:
        for checkpoint_ns in thread.spaces:
            self._size -= self._sizes.pop((thread_id, checkpoint_ns), 0)
        thread.spaces.clear()


def _keep(known: OrderedDict[K, V], more: Mapping[K, V], most: int) -> None:
    """Add ``more`` to what is known, and forget the oldest beyond ``most``."""
    for key, value in more.items():
        known[key] = value
        known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)
