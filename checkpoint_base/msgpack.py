"""Msgpack as bytes: finds where the elements of a container end, without decoding them, and writes long extensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgpack

# By first byte: how many bytes the object's head has, the width of the length field within it, and whether that length
# counts bytes or further objects. Objects of a fixed size are all head.
_HEAD = [1] * 256
_LENGTH_BYTES = [0] * 256
_OBJECTS_EACH = [0] * 256

for _first, _head in {
    0xC4: 2, 0xC5: 3, 0xC6: 5,  # bin
    0xC7: 3, 0xC8: 4, 0xC9: 6,  # ext: length, then the type
    0xCA: 5, 0xCB: 9,  # float
    0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9,  # int
    0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18,  # fixext
    0xD9: 2, 0xDA: 3, 0xDB: 5,  # str
    0xDC: 3, 0xDD: 5, 0xDE: 3, 0xDF: 5,  # array, map
}.items():  # fmt: skip
    _HEAD[_first] = _head
for _first, _bytes in {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}.items():  # fmt: skip
    _LENGTH_BYTES[_first] = _bytes
for _first in (*range(0x90, 0xA0), 0xDC, 0xDD):
    _OBJECTS_EACH[_first] = 1
for _first in (*range(0x80, 0x90), 0xDE, 0xDF):
    _OBJECTS_EACH[_first] = 2

_WINDOW_BYTES = 1 << 20
"""How much the unpacker is fed at once: it copies it."""


class Container(NamedTuple):
    """An array or map: the bytes before its first element, its number of elements, and how many objects each has."""

    prefix_bytes: int
    elements: int
    objects_each: int


def outer_container(data: bytes) -> Container | None:
    """Return the array or map that fills ``data``, even inside of extension values; None if nothing does."""
    at, first = 0, data[0]
    while 0xC7 <= first <= 0xC9:
        length = int.from_bytes(data[at + 1 : at + 1 + _LENGTH_BYTES[first]], "big")
        at += _HEAD[first]
        if at + length != len(data) or not length:
            return None
        first = data[at]
    objects_each = _OBJECTS_EACH[first]
    if not objects_each:
        return None
    width = _LENGTH_BYTES[first]
    elements = int.from_bytes(data[at + 1 : at + 1 + width], "big") if width else first & 0x0F
    return Container(at + _HEAD[first], elements, objects_each)


def element_ends(data: bytes, start: int, objects_each: int) -> Iterator[int]:
    """Yield the end of each element from ``start`` to the end of ``data``; an element has ``objects_each`` objects.

    An element that would end beyond ``data`` is not yielded, so data that is not msgpack just seems to have fewer. Nor
    is one that is nested more deeply than msgpack's unpacker goes (1024), or anything behind it.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    view, fed, missing = memoryview(data), start, objects_each
    while True:
        try:
            unpacker.skip()
        except msgpack.OutOfData:
            if fed >= len(data):
                return
            unpacker.feed(view[fed : fed + _WINDOW_BYTES])
            fed += _WINDOW_BYTES
            continue
        except (msgpack.UnpackException, ValueError):
            return
        missing -= 1
        if not missing:
            yield start + unpacker.tell()
            missing = objects_each


def nesting(data: bytes) -> int:
    """Return how deeply arrays and maps are nested in ``data``, without looking into extensions."""
    head, length_bytes, objects_of = _HEAD, _LENGTH_BYTES, _OBJECTS_EACH
    at, size, deepest = 0, len(data), 0
    missing: list[int] = []  # objects that each open array or map still lacks
    while at < size:
        first = data[at]
        width = length_bytes[first]
        length = int.from_bytes(data[at + 1 : at + 1 + width], "big") if width else first & 0x0F
        at += head[first]
        if objects_of[first]:
            missing.append(length * objects_of[first] + 1)  # + 1 for itself
            deepest = max(deepest, len(missing))
        elif width:
            at += length
        elif 0xA0 <= first <= 0xBF:
            at += first & 0x1F
        while missing:
            missing[-1] -= 1
            if missing[-1]:
                break
            missing.pop()
    return deepest


def extension(code: int, payload: bytes) -> bytes:
    """Return an extension value. For half a megabyte, ormsgpack takes thirty times as long."""
    first = 0xC7 + (len(payload) > 0xFF) + (len(payload) > 0xFFFF)
    return b"".join((bytes((first,)), len(payload).to_bytes(_LENGTH_BYTES[first], "big"), bytes((code,)), payload))


def array_header(elements: int) -> bytes:
    if elements < 16:
        return bytes((0x90 | elements,))
    return b"\xdc" + elements.to_bytes(2, "big") if elements <= 0xFFFF else b"\xdd" + elements.to_bytes(4, "big")
