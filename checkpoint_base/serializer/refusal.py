"""Why a value is refused, and what to store instead."""

from __future__ import annotations

import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Iterator
from functools import partial

from pydantic import ValidationError

from checkpoint_base.errors import SchemaMismatch


class Refused(Exception):
    """Says why a value cannot be stored and what to store instead. The message continues "the value of type X"."""


def of_later_version(what: str) -> SchemaMismatch:
    return SchemaMismatch(f"{what} is unknown here, a later version has stored it: upgrade checkpoint-backends")


def name_of(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def advice(cls: type) -> str:
    return next(
        (text for kinds, text in _ADVICE if issubclass(cls, kinds)),
        "has no exact stored form: store a dataclass, a pydantic model or plain data instead",
    )


_TELLING = (TypeError, AttributeError, LookupError)
"""Errors whose messages name types, attributes and fields. Those of others often quote the value."""


def reason_of(error: BaseException) -> str:
    """Why a value could not be rebuilt, without the value: messages end up in logs, and values may be personal."""
    kind = type(error).__name__
    if isinstance(error, ValidationError):
        wrong = (f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in error.errors(include_input=False))
        return f"{kind}: {'; '.join(wrong)}"
    return f"{kind}: {error}" if type(error) in _TELLING else kind


_ADVICE: tuple[tuple[tuple[type, ...], str], ...] = (
    ((BaseException,), "cannot be rebuilt exactly: store str(error) instead"),
    ((type, types.GenericAlias), "is a class: store its qualified name instead"),
    ((types.ModuleType,), "is a module: store its name instead"),
    (
        (types.FunctionType, types.BuiltinFunctionType, types.MethodType, partial),
        "is code: store the name by which to find it instead",
    ),
    ((Awaitable,), "has not run yet: await it and store its result instead"),
    ((slice,), "has no exact stored form: store a tuple of its bounds instead"),
    ((memoryview,), "is a view of memory that may change: store bytes(view) instead"),
    (
        (OrderedDict, Counter, defaultdict, deque, bytearray, complex),
        "is of a subclass that has no exact stored form: store its builtin, or a dataclass that holds it, instead",
    ),
    ((Iterator,), "can be read only once: store a list of its items instead"),
)
