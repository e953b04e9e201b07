"""ExactSerializer: what goes into a checkpoint comes back as it went in, or is refused when it goes in.

The stored form is msgpack. A value that msgpack has no type for is one extension, whose payload is msgpack again:

- a container of its own kind (tuple, set, deque, ...): an array of its elements;
- a leaf (datetime, UUID, Decimal, ...): an array of its kind's name and its parts;
- an instance of a class: an array of the class's module, its qualified name, the value as plain data, and the rest.
"""

from __future__ import annotations

import dataclasses
import importlib
import ipaddress
import json
import logging
import math
import pathlib
import re
import reprlib
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from typing import Any, ClassVar
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import ormsgpack
from langgraph.checkpoint.serde import _msgpack as langgraph_types
from langgraph.checkpoint.serde.event_hooks import emit_serde_event
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from ormsgpack import Ext
from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import PydanticUndefined

from checkpoint_base.errors import CorruptCheckpoint, SerializationError

logger = logging.getLogger(__name__)

TAG = "msgpack.exact"

# Everything that ormsgpack would turn into its nearest base type comes to `_Encoder.default` instead.
_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)

# Extension codes are the stored format: add, never renumber. 0 to 7 mean something else in LangGraph's own format.
_TEXT, _BYTEARRAY, _TUPLE, _SET, _FROZENSET, _DICT, _ORDERED_DICT, _DEFAULT_DICT, _DEQUE = range(16, 25)
_SNAPSHOT, _LEAF, _ARRAY, _NUMPY_SCALAR = range(32, 36)
_MODEL, _MODEL_V1, _DATACLASS, _NAMED_TUPLE, _SLOTTED, _ENUM, _BUILTIN, _SECRET = range(48, 56)

# One level costs about four Python frames to read; Python allows 1000, of which a running graph needs its share.
_MAX_NESTING = 128
_TOO_DEEP = f"contains itself, or is nested more than {_MAX_NESTING} levels deep: store a flatter value, or ids"

_FACTORIES: dict[str, type] = {kind.__name__: kind for kind in (list, dict, set, int, str, float, bool, tuple)}
_NUMPY_KINDS = frozenset("biufcmMUS")


class _Refused(Exception):
    """Says of a value why it cannot be stored and what to store instead, to follow the words "of type X"."""


class ExactSerializer(JsonPlusSerializer):
    """LangGraph's serializer, where a value comes back equal and of the same type at every depth.

    Dictionaries keep their order. Data that the stock `JsonPlusSerializer` wrote is read as it reads it; the stock
    serializer refuses what this one wrote, by its tag. Pickle is neither written nor read.

    A class is stored by its module and qualified name. Reading rebuilds instances of the classes that LangGraph
    declares safe, and of others only if permitted; an instance of a class that is not permitted comes back as plain
    data (a dict of its fields, the value of an enum member), and nothing is imported for it. Like the stock one this
    permits every class, with one warning per class, unless `LANGGRAPH_STRICT_MSGPACK` is set. `strict` permits no
    class but the safe ones and `allowed` (classes, or pairs of module and qualified name); naming any is strict.

    An instance is rebuilt from its fields; neither `__init__` nor a validator runs. If its class has changed since,
    new fields get their defaults, fields that a dataclass no longer has are dropped with one warning, and a pydantic
    model is validated anew.
    """

    def __init__(self, *, strict: bool = False, allowed: Iterable[type | tuple[str, ...]] | None = None) -> None:
        if strict or allowed is not None:
            super().__init__(allowed_msgpack_modules=[_key(entry) for entry in allowed or ()])
        else:
            super().__init__()

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[tuple[str, ...] | type]) -> JsonPlusSerializer:
        return super().with_msgpack_allowlist([_key(entry) for entry in extra_allowlist])

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the tag and the bytes of a value.

        Raises `SerializationError` if the value would not come back as it is; the message names the place in it.
        """
        if obj is None:
            return "null", b""
        if type(obj) is bytes:
            return "bytes", obj
        if type(obj) is bytearray:
            return "bytearray", bytes(obj)
        encoder = _Encoder()
        try:
            return TAG, encoder.pack(obj)
        except Exception as error:  # noqa: BLE001 - also what a property of the value raises
            failure = encoder.failure or error
            if not isinstance(failure, Exception):
                raise failure from None
            place, value, failure = _culprit(obj, failure)
            kind = _name(type(value))
            raise SerializationError(f"Cannot store {place}: the value of type {kind} {_reason(failure)}.") from failure

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value of a tag and its bytes.

        Raises `CorruptCheckpoint` if the bytes are damaged, and `SerializationError` if the value's class cannot be
        imported or rebuilt, or the tag is unknown.
        """
        tag, payload = data
        if tag == TAG:
            # Read here, not in __init__: LangGraph copies a serializer and then sets the copy's allowlist.
            return _Decoder(self._allowed_msgpack_modules).load(payload)
        try:
            return super().loads_typed(data)
        except NotImplementedError as error:
            raise SerializationError(
                f"Cannot read a value with the tag {tag!r}: open it with the serializer that wrote it."
            ) from error
        except (ormsgpack.MsgpackDecodeError, RecursionError) as error:
            raise CorruptCheckpoint(_damaged(tag, payload, error)) from error


def _key(entry: type | tuple[str, ...]) -> tuple[str, ...]:
    return (entry.__module__, entry.__qualname__) if isinstance(entry, type) else entry


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _damaged(tag: str, payload: bytes, error: BaseException) -> str:
    return (
        f"A stored value ({tag}, {len(payload)} bytes) is damaged: {type(error).__name__}: {error}. "
        "Restore it from a backup."
    )


# --- writing ---


class _Encoder:
    """One call of `dumps_typed`: packs values, and remembers the first failure, which ormsgpack would hide."""

    __slots__ = ("_depth", "_spelling", "failure")

    def __init__(self) -> None:
        self._depth = 0
        self._spelling = False
        self.failure: BaseException | None = None

    def pack(self, value: Any) -> bytes:
        """Return a value as msgpack, in native speed unless it holds what ormsgpack refuses or would change."""
        spelling = self._spelling
        self._depth += 1
        try:
            if self._depth > _MAX_NESTING:
                raise _Refused(_TOO_DEEP)
            if not spelling:
                try:
                    data = ormsgpack.packb(value, default=self.default, option=_OPTIONS)
                except ormsgpack.MsgpackEncodeError:
                    if self.failure is not None:
                        raise
                else:
                    # A bytearray is packed as bytes without asking `default`. Bytes have one of these three markers.
                    bytes_within = b"\xc4" in data or b"\xc5" in data or b"\xc6" in data
                    if not (bytes_within and _holds_mutable_bytes(value)):
                        return data
            # What lies within is spelled out at once: trying it natively first would double the work at each level.
            self._spelling = True
            try:
                return ormsgpack.packb(self._spelled(value), default=self.default, option=_OPTIONS)
            except ormsgpack.MsgpackEncodeError as error:
                if self.failure is not None:
                    raise
                raise _Refused(_TOO_DEEP) from error  # nothing else is left that ormsgpack itself could refuse
        finally:
            self._spelling = spelling
            self._depth -= 1

    def default(self, obj: Any) -> Ext:
        try:
            kind: Any = type(obj)
            return _writer(kind)(self, obj)
        except BaseException as error:
            if self.failure is None:
                self.failure = error
            raise

    def _spelled(self, value: Any) -> Any:
        """Return a value in which ormsgpack refuses and changes nothing that is not refused by `default` too."""
        kind = type(value)
        if kind is str:
            return value if _is_text(value) else Ext(_TEXT, value.encode("utf-8", "surrogatepass"))
        if kind is list:
            return [self._spelled(element) for element in value]
        if kind is dict:
            if all(type(key) is str and _is_text(key) for key in value):
                return {key: self._spelled(element) for key, element in value.items()}
            return Ext(_DICT, self.pack(_flat(value)))
        if kind is bytearray:
            return Ext(_BYTEARRAY, bytes(value))
        if kind is memoryview:
            raise _Refused(_advice(memoryview))
        return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _holds_mutable_bytes(value: Any) -> bool:
    """Whether the lists and dicts of a value hold bytes that are not `bytes`; extensions have been looked into."""
    pending = [value]
    for item in pending:  # grows meanwhile
        kind = type(item)
        if kind is list:
            pending.extend(item)
        elif kind is dict:
            pending.extend(item.values())
        elif kind is bytearray or kind is memoryview:
            return True
    return False


def _flat(mapping: dict[Any, Any]) -> list[Any]:
    return [part for pair in mapping.items() for part in pair]


_Writer = Callable[[_Encoder, Any], Ext]


@lru_cache(maxsize=4096)
def _writer(cls: Any) -> _Writer:
    """Return what writes the instances of a class; raise `_Refused` if nothing does."""
    if writer := _WRITERS.get(cls):
        return writer
    if (numpy := sys.modules.get("numpy")) is not None:
        if cls is numpy.ndarray:
            return _write_array
        if issubclass(cls, numpy.generic):
            return _write_numpy_scalar
    if (shape := _shape(cls)) is None:
        raise _Refused(_advice(cls))
    if _found(sys.modules.get(cls.__module__), cls.__qualname__) is not cls:
        if "<locals>" in cls.__qualname__:
            raise _Refused("is of a class defined inside a function: move the class to module level")
        raise _Refused(f"is of a class that cannot be imported as {_name(cls)}: give it that name at module level")
    head = [cls.__module__, cls.__qualname__]
    return lambda encoder, obj: Ext(shape.code, encoder.pack(head + shape.take(obj)))


def _found(module: types.ModuleType | None, qualname: str) -> Any:
    """Return what a module holds under a qualified name, or None. Runs no code: neither __getattr__ nor a property."""
    found: Any = module
    if module is not None and qualname in vars(module):  # the name of a parametrised pydantic model may contain dots
        return vars(module)[qualname]
    for name in qualname.split("."):
        found = vars(found).get(name) if isinstance(found, type | types.ModuleType) else None
    return found


def _advice(cls: type) -> str:
    for kinds, advice in _ADVICE:
        if issubclass(cls, kinds):
            return advice
    return "has no exact stored form: store a dataclass, a pydantic model or plain data instead"


_ADVICE: tuple[tuple[tuple[type, ...], str], ...] = (
    ((BaseException,), "cannot be rebuilt exactly: store str(error) instead"),
    ((type, types.GenericAlias), "is a class: store its qualified name instead"),
    ((types.ModuleType,), "is a module: store its name instead"),
    (
        (types.FunctionType, types.BuiltinFunctionType, types.MethodType, partial),
        "is code: store the name by which to find it instead",
    ),
    ((Awaitable,), "has not run yet: await it and store its result instead"),
    ((range, slice), "has no exact stored form: store a tuple of its bounds instead"),
    ((memoryview,), "is a view of memory that may change: store bytes(view) instead"),
    ((Iterator,), "can be read only once: store a list of its items instead"),
)


def _culprit(value: Any, failure: BaseException) -> tuple[str, Any, BaseException]:
    """Return the innermost part that cannot be stored: its place, itself, and why."""
    place = "value"
    while not _is_depth(failure):
        try:
            parts = list(_parts(value))
        except Exception:  # noqa: BLE001 - an instance that cannot be read, which is the failure
            parts = []
        for label, part in parts:
            encoder = _Encoder()
            try:
                encoder.pack([part])
            except Exception as error:  # noqa: BLE001 - whatever it was, it is what the caller has to be told
                place, value, failure = place + label, part, encoder.failure or error
                break
        else:
            break
    return place, value, failure


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value is stored by, each part with the code that leads to it."""
    kind: Any = type(value)
    if kind in (dict, OrderedDict, defaultdict):
        for key, element in value.items():
            yield f" key {reprlib.repr(key)}", key
            yield f"[{json.dumps(key) if type(key) is str else reprlib.repr(key)}]", element
    elif kind in (list, tuple, deque):
        yield from ((f"[{index}]", element) for index, element in enumerate(value))
    elif kind in (set, frozenset):
        yield from ((f" element {reprlib.repr(element)}", element) for element in value)
    elif kind is _DeltaSnapshot:
        yield ".value", value.value
    elif kind not in _WRITERS and (shape := _shape(kind)) is not None:
        plain, *rest = shape.take(value)
        if isinstance(shape, _Record):
            named = [plain, *(part for more in rest for part in more.values() if isinstance(part, dict))]
        else:
            yield "" if isinstance(shape, _Builtin) else ".value", plain
            named = rest[1:]
        yield from ((f".{name}", part) for attributes in named for name, part in attributes.items())


def _is_depth(failure: BaseException) -> bool:
    return isinstance(failure, RecursionError) or failure.args == (_TOO_DEEP,)


def _reason(failure: BaseException) -> str:
    if isinstance(failure, _Refused):
        return str(failure)
    return _TOO_DEEP if _is_depth(failure) else f"could not be read ({type(failure).__name__}: {failure})"


# --- reading ---


_warned: set[tuple[str, tuple[str, str]]] = set()


def _warn_once(kind: str, key: tuple[str, str], message: str, *args: object) -> None:
    if (kind, key) not in _warned and len(_warned) < 1000:  # the bound is for names made up by damaged data
        _warned.add((kind, key))
        logger.warning(message, *args)


class _Decoder:
    """One call of `loads_typed`: unpacks values, and remembers the first failure, which ormsgpack would hide."""

    __slots__ = ("_allowed", "_blocked", "_failure", "_shapes")

    def __init__(self, allowed: set[tuple[str, ...]] | bool | None) -> None:
        self._allowed = allowed
        self._blocked = False
        self._failure: BaseException | None = None
        self._shapes: dict[tuple[str, str], _Shape | None] = {}

    def load(self, data: bytes) -> Any:
        try:
            return self.unpack(data)
        except Exception as error:  # noqa: BLE001 - damaged bytes may call for anything
            failure = self._failure or error
            if isinstance(failure, SerializationError) or not isinstance(failure, Exception):
                raise failure from failure.__cause__
            raise CorruptCheckpoint(_damaged(TAG, data, failure)) from failure

    def unpack(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._extension)

    def items(self, data: bytes) -> list[Any]:
        items = self.unpack(data)
        if type(items) is not list:
            raise ValueError("an array was expected")
        return items

    def hashed(self, kind: Callable[[Iterable[Any]], Any], items: Iterable[Any]) -> Any:
        """Build a set or a dict, or a list if a class that is not permitted left something unhashable in it."""
        items = list(items)
        try:
            return kind(items)
        except TypeError:
            if self._blocked:
                return items
            raise

    def pairs(self, kind: Callable[[Iterable[Any]], Any], items: Iterable[Any]) -> Any:
        flat = iter(items)
        return self.hashed(kind, zip(flat, flat, strict=True))

    def _extension(self, code: int, data: bytes) -> Any:
        try:
            if reader := _READERS.get(code):
                return reader(self, data)
            if code in _SHAPES:
                return self._instance(code, *self.items(data))
            raise ValueError(f"extension {code} is unknown to this version")  # noqa: TRY301
        except BaseException as error:
            if self._failure is None:
                self._failure = error
            raise

    def _instance(self, code: int, module: str, qualname: str, *body: Any) -> Any:
        key = (module, qualname)
        try:
            shape = self._shapes[key]
        except KeyError:
            shape = self._shapes[key] = self._permitted(module, qualname)
        if shape is None:
            return body[0]
        if shape.code != code:
            raise SerializationError(
                f"{module}.{qualname} is not the kind of class that was stored under this name: {_NEXT_STEP}"
            )
        try:
            return shape.make(*body)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(
                f"Cannot rebuild {module}.{qualname} ({type(error).__name__}: {error}): {_NEXT_STEP}"
            ) from error

    def _permitted(self, module: str, qualname: str) -> _Shape | None:
        """Return how to rebuild a class's instances, None if they are to stay plain data."""
        if type(module) is not str or type(qualname) is not str:
            raise ValueError("the name of a class was expected")
        if not self._allows((module, qualname)):
            self._blocked = True
            return None
        try:
            cls = _found(sys.modules.get(module) or importlib.import_module(module), qualname)
        except Exception as error:
            raise SerializationError(
                f"Cannot import {module} for its {qualname} ({type(error).__name__}: {error}): {_NEXT_STEP}"
            ) from error
        shape = _shape(cls) if isinstance(cls, type) else None
        if shape is None:
            raise SerializationError(f"{module} has no class {qualname} that could be rebuilt: {_NEXT_STEP}")
        return shape

    def _allows(self, key: tuple[str, str]) -> bool:
        module, name = key
        if key in langgraph_types.SAFE_MSGPACK_TYPES or key == ("collections", "Counter"):
            return True
        if self._allowed is True:
            emit_serde_event({"kind": "msgpack_unregistered_allowed", "module": module, "name": name})
            _warn_once(
                "unregistered",
                key,
                "Deserializing unregistered type %s.%s from checkpoint. Set LANGGRAPH_STRICT_MSGPACK=true to block it, "
                "or permit it explicitly: ExactSerializer(allowed=[(%r, %r), ...])",
                *(module, name, module, name),
            )
            return True
        if self._allowed and key in self._allowed:
            return True
        emit_serde_event({"kind": "msgpack_blocked", "module": module, "name": name})
        _warn_once(
            "blocked",
            key,
            "Blocked deserialization of %s.%s, which is read as plain data. Permit it: "
            "ExactSerializer(allowed=[(%r, %r), ...])",
            *(module, name, module, name),
        )
        return False


_NEXT_STEP = (
    "run with the code that defines it as it was when the value was stored, "
    "or open with ExactSerializer(strict=True) to read its fields as plain data."
)


# --- instances of classes ---


class _Shape:
    """How instances of one class are taken apart and made again. `take` gives what `make` gets, plain data first."""

    code: ClassVar[int]

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    @staticmethod
    def fits(cls: type) -> bool:
        """Whether classes like this one are stored in this shape, unless in one that stands earlier in `_SHAPES`."""
        raise NotImplementedError

    def take(self, obj: Any) -> list[Any]:
        raise NotImplementedError

    def make(self, plain: Any, *rest: Any) -> Any:
        raise NotImplementedError


class _EnumMember(_Shape):
    code = _ENUM

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, Enum)

    def take(self, obj: Any) -> list[Any]:
        return [obj._value_]  # not `value`, which a class may define anew

    def make(self, plain: Any, *_: Any) -> Any:
        return self.cls(plain)


class _Secret(_EnumMember):
    """Made from its one value too."""

    code = _SECRET

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, SecretStr | SecretBytes) or _inherits_v1(cls, "SecretStr", "SecretBytes")

    def take(self, obj: Any) -> list[Any]:
        return [obj.get_secret_value()]


class _Builtin(_Shape):
    """A subclass of a builtin: the builtin's value, its name, and the attributes of the instance."""

    code = _BUILTIN

    # The base's own methods, on both ways: a subclass may have overridden them to show something else.
    bases: ClassVar[dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], object] | None]]] = {
        OrderedDict: (
            lambda obj: OrderedDict(OrderedDict.items(obj)),
            lambda obj, value: [OrderedDict.__setitem__(obj, *item) for item in value.items()],
        ),
        defaultdict: (
            lambda obj: defaultdict(obj.default_factory, dict.items(obj)),
            lambda obj, value: defaultdict.__init__(obj, value.default_factory) or dict.update(obj, value),
        ),
        dict: (lambda obj: dict(dict.items(obj)), dict.update),
        list: (lambda obj: list(list.__iter__(obj)), list.extend),
        deque: (
            lambda obj: deque(deque.__iter__(obj), obj.maxlen),
            lambda obj, value: deque.__init__(obj, value, value.maxlen),
        ),
        set: (lambda obj: set(set.__iter__(obj)), set.update),
        bytearray: (lambda obj: bytearray(memoryview(obj)), bytearray.extend),
        frozenset: (lambda obj: frozenset(frozenset.__iter__(obj)), None),
        tuple: (lambda obj: tuple(tuple.__iter__(obj)), None),
        str: (str.__str__, None),
        bytes: (bytes.__bytes__, None),
        int: (int.__int__, None),
        float: (float.__float__, None),
        complex: (complex.__complex__, None),
    }

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self.base: Any = next(base for base in self.bases if issubclass(cls, base))
        self.slots = _slots(cls)

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, tuple(_Builtin.bases))

    def take(self, obj: Any) -> list[Any]:
        plain = self.bases[self.base][0](obj)
        attributes = _attributes(obj, self.slots)
        return [plain, self.base.__name__, attributes] if attributes else [plain, self.base.__name__]

    def make(self, plain: Any, *rest: Any) -> Any:
        base, attributes = rest if len(rest) == 2 else (rest[0], {})
        if base != self.base.__name__ or type(plain) is not self.base:
            raise ValueError(f"it is a {self.base.__name__}, stored was a {base}")
        new: Any = self.base.__new__
        fill = self.bases[self.base][1]
        obj = new(self.cls) if fill else new(self.cls, plain)
        if fill:
            fill(obj, plain)
        for name, value in attributes.items():
            object.__setattr__(obj, name, value)
        return obj


class _Record(_Shape):
    """A class with named fields: a dict of them, then a dict of what else the instance holds, if anything."""

    def __init__(self, cls: type, names: Iterable[str]) -> None:
        super().__init__(cls)
        self.order = tuple(names)
        self.names = frozenset(self.order)
        self.slots = tuple(name for name in _slots(cls) if name not in self.names)

    def take(self, obj: Any) -> list[Any]:
        more: dict[str, Any] = {}
        fields = self.fields(obj, more)
        return [fields, more] if more else [fields]

    def fields(self, obj: Any, more: dict[str, Any]) -> dict[str, Any]:
        """Return the fields; put into `more` the names of those without a value, and attributes that are no fields."""
        held = getattr(obj, "__dict__", {})
        if held.keys() == self.names and not self.slots:
            return held
        fields = {}
        for name in self.order:
            try:
                fields[name] = held[name] if name in held else getattr(obj, name)
            except AttributeError:
                more.setdefault("absent", []).append(name)
        if attributes := {name: value for name, value in _attributes(obj, self.slots).items() if name not in fields}:
            more["attributes"] = attributes
        return fields

    def make(self, plain: Any, *rest: Any) -> Any:
        more = rest[0] if rest else {}
        if plain.keys() == self.names:
            return self.build(plain, more)
        absent = more.get("absent", ())
        added = [name for name in self.order if name not in plain and name not in absent]
        gone = [name for name in plain if name not in self.names]
        try:
            return self.changed(plain, more, added, gone)
        except Exception as error:
            raise SerializationError(
                f"{_name(self.cls)} has changed since an instance of it was stored (new fields: {added}, removed: "
                f"{gone}) and this one cannot be rebuilt ({type(error).__name__}: {error}). Give the new fields "
                f"defaults, or {_NEXT_STEP}"
            ) from error

    def changed(self, fields: dict[str, Any], more: dict[str, Any], added: list[str], gone: list[str]) -> Any:
        if gone:
            key = (self.cls.__module__, self.cls.__qualname__)
            _warn_once("gone", key, "%s.%s no longer has the stored fields %s, which are dropped.", *key, gone)
        kept = {name: value for name, value in fields.items() if name in self.names}
        return self.build(kept | {name: self.default(name) for name in added}, more)

    def default(self, name: str) -> Any:
        """Return the value for a field that is newer than the stored instance; raise `LookupError` without one."""
        raise LookupError(f"{name} has no default")

    def build(self, fields: dict[str, Any], more: dict[str, Any]) -> Any:
        obj = object.__new__(self.cls)
        for name, value in fields.items():
            object.__setattr__(obj, name, value)
        for name, value in more.get("attributes", {}).items():
            object.__setattr__(obj, name, value)
        return obj


class _Dataclass(_Record):
    code = _DATACLASS

    def __init__(self, cls: Any) -> None:
        self._fields = {field.name: field for field in dataclasses.fields(cls)}
        super().__init__(cls, self._fields)

    @staticmethod
    def fits(cls: type) -> bool:
        return dataclasses.is_dataclass(cls)

    def default(self, name: str) -> Any:
        field = self._fields[name]
        if field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
        return super().default(name) if field.default is dataclasses.MISSING else field.default


class _NamedTuple(_Record):
    code = _NAMED_TUPLE

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls._fields)

    @staticmethod
    def fits(cls: Any) -> bool:
        return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)

    def fields(self, obj: Any, more: dict[str, Any]) -> dict[str, Any]:
        if attributes := _attributes(obj, self.slots):
            more["attributes"] = attributes
        return dict(zip(self.order, tuple.__iter__(obj), strict=True))

    def default(self, name: str) -> Any:
        return self.cls._field_defaults[name]

    def build(self, fields: dict[str, Any], more: dict[str, Any]) -> Any:
        obj = tuple.__new__(self.cls, [fields[name] for name in self.order])
        for name, value in more.get("attributes", {}).items():
            object.__setattr__(obj, name, value)
        return obj


class _Validated(_Record):
    """A record whose class can judge fields that are not its own: by its constructor."""

    def changed(self, fields: dict[str, Any], more: dict[str, Any], added: list[str], gone: list[str]) -> Any:
        if not gone:
            try:
                return super().changed(fields, more, added, gone)
            except LookupError:
                pass  # a field without a default; the constructor may know one
        return self.cls(**fields, **more.get("extra", {}))


class _Slotted(_Validated):
    """LangGraph's two classes that keep their fields in slots and are no dataclasses."""

    code = _SLOTTED
    roots: ClassVar = {("langgraph.types", "Send"), ("langgraph.store.base", "Item")}

    def __init__(self, cls: type) -> None:
        super().__init__(cls, _slots(cls))

    @staticmethod
    def fits(cls: type) -> bool:
        return any((base.__module__, base.__qualname__) in _Slotted.roots for base in cls.__mro__)


class _ModelV1(_Validated):
    code = _MODEL_V1

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls.__fields__)

    @staticmethod
    def fits(cls: type) -> bool:
        return _inherits_v1(cls, "BaseModel")

    def fields(self, obj: Any, more: dict[str, Any]) -> dict[str, Any]:
        more["set"] = sorted(obj.__fields_set__)
        return super().fields(obj, more)

    def default(self, name: str) -> Any:
        field = self.cls.__fields__[name]
        return super().default(name) if field.required else field.get_default()

    def build(self, fields: dict[str, Any], more: dict[str, Any]) -> Any:
        obj = super().build(fields, more)
        object.__setattr__(obj, "__fields_set__", set(more["set"]))
        return obj


class _Model(_Validated):
    """A pydantic model by what it holds, not by `model_dump`, which takes the models inside of it apart too."""

    code = _MODEL

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls.model_fields)
        self.private = cls.__private_attributes__
        self.takes_extra = cls.model_config.get("extra") == "allow"

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, BaseModel)

    def fields(self, obj: Any, more: dict[str, Any]) -> dict[str, Any]:
        more["set"] = sorted(obj.__pydantic_fields_set__)
        if extra := obj.__pydantic_extra__:
            more["extra"] = extra
        private = obj.__pydantic_private__
        if self.private or private is not None:
            if private is not None:
                private = {name: value for name, value in private.items() if value is not PydanticUndefined}
                if unset := [name for name in self.private if name not in private]:
                    more["absent"] = unset
            more["private"] = private
        return super().fields(obj, more)

    def default(self, name: str) -> Any:
        field = self.cls.model_fields[name]
        return super().default(name) if field.is_required() else field.get_default(call_default_factory=True)

    def build(self, fields: dict[str, Any], more: dict[str, Any]) -> Any:
        obj = object.__new__(self.cls)
        private = more.get("private")
        if self.private and ("private" not in more or private is not None):
            private = self._with_new_private(private or {}, more.get("absent", ()))
        if "attributes" in more:
            fields = fields | more["attributes"]
        object.__setattr__(obj, "__dict__", fields)
        object.__setattr__(obj, "__pydantic_fields_set__", set(more["set"]))
        object.__setattr__(obj, "__pydantic_extra__", more.get("extra", {} if self.takes_extra else None))
        object.__setattr__(obj, "__pydantic_private__", private)
        return obj

    def _with_new_private(self, private: dict[str, Any], unset: Iterable[str]) -> dict[str, Any]:
        new = {name: self.private[name].get_default() for name in self.private.keys() - private.keys() - set(unset)}
        return private | {name: value for name, value in new.items() if value is not PydanticUndefined}


_SHAPES: dict[int, type[_Shape]] = {
    shape.code: shape for shape in (_EnumMember, _NamedTuple, _Builtin, _Model, _ModelV1, _Secret, _Dataclass, _Slotted)
}


@lru_cache(maxsize=4096)
def _shape(cls: Any) -> _Shape | None:
    """Return how instances of a class are stored, None if they are not."""
    if issubclass(cls, BaseException):
        return None
    return next((shape(cls) for shape in _SHAPES.values() if shape.fits(cls)), None)


def _inherits_v1(cls: type, *names: str) -> bool:
    """Whether a class inherits from one of pydantic.v1, which is not imported for it: it warns on new Pythons."""
    v1 = sys.modules.get("pydantic.v1")
    return v1 is not None and issubclass(cls, tuple(getattr(v1, name) for name in names))


def _slots(cls: type) -> tuple[str, ...]:
    """Return the names under which instances keep attributes outside of their `__dict__`."""
    names = []
    for base in reversed(cls.__mro__):
        declared = vars(base).get("__slots__", ())
        for name in (declared,) if isinstance(declared, str) else declared:
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in dict.fromkeys(names) if not name.startswith("__"))


def _attributes(obj: Any, slots: Iterable[str]) -> dict[str, Any]:
    attributes = {name: getattr(obj, name) for name in slots if hasattr(obj, name)}
    attributes.update(getattr(obj, "__dict__", {}))
    attributes.pop("__orig_class__", None)  # Box[int](...) leaves it on the instance for type checkers
    return attributes


# --- containers and leaves ---


def _items_writer(code: int) -> _Writer:
    return lambda encoder, obj: Ext(code, encoder.pack(list(obj)))


def _write_default_dict(encoder: _Encoder, obj: defaultdict[Any, Any]) -> Ext:
    factory = obj.default_factory
    if factory is not None and factory not in _FACTORIES.values():
        raise _Refused(
            f"has the default factory {reprlib.repr(factory)}, which is code: use one of {', '.join(_FACTORIES)}, "
            "or store dict(value) instead"
        )
    name = None if factory is None else getattr(factory, "__name__", None)
    return Ext(_DEFAULT_DICT, encoder.pack([name, *_flat(obj)]))


def _read_default_dict(decoder: _Decoder, data: bytes) -> Any:
    name, *flat = decoder.items(data)
    factory = None if name is None else _FACTORIES[name]
    return decoder.pairs(lambda pairs: defaultdict(factory, pairs), flat)


def _read_deque(decoder: _Decoder, data: bytes) -> Any:
    maxlen, *items = decoder.items(data)
    return deque(items, maxlen)


def _stored_zone(moment: datetime | time) -> Any:
    """Return a time zone that can be stored: the value's own, or for a class of unknown kind its offset."""
    zone = moment.tzinfo
    if zone is None or type(zone) in (timezone, ZoneInfo):
        return zone
    offset = moment.utcoffset()
    if offset is None or moment.replace(tzinfo=timezone(offset)) != moment:
        raise _Refused(f"has a time zone of type {_name(type(zone))}: use zoneinfo.ZoneInfo instead")
    return timezone(offset)


def _zone_key(zone: ZoneInfo) -> list[Any]:
    if zone.key is None:
        raise _Refused("has no key: use ZoneInfo(key) instead")
    return [zone.key]


# By the name in the stored format: the type, its parts, and what builds it from them.
_LEAVES: dict[str, tuple[type, Callable[[Any], list[Any]], Callable[..., Any]]] = {
    "int": (
        int,
        lambda number: [number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)],
        lambda raw: int.from_bytes(raw, "big", signed=True),
    ),
    "complex": (complex, lambda number: [number.real, number.imag], complex),
    "Decimal": (Decimal, lambda number: [str(number)], Decimal),
    "UUID": (
        UUID,
        lambda uuid: [uuid.bytes, uuid.is_safe.value],
        lambda raw, safe: UUID(bytes=raw, is_safe=SafeUUID(safe)),
    ),
    "date": (date, lambda day: [day.year, day.month, day.day], date),
    "time": (
        time,
        lambda t: [t.hour, t.minute, t.second, t.microsecond, _stored_zone(t), t.fold],
        lambda *parts: time(*parts[:5], fold=parts[5]),
    ),
    "datetime": (
        datetime,
        lambda t: [t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond, _stored_zone(t), t.fold],
        lambda *parts: datetime(*parts[:8], fold=parts[8]),  # noqa: DTZ001 - the value's own
    ),
    "timedelta": (timedelta, lambda span: [span.days, span.seconds, span.microseconds], timedelta),
    "timezone": (timezone, lambda zone: list(zone.__getinitargs__()), timezone),
    "ZoneInfo": (ZoneInfo, _zone_key, ZoneInfo),
    "Pattern": (re.Pattern, lambda pattern: [pattern.pattern, pattern.flags], re.compile),
    **{
        kind.__name__: (kind, lambda path: [str(path)], kind)
        for kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
    },
    **{
        kind.__name__: (kind, lambda address: [str(address)], kind)
        for kind in (
            *(ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network),
            *(ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network),
        )
    },
}


def _leaf_writer(name: str, parts: Callable[[Any], list[Any]]) -> _Writer:
    return lambda encoder, obj: Ext(_LEAF, encoder.pack([name, *parts(obj)]))


def _read_leaf(decoder: _Decoder, data: bytes) -> Any:
    name, *parts = decoder.items(data)
    try:
        return _LEAVES[name][2](*parts)
    except (ZoneInfoNotFoundError, NotImplementedError) as error:  # no time zone data; a path of another system
        raise SerializationError(f"Cannot rebuild {name}({parts[0]!r}) on this machine: {error}") from error


def _write_array(encoder: _Encoder, obj: Any) -> Ext:
    order = "F" if obj.flags.f_contiguous and not obj.flags.c_contiguous else "C"
    return Ext(_ARRAY, encoder.pack([_dtype_name(obj.dtype), list(obj.shape), order, obj.tobytes(order)]))


def _write_numpy_scalar(encoder: _Encoder, obj: Any) -> Ext:
    array = sys.modules["numpy"].asarray(obj)  # an empty str of numpy has no size of its own, in an array it has
    name, raw = _dtype_name(array.dtype), array.tobytes()
    again = _array(name, [], "C", raw)[()]
    if type(again) is not type(obj) or (again != obj and obj == obj):  # a platform's alias; a str that ends in NULs
        raise _Refused("has no exact stored form: store value.item() instead")
    return Ext(_NUMPY_SCALAR, encoder.pack([name, [], "C", raw]))


def _dtype_name(dtype: Any) -> str:
    if dtype.kind not in _NUMPY_KINDS or sys.modules["numpy"].dtype(dtype.str) != dtype:
        raise _Refused(f"has the dtype {dtype}: store value.tolist(), or an array of numbers, instead")
    return str(dtype.str)


def _array(dtype_name: str, shape: list[int], order: Any, raw: bytes) -> Any:
    try:
        numpy = importlib.import_module("numpy")
    except ImportError as error:
        raise SerializationError("Cannot rebuild a numpy array: install numpy.") from error
    dtype = numpy.dtype(dtype_name)
    if dtype.kind not in _NUMPY_KINDS or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError("the array's type or shape does not fit its bytes")
    return numpy.ndarray(tuple(shape), dtype, buffer=bytearray(raw), order=order)


_WRITERS: dict[type, _Writer] = {
    # An int comes here if it has more than 64 bits.
    **{kind: _leaf_writer(name, parts) for name, (kind, parts, _) in _LEAVES.items()},
    tuple: _items_writer(_TUPLE),
    set: _items_writer(_SET),
    frozenset: _items_writer(_FROZENSET),
    OrderedDict: lambda encoder, obj: Ext(_ORDERED_DICT, encoder.pack(_flat(obj))),
    defaultdict: _write_default_dict,
    deque: lambda encoder, obj: Ext(_DEQUE, encoder.pack([obj.maxlen, *obj])),
    # Its value directly: a snapshot of a list begins with the header of the list.
    _DeltaSnapshot: lambda encoder, obj: Ext(_SNAPSHOT, encoder.pack(obj.value)),
}

_READERS: dict[int, Callable[[_Decoder, bytes], Any]] = {
    _TEXT: lambda _, data: data.decode("utf-8", "surrogatepass"),
    _BYTEARRAY: lambda _, data: bytearray(data),
    _TUPLE: lambda decoder, data: tuple(decoder.items(data)),
    _SET: lambda decoder, data: decoder.hashed(set, decoder.items(data)),
    _FROZENSET: lambda decoder, data: decoder.hashed(frozenset, decoder.items(data)),
    _DICT: lambda decoder, data: decoder.pairs(dict, decoder.items(data)),
    _ORDERED_DICT: lambda decoder, data: decoder.pairs(OrderedDict, decoder.items(data)),
    _DEFAULT_DICT: _read_default_dict,
    _DEQUE: _read_deque,
    _SNAPSHOT: lambda decoder, data: _DeltaSnapshot(decoder.unpack(data)),
    _LEAF: _read_leaf,
    _ARRAY: lambda decoder, data: _array(*decoder.items(data)),
    _NUMPY_SCALAR: lambda decoder, data: _array(*decoder.items(data))[()],
}
