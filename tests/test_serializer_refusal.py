"""What the serializer refuses to store, and how it says so."""

from __future__ import annotations

import builtins
import dataclasses
import subprocess
import sys
from bisect import bisect
from collections import defaultdict
from datetime import datetime, time
from time import struct_time
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from dateutil.tz import gettz
from langchain_core.messages import (
    HumanMessage,
)
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Interrupt, Send
from pydantic import MongoDsn
from pydantic_core import MultiHostUrl

from checkpoint_base.errors import SerializationError
from tests import shapes
from tests.exactness import SERDE, pydantic_attributes, with_attributes


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


def of_a_class_defined_anew() -> Any:
    former = dataclasses.make_dataclass("Point", ["x"])
    former.__module__ = "tests.shapes"
    return former(1)


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
    "slice": (slice(3), "tuple of its bounds"),
    "URL that pydantic itself cannot read again": (
        with_attributes(MongoDsn("mongodb://a"), _url=MultiHostUrl("http://a,/,")),
        r"cannot be read again from its text: store str\(url\) instead",
    ),
    "memoryview": (memoryview(b"a"), r"store bytes\(view\)"),
    "strided memoryview": (memoryview(b"abc")[::2], r"store bytes\(view\)"),
    "object": (object(), "store a dataclass, a pydantic model or plain data"),
    "unknown class": (shapes.Plain(), "shapes.Plain .*store a dataclass"),
    "local class": (local_class(), "defined inside a function: move the class to module level"),
    "missing class": (renamed_class(), r"cannot be imported as tests\.shapes\.Missing"),
    "class defined anew": (of_a_class_defined_anew(), r"defined anew .* with the current tests\.shapes\.Point"),
    "model parametrised in a class": (
        shapes.AnyBox[str](value="a"),
        r"derive a class from AnyBox\[str\] at module level, and store an instance of that",
    ),
    "defaultdict of code": (defaultdict(lambda: 0), "default factory"),
    "object array": (np.array([None]), "dtype object"),
    "structured array": (np.zeros(1, dtype=[("a", "i4")]), "dtype"),
    "subclass of array": (np.ma.masked_array([1]), "store a dataclass"),
    "text array of no length": (np.zeros(1, dtype=[("a", "U0"), ("b", "i4")])["a"], r"dtype <U0.*value\.tolist\(\)"),
    "text array that is none": (np.array([0x110000], dtype="u4").view("U1"), r"holds a number that is no character"),
    "np.str": (np.str_("a"), r"dtype <U1: store value\.item\(\)"),
    "np.bytes": (np.bytes_(b"a\x00"), r"dtype \|S2: store value\.item\(\)"),
    "np.void": (np.void(b"a"), r"dtype \|V1: store value\.item\(\)"),
    "np.longlong": (np.longlong(1), r"value.item\(\)"),
    "OrderedDict subclass": (shapes.Ordered(b=1), "store its builtin, or a dataclass"),
    "defaultdict subclass": (shapes.Defaults(int), "store its builtin, or a dataclass"),
    "Counter subclass": (shapes.Tally("aab"), "store its builtin, or a dataclass"),
    "deque subclass": (shapes.Tail([1, 2]), "store its builtin, or a dataclass"),
    "bytearray subclass": (shapes.RawBuffer(b"a"), "store its builtin, or a dataclass"),
    "complex subclass": (shapes.Complex(1), "store its builtin, or a dataclass"),
    "str subclass with slots": (shapes.SlottedText("a"), r"\['note'\] in __slots__: make them fields"),
    "dataclass over slots": (shapes.WithSlotBase(1), r"\['__hidden', 'note'\] in __slots__"),
    "v1 model with private": (shapes.OldPrivate(), r"\['_note'\] in __slots__"),
    "tuple that C makes": (struct_time(range(9)), r"store tuple\(value\) instead"),
    "enum of NaN": (shapes.Strange.NAN, "cannot be found by its value"),
    "zone of dateutil": (
        datetime(2026, 3, 28, 12, tzinfo=gettz("Europe/Berlin")),
        r"dateutil.* use zoneinfo\.ZoneInfo",
    ),
    "zone of pytz": (datetime(2026, 3, 28, 12, tzinfo=shapes.Changing()), r"Changing: use zoneinfo\.ZoneInfo"),
    "zone beside the cache": (ZoneInfo.no_cache("Europe/Berlin"), r"is not what ZoneInfo\(key\) gives"),
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


@pytest.mark.skipif(not hasattr(builtins, "frozendict"), reason="Python 3.15 has it first")
def test_a_frozendict_is_refused_and_does_not_become_a_dict() -> None:
    odd = builtins.frozendict(a=1)
    for holder in (odd, [odd], {"k": odd}, (odd,), {odd: 1}, shapes.Point(odd), shapes.Model(anything=odd)):
        with pytest.raises(SerializationError, match=r"store dict\(value\) instead"):
            SERDE.dumps_typed(holder)


@pytest.mark.parametrize(("place", "holder"), PLACES.items(), ids=PLACES)
def test_a_refusal_names_the_place(place: str, holder: Any) -> None:
    for value in (ValueError("x"), shapes.Failing(TypeError("disk gone")), local_class()):
        with pytest.raises(SerializationError) as caught:
            SERDE.dumps_typed(holder(value))
        assert str(caught.value).startswith(f"Cannot store {place}: the value of type ")


def test_a_refusal_names_the_element_of_a_set_and_the_key_of_a_dict() -> None:
    with pytest.raises(SerializationError, match=r"value\[1\] element: the value of type ValueError"):
        SERDE.dumps_typed([1, {ValueError("x")}])
    with pytest.raises(SerializationError, match=r"value key: the value of type function"):
        SERDE.dumps_typed({generator: 1})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": {shapes.Plain("secret")}}, r'value["a"] element'),
        ({shapes.Plain("secret"): 1}, "value key"),
        ({("secret", 1): shapes.Plain("secret")}, "value[<tuple>]"),
        ({b"secret": [shapes.Plain("secret")]}, "value[<bytes>][0]"),
        ({(shapes.Plain("secret"),): 1}, "value key[0]"),
        ([shapes.Point(shapes.Plain("secret"))], "value[0].x"),
        ({7: shapes.Plain("secret")}, "value[7]"),
    ],
)
def test_a_refusal_shows_a_place_and_no_contents(value: Any, place: str) -> None:
    with pytest.raises(SerializationError) as refused:
        SERDE.dumps_typed(value)
    said = str(refused.value)
    assert said.startswith(f"Cannot store {place}: the value of type tests.shapes.Plain has no exact stored form")
    assert "secret" not in said


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
        *(lambda value: [shapes.Inner(value=value)], lambda value: (shapes.Open(x=value),)),
    ],
)
def test_whatever_is_not_too_deep_to_be_written_can_be_read_from_a_deeper_stack(wrap: Any) -> None:
    depth = bisect(range(1, 400), 0, key=lambda depth: not storable(nested(depth, wrap)))
    assert depth > 60
    data = SERDE.dumps_typed(nested(depth, wrap))

    def read(below: int) -> Any:
        return read(below - 1) if below else SERDE.loads_typed(data)

    assert type(read(200)) is type(wrap(1))


def layered(extensions: int, lists: int) -> Any:
    """Lists in tuples in lists …: each is within what ormsgpack and Python bear, and together they may not be."""
    value: Any = 1
    for _ in range(extensions):
        for _ in range(lists):
            value = [value]
        value = (value,)
    return value


def test_what_would_take_more_stack_than_a_small_thread_has_is_refused() -> None:
    for extensions, lists in ((126, 240), (60, 240), (4, 240), (120, 5)):
        with pytest.raises(SerializationError, match="nested more than"):
            SERDE.dumps_typed(layered(extensions, lists))
    for extensions, lists in ((2, 240), (100, 4), (1, 250)):
        value = layered(extensions, lists)
        assert SERDE.dumps_typed(SERDE.loads_typed(SERDE.dumps_typed(value))) == SERDE.dumps_typed(value)


def test_what_may_be_stored_can_be_written_and_read_on_a_small_stack() -> None:
    program = (
        "import threading\n"
        "from checkpoint_base.serializer import ExactSerializer\n"
        "from tests.test_serializer_refusal import layered\n"
        "serde, done = ExactSerializer(), []\n"
        "def work():\n"
        "    for extensions, lists in ((2, 240), (100, 4), (1, 250)):\n"
        "        done.append(serde.loads_typed(serde.dumps_typed(layered(extensions, lists))))\n"
        "threading.stack_size(1 << 20)\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start(); thread.join()\n"
        "print(len(done))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "3\n"), run.stderr


def storable(value: Any) -> bool:
    try:
        SERDE.dumps_typed(value)
    except SerializationError:
        return False
    return True


def test_an_interruption_is_not_taken_for_a_refusal() -> None:
    with pytest.raises(KeyboardInterrupt):
        SERDE.dumps_typed([shapes.Failing(KeyboardInterrupt())])


@pytest.mark.parametrize(
    "made", [shapes.Point(1), next(iter(shapes.Colour)), shapes.Model()], ids=lambda made: type(made).__name__
)
@pytest.mark.parametrize(
    "around", [lambda value: value, lambda value: [value], lambda value: (value,)], ids=["alone", "list", "tuple"]
)
def test_a_value_is_refused_whose_class_was_defined_anew_after_another_was_stored(
    made: Any, around: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook, whose values outlive the cell that defines their class."""
    SERDE.dumps_typed(around(made))
    name = type(made).__name__
    monkeypatch.setattr(shapes, name, type(name, (), {"__module__": shapes.__name__}))
    with pytest.raises(SerializationError, match=f"defined anew since.* the current {shapes.__name__}.{name}"):
        SERDE.dumps_typed(around(made))
