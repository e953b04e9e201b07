"""numpy's arrays and scalars of numbers and times, stored as their bytes. numpy is imported only to read one."""

from __future__ import annotations

import importlib
import math
import sys
from typing import Any

from checkpoint_base.errors import SerializationError
from checkpoint_base.serializer.refusal import Refused

_KINDS = frozenset("biufcmM")


def take_array(array: Any) -> list[Any]:
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return [_dtype_name(array.dtype), list(array.shape), order, array.tobytes(order)]


def take_scalar(scalar: Any) -> list[Any]:
    name = _dtype_name(scalar.dtype)
    if sys.modules["numpy"].dtype(name).type is not type(scalar):  # such as longlong, whose dtype reads back as int64
        raise Refused("has no exact stored form: store value.item() instead")
    return [name, [], "C", scalar.tobytes()]


def _dtype_name(dtype: Any) -> str:
    if dtype.kind not in _KINDS:
        raise Refused(f"has the dtype {dtype}: store value.tolist(), or an array of numbers, instead")
    return str(dtype.str)


def make_array(dtype_name: str, shape: list[int], order: Any, raw: bytes) -> Any:
    try:
        numpy = importlib.import_module("numpy")
    except ImportError as error:
        raise SerializationError("Cannot rebuild a numpy array: install numpy.") from error
    dtype = numpy.dtype(dtype_name)
    if dtype.kind not in _KINDS or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError("the array's type or shape does not fit its bytes")
    return numpy.ndarray(tuple(shape), dtype, buffer=bytearray(raw), order=order)
