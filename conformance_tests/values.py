"""Values that some saver has changed, importable classes for them, and a comparison that notices every change.

Each function creates its values anew, so that a saver that keeps references cannot pass by returning them.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.types import Interrupt, Send
from pydantic import BaseModel


class Word(enum.StrEnum):
    HELLO = "hello"


class Level(enum.IntEnum):
    HIGH = 3


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Mode(enum.IntFlag):
    A = 1
    B = 2


class Status(enum.Enum):
    OPEN = "open"
    PAIR = ("open", "shut")


@dataclass
class Point:
    at: tuple[int, ...]
    label: Any = None


@dataclass(frozen=True, slots=True)
class Fixed:
    at: tuple[int, ...]


class Inner(BaseModel):
    value: Any = None


class Outer(BaseModel):
    name: str
    anything: Any = None
    several: list[Inner] = []
    tags: set[str] = set()


def texts_and_numbers() -> dict[str, Any]:
    """Named texts, numbers, booleans and None."""
    return {
        "empty text": "",
        "text with NUL": "a\x00b",
        "lone surrogate": "a\ud800b",
        "emoji and other scripts": "é e\u0301 \u4e2d \U0001f600 \u2028 \ufeff",
        "control characters": "\x01\x1b\x7f\r\n\t",
        "quotes and backslashes": "'\"\\ \\u0000 %s {x} $1 -- ;",
        "text that reads like null": "null",
        "text that reads like a date": "2026-01-02T03:04:05+00:00",
        "text that reads like base64": "AAEC",
        "NaN": math.nan,
        "infinity": math.inf,
        "negative infinity": -math.inf,
        "negative zero": -0.0,
        "1e16": 1e16,
        "1e-320": 1e-320,
        "0.1": 0.1,
        "2.0": 2.0,
        "2**53 + 1": 2**53 + 1,
        "2**63": 2**63,
        "-2**63 - 1": -(2**63) - 1,
        "2**64": 2**64,
        "10**30": 10**30,
        "True": True,
        "1": 1,
        "1.0": 1.0,
        "False": False,
        "0": 0,
        "None": None,
        "complex": complex(1, -0.0),
    }


def containers() -> dict[str, Any]:
    """Named containers of plain values."""
    nested_list: Any = "bottom"
    nested_dict: Any = "bottom"
    for _ in range(40):
        nested_list = [nested_list]
        nested_dict = {"down": nested_dict}
    return {
        "empty list": [],
        "empty dict": {},
        "empty tuple": (),
        "tuple": (1, "a", None),
        "nested tuples": (1, (2, (3, [4, (5,)]))),
        "tuple in a dict in a list": [{"pair": (1, 2)}],
        "True beside 1 and 1.0": [True, 1, 1.0],
        "set": {1, "a", None},
        "empty set": set(),
        "set of tuples": {(1, 2), ("a", (3,))},
        "frozenset": frozenset({1, "a"}),
        "set of frozensets": {frozenset({1}), frozenset()},
        "bytes": b"\x00\xff\x80text",
        "empty bytes": b"",
        "bytearray": bytearray(b"\x00\xff"),
        "dict with int keys": {1: "a", -2: "b", 2**40: "c"},
        "dict with 1 and '1' as keys": {1: "number", "1": "text"},
        "dict with a None key": {None: "a", "None": "b"},
        "dict with a bool key": {True: "a"},
        "dict with float keys": {1.5: "a", -0.5: "b"},
        "dict with tuple keys": {(1, 2): "a", ("b", (3,)): "c"},
        "dict with an enum key": {Word.HELLO: 1, Status.OPEN: 2},
        "dict with bytes keys": {b"\x00": 1},
        "dict with hostile keys": {"": 1, "a.b": 2, "$where": 3, "a\x00": 4, "'; --": 5, "__proto__": 6, "\\": 7},
        "dict that reads like a serialised object": {
            "lc": 2,
            "type": "constructor",
            "id": ["collections", "OrderedDict"],
            "method": None,
            "args": [],
            "kwargs": {},
        },
        "dict that reads like a type tag": {"__type__": "tuple", "__value__": [1], "$date": "2026-01-01"},
        "list nested 40 deep": nested_list,
        "dict nested 40 deep": nested_dict,
    }


def library_types() -> dict[str, Any]:
    """Named values of the standard library's types."""
    return {
        "datetime": datetime(2026, 1, 2, 3, 4, 5, 678901),  # noqa: DTZ001  # without a zone on purpose
        "datetime in UTC": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "datetime with an offset": datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "datetime with a zone": datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
        "date": date(2026, 1, 2),
        "time": time(23, 59, 59, 999999),
        "timedelta": timedelta(days=-1, microseconds=1),
        "Decimal": Decimal("1.10"),
        "Decimal with many digits": Decimal("0.1234567890123456789012345678901234567890"),
        "UUID": UUID("12345678-1234-4234-9234-123456789abc"),
        "StrEnum member": Word.HELLO,
        "IntEnum member": Level.HIGH,
        "Flag member": Access.WRITE,
        "combined Flag": Access.READ | Access.WRITE,
        "combined IntFlag": Mode.A | Mode.B,
        "Enum member": Status.OPEN,
        "Enum member with a tuple value": Status.PAIR,
    }


def objects() -> dict[str, Any]:
    """Named instances of the classes that states are made of."""
    odd = {"pair": (1, 2), "raw": b"\x00", "when": date(2026, 1, 2), "none": None, "big": 2**63, "level": Level.HIGH}
    call = {"name": "search", "args": {"q": "a\x00b", "n": 1.0}, "id": "call-1", "type": "tool_call"}
    return {
        "dataclass with a tuple": Point((1, 2), label={"k": (3,)}),
        "frozen dataclass with slots": Fixed((1, 2)),
        "dataclass in a dataclass": Point((), label=Fixed((1,))),
        "pydantic model": Outer(name="a", several=[Inner(value=1)], tags={"x"}),
        "pydantic model with a model in an Any field": Outer(name="a", anything=Inner(value=(1, Inner(value={2})))),
        "HumanMessage": HumanMessage("hi \U0001f600", id="m-1", name="Ada"),
        "SystemMessage": SystemMessage("be brief"),
        "AIMessage with tool_calls": AIMessage(
            "", id="m-2", tool_calls=[call], usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
        ),
        "AIMessage with content blocks": AIMessage([{"type": "text", "text": "a"}, "b"]),
        "AIMessage with odd additional_kwargs": AIMessage("a", additional_kwargs=dict(odd)),
        "ToolMessage with an artifact": ToolMessage("5", tool_call_id="call-1", artifact=dict(odd), status="error"),
        "Send": Send("node", {"pair": (1, 2)}),
        "Interrupt": Interrupt(value={"question": (1, "?")}, id="0123456789abcdef0123456789abcdef"),
        "tuple of Interrupts": (Interrupt(value="a", id="1" * 32), Interrupt(value=None, id="2" * 32)),
    }


def every_value() -> dict[str, Any]:
    """All of the above."""
    return {**texts_and_numbers(), **containers(), **library_types(), **objects()}


def messages(count: int = 100, *, length: int = 200, name: str = "message") -> list[str]:
    """A list that a saver may store in pieces, which versions and writes share, and may remember to have stored."""
    return [f"{name} {number} {'.' * length}" for number in range(count)]


NAMES = {
    "empty": "",
    "dots": "a.b..c",
    "a backslash": "a\\b",
    "backslash and u": "\\u0000",
    "NUL": "a\x00b",
    "a lone surrogate": "a\ud800b",
    "quotes": "a'b\"c`d",
    "separators": "a:b|c/d~e$f%g{h}*?",
    "a space": " ",
    "a line break": "a\nb",
    "composed": "\u00e9",
    "decomposed": "e\u0301",
    "an emoji": "\U0001f600",
    "lower case": "name",
    "upper case": "NAME",
    "300 characters": "n" * 300,
}


def difference(found: Any, expected: Any, place: str = "") -> str | None:
    """Say how a value differs, or return None if it is equal and of the same type at every depth.

    NaN equals NaN, and the sign of zero counts.
    """
    at = f" at {place}" if place else ""
    if type(found) is not type(expected):
        return f"{_short(expected)} came back as {type(found).__name__} {_short(found)}{at}"
    changed = f"{_short(expected)} came back as {_short(found)}{at}"
    match expected:
        case enum.Enum():
            return None if found is expected else changed
        case float():
            return None if _same_float(found, expected) else changed
        case complex():
            parts = ((found.real, expected.real), (found.imag, expected.imag))
            return None if all(_same_float(*pair) for pair in parts) else changed
        case datetime() | time():
            same = found == expected and found.utcoffset() == expected.utcoffset()
            return (difference(found.tzinfo, expected.tzinfo, f"{place}.tzinfo") if same else changed) or None
        case Decimal():
            return None if found.as_tuple() == expected.as_tuple() else changed
        case list() | tuple():
            if len(found) != len(expected):
                return changed
            return _first(
                difference(*pair, f"{place}[{n}]") for n, pair in enumerate(zip(found, expected, strict=True))
            )
        case set() | frozenset():
            return changed if found != expected else _first(_pairs(found, expected, place))
        case dict():
            if found.keys() != expected.keys():
                return changed
            return _first(_pairs(found, expected, f"a key of {place or 'it'}")) or _first(
                difference(found[key], value, f"{place}[{key!r}]") for key, value in expected.items()
            )
        case Send():
            return difference((found.node, found.arg), (expected.node, expected.arg), f"{place}.(node, arg)")
    if isinstance(expected, BaseModel):
        return difference(found.__dict__, expected.__dict__, f"{place}.__dict__")
    if is_dataclass(expected) and not isinstance(expected, type):
        return _first(
            difference(getattr(found, field.name, None), getattr(expected, field.name), f"{place}.{field.name}")
            for field in fields(expected)
        )
    return None if found == expected else changed


def _pairs(found: Collection[Any], expected: Collection[Any], place: str) -> list[str | None]:
    """Compare each expected element with the found one that equals it: 1 and True are equal, but differ in type."""
    same = {key: key for key in found}
    return [difference(same[key], key, place) for key in expected]


def _same_float(found: float, expected: float) -> bool:
    if math.isnan(expected):
        return math.isnan(found)
    return found == expected and math.copysign(1, found) == math.copysign(1, expected)


def _first(differences: Iterable[str | None]) -> str | None:
    return next((one for one in differences if one), None)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 120 else f"{text[:80]} … {text[-30:]}"
