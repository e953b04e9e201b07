"""What the serializer makes of stored bytes: classes that may not be rebuilt, that have changed, and damage."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import pathlib
import random
import re
import subprocess
import sys
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import ormsgpack
import pydantic
import pydantic.v1
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    HumanMessage,
)
from langchain_core.prompts import PromptTemplate
from langgraph.checkpoint.serde import _msgpack as langgraph_types
from langgraph.checkpoint.serde.event_hooks import register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    JsonPlusSerializer,
)
from langgraph.types import Send
from pydantic import networks

from checkpoint_base.errors import (
    UNREADABLE,
    CorruptCheckpoint,
    SchemaMismatch,
    SerializationError,
    UnsupportedOperation,
)
from checkpoint_base.serializer import ExactSerializer, codes
from checkpoint_base.serializer import log as warnings
from checkpoint_base.serializer.codes import TAG
from checkpoint_base.serializer.forms import Url
from conformance_tests import values
from tests import shapes
from tests.exactness import BERLIN, SERDE, again, exact, with_attributes

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
        pydantic.HttpUrl("https://a.example"),
        pydantic.PostgresDsn("postgresql://a,b/c"),
    ]
    assert exact(again(value, ExactSerializer(strict=True))) == exact(value)
    assert not log.records
    assert not events


@pytest.mark.parametrize("name", [name for name in networks.__all__ if name.endswith(("Url", "Dsn"))])
def test_every_url_of_pydantic_has_a_form(name: str) -> None:
    assert Url.fits(getattr(networks, name))


PLAIN = {
    "dataclass": (shapes.Point((1,), [shapes.Colour.RED]), {"x": (1,), "y": ["red"]}),
    "namedtuple": (shapes.Pair(1, 2), {"left": 1, "right": 2}),
    "model": (shapes.Model(name="a"), {"name": "a", "anything": None, "items": []}),
    "model with private": (shapes.Private(value=1), {"value": 1}),
    "v1 model": (shapes.OldModel(), {"value": None, "pair": (1, 2)}),
    "enum": (shapes.Colour.PAIR, ("red", "blue")),
    "str subclass": (shapes.Text("a"), "a"),
    "list subclass": (with_attributes(shapes.Row([1]), note=2), [1]),
    "secret": (shapes.Token("s"), "s"),
    "URL": (shapes.ShopUrl("https://shop.example"), "https://shop.example/"),
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


def test_strict_loses_no_entry_to_plain_data_that_equals_it() -> None:
    value = [{shapes.Colour.RED: "member", "red": "text"}, {shapes.Colour.RED, "red"}, {shapes.Colour.RED: 1, 2: 3}]
    pairs, elements, other = again(value, ExactSerializer(strict=True))
    assert sorted(pairs) == [("red", "member"), ("red", "text")]
    assert elements == ["red", "red"]
    assert other == {"red": 1, 2: 3}


@pytest.mark.parametrize(
    ("tag", "code", "times"),
    [(TAG, codes.TUPLE, 120), ("msgpack", EXT_CONSTRUCTOR_SINGLE_ARG, 500), ("msgpack", EXT_DELTA_SNAPSHOT, 500)],
)
def test_what_is_nested_deeper_than_anything_is_stored_is_damaged_and_harmless(tag: str, code: int, times: int) -> None:
    bomb = b"\x01"
    for _ in range(times):
        bomb = b"\x91" * 240 + b"\xc9" + (len(bomb) + 1).to_bytes(4, "big") + bytes((code,)) + b"\x91" + bomb
    program = (
        "import sys\n"
        "from checkpoint_base.serializer import ExactSerializer\n"
        f"try: ExactSerializer(strict=True).loads_typed(({tag!r}, sys.stdin.buffer.read()))\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], input=bomb, capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (0, b"CorruptCheckpoint\n"), run.stderr


def test_too_little_stack_is_not_taken_for_damage() -> None:
    value: Any = 1
    for _ in range(100):
        value = (value,)
    data = SERDE.dumps_typed(value)
    outcomes: dict[str, int] = {}

    def read(below: int) -> None:
        if below:
            read(below - 1)
            return
        try:
            SERDE.loads_typed(data)
        except RecursionError:  # of the call itself
            raise
        except Exception as error:
            outcomes[f"{type(error).__name__}: {error}"] = below

    for below in range(700, 980, 4):
        with suppress(RecursionError):
            read(below)
    assert len(outcomes) == 1
    assert next(iter(outcomes)).startswith("SerializationError: Too little stack or memory is left")
    assert SERDE.loads_typed(data) == value


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


@pytest.mark.parametrize(
    "allowed",
    [
        "tests.shapes",
        ["tests.shapes.Point"],
        ("tests.shapes", "Point"),
        [shapes],
        [None],
        [("tests.shapes", shapes.Point)],
        [["tests.shapes", "Point"]],
        [("tests.shapes", "Point", "x")],
        {"tests.shapes": "Point"},
        True,
        False,
    ],
    ids=repr,
)
def test_classes_that_are_permitted_in_no_known_way_are_an_error_and_not_left_out(allowed: Any) -> None:
    with pytest.raises(UnsupportedOperation, match=r"allowed=.*: give a list of classes, or of pairs"):
        ExactSerializer(allowed=allowed)


@pytest.mark.parametrize("strict", ["false", "true", 1, None])
def test_strict_is_true_or_false_here_too(strict: Any) -> None:
    with pytest.raises(UnsupportedOperation, match=r"strict=.*: give True or False"):
        ExactSerializer(strict=strict)


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


def test_strict_leaves_a_class_in_langgraph_s_old_json_as_it_is(log: Any) -> None:
    def stored(*path: str, **kwargs: Any) -> Any:
        return {"lc": 1, "type": "constructor", "id": [*path], "kwargs": kwargs}

    prompt = stored("langchain", "prompts", "prompt", "PromptTemplate", template="{x}", input_variables=["x"])
    message = stored("langchain", "schema", "messages", "HumanMessage", content="a")
    data = ("json", json.dumps([prompt, message]).encode())
    assert ExactSerializer(strict=True).loads_typed(data) == [prompt, HumanMessage("a")]
    assert "Blocked deserialization of langchain_core.prompts.prompt.PromptTemplate" in log.records[0].message
    assert (
        SERDE.loads_typed(data)
        == JsonPlusSerializer().loads_typed(data)
        == [PromptTemplate(template="{x}"), HumanMessage("a")]
    )
    permitted = ExactSerializer(allowed=[PromptTemplate])
    assert permitted.loads_typed(data)[0] == PromptTemplate(template="{x}")


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


def test_models_in_a_list_get_the_defaults_of_new_fields(stored: Any) -> None:
    class Old(pydantic.BaseModel):
        a: Any
        b: int = 0

    class New(Old):
        c: list[int] = pydantic.Field(default_factory=lambda: [1])

    class Private(Old):
        _p: int = 3

    back = SERDE.loads_typed(stored(Old, [Old(a=(1,)), Old(a=2, b=3)], New))
    assert [(type(each), each.a, each.b, each.c) for each in back] == [(New, (1,), 0, [1]), (New, 2, 3, [1])]
    assert [each.model_fields_set for each in back] == [{"a"}, {"a", "b"}]
    back = SERDE.loads_typed(stored(Old, [Old(a=(1,)), Old(a=2, b=3)], Private))
    assert [(type(each), each.a, each.b, each._p) for each in back] == [(Private, (1,), 0, 3), (Private, 2, 3, 3)]
    assert [each.model_fields_set for each in back] == [{"a"}, {"a", "b"}]


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


def test_a_class_of_a_script_is_an_error_that_says_where_to_define_it(monkeypatch: pytest.MonkeyPatch) -> None:
    script = types.ModuleType("__main__")
    of_script = dataclass_with(a=1)
    of_script.__module__, of_script.__qualname__ = "__main__", "OfScript"
    script.OfScript = of_script  # type: ignore[attr-defined]
    with monkeypatch.context() as started:
        started.setitem(sys.modules, "__main__", script)
        data = SERDE.dumps_typed([of_script(2)])
    with pytest.raises(
        SerializationError, match=r"__main__ has no class OfScript .* in a module that all programs import"
    ):
        SERDE.loads_typed(data)


def test_a_class_that_was_renamed_is_found_as_long_as_its_old_name_is_kept(
    stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, renamed = dataclass_with(a=1), dataclass_with(a=1)
    data = stored(old, [old(2)], None)
    renamed.__module__, renamed.__qualname__ = "tests.shapes", "Renamed"
    monkeypatch.setattr(shapes, "Renamed", renamed, raising=False)
    with pytest.raises(SerializationError, match="renamed or moved, keep its old name"):
        SERDE.loads_typed(data)
    monkeypatch.setattr(shapes, "Changing", renamed, raising=False)
    assert SERDE.loads_typed(data) == [renamed(2)]
    monkeypatch.delattr(shapes, "Changing")
    assert again([renamed(2)]) == [renamed(2)]  # what is stored from then on has the new name


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


def test_secrets_stay_masked_when_strict() -> None:
    value = {
        "key": pydantic.SecretStr("hunter2"),
        "raw": pydantic.SecretBytes(b"hunter2"),
        "any": pydantic.Secret(["hunter2"]),
    }
    read = again(value, ExactSerializer(strict=True))
    assert read == value
    assert "hunter2" not in repr(read)


def test_what_cannot_be_rebuilt_is_not_shown(stored: Any) -> None:
    old = dataclasses.make_dataclass("Changing", ["name"])
    new = pydantic.create_model("Changing", number=(int, ...), __module__="tests.shapes")
    gone, left = enum.Enum("Changing", {"A": "secret"}), enum.Enum("Changing", {"A": "b"})
    number = pydantic.create_model("Changing", name=(str, ...), __module__="tests.shapes")
    for before, value, after in [
        (number, number(name="secret"), new),
        (gone, gone.A, left),
        (old, old("secret"), dataclasses.make_dataclass("Changing", ["name", "number"])),
    ]:
        with pytest.raises(SerializationError, match="Changing") as refused:
            SERDE.loads_typed(stored(before, value, after))
        assert "secret" not in str(refused.value)


def test_an_enum_member_that_is_gone_is_an_error_that_names_it(stored: Any) -> None:
    old, new = enum.Enum("Changing", {"A": 1, "B": 2}), enum.Enum("Changing", {"A": 1})
    with pytest.raises(SerializationError, match=r"shapes\.Changing \(LookupError: no member has the stored value"):
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
    [np.array(["a", "bé"]), np.array([b"ab"])],
    [np.arange(3), np.float32(1), bytearray(b"x"), "\ud800", shapes.Text("s"), deque([1], 2), Counter("a")],
    [defaultdict(list, a=[1]), shapes.Triple(1, 2), Send("n", re.compile("a+")), pathlib.PurePosixPath("p"), 1 + 2j],
]


def read_damaged(data: bytes) -> None:
    try:
        SERDE.loads_typed((TAG, data))
    except UNREADABLE as error:
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


@pytest.mark.timeout(20)
@pytest.mark.parametrize("parts", [["1e9999999999"], ["1e9999999999", None]])
def test_a_fraction_is_read_from_whole_numbers_alone(parts: list[Any]) -> None:
    """A text of a few bytes may stand for a number that takes hours to compute."""
    with pytest.raises(CorruptCheckpoint, match="is damaged"):
        SERDE.loads_typed((TAG, ormsgpack.packb(ormsgpack.Ext(codes.LEAF, ormsgpack.packb(["Fraction", *parts])))))


def test_what_a_later_version_stored_is_an_error_that_asks_for_an_upgrade() -> None:
    unknown = {
        "extension 127": (127, ["tests.shapes", "Point", {}]),
        "extension 126": (126, []),
        "a kind of value": (codes.LEAF, ["Quaternion", 1, 2]),
    }
    for what, (code, payload) in unknown.items():
        data = ormsgpack.packb([(1, ormsgpack.Ext(code, ormsgpack.packb(payload)))])
        with pytest.raises(SchemaMismatch, match=f"{what} .* later version .* upgrade checkpoint-backends"):
            SERDE.loads_typed((TAG, data))
    for tag, advice in (("msgpack.exact2", "upgrade"), ("msgpack.exact+aes", "with its key")):
        with pytest.raises(SerializationError, match=f"{re.escape(tag)}.* {advice}"):
            SERDE.loads_typed((tag, b""))


@settings(max_examples=150)
@example(0, b"\xdd\xc6\x9f\xd9\x14", [])  # claims three billion elements
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


@pytest.mark.parametrize(
    ("dtype", "shape", "raw"),
    [
        ("<U2", [10**12], b"a\0\0\0b\0\0\0"),
        ("<U1000000000", [1], b"a\0\0\0"),
        ("<U0", [10**12], b""),
        ("|S0", [10**12], b""),
        ("<U0", [], b""),
        ("<U1", [1], b"\0\0\x11\0"),
        (">U1", [1], b"\0\x11\0\0"),
        ("<U1", [1], b"\xff\xff\xff\xff"),
        ("|O", [1], b"\0" * 8),
        ("|V1", [1], b"a"),
    ],
)
def test_an_array_that_does_not_fit_its_bytes_is_damage(dtype: str, shape: list[int], raw: bytes) -> None:
    for code in (codes.ARRAY, codes.NUMPY_SCALAR):
        data = ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb([dtype, shape, "C", raw])))
        with pytest.raises(CorruptCheckpoint, match="is damaged"):
            SERDE.loads_typed((TAG, data))


def test_numpy_that_is_not_installed_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SERDE.dumps_typed([np.arange(3)])
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(SerializationError, match="install numpy"):
        SERDE.loads_typed(data)
