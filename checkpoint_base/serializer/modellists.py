"""Lists of pydantic models, such as a conversation, taken apart in one go: an extension for each takes twice the time.

A row is a pair: the model's kind, which is one text so that a reader finds it by one look, and its fields.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from checkpoint_base.serializer.classes import storable_form
from checkpoint_base.serializer.models import Model
from checkpoint_base.serializer.refusal import Refused


def take_models(models: list[Any]) -> list[Any] | None:
    """Return a row for each model; None if not all of these are models that can be stored.

    A model that holds more or less than its fields stands for itself, without a kind.
    """
    rows: list[Any] = []
    known: dict[type, tuple[Model, list[tuple[set[str], str]]]] = {}
    for model in models:
        cls: Any = type(model)
        if cls not in known:
            if (form := _form_of_models(cls)) is None:
                return None
            known[cls] = form, []
        form, kinds = known[cls]
        fields, was_set = model.__dict__, model.__pydantic_fields_set__
        if fields.keys() != form.names or model.__pydantic_extra__ or model.__pydantic_private__:
            rows.append([None, model])
            continue
        for names, kind_of_names in kinds:
            if names == was_set:
                kind = kind_of_names
                break
        else:
            kind = _kind(cls, tuple(sorted(was_set)))
            kinds.append((set(was_set), kind))
        rows.append([kind, fields])
    return rows


def parts_of_kind(kind: str) -> tuple[str, str, list[str]]:
    """Return the module and the qualified name of a kind's class, and the names of the fields that were set."""
    module, qualname, was_set = json.loads(kind)
    return module, qualname, was_set


@lru_cache(maxsize=4096)
def _kind(cls: Any, was_set: tuple[str, ...]) -> str:
    return json.dumps([cls.__module__, cls.__qualname__, was_set])


@lru_cache(maxsize=4096)
def _form_of_models(cls: Any) -> Model | None:
    try:
        form = storable_form(cls)
    except Refused:
        return None
    return form if isinstance(form, Model) else None
