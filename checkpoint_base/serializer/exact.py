"""ExactSerializer: the serializer that LangGraph calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ormsgpack
from langchain_core.load.load import ALL_SERIALIZABLE_MAPPINGS
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from checkpoint_base.errors import SerializationError, UnsupportedOperation
from checkpoint_base.serializer.allowlist import key_of, permits, permitted
from checkpoint_base.serializer.codes import TAG
from checkpoint_base.serializer.decode import Decoder, damaged
from checkpoint_base.serializer.encode import Encoder
from checkpoint_base.serializer.place import explain
from checkpoint_base.serializer.stock import hook_for_classes_of_values, require_shallow


class ExactSerializer(JsonPlusSerializer):
    """LangGraph's serializer, except that a value comes back equal and of the same type at every depth.

    Dictionaries keep their order. Data that the stock `JsonPlusSerializer` wrote is read as the stock one reads it,
    except that `strict` also holds for JSON, in which the stock one rebuilds many of langchain-core's classes; the
    stock one refuses what this one wrote, by its tag. Pickle is neither written nor read.

    A class is stored by its module and qualified name. Reading rebuilds instances of the classes that LangGraph
    declares safe, and of others only if permitted. An instance of a class that is not permitted comes back as plain
    data (a dict of its fields, the value of an enum member), and nothing is imported for it. By default every class is
    permitted, with one warning per class, as in the stock serializer, unless `LANGGRAPH_STRICT_MSGPACK` is set. With
    `strict`, only the safe classes and those in `allowed` are permitted; passing `allowed` implies `strict`. `allowed`
    has classes, or pairs of module and qualified name.

    An instance is rebuilt from its fields; neither `__init__` nor a validator runs. If its class has changed since,
    new fields get their defaults, fields that a dataclass no longer has are dropped with one warning, and a pydantic
    model is validated anew.
    """

    def __init__(self, *, strict: bool = False, allowed: Iterable[type | tuple[str, ...]] | None = None) -> None:
        if type(strict) is not bool:
            raise UnsupportedOperation(f"strict={strict!r}: give True or False")
        if strict or allowed is not None:
            super().__init__(allowed_msgpack_modules=permitted(() if allowed is None else allowed))
        else:
            super().__init__()
            if self._allowed_msgpack_modules is True:
                self._unpack_ext_hook = hook_for_classes_of_values()

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[tuple[str, ...] | type]) -> JsonPlusSerializer:
        return super().with_msgpack_allowlist([key_of(entry) for entry in extra_allowlist])

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the tag and the bytes of a value.

        Raises `SerializationError` if the value would not come back as it is; the message names the part at fault.
        """
        if obj is None:
            return "null", b""
        if type(obj) is bytes:
            return "bytes", obj
        if type(obj) is bytearray:
            return "bytearray", bytes(obj)
        encoder = Encoder()
        try:
            return TAG, encoder.pack(obj)
        except Exception as error:  # noqa: BLE001 - even what a property of the value raises
            failure = encoder.failure or error
            if not isinstance(failure, Exception):
                raise failure from None
            message, failure = explain(obj, failure)
            raise SerializationError(message) from failure

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value of a tag and its bytes.

        Raises `CorruptCheckpoint` if the bytes are damaged, `SchemaMismatch` if a later version wrote them, and
        `SerializationError` if the value's class cannot be imported or rebuilt, or the tag is unknown.
        """
        tag, payload = data
        if tag == TAG:
            # Read here, not in __init__: LangGraph copies a serializer and then sets the copy's allowlist.
            return Decoder(self._allowed_msgpack_modules).load(payload)
        try:
            if tag == "msgpack":
                require_shallow(payload)
            return super().loads_typed(data)
        except NotImplementedError as error:
            hint = "with its key" if "+" in tag else "or upgrade checkpoint-backends if a later version did"
            raise SerializationError(
                f"Cannot read a value with the tag {tag!r}: use the serializer that wrote it, {hint}."
            ) from error
        except (ormsgpack.MsgpackDecodeError, RecursionError) as error:
            raise damaged(tag, payload, error) from error

    def _reviver(self, value: dict[str, Any]) -> Any:
        """Return what an object in the stock serializer's JSON stands for."""
        if self._allowed_msgpack_modules is not True and value.get("lc") == 1 and value.get("type") == "constructor":
            path = tuple(value["id"])
            *module, name = ALL_SERIALIZABLE_MAPPINGS.get(path, path)
            if not permits(self._allowed_msgpack_modules, ".".join(module), name):
                return value
        return super()._reviver(value)
