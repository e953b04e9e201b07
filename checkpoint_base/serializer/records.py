"""Instances with named fields: dataclasses, named tuples, and LangGraph's Send and Item."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from checkpoint_base.errors import SerializationError
from checkpoint_base.serializer import codes
from checkpoint_base.serializer.forms import Form, set_attributes
from checkpoint_base.serializer.log import warn_once
from checkpoint_base.serializer.refusal import name_of, reason_of

NEXT_STEP = (
    "run with the code that defines it as it was when the value was stored, "
    "or open with ExactSerializer(strict=True) to read its fields as plain data."
)


class Record(Form):
    """The plain value is a dict of the fields."""

    def __init__(self, cls: Any, names: Iterable[str]) -> None:
        super().__init__(cls)
        self.order = tuple(names)
        self.names = frozenset(self.order)

    def take(self, obj: Any) -> list[Any]:
        more = self.more(obj)
        held = getattr(obj, "__dict__", {})
        if held.keys() == self.names:
            return [held, more] if more else [held]
        fields = {}
        for name in self.order:
            try:
                fields[name] = held[name] if name in held else getattr(obj, name)
            except AttributeError:
                more.setdefault("absent", []).append(name)
        # Box[int](...) leaves `__orig_class__` on the instance, for type checkers.
        if attributes := {name: held[name] for name in held if name not in fields and name != "__orig_class__"}:
            more["attributes"] = attributes
        return [fields, more] if more else [fields]

    def more(self, obj: Any) -> dict[str, Any]:  # noqa: ARG002
        """Return what an instance holds besides its fields and attributes."""
        return {}

    def make(self, plain: Any, more: Mapping[str, Any]) -> Any:
        if plain.keys() == self.names:
            return self.build(plain, more)
        absent = more.get("absent", ())
        added = [name for name in self.order if name not in plain and name not in absent]
        gone = [name for name in plain if name not in self.names]
        try:
            return self.changed(plain, more, added, gone)
        except Exception as error:
            raise SerializationError(
                f"{name_of(self.cls)} has changed since an instance of it was stored (new fields: {added}, removed: "
                f"{gone}) and this one cannot be rebuilt ({reason_of(error)}). Give the new fields "
                f"defaults, or {NEXT_STEP}"
            ) from error

    def changed(self, fields: Mapping[str, Any], more: Mapping[str, Any], added: list[str], gone: list[str]) -> Any:
        """Return an instance from the fields of an older class: drop those gone, give those added their defaults."""
        if gone:
            warn_once(
                "%s.%s no longer has the stored fields %s, which are dropped.",
                self.cls.__module__,
                self.cls.__qualname__,
                gone,
            )
        kept = {name: value for name, value in fields.items() if name in self.names}
        return self.build(kept | {name: self.default(name) for name in added}, more)

    def default(self, name: str) -> Any:
        """Return the default of a field that the stored instance lacks; raise `LookupError` if there is none."""
        raise LookupError(f"{name} has no default")

    def build(self, fields: dict[str, Any], more: Mapping[str, Any]) -> Any:
        obj = object.__new__(self.cls)
        set_attributes(obj, fields)
        set_attributes(obj, more.get("attributes", {}))
        return obj


class Dataclass(Record):
    code = codes.DATACLASS

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


class NamedTuple(Record):
    code = codes.NAMED_TUPLE

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls._fields)

    @staticmethod
    def fits(cls: Any) -> bool:
        return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)

    def take(self, obj: Any) -> list[Any]:
        fields = dict(zip(self.order, tuple.__iter__(obj), strict=True))
        attributes = getattr(obj, "__dict__", None)
        return [fields, {"attributes": attributes}] if attributes else [fields]

    def default(self, name: str) -> Any:
        defaults = self.cls._field_defaults
        return defaults[name] if name in defaults else super().default(name)

    def build(self, fields: dict[str, Any], more: Mapping[str, Any]) -> Any:
        obj = tuple.__new__(self.cls, [fields[name] for name in self.order])
        set_attributes(obj, more.get("attributes", {}))
        return obj


class ValidatedRecord(Record):
    """A record whose constructor decides what becomes of fields that have changed."""

    def changed(self, fields: Mapping[str, Any], more: Mapping[str, Any], added: list[str], gone: list[str]) -> Any:
        if not gone:
            try:
                return super().changed(fields, more, added, gone)
            except LookupError:
                pass  # the constructor may know a default
        return self.cls(**fields, **more.get("extra", {}))


class Slotted(ValidatedRecord):
    """LangGraph's two classes that keep their fields in slots and are not dataclasses."""

    code = codes.SLOTTED
    _roots: ClassVar = {("langgraph.types", "Send"), ("langgraph.store.base", "Item")}

    def __init__(self, cls: type) -> None:
        super().__init__(cls, declared_slots(cls))

    @staticmethod
    def fits(cls: type) -> bool:
        return any((base.__module__, base.__qualname__) in Slotted._roots for base in cls.__mro__)


def declared_slots(cls: type) -> list[str]:
    """Return the names that a class and its bases reserve for attributes outside of ``__dict__``, bases first."""
    names: list[str] = []
    for base in reversed(cls.__mro__):
        slots = vars(base).get("__slots__", ())
        names.extend([slots] if isinstance(slots, str) else slots)
    return [name for name in dict.fromkeys(names) if not (name.startswith("__") and name.endswith("__"))]
