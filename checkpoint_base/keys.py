"""The ids that address a checkpoint, checked in one place.

Every id reaches a store as text that any backend can hold: no NUL, no lone surrogate, bounded where users choose it.
Channel names come from the state and not from the caller, so they are escaped rather than refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar
from uuid import UUID

from langchain_core.runnables import RunnableConfig

from checkpoint_base.errors import InvalidKey, damage

Item = TypeVar("Item")

MAX_ID_BYTES = 512

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPABLE = re.compile("[\x00\ud800-\udfff\\\\]")
_ESCAPED = re.compile(r"\\(\\|u[0-9a-f]{4})")

_plain = str.__str__
"""Returns the text that an instance of a subclass is equal to: in an f-string, a member of an enum is another one."""

_CALLED = re.compile(":[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""How the name of a graph in a namespace ends if it was called by a task: with the task's id."""


@dataclass(frozen=True, slots=True)
class NamespaceKey:
    """One checkpoint namespace of one thread; the root graph's namespace is ``""``."""

    thread_id: str
    checkpoint_ns: str


@dataclass(frozen=True, slots=True)
class CheckpointKey:
    """One checkpoint, whether or not it has been put yet."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str

    @property
    def namespace(self) -> NamespaceKey:
        return NamespaceKey(self.thread_id, self.checkpoint_ns)

    @property
    def list_order(self) -> tuple[str, str, str]:
        """What listings are sorted by, descending. It is not how keys compare."""
        return (self.checkpoint_id, self.thread_id, self.checkpoint_ns)

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        space = f" in namespace {self.checkpoint_ns!r}" if self.checkpoint_ns else ""
        return f"{shown(self.checkpoint_id)} of thread {self.thread_id!r}{space}"


def thread_key(thread_id: object) -> str:
    """Return a caller's thread id as the text that stores use; an int or a UUID is taken as its text.

    Raises:
        InvalidKey: it is of another type, empty, too long, or holds a character that not every store can keep.
    """
    if isinstance(thread_id, (int, UUID)) and not isinstance(thread_id, bool):
        thread_id = str(thread_id)
    return _checked("thread_id", thread_id)


def checkpoint_key(checkpoint_id: object) -> str:
    """Return a checkpoint id, which must be a text; otherwise checked as `thread_key` does."""
    return _checked("checkpoint_id", checkpoint_id)


def task_key(task_id: object) -> str:
    """Return a task id, which must be a text; otherwise checked as `thread_key` does."""
    return _checked("task_id", task_id)


def run_key(run_id: object) -> str:
    """Return a run's id, which LangGraph takes from any metadata, as the text that stores use."""
    return escape(run_id if isinstance(run_id, str) else str(run_id))


def several(name: str, given: Iterable[Item]) -> list[Item]:
    """Return the items of an argument that takes several ids or names; a text alone would count as its letters.

    Raises:
        InvalidKey: it is a text, or nothing to iterate over.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        example = f"[{given!r}]" if isinstance(given, str) else "['…']"
        raise InvalidKey(f"{name} must be a sequence of texts, not {type(given).__name__}: pass {example}")
    return list(given)


def text_key(name: str, value: object) -> str:
    """Return a text of any length that LangGraph derives from node names: a namespace or a task path."""
    if not isinstance(value, str):
        raise InvalidKey(f"{name} must be text, not {type(value).__name__}: {value!r}")
    if bad := _UNSTORABLE.search(value):
        raise InvalidKey(f"{name} holds the character {bad.group()!r}, which not every store can keep: {value!r}")
    return _plain(value)


def namespace_of(config: Mapping[str, Any]) -> NamespaceKey:
    """Read the thread and the namespace that a LangGraph config addresses; a missing namespace is the root.

    Raises:
        InvalidKey: there is no ``thread_id`` in ``config["configurable"]``, or it cannot be used.
    """
    configurable = _configurable(config)
    if configurable.get("thread_id") is None:
        raise InvalidKey(
            "the config names no thread: pass {'configurable': {'thread_id': 'some id'}}; "
            "a run can only be found again by its thread_id"
        )
    return NamespaceKey(
        thread_key(configurable["thread_id"]),
        text_key("checkpoint_ns", configurable.get("checkpoint_ns") or ""),
    )


def checkpoint_id_of(config: Mapping[str, Any] | None, name: str = "a config") -> str | None:
    """Read the checkpoint id that a LangGraph config addresses; None when it addresses the latest."""
    if config is None:
        return None
    checkpoint_id = _configurable(config, name).get("checkpoint_id")
    return checkpoint_key(checkpoint_id) if checkpoint_id else None


def checkpoint_of(config: Mapping[str, Any]) -> CheckpointKey:
    """Read the checkpoint that a LangGraph config addresses by its id.

    Raises:
        InvalidKey: as in `namespace_of`, or the config has no ``checkpoint_id``.
    """
    space = namespace_of(config)
    checkpoint_id = checkpoint_id_of(config)
    if checkpoint_id is None:
        raise InvalidKey(
            f"writes belong to a checkpoint: the config for thread {space.thread_id!r} has no checkpoint_id; pass the "
            "one that put returned"
        )
    return CheckpointKey(space.thread_id, space.checkpoint_ns, checkpoint_id)


def caller_of(checkpoint_ns: str, metadata: Mapping[str, Any]) -> str | None:
    """The checkpoint at which the call of a subgraph began, in the graph around it; None for what outlives a call.

    LangGraph names each graph of a namespace, and the task that called it, unless the graph has a memory of its own
    (``checkpointer=True``): then nothing tells its calls apart, and it goes on where the last one ended. What such a
    graph calls belongs to its checkpoint, even if the root graph has gone on. Metadata has the checkpoints of all
    graphs around this one, by their namespaces.
    """
    graphs = checkpoint_ns.split("|")
    around = list(takewhile(lambda graph: not _CALLED.search(graph), graphs))
    parents = metadata.get("parents")
    if len(around) == len(graphs) or not isinstance(parents, Mapping):
        return None
    try:
        return checkpoint_key(parents.get("|".join(around)))
    except InvalidKey:  # put there by hand
        return None


def config_of(key: CheckpointKey) -> RunnableConfig:
    """Return the config that addresses a checkpoint, as LangGraph passes it around."""
    return {
        "configurable": {
            "thread_id": key.thread_id,
            "checkpoint_ns": key.checkpoint_ns,
            "checkpoint_id": key.checkpoint_id,
        }
    }


def version_key(version: str | float) -> str:
    """Return a channel's version as text that tells its type, because versions are compared again as what they were."""
    if isinstance(version, str):
        return "s" + escape(version)
    if isinstance(version, int) and not isinstance(version, bool):
        return f"i{version:d}"
    if isinstance(version, float):
        return f"f{float.__repr__(version)}"  # numpy's has the name of its class
    raise InvalidKey(f"a channel version must be a text or a number, not {type(version).__name__}: {version!r}")


def version_of(key: str) -> str | int | float:
    """Undo `version_key`.

    Raises:
        CorruptCheckpoint: this is not the text of a version.
    """
    kind, rest = key[:1], key[1:]
    if kind == "s":
        return unescape(rest)
    try:
        return int(rest) if kind == "i" else float(rest)
    except ValueError as error:
        raise damage(f"the stored version {key[:40]!r} of a channel is damaged") from error


def shown(id_: str) -> str:
    """An id as a message has it. Whoever chose it must not be able to add a line to a log, or to control a terminal."""
    return id_ if id_.isprintable() else repr(id_)


def escape(name: str) -> str:
    r"""Write any text so that every store can hold it: NUL and lone surrogates as ``\uXXXX``, a backslash doubled."""
    if not isinstance(name, str):
        raise InvalidKey(f"a channel's name must be text, not {type(name).__name__}: {name!r}")
    if not _ESCAPABLE.search(name):
        return _plain(name)
    return _ESCAPABLE.sub(lambda found: "\\\\" if found.group() == "\\" else f"\\u{ord(found.group()):04x}", name)


def unescape(name: str) -> str:
    """Undo `escape`."""
    if "\\" not in name:
        return name
    return _ESCAPED.sub(lambda found: "\\" if found.group(1) == "\\" else chr(int(found.group(1)[1:], 16)), name)


def _configurable(config: Mapping[str, Any], name: str = "a config") -> Mapping[str, Any]:
    configurable = config.get("configurable") if isinstance(config, Mapping) else None
    if not isinstance(configurable, Mapping):
        raise InvalidKey(
            f"{name} must be a mapping with a mapping under 'configurable': {{'configurable': {{'thread_id': …}}}}"
        )
    return configurable


def _checked(name: str, value: object) -> str:
    text = text_key(name, value)
    if not text:
        raise InvalidKey(f"{name} is empty: give every thread, checkpoint and task an id of its own")
    if len(text.encode()) > MAX_ID_BYTES:
        raise InvalidKey(
            f"{name} is longer than {MAX_ID_BYTES} bytes of UTF-8: {text[:40]!r}…; use a digest of it as the id"
        )
    return text
