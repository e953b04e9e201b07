"""Lists of pydantic models, such as a conversation, packed as a whole: one extension per model takes twice the time.

Each model becomes a row: its kind, which is a single text so that a reader looks it up at once, and its fields.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from checkpoint_base.serializer.classes import form_of, storable_form
from checkpoint_base.serializer.models import Model
from checkpoint_base.serializer.refusal import Refused


def take_models(elements: list[Any]) -> list[Any] | None:
    """Return a row for each element; None if the first is no model.

    An element that is no model, cannot be stored, or holds more or less than its fields is kept as it is, in a row
    without a kind. So the bytes of an element depend on no other element except the first.
    """
    first: Any = type(elements[0]) if elements else None
    if first is None or not isinstance(form_of(first), Model):
        return None
    rows: list[Any] = []
    known: dict[type, tuple[Model | None, dict[frozenset[str], str]]] = {}
    for element in elements:
        cls: Any = type(element)
        if cls not in known:
            known[cls] = _form_of_models(cls), {}
        form, kinds = known[cls]
        if (
            form is None
            or element.__dict__.keys() != form.names
            or element.__pydantic_extra__
            or element.__pydantic_private__
        ):
            rows.append([None, element])
            continue
        was_set = frozenset(element.__pydantic_fields_set__)
        kind = kinds.get(was_set)  # faster than the cache of `_kind`
        if kind is None:
            kind = kinds[was_set] = _kind(cls, was_set)
        rows.append([kind, element.__dict__])
    return rows


def parts_of_kind(kind: Any) -> tuple[str, str, list[str]]:
    """Return the module and the qualified name of a kind's class, and the names of the fields that were set."""
    if type(kind) is not str:
        raise ValueError("the kind of a model was expected")
    module, qualname, was_set = json.loads(kind)
    if type(was_set) is not list or not all(type(name) is str for name in (module, qualname, *was_set)):
        raise ValueError("the kind of a model was expected")
    return module, qualname, was_set


def _form_of_models(cls: Any) -> Model | None:
    try:
        form = storable_form(cls)
    except Refused:
        return None
    return form if isinstance(form, Model) else None


@lru_cache(maxsize=4096)
def _kind(cls: Any, was_set: frozenset[str]) -> str:
    return json.dumps([cls.__module__, cls.__qualname__, sorted(was_set)], separators=(",", ":"))
