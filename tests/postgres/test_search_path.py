"""Functions and operators that others put where the server looks for those of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Interrupt

from checkpoint_base import open_saver
from tests.postgres.conftest import Place

# What the server has for arrays of any type, for the types that are used here: these fit better than its own.
FUNCTIONS = (
    ("cardinality", "text[]", "integer"),
    ("cardinality", "bytea[]", "integer"),
    ("cardinality", "bigint[]", "integer"),
    ("cardinality", "integer[]", "integer"),
    ("unnest", "text[]", "SETOF text"),
    ("unnest", "bytea[]", "SETOF bytea"),
    ("unnest", "bigint[]", "SETOF bigint"),
    ("generate_subscripts", "text[], integer", "SETOF integer"),
    ("generate_subscripts", "bytea[], integer", "SETOF integer"),
    ("array_position", "text[], text", "integer"),
    ("hashtextextended", "text, integer", "bigint"),
    ("has_all", "bigint[], bigint[]", "boolean"),
    ("is_among", "text[], text[]", "boolean"),
    ("joined", "text[], text[]", "text[]"),
    ("joined", "bytea[], bytea[]", "bytea[]"),
    ("collect", "text, text", "text"),
    ("collect", "text, bytea", "text"),
    ("collect", "text, integer", "text"),
)
OPERATORS = (
    ("@>", "has_all", "bigint[]"),
    ("<@", "is_among", "text[]"),
    ("||", "joined", "text[]"),
    ("||", "joined", "bytea[]"),
)


@pytest.fixture
def trapped(place: Place) -> Iterator[str]:
    """The URL of connections that look into a schema in which whatever is called fails."""
    traps = f"{place.schema}_traps"
    with psycopg.connect(place.server_url, autocommit=True) as connection:

        def execute(statement: str) -> None:
            connection.execute(statement.encode())

        execute(f"CREATE SCHEMA {traps}")
        for name, arguments, returns in FUNCTIONS:
            execute(
                f"CREATE FUNCTION {traps}.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql "
                f"AS 'BEGIN RAISE ''the {name} of others was called''; END'"
            )
        for operator, function, type_ in OPERATORS:
            execute(
                f"CREATE OPERATOR {traps}.{operator} "
                f"(FUNCTION = {traps}.{function}, LEFTARG = {type_}, RIGHTARG = {type_})"
            )
        for type_ in ("text", "bytea", "integer"):
            execute(
                f"CREATE AGGREGATE {traps}.array_agg({type_}) (SFUNC = {traps}.collect, STYPE = text, INITCOND = '')"
            )
        yield f"{place.url}&options={quote(f'-csearch_path={traps}')}"
        execute(f"DROP SCHEMA {traps} CASCADE")


def test_no_call_takes_what_others_made_for_the_server_s_own(place: Place, trapped: str) -> None:
    plain = trapped.replace(f"&schema={place.schema}", "")
    with psycopg.connect(plain) as other, pytest.raises(psycopg.Error, match="of others was called"):
        other.execute("SELECT pg_catalog.now() WHERE '{1}'::bigint[] @> '{1}'::bigint[]")
    config: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
    with open_saver(trapped) as saver:
        for step in range(3):
            checkpoint: Any = empty_checkpoint()
            checkpoint.update(
                channel_values={"text": f"{step}" * 2000, "same": "same" * 500},
                channel_versions={"text": step, "same": 1, "delta": step},
            )
            metadata: Any = {
                "step": step,
                "run_id": f"run {step}",
                "counters_since_delta_snapshot": {"delta": (step, step)},
            }
            new: Any = {"text": step, "delta": step, **({} if step else {"same": 1})}
            config = saver.put(config, checkpoint, metadata, new)
            saver.put_writes(config, [("text", "written" * 500), ("delta", [step])], "task")
            saver.put_writes(config, [("__interrupt__", [Interrupt("?" * 2000, id="1")])], "asking")
        thread: Any = {"configurable": {"thread_id": "thread"}}
        assert len(list(saver.list(thread, filter={"step": 1}))) == len(list(saver.list(config))) == 1
        assert len(list(saver.list(None))) == len(list(saver.history(None))) == len(list(saver.list(thread))) == 3
        assert len(list(saver.threads(metadata={"step": 2}))) == len(list(saver.threads(order="oldest"))) == 1
        (waiting,) = saver.interrupts(metadata={"step": 2})
        (asked_first,) = saver.interrupts(order="oldest")
        assert replace(asked_first, cursor=waiting.cursor) == waiting
        found = saver.get_tuple(thread)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"text": "2" * 2000, "same": "same" * 500}
        assert len(saver.get_delta_channel_history(config=config, channels=["delta"])["delta"]["writes"]) == 2
        saver.copy_thread("thread", "copy")
        saver.delete_for_runs(["run 0"])
        saver.prune(["thread"])
        assert len(list(saver.list(thread))) == 1
        saver.delete_thread("thread")
        saver.delete_thread("copy")
        assert list(saver.threads()) == []
