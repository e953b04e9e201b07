"""Pydantic models, stored as what they hold. `model_dump` would take the models inside of them apart, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from checkpoint_base.serializer import codes
from checkpoint_base.serializer.forms import inherits_v1
from checkpoint_base.serializer.records import ValidatedRecord

# The descriptors that `object.__setattr__` would look up again for each instance.
_set_fields = vars(BaseModel)["__dict__"].__set__
_set_names = vars(BaseModel)["__pydantic_fields_set__"].__set__
_set_extra = vars(BaseModel)["__pydantic_extra__"].__set__
_set_private = vars(BaseModel)["__pydantic_private__"].__set__


class Model(ValidatedRecord):
    code = codes.MODEL

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls.model_fields)
        self._private = cls.__private_attributes__
        self._takes_extra = cls.model_config.get("extra") == "allow"

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, BaseModel)

    def more(self, obj: Any) -> dict[str, Any]:
        more = {"set": sorted(obj.__pydantic_fields_set__)}
        if extra := obj.__pydantic_extra__:
            more["extra"] = extra
        if private := obj.__pydantic_private__:
            more["private"] = private
        return more

    def default(self, name: str) -> Any:
        field = self.cls.model_fields[name]
        return super().default(name) if field.is_required() else field.get_default(call_default_factory=True)

    def build(self, fields: dict[str, Any], more: Mapping[str, Any]) -> Any:
        obj = object.__new__(self.cls)
        _set_fields(obj, fields | more["attributes"] if "attributes" in more else fields)
        _set_names(obj, set(more["set"]))
        _set_extra(obj, more.get("extra", {} if self._takes_extra else None))
        _set_private(obj, self._with_new_private(more.get("private")))
        return obj

    def maker(self, was_set: Sequence[str], slow: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a fast function that makes instances from their fields, of which ``was_set`` were set.

        It is for the thousands of messages in a conversation, and leaves unusual ones to ``slow``.
        """
        if self._private:
            return slow
        cls, fields, set_fields, takes_extra = self.cls, self.names, frozenset(was_set), self._takes_extra
        new = object.__new__

        def make(plain: Any) -> Any:
            if type(plain) is not dict or plain.keys() != fields:
                return slow(plain)
            obj = new(cls)
            _set_fields(obj, plain)
            _set_names(obj, set(set_fields))
            _set_extra(obj, {} if takes_extra else None)
            _set_private(obj, None)
            return obj

        return make

    def _with_new_private(self, stored: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the stored private attributes, with defaults for those that the stored instance lacks."""
        if not self._private:
            return stored
        new = {name: field.get_default() for name, field in self._private.items() if not stored or name not in stored}
        return {name: value for name, value in new.items() if value is not PydanticUndefined} | (stored or {})


class ModelV1(ValidatedRecord):
    code = codes.MODEL_V1

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, cls.__fields__)

    @staticmethod
    def fits(cls: type) -> bool:
        return inherits_v1(cls, "BaseModel")

    def more(self, obj: Any) -> dict[str, Any]:
        return {"set": sorted(obj.__fields_set__)}

    def default(self, name: str) -> Any:
        field = self.cls.__fields__[name]
        return super().default(name) if field.required else field.get_default()

    def build(self, fields: dict[str, Any], more: Mapping[str, Any]) -> Any:
        obj = super().build(fields, more)
        object.__setattr__(obj, "__fields_set__", set(more["set"]))
        return obj
