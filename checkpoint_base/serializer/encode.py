"""Encodes a value in its stored form."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from ormsgpack import Ext

from checkpoint_base.msgpack import array_header, extension, nesting
from checkpoint_base.serializer import arrays, classes, codes
from checkpoint_base.serializer.containers import CONTAINERS
from checkpoint_base.serializer.leaves import LEAVES
from checkpoint_base.serializer.model_lists import take_models
from checkpoint_base.serializer.refusal import Refused, advice

# Reading takes one Python frame per nested extension. Python allows 1000 frames, and a running graph needs its share.
MAX_NESTING = 128
# Reading takes half a kilobyte of a thread's stack per level of lists and dicts, and there may be only a megabyte.
# ormsgpack itself allows 255 levels in one piece of msgpack; this bounds the sum over nested extensions.
MAX_LEVELS = 512
TOO_DEEP = f"contains itself, or is nested more than {MAX_NESTING} levels deep: store a flatter value, or ids"

# ormsgpack passes everything that it would turn into its nearest base type to `Encoder._extension` instead.
_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)

# If ormsgpack cannot pack a value in one go, it is tried once more on each part. Trying at every level would multiply
# the work.
_ATTEMPTS = 2


class Encoder:
    """Serves one call of `dumps_typed`. It remembers the first failure, which ormsgpack would hide."""

    __slots__ = ("_depth", "_extension_levels", "_levels", "_native_failures", "failure")

    def __init__(self) -> None:
        self._depth = 0
        self._levels = 0  # of lists and dicts in the value that is being packed, without its extensions
        self._extension_levels = 0  # in its deepest extension, including the extensions within that
        self._native_failures = 0  # of the value and what it is a part of
        self.failure: BaseException | None = None

    def pack(self, value: Any) -> bytes:
        """Return a value as msgpack, at native speed unless it holds what ormsgpack refuses or would change."""
        outer_levels, deepest_sibling = self._levels, self._extension_levels
        self._levels = self._extension_levels = 0
        self._depth += 1
        try:
            if self._depth > MAX_NESTING:
                raise Refused(TOO_DEEP)
            rows = take_models(value) if type(value) is list else None
            data = self._packed(value) if rows is None else extension(codes.MODELS, self._packed_rows(rows))
            self._extension_levels += self._levels
            if self._depth > 1 and self._extension_levels > MAX_LEVELS:
                raise Refused(TOO_DEEP)
            return data
        finally:
            self._depth -= 1
            self._levels = outer_levels
            self._extension_levels = max(deepest_sibling, self._extension_levels)

    def _packed(self, value: Any) -> bytes:
        failures_before = self._native_failures
        try:
            if (data := self._packed_natively(value)) is not None:
                return data
            try:
                data = ormsgpack.packb(self._spelled(value), self._extension, _OPTIONS)
            except ormsgpack.MsgpackEncodeError as error:
                if self.failure is not None:
                    raise
                raise Refused(TOO_DEEP) from error  # the only reason that ormsgpack itself has left
            if self._depth > 1:
                self._levels = max(self._levels, nesting(data))
            return data
        finally:
            self._native_failures = failures_before

    def _packed_rows(self, rows: list[Any]) -> bytes:
        """Return a list as `_packed` would; if one element is odd, the others are still packed at native speed."""
        failures_before = self._native_failures
        try:
            if (data := self._packed_natively(rows)) is not None:
                return data
            data = b"".join([array_header(len(rows)), *map(self._packed, rows)])
            self._levels += 1
            return data
        finally:
            self._native_failures = failures_before

    def _packed_natively(self, value: Any) -> bytes | None:
        """Return what ormsgpack makes of a value in one go.

        If it refuses or changes the value, count a failure and return None.
        """
        if self._native_failures < _ATTEMPTS:
            try:
                data = ormsgpack.packb(value, self._extension, _OPTIONS)
            except ormsgpack.MsgpackEncodeError:
                if self.failure is not None:
                    raise
            else:
                # ormsgpack packs a bytearray as bytes without asking. Bytes begin with c4, from 256 on with c5 or c6:
                # without any of these there is no bytearray.
                # And from Python 3.15 on, it packs a frozendict as a dict, which nothing in the data tells.
                in_doubt = _FROZENDICT or b"\xc4" in data or (len(data) > 0xFF and (b"\xc5" in data or b"\xc6" in data))
                if not (in_doubt and _holds_what_changes(value)):
                    if self._depth > 1:
                        self._levels = max(self._levels, sum(1 for _ in _types_by_level(value)))
                    return data
        self._native_failures += 1
        return None

    def _extension(self, obj: Any) -> Ext:
        try:
            kind: Any = type(obj)
            code, take = _taker(kind)
            return Ext(code, self.pack(take(obj)))
        except BaseException as error:
            if self.failure is None:
                self.failure = error
            raise

    def _spelled(self, value: Any) -> Any:
        """Return a value that ormsgpack packs unchanged: it refuses only what `_extension` refuses too."""
        kind = type(value)
        if kind is str:
            return value if _is_text(value) else Ext(codes.TEXT, value.encode("utf-8", "surrogatepass"))
        if kind is list:
            return [self._spelled(element) for element in value]
        if kind is dict:
            if all(type(key) is str and _is_text(key) for key in value):
                return {key: self._spelled(element) for key, element in value.items()}
            return Ext(codes.DICT, self.pack(CONTAINERS[dict].take(value)))
        if kind is bytearray:
            return Ext(codes.BYTEARRAY, bytes(value))
        if kind in _FROZENDICT:
            raise Refused("has no exact stored form: store dict(value) instead")
        if kind is memoryview:
            raise Refused(advice(memoryview))
        return value


def _leaf_taker(name: str, take: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    return lambda value: [name, *take(value)]


_LEAVES = {leaf.type: _leaf_taker(name, leaf.take) for name, leaf in LEAVES.items()}


@lru_cache(maxsize=4096)
def _taker(cls: Any) -> tuple[int, Callable[[Any], Any]]:
    """Return the code for instances of a class, and what takes them apart; raise `Refused` if nothing does."""
    if cls is _DeltaSnapshot:
        return codes.SNAPSHOT, lambda snapshot: snapshot.value
    if container := CONTAINERS.get(cls):
        return container.code, container.take
    if leaf := _LEAVES.get(cls):
        return codes.LEAF, leaf
    if (numpy := sys.modules.get("numpy")) is not None:
        if cls is numpy.ndarray:
            return codes.ARRAY, arrays.take_array
        if issubclass(cls, numpy.generic):
            return codes.NUMPY_SCALAR, arrays.take_scalar
    form = classes.storable_form(cls)
    head = [cls.__module__, cls.__qualname__]

    def take(obj: Any) -> list[Any]:
        classes.require_name(cls)
        return head + form.take(obj)

    return form.code, take


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _holds_what_changes(value: Any) -> bool:
    """Whether the lists and dicts of a value hold what ormsgpack would change; extensions have already been checked."""
    return type(value) in _CHANGES or not all(map(_CHANGES.isdisjoint, _types_by_level(value)))


def _types_by_level(value: Any) -> Iterator[set[type]]:
    """Yield the types in a value's lists and dicts, level by level, which is half the work of going item by item."""
    kinds: set[type] = {type(value)}
    level = [value]
    while not kinds.isdisjoint(_NESTING):
        lists = level if kinds == {list} else [item for item in level if type(item) is list]
        dicts = level if kinds == {dict} else [item for item in level if type(item) is dict]
        level = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))]
        kinds = set(map(type, level))
        yield kinds


_FROZENDICT = frozenset({builtins.frozendict} if hasattr(builtins, "frozendict") else ())
_CHANGES = frozenset({bytearray, memoryview}) | _FROZENDICT
_NESTING = frozenset({list, dict})
