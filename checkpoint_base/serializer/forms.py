"""Instances that consist of one plain value: members of enums, secrets, URLs, and subclasses of builtins."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar

import pydantic
from pydantic import AnyUrl, MongoDsn, NatsDsn, PostgresDsn, SecretBytes, SecretStr
from pydantic_core import MultiHostUrl
from pydantic_core import Url as CoreUrl

from checkpoint_base.serializer import codes
from checkpoint_base.serializer.refusal import Refused


class Form(ABC):
    """How instances of one class are taken apart and rebuilt, with what must be known of the class."""

    code: ClassVar[int]
    place: ClassVar[str] = ".value"
    """The code that leads from an instance to its plain value."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    @staticmethod
    @abstractmethod
    def fits(cls: type) -> bool:
        """Whether this form suits a class. The first form that does is used."""

    @abstractmethod
    def take(self, obj: Any) -> list[Any]:
        """Return the plain value, followed by a dict of anything else that the instance holds."""

    @abstractmethod
    def make(self, plain: Any, more: Mapping[str, Any]) -> Any:
        """Return an instance of which `take` would return these parts; neither ``__init__`` nor a validator runs."""


class EnumMember(Form):
    code = codes.ENUM

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, Enum)

    def take(self, obj: Any) -> list[Any]:
        value = obj._value_  # not `value`, which a class may override
        if value != value or self.cls(value) is not obj:  # NaN
            raise Refused("is a member that cannot be found by its value: give it another one")
        return [value]

    def make(self, plain: Any, more: Mapping[str, Any]) -> Any:  # noqa: ARG002
        try:
            return self.cls(plain)
        except ValueError as error:
            raise LookupError("no member has the stored value any more") from error


class Secret(Form):
    code = codes.SECRET

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, SecretStr | SecretBytes | pydantic.Secret) or inherits_v1(
            cls, "SecretStr", "SecretBytes"
        )

    def take(self, obj: Any) -> list[Any]:
        # Secret[int](...) leaves `__orig_class__` on the instance, for type checkers.
        return _with_attributes(obj._secret_value, obj, "_secret_value", "__orig_class__")

    def make(self, plain: Any, more: Mapping[str, Any]) -> Any:
        obj = object.__new__(self.cls)
        set_attributes(obj, {"_secret_value": plain, **more.get("attributes", {})})
        return obj


class Url(Form):
    """A URL of pydantic, which is a core URL in a class of its own."""

    code = codes.URL
    place = ""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        self._core: Any = CoreUrl if issubclass(cls, AnyUrl) else MultiHostUrl

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, AnyUrl | PostgresDsn | MongoDsn | NatsDsn)

    def take(self, obj: Any) -> list[Any]:
        text = str(obj._url)
        try:
            is_same = str(self._read(text)) == text
        except ValueError:  # a comma in the path of a URL with several hosts
            is_same = False
        if not is_same:
            raise Refused("cannot be read again from its text: store str(url) instead")
        return _with_attributes(text, obj, "_url")

    def make(self, plain: Any, more: Mapping[str, Any]) -> Any:
        obj = object.__new__(self.cls)
        set_attributes(obj, {"_url": self._read(plain), **more.get("attributes", {})})
        return obj

    def _read(self, text: str) -> Any:
        url = self._core(text)
        # It adds a slash as a path unless it is told not to, which pydantic before 2.12 cannot be.
        return url if str(url) == text else self._core(text, preserve_empty_path=True)


_FILLED = frozenset({dict, list, set})  # by ``__init__``, not by ``__new__``


class BuiltinSubclass(Form):
    code = codes.BUILTIN
    place = ""

    # The base's own methods: a subclass may have overridden them to show something else.
    bases: ClassVar[dict[type, Callable[[Any], Any]]] = {
        dict: dict.copy,
        list: list.copy,
        set: lambda obj: set(set.__iter__(obj)),
        frozenset: lambda obj: frozenset(frozenset.__iter__(obj)),
        tuple: lambda obj: tuple(tuple.__iter__(obj)),
        str: str.__str__,
        bytes: bytes.__bytes__,
        int: int.__int__,
        float: float.__float__,
    }

    def __init__(self, cls: type) -> None:
        super().__init__(cls)
        self.base: Any = next(base for base in self.bases if issubclass(cls, base))

    @staticmethod
    def fits(cls: type) -> bool:
        return issubclass(cls, tuple(BuiltinSubclass.bases))

    def take(self, obj: Any) -> list[Any]:
        plain = self.bases[self.base](obj)
        attributes = getattr(obj, "__dict__", None)
        return [plain, {"attributes": attributes}] if attributes else [plain]

    @property
    def can_be_made(self) -> bool:
        """False for classes written in C such as time.struct_time, which only their own constructor can make."""
        try:
            self.base.__new__(self.cls)
        except TypeError:
            return False
        return True

    def make(self, plain: Any, more: Mapping[str, Any]) -> Any:
        if type(plain) is not self.base:
            raise TypeError(f"the class is a {self.base.__name__}, but a {type(plain).__name__} was stored")
        obj = self.base.__new__(self.cls, plain)
        if self.base in _FILLED:
            self.base.__init__(obj, plain)  # type: ignore[misc]  # not the subclass's
        set_attributes(obj, more.get("attributes", {}))
        return obj


def _with_attributes(plain: Any, obj: Any, *held: str) -> list[Any]:
    """The plain value with the attributes of an instance, but for those that hold it."""
    attributes = {name: value for name, value in vars(obj).items() if name not in held}
    return [plain, {"attributes": attributes}] if attributes else [plain]


def set_attributes(obj: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        object.__setattr__(obj, name, value)  # the class's own may refuse, or run code


def inherits_v1(cls: type, *names: str) -> bool:
    """Whether a class inherits from one of these in pydantic.v1, which is not imported: it warns on new Pythons."""
    v1 = sys.modules.get("pydantic.v1")
    return v1 is not None and issubclass(cls, tuple(getattr(v1, name) for name in names))
