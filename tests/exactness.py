"""Whether a value came back exactly, told without the serializer's own code."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import pathlib
import re
import uuid
from collections import Counter, OrderedDict, deque
from datetime import datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from checkpoint_base.serializer import ExactSerializer

SERDE = ExactSerializer()
BERLIN = ZoneInfo("Europe/Berlin")


def exact(value: Any) -> Any:
    """A form of a value that is equal only for an equal value with the same types at every depth."""
    kind = type(value)
    if isinstance(value, np.ndarray):
        assert value.flags.writeable
        return (kind, value.dtype.str, value.shape, value.flags.fnc, value.tobytes())
    if isinstance(value, np.generic):
        return (kind, value.tobytes())
    if isinstance(value, enum.Enum):
        return (kind, value.name, exact(value._value_))
    state = None if kind.__module__ in ("builtins", "collections", "datetime") else own_state(value)
    if isinstance(value, dict):
        items = value.items() if isinstance(value, OrderedDict) else dict.items(value)
        factory = getattr(value, "default_factory", None)
        return (kind, state, factory, tuple((exact(key), exact(element)) for key, element in items))
    if isinstance(value, list | tuple | deque):
        base = next(base for base in (list, tuple, deque) if isinstance(value, base))
        return (kind, state, getattr(value, "maxlen", None), tuple(exact(element) for element in base.__iter__(value)))
    if isinstance(value, set | frozenset):
        return (kind, state, frozenset(Counter(exact(element) for element in value).items()))
    if isinstance(value, datetime | time):
        return (kind, repr(value.replace(tzinfo=None)), exact(value.tzinfo), value.utcoffset())
    if isinstance(value, str | bytes | bytearray | int | float | complex) or state is None:
        return (kind, repr(value), state)
    return (kind, state)


def own_state(value: Any) -> Any:
    """What pickle would keep of an instance, as an oracle that shares no code with the serializer."""
    if isinstance(value, re.Pattern | ipaddress._IPAddressBase | uuid.UUID | Decimal | pathlib.PurePath | ZoneInfo):
        return None
    state = value.__getstate__()
    if isinstance(state, dict) and dataclasses.is_dataclass(value):  # a default may stand in the class
        state |= {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if hasattr(value, f.name)}
        state = dict(sorted(state.items()))
    if isinstance(state, dict):
        state = {name: part for name, part in state.items() if name != "__orig_class__"}
    if isinstance(state, tuple | list):
        state = list(state)
    return exact(state)


def again(value: Any, serde: Any = SERDE) -> Any:
    tag, data = serde.dumps_typed(value)
    assert type(data) is bytes
    return serde.loads_typed((tag, data))


def pydantic_attributes(model: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def with_attributes(value: Any, **attributes: Any) -> Any:
    for name, attribute in attributes.items():
        object.__setattr__(value, name, attribute)
    return value
