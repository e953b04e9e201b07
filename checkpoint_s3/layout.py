"""The names of objects: how ids become keys that sort newest first, and what a key tells without reading its object.

`docs/s3.md` describes them for readers in other languages.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote
from uuid import UUID

from checkpoint_base.keys import NamespaceKey

MAX_KEY_BYTES = 1024
MAX_PREFIX_BYTES = 128

MAX_THREAD_CHARACTERS = 96
"""A thread id whose quoted form is longer is replaced by its digest."""

MAX_NAMESPACE_CHARACTERS = 48
"""A namespace whose quoted form is longer is replaced by its digest."""

SALT_BYTES = 3
"""The end of a label's tag, which a copy changes."""

_LEDGER = "!"

Kind: TypeAlias = Literal["w", "x"]
"""Ordinary writes (w), or a special write (x), which a newer one replaces."""

# In the order of ASCII, so that encoded bytes sort as the bytes do.
_SORTED = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_USUAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_SORTED = str.maketrans(_USUAL, _SORTED)
_TO_USUAL = str.maketrans(_SORTED, _USUAL)
_COMPLEMENT = bytes(range(255, -1, -1))
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_TIME = (1 << 56) - 1

_CHECKPOINT = re.compile(r"c([\w-]{16})((?:\.[~\w-]+)*)", re.ASCII)
_MARKER = re.compile(r"([\w-]+)\.([\w-]{22})\.[\w-]+", re.ASCII)
_WRITES = re.compile(r"([wx])([\w-]{22})\.(\d+)", re.ASCII)


def text64(data: bytes) -> str:
    """Base 64 without padding, in an alphabet that keeps the order of the bytes."""
    return b64encode(data).decode().rstrip("=").translate(_TO_SORTED)


def bytes64(text: str) -> bytes:
    """Undo `text64`."""
    return b64decode(text.translate(_TO_USUAL) + "=" * (-len(text) % 4), validate=True)


@dataclass(frozen=True, slots=True)
class Label:
    """Identifies an object that holds a checkpoint, by the checkpoint's id and a tag that is unique among its objects.

    The tag consists of the complement of the time of writing in microseconds (7 bytes), a digest of the run id (2
    bytes), and a digest of the content (3 bytes), in which the last bit says whether the object is a copy.
    """

    checkpoint_id: str
    tag: bytes

    @property
    def written_at(self) -> int:
        return _MAX_TIME - int.from_bytes(self.tag[:7], "big")

    @property
    def run(self) -> bytes:
        return self.tag[7:9]

    @property
    def is_copy(self) -> bool:
        return bool(self.tag[-1] & 1)

    def copied(self, salt: bytes) -> Label:
        """The label of a copy; ``salt``, of `SALT_BYTES`, tells it from other copies."""
        mixed = bytes(one ^ other for one, other in zip(self.tag[-SALT_BYTES:], salt, strict=True))
        return Label(self.checkpoint_id, self.tag[:-SALT_BYTES] + mixed[:-1] + bytes([mixed[-1] | 1]))

    def text(self) -> str:
        if _UUID.fullmatch(self.checkpoint_id):
            return text64(UUID(self.checkpoint_id).bytes) + text64(self.tag)
        return f"~{text64(self.tag)}{text64(self.checkpoint_id.encode())}"

    @classmethod
    def parse(cls, text: str) -> Label:
        if text.startswith("~"):
            return cls(bytes64(text[17:]).decode(), bytes64(text[1:17]))
        return cls(str(UUID(bytes=bytes64(text[:22]))), bytes64(text[22:]))


def label_of(checkpoint_id: str, written_at: int, run_id: str | None, content: bytes) -> Label:
    time = (_MAX_TIME - min(max(written_at, 0), _MAX_TIME)).to_bytes(7, "big")
    digest = blake2b(content, digest_size=SALT_BYTES).digest()
    return Label(checkpoint_id, time + run_digest(run_id) + digest[:-1] + bytes([digest[-1] & 0xFE]))


def run_digest(run_id: str | None) -> bytes:
    return bytes(2) if run_id is None else blake2b(run_id.encode(), digest_size=2).digest()


@dataclass(frozen=True, slots=True)
class CheckpointName:
    """The name of a checkpoint's object, which also names the older objects that hold the rest of its state.

    It determines their names in full: each lists the objects that come after itself in ``older``.
    """

    space: str
    label: Label
    older: tuple[Label, ...]

    @property
    def checkpoint_id(self) -> str:
        return self.label.checkpoint_id

    def text(self) -> str:
        references = "".join(f".{label.text()}" for label in self.older)
        return f"{self.space}{id_segment(self.checkpoint_id)}/c{text64(self.label.tag)}{references}"

    def stack(self) -> tuple[CheckpointName, ...]:
        """Return the names of this object and of the older ones, newest first."""
        return (self, *(CheckpointName(self.space, label, self.older[at:]) for at, label in enumerate(self.older, 1)))


@dataclass(frozen=True, slots=True)
class WritesName:
    """The name of an object with writes of one task.

    ``number`` counts the objects with ordinary writes of the task from 0; for a special write it is minus its index.
    """

    space: str
    checkpoint_id: str
    kind: Kind
    task: str
    number: int

    def text(self) -> str:
        return f"{self.space}{id_segment(self.checkpoint_id)}/{self.kind}{self.task}.{self.number}"


def parse_name(text: str) -> CheckpointName | WritesName | None:
    """Parse a name below a thread's folder; None if it is not that of a checkpoint or of writes."""
    space, _, rest = text.partition("/")
    segment, _, last = rest.partition("/")
    try:
        if found := _CHECKPOINT.fullmatch(last):
            older = tuple(Label.parse(reference) for reference in found.group(2).split(".")[1:])
            return CheckpointName(f"{space}/", Label(segment_id(segment), bytes64(found.group(1))), older)
        if found := _WRITES.fullmatch(last):
            kind: Kind = "w" if found.group(1) == "w" else "x"
            return WritesName(f"{space}/", segment_id(segment), kind, found.group(2), int(found.group(3)))
    except ValueError:  # not written by this package
        return None
    return None


def parse_marker(text: str) -> tuple[str, str] | None:
    """Return the checkpoint id and the task digest in a marker's name; None if it is not a marker's name."""
    try:
        found = _MARKER.fullmatch(text)
        return (segment_id(found.group(1)), found.group(2)) if found else None
    except ValueError:  # not written by this package
        return None


def id_segment(checkpoint_id: str) -> str:
    """Encode a checkpoint id so that greater ones sort first: its bytes complemented, and then a byte 255."""
    return text64(checkpoint_id.encode().translate(_COMPLEMENT) + b"\xff")


def segment_id(segment: str) -> str:
    """Undo `id_segment`."""
    return bytes64(segment)[:-1].translate(_COMPLEMENT).decode()


def task_digest(task_id: str) -> str:
    return text64(blake2b(task_id.encode(), digest_size=16).digest())


def nonce() -> str:
    """Return a random part of a name. No name is used twice, so a deletion cannot hit a newer object by mistake.

    A condition would ensure the same, but some stores ignore conditions of deletions.
    """
    return text64(os.urandom(9))


def _segment(text: str, longest: int) -> str:
    quoted = quote(text, safe="")
    if len(quoted) <= longest:
        return f"={quoted}"
    return f"~{text64(blake2b(text.encode(), digest_size=20).digest())}"


def thread_segment(thread_id: str) -> str:
    return _segment(thread_id, MAX_THREAD_CHARACTERS)


def space_segment(checkpoint_ns: str) -> str:
    """Return a namespace's folder within that of its thread, ending with a slash."""
    return _segment(checkpoint_ns, MAX_NAMESPACE_CHARACTERS) + "/"


ROOT = space_segment("")
"""The folder of the root namespace."""


def segment_text(segment: str) -> str | None:
    """Return the thread id or namespace that a segment spells out; None if it is only a digest."""
    return unquote(segment[1:].removesuffix("/")) if segment.startswith("=") else None


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of all objects, and the prefixes of those that belong together, which end with a slash.

    ``root`` is what all of them begin with. It is empty or ends with a slash.
    """

    root: str

    @property
    def format(self) -> str:
        """The key of the object that marks the root as ours."""
        return f"{self.root}format"

    def probe(self, token: str) -> str:
        """The prefix of the objects that a check of a new store writes and deletes."""
        return f"{self.root}probe/{token}/"

    @property
    def folders(self) -> str:
        """The prefix of all threads' folders."""
        return f"{self.root}t/"

    def folder(self, thread_id: str) -> str:
        """The prefix of a thread's checkpoints and writes."""
        return f"{self.folders}{thread_segment(thread_id)}/"

    def space(self, key: NamespaceKey, checkpoint_id: str | None = None) -> str:
        """The prefix of a namespace's checkpoints and writes, or of one checkpoint and its writes."""
        prefix = self.folder(key.thread_id) + space_segment(key.checkpoint_ns)
        return prefix if checkpoint_id is None else f"{prefix}{id_segment(checkpoint_id)}/"

    @property
    def ledgers(self) -> str:
        """The prefix of all ledgers."""
        return f"{self.root}l/"

    def ledger(self, thread_id: str) -> str:
        return f"{self.ledgers}{thread_segment(thread_id)}/{_LEDGER}"

    @staticmethod
    def is_ledger(key: str) -> bool:
        """Whether a key below `ledgers` is a ledger's."""
        return key.endswith(f"/{_LEDGER}")

    def markers(self, thread_id: str | None = None) -> str:
        """The prefix of a thread's markers, or of all markers."""
        return f"{self.root}i/" if thread_id is None else f"{self.root}i/{thread_segment(thread_id)}/"

    def thread_name(self, segment: str) -> str:
        """The key of the object that holds the id of a thread whose segment is only a digest."""
        return f"{self.root}n/{segment}"

    @property
    def notes(self) -> str:
        """The prefix of all notes."""
        return f"{self.root}r/"

    def note(self, thread_id: str) -> str:
        """The key of a new note on a thread; each call returns another one."""
        return f"{self.notes}{thread_segment(thread_id)}/{nonce()}"


def room_for_references(checkpoint_id: str) -> int:
    """Return how many characters of references fit into the name of a checkpoint's object, whatever its thread is.

    The thread may change, because the object may be copied.
    """
    folders = MAX_PREFIX_BYTES + len("/t/") + MAX_THREAD_CHARACTERS + 2 + MAX_NAMESPACE_CHARACTERS + 2
    return MAX_KEY_BYTES - folders - len(id_segment(checkpoint_id)) - len("/c") - 16


def reference_characters(label: Label) -> int:
    return 1 + len(label.text())
