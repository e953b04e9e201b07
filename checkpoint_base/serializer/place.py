"""Finds the part of a value that cannot be stored."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

from langgraph.checkpoint.serde.types import _DeltaSnapshot

from checkpoint_base.serializer.classes import form_of
from checkpoint_base.serializer.encode import TOO_DEEP, Encoder
from checkpoint_base.serializer.records import Record
from checkpoint_base.serializer.refusal import Refused, name_of


def explain(value: Any, failure: BaseException) -> tuple[str, BaseException]:
    """Return a sentence on the innermost part that cannot be stored (its place, type and reason), and its exception."""
    place = "value"
    while not _is_depth(failure):
        for label, part in _readable_parts(value):
            encoder = Encoder()
            try:
                encoder.pack([part])
            except Exception as error:  # noqa: BLE001 - whatever it was, it is reported to the caller
                place, value, failure = place + label, part, encoder.failure or error
                break
        else:
            break
    return f"Cannot store {place}: the value of type {name_of(type(value))} {_reason(failure)}.", failure


def _is_depth(failure: BaseException) -> bool:
    return isinstance(failure, RecursionError) or failure.args == (TOO_DEEP,)


def _reason(failure: BaseException) -> str:
    if isinstance(failure, Refused):
        return str(failure)
    return TOO_DEEP if _is_depth(failure) else f"could not be read ({type(failure).__name__}: {failure})"


def _readable_parts(value: Any) -> list[tuple[str, Any]]:
    try:
        return list(_parts(value))
    except Exception:  # noqa: BLE001 - that it cannot be read is the failure itself
        return []


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that are stored of a value, each with the code that leads to it."""
    kind: Any = type(value)
    if kind in (dict, OrderedDict, defaultdict, Counter):
        for key, element in value.items():
            yield " key", key
            yield f"[{_shown(key)}]", element
    elif kind in (list, tuple, deque):
        yield from ((f"[{index}]", element) for index, element in enumerate(value))
    elif kind in (set, frozenset):
        yield from ((" element", element) for element in value)
    elif kind is _DeltaSnapshot:
        yield ".value", value.value
    elif (form := form_of(kind)) is not None:
        plain, *rest = form.take(value)
        groups = [part for more in rest for part in more.values() if isinstance(part, dict)]
        if isinstance(form, Record):
            groups.insert(0, plain)
        else:
            yield form.place, plain
        yield from ((f".{name}", part) for group in groups for name, part in group.items())


def _shown(key: Any) -> str:
    """A key as a message has it, which must not tell what a value holds: keys of other types may be values as well."""
    if type(key) is str:
        return json.dumps(key)
    return repr(key) if type(key) in (int, float, bool, type(None)) else f"<{name_of(type(key))}>"
