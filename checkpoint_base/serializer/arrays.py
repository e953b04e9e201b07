"""numpy's arrays and scalars, stored as their bytes. numpy is imported only to read one."""

from __future__ import annotations

import importlib
import math
import sys
from typing import Any

from checkpoint_base.errors import SerializationError
from checkpoint_base.serializer.refusal import Refused

_NUMBERS_AND_TIMES = frozenset("biufcmM")
_TEXT, _BYTES = "U", "S"  # only of arrays: a scalar would lose the zeros at its end

_LAST_CHARACTER = 0x10FFFF


def take_array(array: Any) -> list[Any]:
    if not _is_kept(array.dtype, is_array=True):
        raise Refused(f"has the dtype {array.dtype}: store value.tolist(), or an array of numbers, instead")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    raw = array.tobytes(order)
    if not _has_characters(sys.modules["numpy"], array.dtype, raw):
        raise Refused("holds a number that is no character: store an array of numbers instead")
    return [str(array.dtype.str), list(array.shape), order, raw]


def take_scalar(scalar: Any) -> list[Any]:
    name = str(scalar.dtype.str)
    if not _is_kept(scalar.dtype, is_array=False):
        raise Refused(f"has the dtype {scalar.dtype}: store value.item() instead")
    if sys.modules["numpy"].dtype(name).type is not type(scalar):  # such as longlong, whose dtype reads back as int64
        raise Refused("has no exact stored form: store value.item() instead")
    return [name, [], "C", scalar.tobytes()]


def _is_kept(dtype: Any, *, is_array: bool) -> bool:
    if is_array and dtype.kind in (_TEXT, _BYTES):
        return bool(dtype.itemsize)  # numpy itself makes such arrays at least one character wide
    return dtype.kind in _NUMBERS_AND_TIMES


def _has_characters(numpy: Any, dtype: Any, raw: bytes) -> bool:
    """Whether the content of an array of texts, if it is one, can be read: numpy would fail only later."""
    if dtype.kind != _TEXT or not raw:
        return True
    return bool(numpy.frombuffer(raw, f"{dtype.str[0]}u4").max() <= _LAST_CHARACTER)


def make_scalar(dtype_name: str, shape: list[int], order: Any, raw: bytes) -> Any:
    return _made(dtype_name, shape, order, raw, is_array=False)[()]


def make_array(dtype_name: str, shape: list[int], order: Any, raw: bytes) -> Any:
    return _made(dtype_name, shape, order, raw, is_array=True)


def _made(dtype_name: str, shape: list[int], order: Any, raw: bytes, *, is_array: bool) -> Any:
    try:
        numpy = importlib.import_module("numpy")
    except ImportError as error:
        raise SerializationError("Cannot rebuild a numpy array: install numpy.") from error
    dtype = numpy.dtype(dtype_name)
    if not _is_kept(dtype, is_array=is_array) or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError("the array's type or shape does not fit its bytes")
    if not _has_characters(numpy, dtype, raw):
        raise ValueError("the array holds a number that is no character")
    return numpy.ndarray(tuple(shape), dtype, buffer=bytearray(raw), order=order)
