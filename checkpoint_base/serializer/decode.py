"""Decodes the stored form of a value."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import ormsgpack
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from checkpoint_base.errors import CorruptCheckpoint, SchemaMismatch, SerializationError
from checkpoint_base.msgpack import nesting
from checkpoint_base.serializer import arrays, classes, codes
from checkpoint_base.serializer.allowlist import permits
from checkpoint_base.serializer.containers import CONTAINERS
from checkpoint_base.serializer.encode import MAX_LEVELS, MAX_NESTING
from checkpoint_base.serializer.forms import Form
from checkpoint_base.serializer.leaves import make_leaf
from checkpoint_base.serializer.model_lists import parts_of_kind
from checkpoint_base.serializer.models import Model
from checkpoint_base.serializer.records import NEXT_STEP
from checkpoint_base.serializer.refusal import of_later_version, reason_of
from checkpoint_base.serializer.stock import TOO_DEEP

_MAKERS: dict[int, Callable[[list[Any]], Any]] = {
    **{container.code: container.make for container in CONTAINERS.values()},
    codes.LEAF: lambda parts: make_leaf(*parts),
    codes.ARRAY: lambda parts: arrays.make_array(*parts),
    codes.NUMPY_SCALAR: lambda parts: arrays.make_scalar(*parts),
}
_KNOWN = frozenset((codes.TEXT, codes.BYTEARRAY, codes.SNAPSHOT, codes.MODELS, *_MAKERS, *classes.CODES))
_RENAMED = "if it has been renamed or moved, keep its old name there as well (Old = New); or "
_SCRIPT = (
    "a program that was started as a script defines it, where no other finds it. Define such classes in a module that "
    "all programs import; for what is stored already, "
)
_PLAIN = {container.code: container.plain for container in CONTAINERS.values() if container.plain}


def damaged(tag: str, payload: bytes, error: BaseException) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"a stored value ({tag}, {len(payload)} bytes) is damaged: {type(error).__name__}: {error}"
    )


class Decoder:
    """Serves one call of `loads_typed`. It remembers the first failure, which ormsgpack would hide."""

    __slots__ = ("_allowed", "_blocked", "_depth", "_failure", "_forms", "_levels_left")

    def __init__(self, allowed: set[tuple[str, ...]] | bool | None) -> None:
        self._allowed = allowed
        self._blocked = False
        self._depth = 0  # of extensions
        self._levels_left = MAX_LEVELS
        self._failure: BaseException | None = None
        self._forms: dict[tuple[str, str], Form | None] = {}

    def load(self, data: bytes) -> Any:
        try:
            return self._unpack(data)
        except Exception as error:  # noqa: BLE001 - damaged bytes may raise anything
            failure = self._failure or error
            if isinstance(failure, SerializationError | SchemaMismatch) or not isinstance(failure, Exception):
                raise failure from failure.__cause__
            # If not even `_extension` could be called, too little stack was left for the call.
            if isinstance(failure, RecursionError | MemoryError) or "ext_hook" in str(failure):
                raise SerializationError(
                    "Too little stack or memory is left to rebuild the value: read it where the stack is less deep."
                ) from failure
            raise damaged(codes.TAG, data, failure) from failure

    def _unpack(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._extension)

    def _extension(self, code: int, data: bytes) -> Any:
        levels_left = self._levels_left
        self._depth += 1
        try:
            # Data of n bytes has at most n levels, so short data need not be measured. Nor need the first two
            # extensions: any stack has room for the deepest that ormsgpack reads.
            if self._depth > 2 and len(data) > levels_left:
                self._levels_left -= nesting(data)
            if self._depth > 2 * MAX_NESTING or self._levels_left < 0:  # a tuple of models is two extensions
                raise ValueError(TOO_DEEP)  # noqa: TRY301
            if code not in _KNOWN:
                raise of_later_version(f"extension {code}")  # noqa: TRY301
            if code == codes.TEXT:
                return data.decode("utf-8", "surrogatepass")
            if code == codes.BYTEARRAY:
                return bytearray(data)
            value = ormsgpack.unpackb(data, ext_hook=self._extension)
            if code == codes.SNAPSHOT:
                return _DeltaSnapshot(value)
            if type(value) is not list:
                raise ValueError("an array was expected")  # noqa: TRY301
            if code == codes.MODELS:
                return self._models(value)
            if make := _MAKERS.get(code):
                return self._made(make, code, value)
            return self._instance(code, *value)
        except BaseException as error:
            if self._failure is None:
                self._failure = error
            raise
        finally:
            self._depth -= 1
            self._levels_left = levels_left

    def _made(self, make: Callable[[list[Any]], Any], code: int, parts: list[Any]) -> Any:
        if not (self._blocked and code in _PLAIN):
            return make(parts)
        # Instances of classes that are not permitted are plain data here: perhaps unhashable, or equal to each other.
        plain = _PLAIN[code](parts)
        try:
            made = make(parts)
        except TypeError:
            return plain
        return made if len(made) == len(plain) else plain

    def _models(self, rows: list[Any]) -> list[Any]:
        makers: dict[Any, Callable[[Any], Any]] = {None: _as_it_is}
        elements = []
        for kind, element in rows:
            make = makers.get(kind)
            if make is None:
                make = makers[kind] = self._maker(kind)
            elements.append(make(element))
        return elements

    def _maker(self, kind: Any) -> Callable[[Any], Any]:
        """Return what makes a model of this kind from its fields."""
        module, qualname, was_set = parts_of_kind(kind)
        form = self._form(codes.MODEL, module, qualname)
        if form is None:
            return _as_it_is
        slow = partial(_rebuilt, form, f"{module}.{qualname}", more={"set": was_set})
        return cast(Model, form).maker(was_set, slow)

    def _instance(self, code: int, module: str, qualname: str, plain: Any, more: Any = None) -> Any:
        form = self._form(code, module, qualname)
        return plain if form is None else _rebuilt(form, f"{module}.{qualname}", plain, more or {})

    def _form(self, code: int, module: str, qualname: str) -> Form | None:
        """Return the form of a class's instances, or None if they stay plain data."""
        key = (module, qualname)
        try:
            form = self._forms[key]
        except KeyError:
            form = self._forms[key] = self._permitted(module, qualname)
        if form is not None and form.code != code:
            raise SerializationError(
                f"{module}.{qualname} is not the kind of class that was stored under this name: {NEXT_STEP}"
            )
        return form

    def _permitted(self, module: str, qualname: str) -> Form | None:
        if type(module) is not str or type(qualname) is not str:
            raise ValueError("the name of a class was expected")
        if not permits(self._allowed, module, qualname):
            self._blocked = True
            return None
        try:
            cls = classes.find(sys.modules.get(module) or importlib.import_module(module), qualname)
        except Exception as error:
            raise SerializationError(
                f"Cannot import {module} for its {qualname} ({type(error).__name__}: {error}): {_RENAMED}{NEXT_STEP}"
            ) from error
        form = classes.form_of(cls) if isinstance(cls, type) else None
        if form is None:
            why = _SCRIPT if module == "__main__" else _RENAMED
            raise SerializationError(f"{module} has no class {qualname} that could be rebuilt: {why}{NEXT_STEP}")
        return form


def _as_it_is(element: Any) -> Any:
    return element


def _rebuilt(form: Form, name: str, plain: Any, more: Mapping[str, Any]) -> Any:
    try:
        return form.make(plain, more)
    except SerializationError:
        raise
    except Exception as error:
        raise SerializationError(f"Cannot rebuild {name} ({reason_of(error)}): {NEXT_STEP}") from error
