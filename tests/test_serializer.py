"""Values come back equal and of the same type."""

from __future__ import annotations

import copy
import ipaddress
import pathlib
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import ormsgpack
import pydantic
import pydantic.v1
import pytest
from dateutil.tz import tzoffset, tzutc
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
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.base import Item, SearchItem
from langgraph.types import Command, Interrupt, Overwrite, Send, TimeoutPolicy

from checkpoint_base.serializer import ExactSerializer
from checkpoint_base.serializer.codes import TAG
from conformance_tests import values
from tests import shapes
from tests.exactness import BERLIN, SERDE, again, exact, pydantic_attributes, with_attributes


def moved() -> Any:
    ordered = OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    return ordered


def unset_field() -> Any:
    value = shapes.Late(1)
    del value.derived
    return value


CREATED, UPDATED = datetime(2026, 1, 1), datetime(2026, 1, 2)

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
    "Fraction": Fraction(-(10**30), 7),
    "range": range(9, -(10**30), -2),
    "empty range": range(5, 1),
    "str": "żółw 🐢 \x00",
    "lone surrogate": "a\ud800b",
    "surrogate pair in two": "\ud83d\ude00",
    "bytes": b"\x00\xc4",
    "bytearray": bytearray(b"abc"),
    "long bytearray": [bytearray(300)],
    "very long bytearray": [bytearray(70_000)],
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
    "derived from a parametrised model": shapes.HoldsTextBox(box=shapes.TextBox(value="a")),
    "frozen model": shapes.FrozenModel(value=(1,)),
    "model of pydantic v1": shapes.OldModel(value=(1, shapes.OldModel(value={2}))),
    "model of pydantic v1 with extra": shapes.OldOpen(value=1, more=(2,)),
    "SecretStr": pydantic.SecretStr("s\u0142"),
    "SecretBytes": pydantic.SecretBytes(b"s"),
    "v1 SecretStr": pydantic.v1.SecretStr("s"),
    "Secret": pydantic.Secret(("s", {1})),
    "derived from SecretStr, with a field": shapes.OwnedToken("s", owner="me"),
    "derived from Secret": shapes.SecretDate(date(2026, 1, 1)),
    "AnyUrl": pydantic.AnyUrl("mcp://h\u00f6st/a b?q=%2F#\U0001f600"),
    "HttpUrl": pydantic.HttpUrl("HTTPS://user:p%40ss@Example.com:443"),
    "FileUrl": pydantic.FileUrl("file:///a/../b"),
    "PostgresDsn of several hosts": pydantic.PostgresDsn("postgresql://u:p@a:1,b:2/db?x=1"),
    "derived from HttpUrl": with_attributes(shapes.ShopUrl("https://shop.example"), note=(1,)),
    "model with a URL": shapes.Linked(link="https://a.example", other="urn:isbn:3"),
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
    "Item": Item(
        value={"a": (1,)}, key="k", namespace=("n",), created_at=datetime(2026, 1, 1), updated_at=datetime(2026, 1, 2)
    ),
    "SearchItem": SearchItem(("n",), "k", {"a": {1}}, datetime(2026, 1, 1), datetime(2026, 1, 2), score=0.5),
    "DeltaSnapshot": _DeltaSnapshot([(1,), HumanMessage("a")]),
    "array": np.arange(6, dtype="<i4").reshape(2, 3),
    "Fortran array": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided array": np.arange(10)[::3],
    "big endian array": np.arange(3, dtype=">f8"),
    "bool array": np.array([[True], [False]]),
    "complex array": np.array([1j]),
    "datetime array": np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
    "empty array": np.zeros((0, 3)),
    "text array": np.array([["a", "bcd"], ["", "\ud800😀"]]),
    "big endian text array": np.array(["a", "bcd"], dtype=">U5"),
    "strided Fortran text array": np.asfortranarray(np.array([["ab", "c"], ["d", "e"], ["f", "g"]])[::2]),
    "empty text array": np.array([], dtype="U7"),
    "text array without dimensions": np.array("abc"),
    "bytes array": np.array([b"a", b"\x00b\xff", b"c\x00"]),
    "bytes array wider than its items": np.array([b"a"], dtype="S9"),
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


def test_fixed_offsets_of_libraries_become_the_standard_library_s() -> None:
    moments = [
        pydantic.TypeAdapter(datetime).validate_python("2026-03-28T12:00:00+02:00"),
        datetime(2026, 3, 28, 12, tzinfo=tzutc()),
        datetime(2026, 3, 28, 12, tzinfo=tzoffset(None, 7200)),
    ]
    for moment in moments:
        assert again(moment) == moment
        assert type(again(moment).tzinfo) is timezone


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


@settings(max_examples=150)
@given(any_values)
def test_any_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    assert exact(again(value)) == exact(value)


# --- the stored form ---


def test_an_element_has_the_same_bytes_in_a_list_a_tuple_and_a_snapshot() -> None:
    points = [shapes.Point("a" * 300), shapes.Point({"k": (1, 2)})]
    first, second = (SERDE.dumps_typed([point])[1][1:] for point in points)
    elements = first + second
    for value in (points, tuple(points), _DeltaSnapshot(points), deque(points)):
        data = SERDE.dumps_typed(value)[1]
        assert data.endswith(elements)
    spelled = SERDE.dumps_typed([*points, {1: "a key that is no str"}, bytearray(b"x")])[1]
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
