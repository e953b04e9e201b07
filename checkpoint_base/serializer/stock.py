"""What keeps LangGraph's own serializer from harm when it reads what it wrote, or what somebody planted."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import ormsgpack
from langgraph.checkpoint.serde.jsonplus import _create_msgpack_ext_hook

from checkpoint_base.msgpack import nesting
from checkpoint_base.serializer.allowlist import permits
from checkpoint_base.serializer.classes import form_of
from checkpoint_base.serializer.containers import CONTAINERS
from checkpoint_base.serializer.encode import MAX_LEVELS, MAX_NESTING
from checkpoint_base.serializer.leaves import LEAVES

TOO_DEEP = "it is nested deeper than anything that was stored"

_KINDS = (*CONTAINERS, *(leaf.type for leaf in LEAVES.values()))
_SHOWN_BY = ("model_dump", "get_secret_value", "_asdict")
"""Methods by which that serializer takes an object for a model, a secret or a named tuple."""


class _ClassesOfValues:
    """An allowlist of everything that LangGraph's serializer may have stored an instance of.

    By default, that serializer calls whatever the data names, such as ``os.system``. It asks its allowlist right
    before, about the names that it is about to call. What is not in there stays plain data.
    """

    def __contains__(self, key: tuple[str, str]) -> bool:
        module, name = key
        cls = getattr(importlib.import_module(module), name)  # an error is handled as one of the call itself
        if not isinstance(cls, type):
            return False
        holds_values = (
            form_of(cls) is not None
            or dataclasses.is_dataclass(cls)
            or issubclass(cls, _KINDS)
            or any(hasattr(cls, method) for method in _SHOWN_BY)
        )
        return holds_values and permits(True, module, name)


def hook_for_classes_of_values() -> Callable[[int, bytes], Any]:
    """Return what rebuilds an extension of LangGraph's msgpack, if it is of any class of values."""
    return _create_msgpack_ext_hook(cast(Any, _ClassesOfValues()))


def require_shallow(data: bytes) -> None:
    """Raise `ValueError` if LangGraph's own format is nested so deeply that its serializer would overflow the stack.

    The process would end. `Decoder` has the same bounds. Everything is decoded here once more, but nothing is made.
    """
    is_too_deep = False

    def skip(depth: int, levels_left: int, code: int, data: bytes) -> None:  # noqa: ARG001
        nonlocal is_too_deep
        if depth > 2 and len(data) > levels_left:
            levels_left -= nesting(data)
        is_too_deep = is_too_deep or depth > 2 * MAX_NESTING or levels_left < 0
        if is_too_deep:
            raise ValueError(TOO_DEEP)
        unpack(data, depth + 1, levels_left)

    def unpack(data: bytes, depth: int, levels_left: int) -> None:
        with suppress(ormsgpack.MsgpackDecodeError):  # LangGraph's serializer comes to it again
            ormsgpack.unpackb(data, ext_hook=partial(skip, depth, levels_left), option=ormsgpack.OPT_NON_STR_KEYS)

    unpack(data, 1, MAX_LEVELS)
    if is_too_deep:
        raise ValueError(TOO_DEEP)
