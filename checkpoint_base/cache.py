"""What a process remembers of what it stored, in order to send and compute less. Losing it costs time, never data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from threading import Lock

from checkpoint_base.codec import Encoding
from checkpoint_base.records import Chunk, ChunkId

MAX_ENCODING_BYTES = 64 * 1024 * 1024
MAX_CHUNKS = 262_144  # of about 8 KB in a long value; 36 MB if each thread has 30 of them, 110 MB if each has one


class RecentEncodings:
    """The last encoding of each channel, dropped from the least recently stored once they hold too many bytes."""

    def __init__(self) -> None:
        self._encodings: dict[tuple[str, str, str], Encoding] = {}
        self._bytes = 0
        self._lock = Lock()

    def get(self, thread_id: str, checkpoint_ns: str, channel: str) -> Encoding | None:
        return self._encodings.get((thread_id, checkpoint_ns, channel))

    def remember(self, thread_id: str, checkpoint_ns: str, channel: str, encoding: Encoding) -> None:
        if not encoding.data:
            return
        with self._lock:
            if old := self._encodings.pop((thread_id, checkpoint_ns, channel), None):
                self._bytes -= _size(old)
            if _size(encoding) > MAX_ENCODING_BYTES:
                return
            self._encodings[thread_id, checkpoint_ns, channel] = encoding
            self._bytes += _size(encoding)
            while self._bytes > MAX_ENCODING_BYTES:
                self._bytes -= _size(self._encodings.pop(next(iter(self._encodings))))


class SeenChunks:
    """Chunks that this process knows to be stored, at least until somebody prunes.

    Once there are too many, the threads that were used longest ago are forgotten first. Of a single thread that has too
    many, the chunks that were added last are remembered.
    """

    def __init__(self) -> None:
        self._seen: dict[str, set[ChunkId]] = {}
        self._count = 0
        self._lock = Lock()

    def unseen(self, thread_id: str, chunks: Mapping[ChunkId, Chunk]) -> Mapping[ChunkId, Chunk]:
        """Those of the chunks that are not known to be stored in the thread, in their order."""
        with self._lock:
            seen = self._seen.get(thread_id, ())
            return {id_: chunk for id_, chunk in chunks.items() if id_ not in seen}

    def add(self, thread_id: str, chunk_ids: Collection[ChunkId]) -> None:
        if not chunk_ids:
            return
        with self._lock:
            seen = self._seen.pop(thread_id, None) or set()
            self._count -= len(seen)
            seen.update(chunk_ids)
            if len(seen) > MAX_CHUNKS:
                seen = {*chunk_ids}
            self._count += len(seen)
            self._seen[thread_id] = seen
            while self._count > MAX_CHUNKS and len(self._seen) > 1:
                self._count -= len(self._seen.pop(next(iter(self._seen))))


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process remembers of one store; a saver shares it with its clones."""

    encodings: RecentEncodings = field(default_factory=RecentEncodings)
    seen: SeenChunks = field(default_factory=SeenChunks)


def _size(encoding: Encoding) -> int:
    # The bytes themselves, once more cut into chunks, and what the objects take however small the value.
    return 2 * len(encoding.data) + 1024
