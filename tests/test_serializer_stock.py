"""Reading what LangGraph's own serializer wrote, or what somebody planted as such."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import ormsgpack
import pytest
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
)

from checkpoint_base.errors import CorruptCheckpoint
from checkpoint_base.serializer import ExactSerializer
from tests import shapes


def ext(code: int, *parts: Any) -> ormsgpack.Ext:
    return ormsgpack.Ext(code, ormsgpack.packb(parts[0] if len(parts) == 1 else list(parts), option=NON_STR_KEYS))


NON_STR_KEYS = ormsgpack.OPT_NON_STR_KEYS
CALLED = ("tests.shapes", "called")
POS, ONE, KW = EXT_CONSTRUCTOR_POS_ARGS, EXT_CONSTRUCTOR_SINGLE_ARG, EXT_CONSTRUCTOR_KW_ARGS
CONSTRUCTORS = (ONE, POS, KW, EXT_PYDANTIC_V1, EXT_PYDANTIC_V2)


@pytest.mark.parametrize(
    "planted",
    [
        ext(ONE, *CALLED, "x"),
        ext(POS, *CALLED, ["x"]),
        ext(KW, *CALLED, {"x": 1}),
        ext(EXT_PYDANTIC_V1, *CALLED, {"x": 1}, "construct"),
        ext(EXT_PYDANTIC_V2, *CALLED, {"x": 1}, "model_validate_json"),
        ext(KW, "tests.shapes", "Called", {"x": 1}),
        ext(POS, "subprocess", "Popen", [["touch", "/dev/null"]]),
        [1, {"a": ext(ONE, *CALLED, "x")}, ext(POS, "builtins", "tuple", [[ext(ONE, *CALLED, "x")]])],
        ext(EXT_DELTA_SNAPSHOT, ext(ONE, *CALLED, "x")),
        # The name is what an extension gives, rebuilt or not.
        ext(ONE, "tests.shapes", ext(ONE, "no_module", "nothing", "called"), "x"),
        ext(ONE, "tests.shapes", ext(ONE, "builtins", "str", "called"), "x"),
        ext(ONE, ext(ONE, "builtins", "str", "tests.shapes"), "called", "x"),
        # The parts are no list.
        *(ext(code, {0: "tests.shapes", 1: "called", 2: {}}) for code in CONSTRUCTORS),
        ext(ONE, ext(ONE, "collections", "deque", [*CALLED, "x"])),
        ext(ONE, ext(ONE, "no_module", "nothing", [*CALLED, "x"])),
        # What stands in front of it is an error.
        [ext(ONE, ["x"], "y", 1), ext(ONE, *CALLED, "x")],
        [ext(ONE, 5), ext(ONE, *CALLED, "x")],
    ],
)
def test_nothing_is_called_but_classes_of_values(planted: Any) -> None:
    shapes.CALLS.clear()
    with suppress(CorruptCheckpoint):
        ExactSerializer().loads_typed(("msgpack", ormsgpack.packb(planted)))
    assert not shapes.CALLS


def test_what_is_no_class_of_values_stays_plain_data(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonplus, "_warned_blocked_types", set())  # each is warned of once
    planted = [1, ext(POS, "subprocess", "Popen", [["touch", "/dev/null"]]), ext(ONE, *CALLED, "x")]
    read = ExactSerializer().loads_typed(("msgpack", ormsgpack.packb(planted)))
    assert read == [1, [["touch", "/dev/null"]], "x"]
    assert "Blocked deserialization of subprocess.Popen" in caplog.text


def test_what_the_stock_serializer_wrote_of_odd_classes_is_read_as_it_reads_it() -> None:
    stock = JsonPlusSerializer()
    values = [shapes.Point(1), shapes.Tail([1, 2]), shapes.Shown(x=1), shapes.Colour.RED, shapes.Money("1.5")]
    for value in [*values, shapes.FailureRecord("x"), shapes.Pair(1, 2), shapes.Model(name="a")]:
        stored = stock.dumps_typed([value])
        (expected,), (read,) = stock.loads_typed(stored), ExactSerializer().loads_typed(stored)
        assert (type(read), repr(read)) == (type(expected), repr(expected))
        assert type(read) is type(value)
