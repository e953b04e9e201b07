"""Chooses the form in which instances of a class are stored, and finds a class by its name."""

from __future__ import annotations

import sys
import types
from collections import Counter, OrderedDict, defaultdict
from functools import lru_cache
from typing import Any

from checkpoint_base.serializer.forms import BuiltinSubclass, EnumMember, Form, Secret, Url
from checkpoint_base.serializer.models import Model, ModelV1
from checkpoint_base.serializer.records import Dataclass, NamedTuple, Record, Slotted, declared_slots
from checkpoint_base.serializer.refusal import Refused, advice, name_of

# The first that fits counts: a named tuple is also a subclass of a builtin, and a dataclass or an enum may be one.
_FORMS: tuple[type[Any], ...] = (
    *(EnumMember, NamedTuple, BuiltinSubclass, Model, ModelV1, Secret, Url, Dataclass, Slotted),
)

# Their instances hold more than a record or a subclass of dict stores.
_REFUSED = (BaseException, OrderedDict, Counter, defaultdict)

CODES = frozenset(form.code for form in _FORMS)


@lru_cache(maxsize=4096)
def form_of(cls: Any) -> Form | None:
    """Return how instances of a class are stored, or None if they cannot be."""
    if issubclass(cls, _REFUSED):
        return None
    return next((form(cls) for form in _FORMS if form.fits(cls)), None)


def storable_form(cls: Any) -> Form:
    """Return how instances of a class are stored; raise `Refused` if they would not come back as they are."""
    form = _complete_form(cls)
    require_name(cls)
    return form


@lru_cache(maxsize=4096)
def _complete_form(cls: Any) -> Form:
    """Return how instances of a class are stored; raise `Refused` if they hold more than that."""
    if (form := form_of(cls)) is None:
        raise Refused(advice(cls))
    if isinstance(form, Record | BuiltinSubclass):
        fields = form.names if isinstance(form, Record) else ()
        if stray := [name for name in declared_slots(cls) if name not in fields]:
            raise Refused(f"keeps {stray} in __slots__: make them fields of a dataclass")
    if isinstance(form, BuiltinSubclass) and not form.can_be_made:
        raise Refused(f"is of a class that only its own constructor makes: store {form.base.__name__}(value) instead")
    return form


def require_name(cls: type) -> None:
    """Raise `Refused` unless a class is found by its name. That may change at any time, as in a notebook."""
    if (present := find(sys.modules.get(cls.__module__), cls.__qualname__)) is not cls:
        if "<locals>" in cls.__qualname__:
            raise Refused("is of a class defined inside a function: move the class to module level")
        # pydantic makes a parametrised model an attribute of its module, but not one made in a class body.
        if "[" in cls.__qualname__:
            raise Refused(
                "is of a parametrised class that its module does not hold by name: derive a class from "
                f"{cls.__qualname__} at module level, and store an instance of that instead"
            )
        if isinstance(present, type):
            raise Refused(
                "is of a class that has been defined anew since, as in a notebook: make it with the current "
                f"{name_of(cls)}"
            )
        raise Refused(f"is of a class that cannot be imported as {name_of(cls)}: give it that name at module level")


def find(module: types.ModuleType | None, qualname: str) -> Any:
    """Return what a module has under a qualified name, or None. Runs no code: no ``__getattr__`` and no property."""
    found: Any = module
    if module is not None and qualname in vars(module):  # a parametrised model's name may contain dots
        return vars(module)[qualname]
    for name in qualname.split("."):
        found = vars(found).get(name) if isinstance(found, type | types.ModuleType) else None
    return found
