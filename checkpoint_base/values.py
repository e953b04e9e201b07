"""Values as records and back, by the serializer and the codec of one saver. An error names the place of its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from checkpoint_base.codec import Codec, Encoding
from checkpoint_base.errors import CheckpointError, CorruptCheckpoint, SchemaMismatch, SerializationError, damage
from checkpoint_base.records import Chunk, ChunkId, ValueRecord


@dataclass(frozen=True, slots=True)
class Values:
    """How one saver writes values. ``what`` is the place of a value, in words; ``associated`` is as in `Codec`."""

    serde: SerializerProtocol
    codec: Codec

    def encode(self, value: Any, what: str, *, previous: Encoding | None = None, associated: bytes = b"") -> Encoding:
        type_, data = self.dump(value, what)
        try:
            return self.codec.encode(type_, data, previous=previous, associated=associated)
        except ValueError as error:
            raise SerializationError(f"{what} cannot be stored: {error}") from error

    def encode_whole(self, value: Any, what: str, *, associated: bytes) -> bytes:
        """Encode a value without chunks."""
        return self.codec.encode_whole(*self.dump(value, what), associated=associated)

    def decode(
        self, record: ValueRecord, chunks: Mapping[ChunkId, Chunk], what: str, *, associated: bytes = b""
    ) -> Any:
        return self.rebuild(self.join(record, chunks, what, associated=associated), what)

    def join(
        self, record: ValueRecord, chunks: Mapping[ChunkId, Chunk], what: str, *, associated: bytes = b""
    ) -> tuple[str, bytes]:
        """Return what `dump` returned."""
        try:
            return self.codec.decode(record, chunks, associated=associated)
        except CorruptCheckpoint as error:
            raise damage(f"{what}: {error}") from error
        except SchemaMismatch as error:
            raise SchemaMismatch(f"{what}: {error}") from error

    def rebuild(self, typed: tuple[str, bytes], what: str) -> Any:
        try:
            return self.serde.loads_typed(typed)
        except Exception as error:
            _raise_what_interrupted(lambda: self.serde.loads_typed(typed), error)
            if isinstance(error, CorruptCheckpoint):
                raise damage(f"{what}: {error}") from error
            if isinstance(error, SchemaMismatch):
                raise SchemaMismatch(f"{what}: {error}") from error
            hint = ": was it encrypted with another key?" if "+" in typed[0] and isinstance(error, ValueError) else ""
            raise SerializationError(f"{what} cannot be rebuilt from {typed[0]!r}: {error}{hint}") from error

    def dump(self, value: Any, what: str) -> tuple[str, bytes]:
        """Return the serializer's tag and bytes."""
        try:
            type_, data = self.serde.dumps_typed(value)
        except Exception as error:
            _raise_what_interrupted(lambda: self.serde.dumps_typed(value), error)
            raise SerializationError(f"{what} cannot be stored: {error}") from error
        return type_, bytes(data)


def _raise_what_interrupted(call: Callable[[], object], error: Exception) -> None:
    """Raise the origin of an error that ended a call by chance, as the time limit of a task does.

    The handler of a signal may raise it anywhere, so it looks like a failure of the value. But the same call succeeds
    when it is made again.
    """
    try:
        call()
    except Exception:  # noqa: BLE001 - whatever it is, the value is at fault
        return
    while isinstance(error, CheckpointError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    raise error
