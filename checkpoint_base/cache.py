"""What one process remembers of what it stored, to send and compute less. Losing it costs time, never data."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from checkpoint_base.codec import Encoding
from checkpoint_base.records import ChunkId

MAX_ENCODING_BYTES = 64 * 1024 * 1024
MAX_CHUNKS = 65_536


class RecentEncodings:
    """The last encoding of each channel, dropped from the least recently used once they hold too many bytes."""

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
            self._encodings[thread_id, checkpoint_ns, channel] = encoding
            self._bytes += _size(encoding)
            while self._bytes > MAX_ENCODING_BYTES:
                self._bytes -= _size(self._encodings.pop(next(iter(self._encodings))))


class SeenChunks:
    """Chunks that this process knows to be stored, at least until somebody prunes; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ChunkId], None] = {}
        self._lock = Lock()

    def __contains__(self, chunk: tuple[str, ChunkId]) -> bool:
        return chunk in self._seen

    def add(self, thread_id: str, chunk_ids: Iterable[ChunkId]) -> None:
        with self._lock:
            for chunk_id in chunk_ids:
                self._seen.pop((thread_id, chunk_id), None)
                self._seen[thread_id, chunk_id] = None
            while len(self._seen) > MAX_CHUNKS:
                del self._seen[next(iter(self._seen))]


def _size(encoding: Encoding) -> int:
    # The bytes themselves, and once more cut into chunks.
    return 2 * len(encoding.data)
