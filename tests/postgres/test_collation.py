"""Ids compare by code point, in a database whose own collation is that of a language."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Interrupt

from checkpoint_base import open_saver
from tests.postgres.conftest import Place

BY_CODE_POINT = ["-1", "B", "a", "b", "~", "é"]
"""A dictionary has "a" before "B", and "~" before all letters."""

ENGLISH = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"


def collation(place: Place) -> str:
    """That of English, unless the server was built without any but that of code points."""
    return ENGLISH if place.query("SELECT oid FROM pg_collation WHERE collname = 'en-x-icu'") else ""


def config_of(thread_id: str, ns: str = "") -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}


def put(saver: Any, config: Any, checkpoint_id: str) -> Any:
    checkpoint: Any = {**empty_checkpoint(), "id": checkpoint_id, "ts": "2026-01-01T00:00:00+00:00"}
    checkpoint.update(channel_values={"a": checkpoint_id}, channel_versions={"a": checkpoint_id})
    return saver.put(config, checkpoint, {"step": 1, "run_id": checkpoint_id}, {"a": checkpoint_id})


def ids(found: Any) -> list[str]:
    return [each.config["configurable"]["checkpoint_id"] for each in found]


def test_ids_compare_by_code_point_whatever_the_collation_of_the_database(place: Place) -> None:
    newest_first = BY_CODE_POINT[::-1]
    options = f"TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' {collation(place)}"
    with place.database(options) as url, open_saver(url, schema=place.schema) as saver:
        for thread_id in BY_CODE_POINT:
            config = put(saver, config_of(thread_id), "1")
            saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
        assert [found.config["configurable"]["thread_id"] for found in saver.list(None)] == newest_first
        for checkpoint_id in BY_CODE_POINT:
            put(saver, config_of("t"), checkpoint_id)
        assert saver.get_tuple(config_of("t")).checkpoint["channel_values"] == {"a": "é"}
        for listed in (config_of("t"), {"configurable": {"thread_id": "t"}}):
            assert ids(saver.list(listed)) == newest_first
            for at, before in enumerate(newest_first):
                config = {"configurable": {**config_of("t")["configurable"], "checkpoint_id": before}}
                assert ids(saver.list(listed, before=config)) == newest_first[at + 1 :]
        saver.delete_for_runs(["é", "b"])
        assert ids(saver.list(config_of("t"))) == ["~", "a", "B", "-1"]
        saver.prune(["t"], keep=2)
        assert ids(saver.list(config_of("t"))) == ["~", "a"]
        with open_saver(url, schema=place.schema) as reader:
            [latest] = [each for each in reader.threads() if each.thread_id == "t"]
            assert latest.metadata == {"step": 1, "run_id": "~"}
            assert sorted(each.thread_id for each in reader.interrupts()) == BY_CODE_POINT
