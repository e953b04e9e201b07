from __future__ import annotations

import copy
import dataclasses
import enum
import ipaddress
import logging
import pathlib
import random
import re
import subprocess
import sys
import uuid
from bisect import bisect
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import ormsgpack
import pydantic
import pydantic.v1
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde import _msgpack as langgraph_types
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.event_hooks import register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import Item, SearchItem
from langgraph.types import Command, Interrupt, Overwrite, Send, TimeoutPolicy

from checkpoint_base.errors import CorruptCheckpoint, SerializationError
from checkpoint_base.serializer import ExactSerializer
from checkpoint_base.serializer import log as warnings
from checkpoint_base.serializer.codes import TAG
from conformance_tests import values
from tests import shapes

SERDE = ExactSerializer()
BERLIN = ZoneInfo("Europe/Berlin")


def exact(value: Any) -> Any:
    """A form of a value that is equal only for an equal value with the same types at every depth."""
    kind = type(value)
    if isinstance(value, np.ndarray):
        assert value.flags.writeable
        return (kind, value.dtype.str, value.shape, value.flags.fnc, value.tobytes())
    if isinstance(value, np.generic):
        return (kind, value.tobytes())
    if isinstance(value, enum.Enum):
        return (kind, value.name, exact(value._value_))
    state = None if kind.__module__ in ("builtins", "collections", "datetime") else own_state(value)
    if isinstance(value, dict):
        items = value.items() if isinstance(value, OrderedDict) else dict.items(value)
        factory = getattr(value, "default_factory", None)
        return (kind, state, factory, tuple((exact(key), exact(element)) for key, element in items))
    if isinstance(value, list | tuple | deque):
        base = next(base for base in (list, tuple, deque) if isinstance(value, base))
        return (kind, state, getattr(value, "maxlen", None), tuple(exact(element) for element in base.__iter__(value)))
    if isinstance(value, set | frozenset):
        return (kind, state, frozenset(Counter(exact(element) for element in value).items()))
    if isinstance(value, datetime | time):
        return (kind, repr(value.replace(tzinfo=None)), exact(value.tzinfo), value.utcoffset())
    if isinstance(value, str | bytes | bytearray | int | float | complex) or state is None:
        return (kind, repr(value), state)
    return (kind, state)


def own_state(value: Any) -> Any:
    """What pickle would keep of an instance, as an oracle that shares no code with the serializer."""
    if isinstance(value, re.Pattern | ipaddress._IPAddressBase | uuid.UUID | Decimal | pathlib.PurePath | ZoneInfo):
        return None
    state = value.__getstate__()
    if isinstance(state, dict) and dataclasses.is_dataclass(value):  # a default may stand in the class
        state |= {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if hasattr(value, f.name)}
        state = dict(sorted(state.items()))
    if isinstance(state, dict):
        state = {name: part for name, part in state.items() if name != "__orig_class__"}
    if isinstance(state, tuple | list):
        state = list(state)
    return exact(state)


def again(value: Any, serde: Any = SERDE) -> Any:
    tag, data = serde.dumps_typed(value)
    assert type(data) is bytes
    return serde.loads_typed((tag, data))


def pydantic_attributes(model: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def with_attributes(value: Any, **attributes: Any) -> Any:
    for name, attribute in attributes.items():
        object.__setattr__(value, name, attribute)
    return value


def moved() -> Any:
    ordered = OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    return ordered


def unset_field() -> Any:
    value = shapes.Late(1)
    del value.derived
    return value


class OldModel(pydantic.v1.BaseModel):
    value: Any = None
    pair: Any = (1, 2)


class OldPrivate(OldModel):
    _note: Any = pydantic.v1.PrivateAttr(default=None)


class OldOpen(pydantic.v1.BaseModel, extra="allow"):
    value: Any = None


VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "int 64": -(2**63),
    "unsigned 64": 2**64 - 1,
    "int 65": 2**64,
    "negative int 65": -(2**63) - 1,
    "big int": 10**30,
    "very big int": -(7**5000),
    "float": 1.5,
    "negative zero": -0.0,
    "nan": float("nan"),
    "infinity": float("-inf"),
    "complex": complex(-0.0, float("inf")),
    "str": "żółw 🐢 \x00",
    "lone surrogate": "a\ud800b",
    "surrogate pair in two": "\ud83d\ude00",
    "bytes": b"\x00\xc4",
    "bytearray": bytearray(b"abc"),
    "long bytearrays": [bytearray(300), bytearray(70_000)],
    "bytearray in a long list": [*range(20), bytearray(b"a")],
    "bytearray in a table": [*({"a": n} for n in range(20)), {"a": bytearray(b"a")}],
    "bytearray below a table": [*({"a": n} for n in range(20)), {"a": [bytearray(b"a")]}],
    "empty list": [],
    "list": [1, "a", [2.0]],
    "tuple": (1, ("a",), [()]),
    "dict": {"b": 1, "a": {"c": (2,)}},
    "dict of int keys": {2: "b", 1: {True: "t"}},
    "dict of mixed keys": {None: 0, 1: 1, 2.5: 2, b"k": 3, ("t", (1,)): 4, "s": 5, frozenset({1}): 6, "\ud800": 7},
    "dict of enum keys": {values.Word.HELLO: 1, values.Level.HIGH: 2, shapes.Colour.PAIR: 3},
    "dict of date keys": {date(2020, 1, 1): 1, datetime(2020, 1, 1): 2, uuid.UUID(int=1): 3, 10**30: 4},
    "dict of str subclass keys": {shapes.Text("k"): 1},
    "dict of frozen dataclass keys": {shapes.Frozen((1,)): 1},
    "dict of nan key": {float("nan"): float("nan")},
    "set": {1, "a", (1, 2)},
    "set of tuples": {(1, (2,)), ("a",)},
    "frozenset": frozenset({frozenset({1}), shapes.Frozen(1), values.Word.HELLO}),
    "empty set": set(),
    "deque": deque([1, (2,)]),
    "deque with maxlen": deque([1, 2], maxlen=3),
    "OrderedDict": moved(),
    "OrderedDict of int keys": OrderedDict([(2, "b"), (1, "a")]),
    "Counter": Counter("abca"),
    "Counter of tuples": Counter({(1, 2): 3}),
    "defaultdict": defaultdict(list, {"a": [1], 2: [(3,)]}),
    "defaultdict without factory": defaultdict(None, {"a": 1}),
    "Enum": shapes.Colour.RED,
    "Enum with tuple value": shapes.Colour.PAIR,
    "StrEnum": values.Word.HELLO,
    "IntEnum": values.Level.HIGH,
    "Flag": values.Access.READ | values.Access.WRITE,
    "empty Flag": values.Access(0),
    "IntFlag": values.Mode.A | values.Mode.B,
    "Enum that shows another value": shapes.Wrapped.ONE,
    "nested Enum": shapes.Outer.Kind.A,
    "naive datetime": datetime(2024, 2, 29, 1, 2, 3, 4),
    "utc datetime": datetime(2024, 2, 29, tzinfo=timezone.utc),  # noqa: UP017
    "datetime with fold": datetime(2024, 10, 27, 2, 30, fold=1),
    "datetime with ZoneInfo": datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
    "datetime with ZoneInfo and fold": datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    "datetime with named offset": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, seconds=1), "x")),
    "date": date(1, 1, 1),
    "time": time(23, 59, 59, 999999, fold=1),
    "time with zone": time(1, tzinfo=timezone(timedelta(hours=1))),
    "time with ZoneInfo": time(1, tzinfo=BERLIN),
    "timedelta": timedelta(days=-3, microseconds=7),
    "timezone": timezone(timedelta(hours=1), "one"),
    "ZoneInfo": BERLIN,
    "UUID": uuid.UUID(int=7),
    "UUID with safety": uuid.UUID(int=7, is_safe=uuid.SafeUUID.safe),
    "Decimal": Decimal("-1.10E+40"),
    "Decimal nan": Decimal("-sNaN12"),
    "Path": pathlib.Path("a/../b"),
    "Path of undecodable name": pathlib.Path("a\udcff"),
    "PurePosixPath": pathlib.PurePosixPath("//a/b"),
    "PureWindowsPath": pathlib.PureWindowsPath("C:/x"),
    "Pattern": re.compile(r"(?i)a(?P<n>b)+", re.MULTILINE),
    "bytes Pattern": re.compile(rb"\xff+", re.DOTALL),
    "IPv4Address": ipaddress.IPv4Address("1.2.3.4"),
    "IPv4Interface": ipaddress.IPv4Interface("1.2.3.4/24"),
    "IPv4Network": ipaddress.IPv4Network("1.2.3.0/24"),
    "IPv6Address": ipaddress.IPv6Address("fe80::1%eth0"),
    "IPv6Interface": ipaddress.IPv6Interface("::1/64"),
    "IPv6Network": ipaddress.IPv6Network("2001:db8::/32"),
    "dataclass": shapes.Point((1,), {"a": {(2,)}}),
    "dataclass with more attributes": with_attributes(shapes.Point(1), cache=(1,), other=[b""]),
    "frozen dataclass": shapes.Frozen([shapes.Frozen(())]),
    "slots dataclass": shapes.Slots((1,), [2]),
    "frozen slots dataclass": shapes.FrozenSlots({1}),
    "dataclass with init=False": shapes.Late(1, seed=2),
    "dataclass with an unset field": unset_field(),
    "dataclass with its own init": shapes.Custom(1, 2),
    "dataclass with a post init": shapes.Counted(1),
    "generic dataclass": shapes.Box[int](1),
    "pydantic dataclass": shapes.Checked(1),
    "nested dataclass": shapes.Outer.Inner((1,)),
    "namedtuple": shapes.Pair((1,), "b"),
    "NamedTuple": shapes.Triple(1, (2,)),
    "subclass of namedtuple": with_attributes(shapes.NamedPair(1, 2), note=(3,)),
    "model": shapes.Model(name="x", anything={"t": (1, shapes.Inner(value={2}))}, items=[shapes.Inner()]),
    "model with defaults": shapes.Model(),
    "model with alias": shapes.Aliased(valueIn=3),
    "model with post init": shapes.Doubling(value=2),
    "model with extra": shapes.Open(value=1, more=(1, 2), other=shapes.Inner(value=(3,))),
    "model with private": pydantic_attributes(shapes.Private(value=1), _seen=[(1,)]),
    "model with unset private": pydantic_attributes(shapes.Private(), _client={1}),
    "model with cached property": pydantic_attributes(shapes.Cached(value=2)),
    "model with used cached property": with_attributes(shapes.Cached(value=2), double=4),
    "constructed model": shapes.Aliased.model_construct(),
    "parametrised model": shapes.IntBox(value=1),
    "frozen model": shapes.FrozenModel(value=(1,)),
    "model of pydantic v1": OldModel(value=(1, OldModel(value={2}))),
    "model of pydantic v1 with extra": OldOpen(value=1, more=(2,)),
    "SecretStr": pydantic.SecretStr("s\u0142"),
    "SecretBytes": pydantic.SecretBytes(b"s"),
    "v1 SecretStr": pydantic.v1.SecretStr("s"),
    "str subclass": with_attributes(shapes.Text("a\ud800"), note=(1,)),
    "int subclass": shapes.Whole(10**30),
    "float subclass": shapes.Real(-0.0),
    "list subclass": with_attributes(shapes.Row([1, (2,)]), note={1}),
    "list subclass that shows another": shapes.LoudRow([1, 2]),
    "dict subclass": shapes.Table({1: (2,), "a": 3}),
    "set subclass": shapes.Group({(1,)}),
    "frozenset subclass": shapes.FrozenGroup({(1,)}),
    "bytes subclass": shapes.Raw(b"a"),
    "tuple subclass": shapes.Vector((1, [2])),
    "str subclass that is a dataclass": shapes.TextRecord((1,)),
    "HumanMessage": HumanMessage("hi", id="1", additional_kwargs={"t": (1, shapes.Colour.RED)}),
    "message with blocks": HumanMessage([{"type": "text", "text": "a"}, "b"]),
    "AIMessage": AIMessage(
        "a",
        tool_calls=[{"name": "t", "args": {"x": (1,), "e": values.Word.HELLO}, "id": "1"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    ),
    "AIMessageChunk": AIMessageChunk("a", tool_call_chunks=[]),
    "SystemMessage": SystemMessage("s"),
    "ToolMessage": ToolMessage("t", tool_call_id="1", artifact=shapes.Point(1)),
    "RemoveMessage": RemoveMessage(id="1"),
    "text of a message": AIMessage("text").text,
    "Document": Document("d", metadata={"k": (1,)}),
    "Send": Send("node", {"a": (1,)}),
    "Send with timeout": Send("node", None, timeout=TimeoutPolicy(run_timeout=3.0)),
    "Interrupt": Interrupt(("why",), id="1"),
    "Command": Command(update={"a": (1,)}, goto=(Send("n", {1}),), resume={"x": 1}),
    "Overwrite": Overwrite([(1,)]),
    "Item": Item(value={"a": (1,)}, key="k", namespace=("n",), created_at=datetime.now(), updated_at=datetime.now()),
    "SearchItem": SearchItem(("n",), "k", {"a": {1}}, datetime.now(), datetime.now(), score=0.5),
    "DeltaSnapshot": _DeltaSnapshot([(1,), HumanMessage("a")]),
    "array": np.arange(6, dtype="<i4").reshape(2, 3),
    "Fortran array": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided array": np.arange(10)[::3],
    "big endian array": np.arange(3, dtype=">f8"),
    "bool array": np.array([[True], [False]]),
    "complex array": np.array([1j]),
    "datetime array": np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
    "empty array": np.zeros((0, 3)),
    "array without dimensions": np.array(5),
    "np.int64": np.int64(5),
    "np.float64": np.float64("nan"),
    "np.float16": np.float16(1.5),
    "np.bool": np.bool_(True),
    "np.complex64": np.complex64(1j),
    "np.datetime64": np.datetime64("2020-01-01T00:00", "m"),
    "NaT": np.datetime64("NaT", "s"),
    "np.timedelta64": np.timedelta64(5, "D"),
}

HOLDERS = {
    "itself": lambda value: value,
    "list": lambda value: [value, value],
    "dict": lambda value: {"k": value},
    "odd dict": lambda value: {1: value, "\ud800": [value]},
    "tuple": lambda value: (0, value),
    "dataclass": lambda value: shapes.Point(value),
    "slots dataclass": lambda value: shapes.FrozenSlots(value),
    "namedtuple": lambda value: shapes.Triple(value, [value]),
    "model": lambda value: shapes.Model.model_construct(anything=[value]),
    "message": lambda value: HumanMessage("m", additional_kwargs={"k": value}),
    "deque": lambda value: deque([value], 5),
    "Send": lambda value: Send("n", value),
    "snapshot": lambda value: _DeltaSnapshot(value),
    "beside a bytearray": lambda value: [bytearray(b"x"), (value,)],
}


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_comes_back_equal_and_of_the_same_type_wherever_it_is_held(value: Any) -> None:
    held_in = {name: hold(value) for name, hold in HOLDERS.items()}
    if is_hashable(value):
        held_in |= {"key": {value: 1}, "element": {value}, "counted": Counter({value: 2})}
    for name, held in held_in.items():
        before = exact(held)
        assert exact(again(held)) == before, name
        assert exact(held) == before, "storing a value changes nothing in it"


COMPARABLE = {
    name: value for name, value in VALUES.items() if not re.search("nan|NaT|array|float64|unset f|^np|set", name)
}


def test_a_value_that_equals_itself_equals_what_comes_back() -> None:
    for name, value in COMPARABLE.items():
        assert again(value) == value, name
        assert repr(again([value])) == repr([value]), name


def test_a_time_zone_of_an_unknown_class_becomes_its_offset() -> None:
    value = datetime(2024, 1, 1, tzinfo=shapes.OddZone())
    assert again(value) == value
    assert again(value).tzinfo == timezone(timedelta(hours=2))


def test_the_order_of_a_dict_is_kept_whatever_its_keys() -> None:
    value = {"z": 1, "a": {9: 1, 3: 2}, "m": 3}
    assert list(again(value)) == ["z", "a", "m"]
    assert list(again(value)["a"]) == [9, 3]


def test_the_tags_are_those_of_langgraph_where_the_bytes_mean_the_same() -> None:
    assert SERDE.dumps_typed(None) == ("null", b"")
    assert SERDE.dumps_typed(b"a") == ("bytes", b"a")
    assert SERDE.dumps_typed(bytearray(b"a")) == ("bytearray", b"a")
    assert SERDE.dumps_typed([])[0] == TAG == "msgpack.exact"


def test_the_stock_serializer_refuses_the_tag_instead_of_losing_values() -> None:
    with pytest.raises(NotImplementedError):
        JsonPlusSerializer().loads_typed(SERDE.dumps_typed([1]))


# --- properties ---

text = st.text(st.characters(exclude_categories=()), max_size=5)
zones = st.none() | st.just(timezone.utc) | st.just(BERLIN)  # noqa: UP017
hashable_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats()
    | st.complex_numbers()
    | text
    | text.map(shapes.Text)
    | st.binary(max_size=5)
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals().filter(lambda number: not number.is_snan())  # which has no hash
    | st.uuids()
    | st.ip_addresses()
    | st.sampled_from([*shapes.Colour, *values.Word, *values.Level, *values.Mode, pathlib.PurePosixPath("a")])
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | inner.map(shapes.Frozen)
        | st.tuples(inner, inner).map(lambda pair: shapes.Triple(*pair))
    ),
    max_leaves=6,
)
any_values = st.recursive(
    hashables | st.binary(max_size=5).map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(lambda items: deque(items, 9))
        | st.lists(inner, max_size=4).map(shapes.Row)
        | st.sets(hashables, max_size=4)
        | st.dictionaries(text, inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4).map(OrderedDict)
        | st.dictionaries(hashables, inner, max_size=4).map(lambda items: defaultdict(int, items))
        | st.tuples(inner, inner).map(lambda pair: shapes.Point(*pair))
        | inner.map(shapes.Slots)
        | inner.map(lambda value: shapes.Model.model_construct(anything=value))
        | inner.map(lambda value: HumanMessage("m", additional_kwargs={"k": value}))
        | inner.map(lambda value: Send("n", value))
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(any_values)
def test_any_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    assert exact(again(value)) == exact(value)


# --- the stored form ---


def test_an_element_has_the_same_bytes_in_a_list_a_tuple_and_a_snapshot() -> None:
    messages = [HumanMessage("a" * 300, id="1"), AIMessage("b", id="2", additional_kwargs={"k": (1, 2)})]
    first, second = (SERDE.dumps_typed([message])[1][1:] for message in messages)
    elements = first + second
    for value in (messages, tuple(messages), _DeltaSnapshot(messages), deque(messages)):
        data = SERDE.dumps_typed(value)[1]
        assert data.endswith(elements)
    spelled = SERDE.dumps_typed([*messages, {1: "a key that is no str"}, bytearray(b"x")])[1]
    assert spelled[1:].startswith(elements)


@pytest.mark.parametrize("wrap", [tuple, _DeltaSnapshot])
def test_the_payload_of_a_sequence_is_one_array_of_its_elements(wrap: Any) -> None:
    seen = []
    ormsgpack.unpackb(SERDE.dumps_typed(wrap([1, "a"]))[1], ext_hook=lambda code, data: seen.append(data))
    assert seen == [b"\x92\x01\xa1a"]


def test_equal_messages_have_equal_bytes() -> None:
    fields = {"content": "a", "id": "1", "name": "n", "additional_kwargs": {}, "response_metadata": {}}
    assert SERDE.dumps_typed(AIMessage(**fields)) == SERDE.dumps_typed(AIMessage(**dict(reversed(fields.items()))))


def test_levels_of_odd_dicts_cost_no_more_than_their_number() -> None:
    value: Any = None
    for _ in range(25):  # trying each level twice would take 2**25 attempts
        value = shapes.Point([value], {1: value})
        value.y = {1: 2}
    assert exact(again(value)) == exact(value)


# --- refusal ---


def generator() -> Any:
    yield 1


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local()


def renamed_class() -> Any:
    missing = dataclasses.make_dataclass("Missing", ["x"])
    missing.__module__ = "tests.shapes"  # Python 3.12 sets it to this module, whatever the namespace says
    return missing(1)


def itself() -> Any:
    value: Any = []
    value.append(value)
    return value


REFUSED: dict[str, tuple[Any, str]] = {
    "exception": (ValueError("x"), r"of type ValueError cannot be rebuilt exactly: store str\(error\) instead"),
    "base exception": (shapes.Broken(), r"shapes\.Broken .*store str\(error\)"),
    "dataclass exception": (shapes.FailureRecord(1), r"store str\(error\)"),
    "function": (generator, "store the name"),
    "lambda": (lambda: 1, "store the name"),
    "builtin": (len, "store the name"),
    "class": (shapes.Point, "store its qualified name"),
    "dataclass class": (shapes.Model, "store its qualified name"),
    "enum class": (shapes.Colour, "store its qualified name"),
    "module": (shapes, "store its name"),
    "iterator": (iter([1]), "store a list of its items"),
    "range": (range(3), "tuple of its bounds"),
    "memoryview": (memoryview(b"a"), r"store bytes\(view\)"),
    "strided memoryview": (memoryview(b"abc")[::2], r"store bytes\(view\)"),
    "object": (object(), "store a dataclass, a pydantic model or plain data"),
    "unknown class": (shapes.Plain(), "shapes.Plain .*store a dataclass"),
    "local class": (local_class(), "defined inside a function: move the class to module level"),
    "missing class": (renamed_class(), r"cannot be imported as tests\.shapes\.Missing"),
    "defaultdict of code": (defaultdict(lambda: 0), "default factory"),
    "object array": (np.array([None]), "dtype object"),
    "structured array": (np.zeros(1, dtype=[("a", "i4")]), "dtype"),
    "subclass of array": (np.ma.masked_array([1]), "store a dataclass"),
    "text array": (np.array(["a", "bcd"]), r"value.tolist\(\)"),
    "np.str": (np.str_("a"), r"dtype <U1"),
    "np.longlong": (np.longlong(1), r"value.item\(\)"),
    "OrderedDict subclass": (shapes.Ordered(b=1), "store its builtin, or a dataclass"),
    "defaultdict subclass": (shapes.Defaults(int), "store its builtin, or a dataclass"),
    "Counter subclass": (shapes.Tally("aab"), "store its builtin, or a dataclass"),
    "deque subclass": (shapes.Tail([1, 2]), "store its builtin, or a dataclass"),
    "bytearray subclass": (shapes.RawBuffer(b"a"), "store its builtin, or a dataclass"),
    "complex subclass": (shapes.Complex(1), "store its builtin, or a dataclass"),
    "str subclass with slots": (shapes.SlottedText("a"), r"\['note'\] in __slots__: make them fields"),
    "dataclass over slots": (shapes.WithSlotBase(1), r"\['__hidden', 'note'\] in __slots__"),
    "v1 model with private": (OldPrivate(), r"\['_note'\] in __slots__"),
    "zone without offset": (time(1, tzinfo=shapes.NoZone()), "ZoneInfo"),
    "instance that cannot be read": (shapes.Failing(TypeError("disk gone")), "could not be read .TypeError: disk gone"),
}

PLACES = {
    "value": lambda value: value,
    'value["items"][3].x': lambda value: {"items": [1, 2, 3, shapes.Point(value)]},
    "value[0][1]": lambda value: [(0, value)],
    'value.anything["k"]': lambda value: shapes.Model.model_construct(anything={"k": value}),
    'value.additional_kwargs["k"]': lambda value: HumanMessage("a", additional_kwargs={"k": value}),
    "value.more": lambda value: shapes.Open(more=value),
    "value._client": lambda value: pydantic_attributes(shapes.Private(), _client=value),
    "value.cache": lambda value: with_attributes(shapes.Point(1), cache=value),
    "value[7].arg": lambda value: {7: Send("n", value)},
    "value.value[1]": lambda value: _DeltaSnapshot([1, value]),
    "value.left": lambda value: shapes.Pair(value, 1),
    'value["a"][0]': lambda value: shapes.Table({"a": 1}) | {"a": [value]},
    "value.value.value": lambda value: Interrupt(shapes.Slots(value), id="1"),
}


@pytest.mark.parametrize(("value", "advice"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_type_and_what_to_do(value: Any, advice: str) -> None:
    for place, held in {"value": value, 'value["a"][1]': {"a": (0, value)}, "value.x": shapes.Point(value)}.items():
        with pytest.raises(SerializationError, match=advice) as caught:
            SERDE.dumps_typed(held)
        assert str(caught.value).startswith(f"Cannot store {place}: the value of type ")


@pytest.mark.parametrize(("place", "holder"), PLACES.items(), ids=PLACES)
def test_a_refusal_names_the_place(place: str, holder: Any) -> None:
    for value in (ValueError("x"), shapes.Failing(TypeError("disk gone")), local_class()):
        with pytest.raises(SerializationError) as caught:
            SERDE.dumps_typed(holder(value))
        assert str(caught.value).startswith(f"Cannot store {place}: the value of type ")


def test_a_refusal_names_the_element_of_a_set_and_the_key_of_a_dict() -> None:
    with pytest.raises(SerializationError, match=r"value\[1\] element ValueError\('x'\): the value of type ValueError"):
        SERDE.dumps_typed([1, {ValueError("x")}])
    with pytest.raises(SerializationError, match=r"value key <function .*: the value of type function"):
        SERDE.dumps_typed({generator: 1})


def test_a_coroutine_is_refused() -> None:
    async def work() -> None: ...

    running = work()
    with pytest.raises(SerializationError, match="await it"):
        SERDE.dumps_typed([running])
    running.close()


def nested(depth: int, wrap: Any) -> Any:
    value: Any = None
    for _ in range(depth):
        value = wrap(value)
    return value


def self_holding_record() -> Any:
    value = shapes.Point(1)
    value.y = {"me": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        itself(),
        self_holding_record(),
        {1: itself()},
        nested(5000, lambda value: [value]),
        nested(5000, lambda value: {1: value}),
        nested(500, lambda value: (value,)),
        nested(500, shapes.Frozen),
    ],
    ids=["list", "record", "odd dict", "lists", "odd dicts", "tuples", "records"],
)
def test_a_value_that_contains_itself_or_is_too_deep_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match="contains itself, or is nested more than"):
        SERDE.dumps_typed(value)


@pytest.mark.parametrize(
    "wrap",
    [
        *(lambda value: (value,), shapes.Frozen, lambda value: {1: value}, lambda value: {"a": value}),
        *(lambda value: [value], lambda value: shapes.Row([value]), lambda value: defaultdict(None, a=value)),
        *(lambda value: shapes.Inner(value=value), lambda value: _DeltaSnapshot(value)),
    ],
)
def test_whatever_is_not_too_deep_to_be_written_can_be_read_from_a_deeper_stack(wrap: Any) -> None:
    depth = bisect(range(1, 400), 0, key=lambda depth: not storable(nested(depth, wrap)))
    assert depth > 60
    data = SERDE.dumps_typed(nested(depth, wrap))

    def read(below: int) -> Any:
        return read(below - 1) if below else SERDE.loads_typed(data)

    assert type(read(200)) is type(wrap(1))


def storable(value: Any) -> bool:
    try:
        SERDE.dumps_typed(value)
    except SerializationError:
        return False
    return True


def test_an_interruption_is_not_taken_for_a_refusal() -> None:
    with pytest.raises(KeyboardInterrupt):
        SERDE.dumps_typed([shapes.Failing(KeyboardInterrupt())])


# --- what may be rebuilt ---


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(warnings, "_warned", set())
    caplog.set_level(logging.WARNING, logger="checkpoint_base.serializer")
    return caplog


@pytest.fixture
def events() -> Any:
    seen: list[Any] = []
    unregister = register_serde_event_listener(seen.append)
    yield seen
    unregister()


def test_by_default_an_unregistered_class_is_rebuilt_with_one_warning(log: Any, events: list[Any]) -> None:
    for _ in range(2):
        assert again([shapes.Point(1), shapes.Point(2)]) == [shapes.Point(1), shapes.Point(2)]
    (record,) = log.records
    assert "Deserializing unregistered type tests.shapes.Point" in record.message
    assert events[0] == {"kind": "msgpack_unregistered_allowed", "module": "tests.shapes", "name": "Point"}


def test_safe_classes_and_builtins_need_no_permission(log: Any, events: list[Any]) -> None:
    value = [
        HumanMessage("a"),
        Send("n", 1),
        Counter("a"),
        (1,),
        {2},
        np.int64(1),
        10**30,
        OrderedDict(a=1),
        Decimal(1),
    ]
    assert exact(again(value, ExactSerializer(strict=True))) == exact(value)
    assert not log.records
    assert not events


PLAIN = {
    "dataclass": (shapes.Point((1,), [shapes.Colour.RED]), {"x": (1,), "y": ["red"]}),
    "namedtuple": (shapes.Pair(1, 2), {"left": 1, "right": 2}),
    "model": (shapes.Model(name="a"), {"name": "a", "anything": None, "items": []}),
    "model with private": (shapes.Private(value=1), {"value": 1}),
    "v1 model": (OldModel(), {"value": None, "pair": (1, 2)}),
    "enum": (shapes.Colour.PAIR, ("red", "blue")),
    "str subclass": (shapes.Text("a"), "a"),
    "list subclass": (with_attributes(shapes.Row([1]), note=2), [1]),
    "secret": (pydantic.SecretStr("s"), "s"),
    "nested class": (shapes.Outer.Inner(1), {"value": 1}),
    "set of records": ({shapes.Frozen(1)}, [{"value": 1}]),
    "dict of record keys": ({shapes.Frozen(1): 2}, [({"value": 1}, 2)]),
}


@pytest.mark.parametrize(("value", "plain"), PLAIN.values(), ids=PLAIN)
def test_strict_reads_an_instance_of_another_class_as_plain_data(
    value: Any, plain: Any, log: Any, events: list[Any]
) -> None:
    assert exact(again(value, ExactSerializer(strict=True))) == exact(plain)
    assert "Blocked deserialization of" in log.records[0].message
    assert events[0]["kind"] == "msgpack_blocked"


def test_strict_imports_nothing_for_a_class_that_is_not_permitted() -> None:
    code = (
        "import sys\n"
        "from checkpoint_base.serializer import ExactSerializer\n"
        "data = bytes.fromhex(sys.argv[1])\n"
        "print(ExactSerializer(strict=True).loads_typed(('msgpack.exact', data)), 'tests.shapes' in sys.modules)"
    )
    data = SERDE.dumps_typed(shapes.Point(1))[1].hex()
    run = subprocess.run([sys.executable, "-c", code, data], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{'x': 1, 'y': 0} False"


def test_naming_classes_permits_them_and_no_others(log: Any) -> None:
    serde = ExactSerializer(allowed=[shapes.Point, shapes.Outer.Inner, ("tests.shapes", "Outer.Kind")])
    value = [shapes.Point(1), shapes.Outer.Inner(2), shapes.Outer.Kind.A]
    assert again(value, serde) == value
    assert not log.records
    assert again(shapes.Frozen(1), serde) == {"value": 1}


def test_langgraph_s_allowlist_extends_a_strict_serializer() -> None:
    strict = ExactSerializer(strict=True)
    for extra in ([("tests.shapes", "Point"), ("tests.shapes", "Outer.Inner")], [shapes.Point, shapes.Outer.Inner]):
        clone = strict.with_msgpack_allowlist(extra)
        assert type(clone) is ExactSerializer
        assert again([shapes.Point(1), shapes.Outer.Inner(1)], clone) == [shapes.Point(1), shapes.Outer.Inner(1)]
        assert again(shapes.Point(1), strict) == {"x": 1, "y": 0}
    stock = JsonPlusSerializer().dumps_typed(shapes.Point(1))
    assert clone.loads_typed(stock) == shapes.Point(1)
    assert strict.loads_typed(stock) == {"x": 1, "y": 0}


def test_the_environment_s_strict_mode_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(langgraph_types, "STRICT_MSGPACK_ENABLED", True)
    assert again(shapes.Point(1), ExactSerializer()) == {"x": 1, "y": 0}


def test_pickle_cannot_be_turned_on() -> None:
    with pytest.raises(TypeError):
        ExactSerializer(pickle_fallback=True)  # type: ignore[call-arg]
    with pytest.raises(SerializationError, match="'pickle'"):
        SERDE.loads_typed(("pickle", b""))


@pytest.mark.parametrize(
    ("value", "name", "other"),
    [
        (shapes.Point(1), b"Point", b"Model"),
        (shapes.Point(1), b"Point", b"Plain"),
        (shapes.Text("a"), b"Text", b"Word"),
        (shapes.Whole(1), b"Whole", b"Level"),
        (shapes.Vector([1, 2]), b"Vector", b"Triple"),
        (shapes.Pair(1, 2), b"Pair", b"Slot"),
        (shapes.Colour.RED, b"Colour", b"Access"),
        (shapes.Colour.RED, b"Colour", b"Generi"),
        (pydantic.SecretStr("echo"), b"\xaepydantic.types\xa9SecretStr", b"\xa2os\xa6system"),
    ],
)
def test_only_a_class_of_the_kind_that_was_stored_is_rebuilt(value: Any, name: bytes, other: bytes) -> None:
    tag, data = SERDE.dumps_typed([value])
    assert name in data
    forged = re.sub(re.escape(name), other, data)
    if len(name) != len(other):
        payload = bytes(data[4:]).replace(name, other)
        forged = ormsgpack.packb([ormsgpack.Ext(data[3], payload)])
    with pytest.raises(SerializationError):
        SERDE.loads_typed((tag, forged))


# --- classes that have changed ---


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Store an instance of one class, then put another class in its place."""

    def store(old: Any, obj: Any, new: Any) -> Any:
        for cls in (old, new):
            if cls is not None:
                cls.__module__, cls.__qualname__, cls.__name__ = "tests.shapes", "Changing", "Changing"
        monkeypatch.setattr(shapes, "Changing", old, raising=False)
        data = SERDE.dumps_typed(obj)
        if new is None:
            monkeypatch.delattr(shapes, "Changing")
        else:
            monkeypatch.setattr(shapes, "Changing", new)
        return data

    return store


def dataclass_with(**fields: Any) -> Any:
    return dataclasses.make_dataclass("Changing", [(name, Any, default) for name, default in fields.items()])


NEEDED = dataclasses.field()


def test_a_dataclass_gets_the_defaults_of_new_fields(stored: Any) -> None:
    old = dataclass_with(a=NEEDED)
    new = dataclass_with(a=NEEDED, b=(5,), c=dataclasses.field(default_factory=list))
    assert SERDE.loads_typed(stored(old, old((1,)), new)) == new((1,), (5,), [])


def test_a_dataclass_drops_removed_fields_with_one_warning(stored: Any, log: Any) -> None:
    old, new = dataclass_with(a=1, gone=2), dataclass_with(a=1, b=3)
    data = stored(old, old(7, 8), new)
    for _ in range(2):
        assert SERDE.loads_typed(data) == new(7, 3)
    assert [record.message for record in log.records if "no longer" in record.message] == [
        "tests.shapes.Changing no longer has the stored fields ['gone'], which are dropped."
    ]


def test_a_new_field_without_a_default_is_an_error_that_names_it(stored: Any) -> None:
    old, new = dataclass_with(a=NEEDED), dataclass_with(a=NEEDED, b=dataclasses.field())
    data = stored(old, old(1), new)
    with pytest.raises(SerializationError, match=r"shapes\.Changing has changed .*new fields: \['b'\], removed: \[\]"):
        SERDE.loads_typed(data)
    assert ExactSerializer(strict=True).loads_typed(data) == {"a": 1}


def test_a_namedtuple_gets_the_defaults_of_new_fields(stored: Any) -> None:
    from collections import namedtuple

    old, new = namedtuple("Old", "a b"), namedtuple("New", "b a c", defaults=[3])
    assert SERDE.loads_typed(stored(old, old(1, 2), new)) == new(a=1, b=2, c=3)


def test_a_model_gets_the_defaults_of_new_fields(stored: Any) -> None:
    class Old(pydantic.BaseModel):
        a: Any

    class New(pydantic.BaseModel):
        a: Any
        b: list[int] = pydantic.Field(default_factory=lambda: [1])
        _p: int = 3

    back = SERDE.loads_typed(stored(Old, Old(a=(1,)), New))
    assert (type(back), back.a, back.b, back._p) == (New, (1,), [1], 3)
    assert back.model_fields_set == {"a"}


def test_a_model_with_removed_fields_is_validated_anew(stored: Any) -> None:
    class Old(pydantic.BaseModel):
        a: int
        gone: int

    class New(pydantic.BaseModel):
        a: int
        doubled: int = 0

        def model_post_init(self, context: Any, /) -> None:
            self.doubled = self.a * 2

    class Closed(pydantic.BaseModel, extra="forbid"):
        a: int

    assert SERDE.loads_typed(stored(Old, Old(a=1, gone=2), New)) == New(a=1)
    with pytest.raises(SerializationError, match=r"removed: \['gone'\]"):
        SERDE.loads_typed(stored(Old, Old(a=1, gone=2), Closed))


def test_a_v1_model_gets_the_defaults_of_new_fields(stored: Any) -> None:
    class Old(pydantic.v1.BaseModel):
        a: int

    class New(pydantic.v1.BaseModel):
        a: int
        b: int = 4

    assert SERDE.loads_typed(stored(Old, Old(a=1), New)) == New(a=1, b=4)


def test_a_class_that_is_gone_is_an_error_and_never_a_silent_dict(stored: Any) -> None:
    old = dataclass_with(a=1)
    data = stored(old, old(2), None)
    with pytest.raises(SerializationError, match=r"no class Changing .*strict=True"):
        SERDE.loads_typed(data)
    assert ExactSerializer(strict=True).loads_typed(data) == {"a": 2}


def test_a_module_that_is_gone_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SERDE.dumps_typed(shapes.Point(1))
    monkeypatch.delitem(sys.modules, "tests.shapes")
    monkeypatch.setattr("tests.__path__", [])
    with pytest.raises(SerializationError, match=r"Cannot import tests\.shapes for its Point \(ModuleNotFoundError"):
        SERDE.loads_typed(data)


def test_a_class_of_another_kind_under_the_same_name_is_refused(stored: Any) -> None:
    old = dataclass_with(a=1)
    data = stored(old, old(1), type("Changing", (str,), {}))
    with pytest.raises(SerializationError, match="not the kind of class"):
        SERDE.loads_typed(data)


def test_an_enum_member_that_is_gone_is_an_error_that_names_it(stored: Any) -> None:
    old, new = enum.Enum("Changing", {"A": 1, "B": 2}), enum.Enum("Changing", {"A": 1})
    with pytest.raises(SerializationError, match=r"shapes\.Changing \(ValueError: 2 is not a valid Changing"):
        SERDE.loads_typed(stored(old, old.B, new))


def test_a_windows_path_cannot_be_rebuilt_elsewhere() -> None:
    data = SERDE.dumps_typed(pathlib.PurePosixPath("a"))[1].replace(b"\xadPurePosixPath", b"\xabWindowsPath")
    payload = data[3:]
    with pytest.raises(SerializationError, match=r"WindowsPath\('a'\) on this machine"):
        SERDE.loads_typed((TAG, ormsgpack.packb(ormsgpack.Ext(data[2], payload))))


# --- damage ---

RICH = [
    HumanMessage("héllo", id="1"),
    shapes.Model(anything={1: shapes.Point((1, 10**30), b"\xc4")}),
    {datetime(2020, 1, 1, tzinfo=BERLIN), Decimal("1.5"), uuid.UUID(int=3), values.Word.HELLO},
    [np.arange(3), np.float32(1), bytearray(b"x"), "\ud800", shapes.Text("s"), deque([1], 2), Counter("a")],
    [defaultdict(list, a=[1]), shapes.Triple(1, 2), Send("n", re.compile("a+")), pathlib.PurePosixPath("p"), 1 + 2j],
]


def read_damaged(data: bytes) -> None:
    try:
        SERDE.loads_typed((TAG, data))
    except (CorruptCheckpoint, SerializationError) as error:
        assert str(error)  # noqa: PT017


def test_every_truncation_is_reported_as_damage() -> None:
    data = SERDE.dumps_typed(RICH)[1]
    for length in range(len(data)):
        with pytest.raises(CorruptCheckpoint, match="is damaged"):
            SERDE.loads_typed((TAG, data[:length]))


@pytest.mark.filterwarnings("ignore")  # a damaged pattern or dtype may be a deprecated one
@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_give_a_value_or_one_of_our_errors(seed: int, caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(warnings, "_warned", set())
    caplog.set_level(logging.CRITICAL)
    chance = random.Random(seed)
    whole = SERDE.dumps_typed(RICH)[1]
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 1, 2, 8])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        read_damaged(bytes(data))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 127), st.binary(max_size=12), st.lists(st.integers(-5, 300) | st.text(max_size=3), max_size=5))
def test_any_bytes_under_any_code_give_a_value_or_one_of_our_errors(code: int, raw: bytes, items: list[Any]) -> None:
    read_damaged(raw)
    read_damaged(ormsgpack.packb(ormsgpack.Ext(code, raw)))
    read_damaged(ormsgpack.packb([ormsgpack.Ext(code, ormsgpack.packb(items))]))
    read_damaged(ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(["tests.shapes", "Point", *items]))))


def test_damaged_bytes_of_the_stock_serializer_are_reported_as_damage() -> None:
    tag, data = JsonPlusSerializer().dumps_typed({"a": "bc"})
    with pytest.raises(CorruptCheckpoint):
        SERDE.loads_typed((tag, data[:-1]))


def test_numpy_that_is_not_installed_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SERDE.dumps_typed([np.arange(3)])
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(SerializationError, match="install numpy"):
        SERDE.loads_typed(data)


# --- beside LangGraph's own ---


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"a",
        bytearray(b"a"),
        {"a": [1, 2.5]},
        [HumanMessage("a", id="1")],
        shapes.Point(1),
        {1: {2}},
        Send("n", 1),
    ],
)
def test_what_the_stock_serializer_wrote_is_read(value: Any) -> None:
    back = SERDE.loads_typed(JsonPlusSerializer().dumps_typed(value))
    assert back == value
    assert type(back) is type(value)


def test_json_of_old_langgraph_versions_is_read() -> None:
    assert SERDE.loads_typed(("json", b'{"a": [1]}')) == {"a": [1]}


def test_it_works_inside_the_encrypted_serializer() -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(ExactSerializer(), key=b"0123456789abcdef")
    for value in (None, b"a", [(1,), shapes.Point({2})]):
        assert exact(again(value, serde)) == exact(value)
    assert serde.dumps_typed([1])[0] == "msgpack.exact+aes"


def test_a_copy_is_independent() -> None:
    clone = copy.copy(ExactSerializer())
    clone._allowed_msgpack_modules = None
    assert again(shapes.Point(1), clone) == {"x": 1, "y": 0}
    assert again(shapes.Point(1)) == shapes.Point(1)
