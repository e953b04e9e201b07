"""Looks at what LangGraph's own serializer is about to rebuild, before it does."""

from __future__ import annotations

import importlib
from contextlib import suppress
from functools import partial
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde import _msgpack as langgraph_types
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
)

from checkpoint_base.msgpack import nesting
from checkpoint_base.serializer.classes import form_of
from checkpoint_base.serializer.containers import CONTAINERS
from checkpoint_base.serializer.encode import MAX_LEVELS, MAX_NESTING
from checkpoint_base.serializer.leaves import LEAVES

TOO_DEEP = "it is nested deeper than anything that was stored"

_CALLS = frozenset(
    {EXT_CONSTRUCTOR_SINGLE_ARG, EXT_CONSTRUCTOR_POS_ARGS, EXT_CONSTRUCTOR_KW_ARGS, EXT_PYDANTIC_V1, EXT_PYDANTIC_V2}
)
_KINDS = (*CONTAINERS, *(leaf.type for leaf in LEAVES.values()))
_SHOWN_BY = ("model_dump", "dict", "get_secret_value", "_asdict")
"""Methods by which that serializer takes an object for a model, a secret or a named tuple."""


def require_sound(data: bytes, allowed: set[tuple[str, ...]] | bool | None) -> None:
    """Raise `ValueError` if reading these bytes would end the process, or call what is no class of values.

    LangGraph's serializer overflows the stack on what is nested too deeply; `Decoder` has the same bounds. And where
    every class is permitted, it calls whatever the data names, such as ``os.system``. Everything is decoded here once
    more, but nothing is made.
    """
    wrong = ""

    def look(depth: int, levels_left: int, code: int, data: bytes) -> None:
        nonlocal wrong
        if depth > 2 and len(data) > levels_left:
            levels_left -= nesting(data)
        if depth > 2 * MAX_NESTING or levels_left < 0:
            wrong = wrong or TOO_DEEP
        if wrong:
            raise ValueError(wrong)
        parts = unpack(data, depth + 1, levels_left)
        if allowed is True and code in _CALLS and type(parts) is list and not _names_values(*parts[:2]):
            wrong = wrong or f"it calls {'.'.join(map(str, parts[:2]))}, which is no class of values"

    def unpack(data: bytes, depth: int, levels_left: int) -> Any:
        with suppress(ormsgpack.MsgpackDecodeError):  # LangGraph's serializer comes to it again
            return ormsgpack.unpackb(
                data, ext_hook=partial(look, depth, levels_left), option=ormsgpack.OPT_NON_STR_KEYS
            )

    unpack(data, 1, MAX_LEVELS)
    if wrong:
        raise ValueError(wrong)


def _names_values(module: Any = None, name: Any = None) -> bool:
    """Whether instances of a class are values, so that LangGraph's serializer may have stored one; or it is missing."""
    if (module, name) in langgraph_types.SAFE_MSGPACK_TYPES:
        return True
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception:  # noqa: BLE001 - LangGraph's serializer gets no further, and returns plain data
        return True
    return isinstance(cls, type) and (
        form_of(cls) is not None or issubclass(cls, _KINDS) or any(hasattr(cls, method) for method in _SHOWN_BY)
    )
