"""Fetches the chunks that an answer had no room for, and groups what is sent into pieces."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from checkpoint_base.records import Chunk, ChunkId
from checkpoint_base.transport import Operation, batches
from checkpoint_redis import scripts
from checkpoint_redis.format import FoundChunks
from checkpoint_redis.transport import Call

T = TypeVar("T")

KeyOf: TypeAlias = Callable[[str], str]

PIECE_BYTES = 1024 * 1024
"""No call carries, and no answer holds, much more of values than this. Redis serves other clients in between."""

FIELDS_AT_ONCE = 32
"""How many chunks one call fetches, at most."""

ATTEMPTS = 20
"""How often an operation of several requests is tried when the thread keeps changing in between."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Chunks of a thread, and the roots below which an answer may have left some out for lack of room."""

    thread_id: str
    roots: Iterable[ChunkId]
    chunks: FoundChunks


def complete(wanted: Sequence[Incomplete], key_of: KeyOf) -> Operation[set[str]]:
    """Fetch the chunks that are not there yet, from the roots down, then the bodies of large leaves.

    Takes a request for each level and one for the bodies, however many threads there are. Returns the threads of
    which something was not found. ``key_of`` gives the key of a thread.
    """

    def call(each: Incomplete, kind: bytes, ids: Iterable[ChunkId]) -> Call:
        return Call(scripts.FIELDS, (key_of(each.thread_id),), [kind + id_ for id_ in ids])

    lacking: set[str] = set()
    levels = [{*each.roots} for each in wanted]
    passed: list[set[ChunkId]] = [set() for _ in wanted]
    while any(levels):
        asked = [
            (each, piece)
            for each, level in zip(wanted, levels, strict=True)
            for piece in batches([id_ for id_ in level if not each.chunks.knows(id_)], FIELDS_AT_ONCE)
        ]
        replies = (yield [call(each, b"#", piece) for each, piece in asked]) if asked else ()
        for (each, piece), entries in zip(asked, replies, strict=True):
            for id_, entry in zip(piece, entries, strict=True):
                if entry is None:
                    lacking.add(each.thread_id)
                else:
                    each.chunks.add(id_, entry)
        for at, each in enumerate(wanted):
            passed[at] |= levels[at]
            nodes = [each.chunks.chunks[id_] for id_ in levels[at] if id_ in each.chunks.chunks]
            levels[at] = {id_ for node in nodes for id_ in node.children} - passed[at]
    large = [(each, piece) for each in wanted for piece in pieces(each.chunks.large.items(), FIELDS_AT_ONCE)]
    replies = (yield [call(each, b"+", piece) for each, piece in large]) if large else ()
    for (each, piece), bodies in zip(large, replies, strict=True):
        for id_, body in zip(piece, bodies, strict=True):
            if body is None:
                lacking.add(each.thread_id)
            else:
                each.chunks.chunks[id_] = Chunk(id_, body)
            each.chunks.large.pop(id_, None)
    return lacking


def pieces(sizes: Iterable[tuple[T, int]], most: int = sys.maxsize) -> Iterator[Sequence[T]]:
    """Group items, in order, so that a group holds about `PIECE_BYTES`; ``most`` items at the most."""
    piece: list[T] = []
    bytes_ = 0
    for item, size in sizes:
        piece.append(item)
        bytes_ += size
        if bytes_ >= PIECE_BYTES or len(piece) == most:
            yield piece
            piece, bytes_ = [], 0
    if piece:
        yield piece
