"""Which classes may be rebuilt: those that LangGraph declares safe, and those that the user permits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from langgraph.checkpoint.serde import _msgpack as langgraph_types
from langgraph.checkpoint.serde.event_hooks import emit_serde_event
from pydantic import networks

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.serializer.log import warn_once

_SECRETS = frozenset(("pydantic.types", name) for name in ("Secret", "SecretStr", "SecretBytes"))
"""As plain text they would no longer be masked where they are printed."""

_URLS = frozenset(("pydantic.networks", name) for name in networks.__all__ if name.endswith(("Url", "Dsn")))
"""Fields of models that may be permitted themselves, whose methods rely on them."""


def key_of(entry: type | tuple[str, ...]) -> tuple[str, ...]:
    """Return a class's name in allowlists. LangGraph itself would use only the last part of a nested class's name."""
    return (entry.__module__, entry.__qualname__) if isinstance(entry, type) else entry


def permitted(allowed: Iterable[type | tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the names of the classes that a user permits, so that none is left out because of how it was written."""
    if isinstance(allowed, Iterable) and not isinstance(allowed, str | bytes | Mapping):
        keys = [key_of(entry) for entry in allowed]
        if all(isinstance(key, tuple) and len(key) == 2 and all(type(name) is str for name in key) for key in keys):
            return keys
    raise UnsupportedOperation(
        f"allowed={allowed!r}: give a list of classes, or of pairs of a module and a qualified name, such as "
        "[Point, ('app.models', 'Order')]"
    )


def permits(allowed: set[tuple[str, ...]] | bool | None, module: str, qualname: str) -> bool:
    """Whether a class may be rebuilt. Unless it is safe or listed, emits an event, and a warning once per class.

    Args:
        allowed: as in LangGraph: True permits every class, a set the classes it names, and None only the safe ones.
    """
    key = (module, qualname)
    if key in langgraph_types.SAFE_MSGPACK_TYPES or key in _SECRETS or key in _URLS:
        return True
    if allowed is True:
        emit_serde_event({"kind": "msgpack_unregistered_allowed", "module": module, "name": qualname})
        warn_once(
            "Deserializing unregistered type %s.%s from checkpoint. Set LANGGRAPH_STRICT_MSGPACK=true to block it, "
            "or permit it explicitly: ExactSerializer(allowed=[(%r, %r), ...])",
            *(*key, *key),
        )
        return True
    if allowed and key in allowed:
        return True
    emit_serde_event({"kind": "msgpack_blocked", "module": module, "name": qualname})
    warn_once(
        "Blocked deserialization of %s.%s, which is read as plain data. Permit it: "
        "ExactSerializer(allowed=[(%r, %r), ...])",
        *(*key, *key),
    )
    return False
