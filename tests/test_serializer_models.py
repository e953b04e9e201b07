"""Lists of pydantic models, whose kinds are stored once, come back like any other value."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import ormsgpack
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from checkpoint_base.errors import CorruptCheckpoint, SerializationError
from checkpoint_base.serializer import ExactSerializer
from checkpoint_base.serializer.codes import MODELS, TAG
from checkpoint_base.serializer.encode import Encoder
from tests import shapes
from tests.exactness import SERDE, again, exact, pydantic_attributes, with_attributes


def stored_as(value: Any) -> int:
    """The code of the extension that a value is stored as; -1 for none."""
    codes = [-1]
    ormsgpack.unpackb(SERDE.dumps_typed(value)[1], ext_hook=lambda code, _: codes.append(code))
    return codes[-1]


def without(model: Any, name: str) -> Any:
    del model.__dict__[name]
    return model


ODD: dict[str, Any] = {
    "private": pydantic_attributes(shapes.Private(value=1), _seen=[1]),
    "extra": shapes.Open(value=1, more=(2,)),
    "attribute": with_attributes(shapes.Model(), note=(1,)),
    "cached property": shapes.Cached(value=1),
    "field without a value": without(shapes.Model(), "items"),
    "value that ormsgpack refuses": shapes.Model(anything={1: "\ud800"}),
    "bytearray": shapes.Model(anything=[{"raw": bytearray(b"x")}]),
    "empty bytearray": shapes.Model(anything=bytearray()),
    "model in a model": shapes.Model(items=[shapes.Inner(value=shapes.Model())]),
    "list of models in a field": shapes.Model(anything=[shapes.Open(a=1), shapes.Point(1)]),
    "generic": shapes.IntBox(value=1),
    "tuple": shapes.Model(anything=((1, 2), {3})),
    "other fields set": shapes.Model(name="n"),
    "constructed without validation": shapes.Model.model_construct(name=1),
    "frozen": shapes.FrozenModel(value={"a": (1,)}),
    "root model": shapes.Words(["a", "b"]),
    "root model with private": pydantic_attributes(shapes.CountedWords(["a"]), _seen=5),
    "message with calls": AIMessage(
        [{"type": "text", "text": "t"}],
        tool_calls=[{"name": "f", "args": {"a": (1,)}, "id": "1"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    ),
}
_ = ODD["cached property"].double


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_models_come_back_exactly_whatever_else_they_hold(odd: Any) -> None:
    for value in ([odd], [HumanMessage("a", id="1"), odd, shapes.Model(), odd]):
        assert stored_as(value) == MODELS
        for holder in (value, tuple(value), _DeltaSnapshot(value), shapes.Point(value)):
            assert exact(again(holder)) == exact(holder)


def test_fields_that_were_set_differ_from_fields_that_were_not() -> None:
    back = again([shapes.Model(), shapes.Model(name="n"), shapes.Model(items=[]), shapes.Model(name="other")])
    assert [model.model_fields_set for model in back] == [set(), {"name"}, {"items"}, {"name"}]


def test_the_fields_set_of_one_model_are_not_another_s() -> None:
    first, second = again([shapes.Model(), shapes.Model()])
    first.name = "changed"
    assert second.model_fields_set == set()


def test_the_order_of_the_fields_of_each_model_is_kept() -> None:
    turned = shapes.Model()
    fields = dict(reversed(turned.__dict__.items()))
    turned.__dict__.clear()
    turned.__dict__.update(fields)
    back = again([shapes.Model(), turned])
    assert [[*model.__dict__] for model in back] == [["name", "anything", "items"], ["items", "anything", "name"]]


OTHERS = [
    1,
    None,
    {"role": "user"},
    ("user", "hi"),
    shapes.Point(1),
    [shapes.Model()],
    shapes.OldModel(),
    bytearray(b"x"),
]


@pytest.mark.parametrize("other", OTHERS, ids=repr)
def test_what_is_no_model_may_stand_among_models(other: Any) -> None:
    for value in ([shapes.Model(), other, shapes.Model()], [other, shapes.Model()], (shapes.Model(), other)):
        assert exact(again(value)) == exact(value)


@pytest.mark.parametrize("other", OTHERS, ids=repr)
def test_a_model_has_the_same_bytes_before_anything_else(other: Any) -> None:
    messages = [HumanMessage("a" * 300, id="1"), AIMessage("b", id="2")]
    rows = content(SERDE.dumps_typed(messages)[1])
    assert content(SERDE.dumps_typed([*messages, other])[1]).startswith(rows)


def test_only_odd_elements_are_taken_apart_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[Any] = [HumanMessage("łódź " * number, id=str(number)) for number in range(300)]
    seen = spelled(monkeypatch)
    SERDE.dumps_typed(messages)  # the bytes of texts and of their lengths may look like the head of a bytearray
    assert seen == []
    for odd in ({1: 2}, bytearray(b"x"), "\ud800"):
        messages[150] = HumanMessage("odd", id="odd", additional_kwargs={"odd": odd})
        SERDE.dumps_typed(messages)
        assert messages[150].content in seen
        assert not any("łódź" in text for text in seen)
        seen.clear()


def spelled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are looked at one by one from now on."""
    seen: list[str] = []
    spell = Encoder._spelled

    def noting(self: Encoder, value: Any) -> Any:
        if type(value) is str:
            seen.append(value)
        return spell(self, value)

    monkeypatch.setattr(Encoder, "_spelled", noting)
    return seen


def test_thousands_of_kinds_in_one_list() -> None:
    """Rows of sparse data: each has other fields set."""
    names = [[name for bit, name in enumerate(Sparse.model_fields) if number >> bit & 1] for number in range(4096)]
    models = [Sparse.model_construct({*each}, **dict.fromkeys(each, 1)) for each in names]
    assert [model.model_fields_set for model in again(models)] == [set(each) for each in names]


Sparse = pydantic.create_model("Sparse", **{f"field{number}": (int, 0) for number in range(12)})
Sparse.__module__ = __name__


def test_a_class_that_could_not_be_stored_can_once_it_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Belated(pydantic.BaseModel):
        value: int

    Belated.__qualname__ = "Belated"
    Belated.__module__ = "tests.shapes"
    with pytest.raises(SerializationError, match=r"cannot be imported as tests\.shapes\.Belated"):
        SERDE.dumps_typed([Belated(value=1)])
    monkeypatch.setattr(shapes, "Belated", Belated, raising=False)
    tag, data = SERDE.dumps_typed([Belated(value=1)])
    assert b'["tests.shapes","Belated",["value"]]' in data
    assert SERDE.loads_typed((tag, data)) == [Belated(value=1)]


_TEXT = st.text(max_size=300)
_MESSAGES = st.one_of(
    st.builds(HumanMessage, _TEXT, id=st.none() | _TEXT),
    st.builds(AIMessage, _TEXT, response_metadata=st.dictionaries(_TEXT, st.integers() | st.binary() | _TEXT)),
    st.builds(SystemMessage, _TEXT, additional_kwargs=st.dictionaries(_TEXT, st.tuples(st.floats(allow_nan=False)))),
    st.builds(
        lambda text, id_, artifact: ToolMessage(text, tool_call_id=id_, artifact=artifact),
        *(_TEXT, _TEXT, st.binary() | st.sets(st.integers())),
    ),
    _TEXT.map(lambda id_: RemoveMessage(id=id_)),
)


@given(st.lists(_MESSAGES, max_size=20))
def test_any_messages_come_back_exactly(messages: list[Any]) -> None:
    assert exact(again(messages)) == exact(messages)


def test_a_message_has_the_same_bytes_whatever_stands_beside_it() -> None:
    messages = [
        HumanMessage("a" * 300, id="1"),
        AIMessage("b", id="2", additional_kwargs={"k": (1, 2)}),
        ToolMessage("c", tool_call_id="3"),
        HumanMessage("d"),
        AIMessage("e", id="5"),
    ]
    alone = [content(SERDE.dumps_typed([message])[1]) for message in messages]
    for began in range(len(messages)):
        for ended in range(began + 1, len(messages) + 1):
            for wrap in (list, tuple, _DeltaSnapshot):
                data = SERDE.dumps_typed(wrap(messages[began:ended]))[1]
                assert data.endswith(b"".join(alone[began:ended]))


def content(data: bytes) -> bytes:
    """The rows in the bytes of a list of at most 15 models."""
    payloads: list[bytes] = []
    ormsgpack.unpackb(data, ext_hook=lambda _, payload: payloads.append(bytes(payload)))
    assert payloads[-1][0] & 0xF0 == 0x90
    return payloads[-1][1:]


def test_strict_reads_models_of_a_class_that_is_not_permitted_as_plain_data() -> None:
    value = [HumanMessage("a"), shapes.Model(name="a"), pydantic_attributes(shapes.Private(value=1), _seen=[1])]
    plain = [HumanMessage("a"), {"name": "a", "anything": None, "items": []}, {"value": 1}]
    assert exact(again(value, ExactSerializer(strict=True))) == exact(plain)


def test_an_element_that_cannot_be_stored_is_named() -> None:
    with pytest.raises(SerializationError, match=r"Cannot store value\[1\]\.anything\[\"f\"\]: the value of type"):
        SERDE.dumps_typed([shapes.Model(), shapes.Model(anything={"f": iter(())})])

    class Local(pydantic.BaseModel):
        pass

    with pytest.raises(SerializationError, match=r"Cannot store value\[1\]: .* defined inside a function"):
        SERDE.dumps_typed([shapes.Model(), Local()])


def test_a_class_of_another_kind_under_the_name_of_a_model_is_refused() -> None:
    payload = ormsgpack.packb([[json.dumps(["tests.shapes", "Point", []]), {"x": 1}]])
    with pytest.raises(SerializationError, match=r"tests\.shapes\.Point is not the kind of class"):
        SERDE.loads_typed((TAG, ormsgpack.packb(ormsgpack.Ext(MODELS, payload))))


@pytest.mark.parametrize(
    "kind",
    [1, b'["tests.shapes","Model",[]]', "", "{", '{"a":1,"b":2,"c":3}', '["a","b"]', '["a","b","c"]', "[1,2,[]]"],
)
def test_a_kind_that_is_none_is_damage(kind: Any) -> None:
    payload = ormsgpack.packb([[kind, {"x": 1}]])
    with pytest.raises(CorruptCheckpoint):
        SERDE.loads_typed((TAG, ormsgpack.packb(ormsgpack.Ext(MODELS, payload))))


def test_models_stored_one_by_one_are_read() -> None:
    """As this serializer wrote lists before it knew kinds; a deque is still written so."""
    value = [HumanMessage("a", id="1"), shapes.Open(b=1)]
    old = SERDE.dumps_typed(deque(value))[1]
    payloads: list[bytes] = []
    ormsgpack.unpackb(old, ext_hook=lambda _, payload: payloads.append(bytes(payload)))
    assert payloads[0][:2] == b"\x93\xc0"
    assert exact(SERDE.loads_typed((TAG, b"\x92" + payloads[0][2:]))) == exact(value)
