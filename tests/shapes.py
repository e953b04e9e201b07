"""Classes at module level for the tests: an instance can be stored only if its class can be imported."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import InitVar, dataclass, field
from datetime import date, tzinfo
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import pydantic.v1
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, HttpUrl, PrivateAttr, RootModel, Secret, SecretStr
from pydantic.dataclasses import dataclass as pydantic_dataclass

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    PAIR = ("red", "blue")


class Strange(enum.Enum):
    NAN = float("nan")


class Wrapped(enum.Enum):
    """Its members show another value than the one that leads to them."""

    ONE = 1

    @property
    def value(self) -> Any:
        return [self._value_]


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass(frozen=True)
class Frozen:
    value: Any


@dataclass(slots=True)
class Slots:
    value: Any
    other: Any = None


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    value: Any


@dataclass
class Late:
    given: Any
    derived: Any = field(init=False)
    constant: Any = field(init=False, default=3)
    seed: InitVar[int] = 0

    def __post_init__(self, seed: int) -> None:
        self.derived = [self.given, seed]


@dataclass(init=False)
class Custom:
    value: Any

    def __init__(self, first: Any, second: Any) -> None:
        self.value = (first, second)


@dataclass
class Counted:
    """Runs code that must not run again when an instance is read."""

    value: Any

    def __post_init__(self) -> None:
        self.value = (self.value,)


@dataclass
class Box(Generic[T]):
    value: T


class SlotBase:
    __slots__ = ("__hidden", "note")


@dataclass
class WithSlotBase(SlotBase):
    value: Any


@pydantic_dataclass
class Checked:
    value: int


class Outer:
    @dataclass
    class Inner:
        value: Any

    class Kind(enum.Enum):
        A = "a"


Pair = namedtuple("Pair", "left right")


class Triple(NamedTuple):
    a: Any
    b: Any
    c: Any = 0


class NamedPair(Pair):
    """A subclass without slots: its instances have a __dict__."""


class Inner(BaseModel):
    value: Any = None


class Model(BaseModel):
    name: str = "n"
    anything: Any = None
    items: list[Inner] = Field(default_factory=list)


class Aliased(BaseModel):
    value: int = Field(alias="valueIn")


class Doubling(BaseModel):
    """A validator that must not run again when an instance is read."""

    value: int

    def model_post_init(self, context: Any, /) -> None:
        self.value *= 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    value: Any = None


class Token(SecretStr):
    """Not pydantic's own."""


class OwnedToken(SecretStr):
    def __init__(self, value: str, owner: str) -> None:
        super().__init__(value)
        self.owner = owner


class SecretDate(Secret[date]):
    pass


class ShopUrl(HttpUrl):
    """Not pydantic's own."""


class Linked(BaseModel):
    model_config = ConfigDict(url_preserve_empty_path=True)
    link: HttpUrl
    other: AnyUrl


class Private(BaseModel):
    value: Any = None
    _seen: list[Any] = PrivateAttr(default_factory=list)
    _client: Any = PrivateAttr()


class Cached(BaseModel):
    value: int

    @cached_property
    def double(self) -> int:
        return self.value * 2


class FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True)
    value: Any = None


class Words(RootModel[list[str]]):
    pass


class CountedWords(RootModel[list[str]]):
    _seen: int = PrivateAttr(default=0)


class AnyBox(BaseModel, Generic[T]):
    value: T


IntBox = AnyBox[int]


class HoldsTextBox(BaseModel):
    box: AnyBox[str]  # pydantic gives this one no name in the module


class TextBox(AnyBox[str]):
    pass


class Text(str):
    pass


class SlottedText(str):
    __slots__ = ("note",)


class Whole(int):
    pass


class Real(float):
    pass


class Row(list):
    pass


class LoudRow(list):
    """Shows something else than it holds."""

    def __iter__(self) -> Any:
        return iter(["shown"])

    def append(self, item: Any) -> None:
        raise AssertionError

    extend = append


class Table(dict):
    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, ("set", value))


class Ordered(OrderedDict):
    pass


class Defaults(defaultdict):
    pass


class Tally(Counter):
    pass


class Tail(deque):
    pass


class Group(set):
    pass


class FrozenGroup(frozenset):
    pass


class Raw(bytes):
    pass


class RawBuffer(bytearray):
    pass


class Vector(tuple):
    pass


class Complex(complex):
    pass


@dataclass
class TextRecord(str):
    value: Any = None


class Plain:
    """Of no kind that can be stored."""

    def __init__(self, value: Any = 1) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Plain({self.value})"


CALLS: list[Any] = []
"""What was given to the two that must not be called."""


def called(*arguments: Any, **options: Any) -> None:
    CALLS.append((arguments, options))


class Called:
    """Of no kind that is ever stored, too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        CALLS.append((arguments, options))


class Shown:
    """Looks like a model to LangGraph's own serializer."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self) -> dict[str, Any]:
        return self.fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shown) and other.fields == self.fields

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Shown({self.fields})"


class Money(Decimal):
    pass


class Broken(BaseException):
    pass


@dataclass
class Failing:
    value: Any

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            raise super().__getattribute__("value")
        return super().__getattribute__(name)


@dataclass
class FailureRecord(Exception):
    value: Any


class OddZone(tzinfo):
    def utcoffset(self, moment: Any) -> Any:
        from datetime import timedelta

        return timedelta(hours=2)

    def dst(self, moment: Any) -> Any:
        return None

    def tzname(self, moment: Any) -> str:
        return "odd"


class Changing(OddZone):
    """As pytz's zones are: what it is depends on the date."""

    def utcoffset(self, moment: Any) -> Any:
        from datetime import timedelta

        return moment and timedelta(hours=1 + (3 < moment.month < 11))


class NoZone(OddZone):
    def utcoffset(self, moment: Any) -> Any:
        return None


class OldModel(pydantic.v1.BaseModel):
    value: Any = None
    pair: Any = (1, 2)


class OldPrivate(OldModel):
    _note: Any = pydantic.v1.PrivateAttr(default=None)


class OldOpen(pydantic.v1.BaseModel, extra="allow"):
    value: Any = None
