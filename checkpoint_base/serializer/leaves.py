"""Values of the standard library that hold no others, stored as their parts."""

from __future__ import annotations

import ipaddress
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from operator import index
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from checkpoint_base.errors import SerializationError
from checkpoint_base.serializer.refusal import Refused, name_of, of_later_version


@dataclass(frozen=True, slots=True)
class Leaf:
    """How one type is stored: ``take`` returns the parts of a value, and ``make`` makes the value of its parts."""

    type: type
    take: Callable[[Any], list[Any]]
    make: Callable[..., Any]


def make_leaf(name: str, *parts: Any) -> Any:
    """Make the value; raise `SerializationError` without its time zone, `SchemaMismatch` if the kind is unknown."""
    if name not in LEAVES:
        raise of_later_version("a kind of value")
    try:
        return LEAVES[name].make(*parts)
    except (ZoneInfoNotFoundError, NotImplementedError) as error:
        raise SerializationError(f"Cannot rebuild {name}({parts[0]!r}) on this machine: {error}") from error


def _take_zone(zone: ZoneInfo) -> list[Any]:
    # A zone read from a file, or made without the cache, may have other rules, and equals no other zone.
    if zone.key is None or ZoneInfo(zone.key) is not zone:
        raise Refused("is not what ZoneInfo(key) gives: use that instead")
    return [zone.key]


def _zone_of(moment: datetime | time) -> Any:
    """Return a time zone that can be stored: the value's own, or a fixed offset if the zone is no more than that."""
    zone = moment.tzinfo
    if zone is None or type(zone) in (timezone, ZoneInfo):
        return zone
    try:
        offset = zone.utcoffset(None)  # None for a zone where it depends on the date
    except (AttributeError, TypeError):
        offset = None
    if offset is None or moment.replace(tzinfo=timezone(offset)) != moment:
        raise Refused(f"has a time zone of type {name_of(type(zone))}: use zoneinfo.ZoneInfo instead")
    return timezone(offset)


# By their names in the stored format.
LEAVES: dict[str, Leaf] = {
    "int": Leaf(  # of more than 64 bits; msgpack has types for the others
        int,
        lambda number: [number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)],
        lambda raw: int.from_bytes(raw, "big", signed=True),
    ),
    "complex": Leaf(complex, lambda number: [number.real, number.imag], complex),
    "Fraction": Leaf(
        Fraction,
        lambda number: [number.numerator, number.denominator],
        lambda *parts: Fraction(*map(index, parts)),  # of a text, a few characters may take hours
    ),
    "range": Leaf(range, lambda numbers: [numbers.start, numbers.stop, numbers.step], range),
    "Decimal": Leaf(Decimal, lambda number: [str(number)], Decimal),
    "UUID": Leaf(
        UUID,
        lambda uuid: [uuid.bytes, uuid.is_safe.value],
        lambda raw, safe: UUID(bytes=raw, is_safe=SafeUUID(safe)),
    ),
    "date": Leaf(date, lambda day: [day.year, day.month, day.day], date),
    "time": Leaf(
        time,
        lambda t: [t.hour, t.minute, t.second, t.microsecond, _zone_of(t), t.fold],
        lambda *parts: time(*parts[:5], fold=parts[5]),
    ),
    "datetime": Leaf(
        datetime,
        lambda t: [t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond, _zone_of(t), t.fold],
        lambda *parts: datetime(*parts[:8], fold=parts[8]),  # noqa: DTZ001 - the value's own
    ),
    "timedelta": Leaf(timedelta, lambda span: [span.days, span.seconds, span.microseconds], timedelta),
    "timezone": Leaf(timezone, lambda zone: list(zone.__getinitargs__()), timezone),
    "ZoneInfo": Leaf(ZoneInfo, _take_zone, ZoneInfo),
    "Pattern": Leaf(re.Pattern, lambda pattern: [pattern.pattern, pattern.flags], re.compile),
    **{
        kind.__name__: Leaf(kind, lambda value: [str(value)], kind)
        for kind in (
            *(pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath),
            *(ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network),
            *(ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network),
        )
    },
}
