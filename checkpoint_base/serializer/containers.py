"""Containers that msgpack has no type for, stored as their elements."""

from __future__ import annotations

import reprlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from checkpoint_base.serializer import codes
from checkpoint_base.serializer.refusal import Refused


@dataclass(frozen=True, slots=True)
class Container:
    """How one type is stored: ``take`` returns the parts of a value, and ``make`` makes the value of its parts.

    ``plain`` returns what a reader gets instead if elements of a class that is not permitted cannot be hashed or would
    collapse into one, as plain data.
    """

    code: int
    take: Callable[[Any], list[Any]]
    make: Callable[[list[Any]], Any]
    plain: Callable[[list[Any]], list[Any]] | None = None


def flat(mapping: dict[Any, Any]) -> list[Any]:
    return [part for pair in mapping.items() for part in pair]


def _pairs(parts: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    each = iter(parts)
    return zip(each, each, strict=True)


def _of_pairs(code: int, make: Callable[[Iterable[tuple[Any, Any]]], Any]) -> Container:
    return Container(code, flat, lambda parts: make(_pairs(parts)), plain=lambda parts: [*_pairs(parts)])


_FACTORIES: dict[str, type] = {kind.__name__: kind for kind in (list, dict, set, int, str, float, bool, tuple)}


def _take_defaultdict(value: defaultdict[Any, Any]) -> list[Any]:
    factory: Any = value.default_factory
    if factory is not None and factory not in _FACTORIES.values():
        raise Refused(
            f"has the default factory {reprlib.repr(factory)}, which is code: use one of {', '.join(_FACTORIES)}, "
            "or store dict(value) instead"
        )
    return [factory and factory.__name__, *flat(value)]


def _make_defaultdict(parts: list[Any]) -> defaultdict[Any, Any]:
    name, *rest = parts
    return defaultdict(None if name is None else _FACTORIES[name], _pairs(rest))


CONTAINERS: dict[type, Container] = {
    tuple: Container(codes.TUPLE, list, tuple),
    set: Container(codes.SET, list, set, plain=list),
    frozenset: Container(codes.FROZENSET, list, frozenset, plain=list),
    # If any key is not a str; all other dicts are msgpack maps.
    dict: _of_pairs(codes.DICT, dict),
    OrderedDict: _of_pairs(codes.ORDERED_DICT, OrderedDict),
    Counter: _of_pairs(codes.COUNTER, lambda pairs: Counter(dict(pairs))),
    defaultdict: Container(
        codes.DEFAULT_DICT, _take_defaultdict, _make_defaultdict, plain=lambda parts: [*_pairs(parts[1:])]
    ),
    deque: Container(
        codes.DEQUE, lambda value: [value.maxlen, *value], lambda parts: deque(parts[1:], maxlen=parts[0])
    ),
}
