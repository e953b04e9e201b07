"""What is in the tables after each operation: what a repeated one replaces, and what nothing needs any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.records import (
    ChannelValue,
    CheckpointRecord,
    Chunk,
    InboxQuery,
    ListQuery,
    Missing,
    ValueRecord,
    WriteRecord,
)
from checkpoint_base.transport import Operation, run
from checkpoint_postgres import PostgresSaver
from checkpoint_postgres.store import PostgresStore
from tests.postgres.conftest import Place

LONG = Chunk(b"a chunk's own id", b"body" * 10, node=False)
OTHER = Chunk(b"an other chunk's", b"BODY" * 10, node=False)


class Rows:
    """A store of records, and its tables."""

    def __init__(self, store: PostgresStore, place: Place) -> None:
        self.store = store
        self.query = place.query

    def do(self, operation: Operation[Any]) -> Any:
        return run(operation, self.store.transport)

    def put(
        self,
        id_: str,
        *,
        thread: str = "t",
        ns: str = "",
        parent: str | None = None,
        stored: Mapping[str, str] | None = None,
        unchanged: Mapping[str, str] | None = None,
        opened: Sequence[str] = (),
        run_id: str | None = None,
        caller: str | None = None,
        at: int = 1,
        chunk: Chunk = LONG,
    ) -> Missing:
        """Put a checkpoint with ``stored`` values by channel and version; an open channel has its id as version."""
        stored, unchanged = stored or {}, unchanged or {}
        channels = (*stored.items(), *unchanged.items(), *((channel, id_) for channel in opened))
        record = CheckpointRecord(
            CheckpointKey(thread, ns, id_), parent, b"header", channels, tuple(opened), b"", run_id, caller, at
        )
        values = [ChannelValue(*pair, ValueRecord(b"", chunk.id)) for pair in stored.items()]
        missing: Missing = self.do(
            self.store.put(record, values, {chunk.id: chunk} if stored else {}, list(unchanged.items()))
        )
        return missing

    def write(self, id_: str, *channels: str, ns: str = "", at: int = 1, questions: int = 0) -> None:
        writes = [
            WriteRecord(f"task {channel}", 0, channel, "", ValueRecord(b"x"), questions, settles=False, written_at=at)
            for channel in channels
        ]
        self.do(self.store.put_writes(CheckpointKey("t", ns, id_), writes, {}))

    def visible(self, ns: str | None = None) -> list[tuple[str, str]]:
        listed = self.do(self.store.list(ListQuery("t", checkpoint_ns=ns)))
        return [(one.record.key.checkpoint_ns, one.record.key.checkpoint_id) for one in listed]

    def retired(self) -> list[Any]:
        return self.query("SELECT checkpoint_id, open_channels FROM {s}.checkpoints WHERE retired ORDER BY 1")

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        tables = ("checkpoints", "channel_values", "chunks", "writes", "waiting", "threads")
        counted = ", ".join(f"(SELECT count(*) FROM {{s}}.{table})" for table in tables)
        return dict(zip(tables, self.query(f"SELECT {counted}")[0], strict=True))


NOTHING = dict.fromkeys(("checkpoints", "channel_values", "chunks", "writes", "waiting", "threads"), 0)


@pytest.fixture
def rows(saver: PostgresSaver, place: Place) -> Iterator[Rows]:
    assert isinstance(saver.store, PostgresStore)
    return Rows(saver.store, place)


# What a repeated operation replaces


def test_a_checkpoint_of_the_same_key_is_replaced_in_all_its_parts(rows: Rows) -> None:
    key = CheckpointKey("t", "", "1")
    terms = (1).to_bytes(8)
    first = CheckpointRecord(key, "p", b"h", (("a", "1"),), (), b"", "run", "caller", 1)
    later = CheckpointRecord(key, "P", b"H", (("b", "1"),), ("b",), terms, "RUN", "CALLER", 2)
    rows.do(rows.store.put(first, [ChannelValue("a", "1", ValueRecord(b"1"))], {}, []))
    rows.do(rows.store.put(first, [ChannelValue("a", "1", ValueRecord(b"2", LONG.id))], {LONG.id: LONG}, []))
    assert rows.query("SELECT root, refs FROM {s}.channel_values") == [(b"2", LONG.id)]
    rows.put("P", opened=["b"])
    assert not rows.do(rows.store.put(later, [], {}, []))
    columns = "parent_id, header, channels, versions, open_channels, terms, run_id, caller_id, written_at"
    stored = rows.query(f"SELECT {columns} FROM {{s}}.checkpoints WHERE checkpoint_id = '1'")
    assert stored == [("P", b"H", ["b"], ["1"], ["b"], [1], "RUN", "CALLER", 2)]


def test_a_write_of_a_negative_index_is_replaced_in_all_its_parts_and_any_other_in_none(rows: Rows) -> None:
    key = CheckpointKey("t", "", "1")
    columns = "channel, task_path, root, refs, questions, settles, written_at"
    first, later = ("a", "p", b"1", b"", 0, False, 1), ("b", "P", b"2", LONG.id, 2, True, 2)
    for channel, path, root, refs, questions, settles, at in (first, later):
        value = ValueRecord(root, refs)
        writes = [WriteRecord("task", idx, channel, path, value, questions, settles, at) for idx in (-1, 0)]
        rows.do(rows.store.put_writes(key, writes, {LONG.id: LONG} if refs else {}))
    assert rows.query(f"SELECT {columns} FROM {{s}}.writes ORDER BY idx") == [later, first]


def test_a_copy_replaces_the_same_checkpoints_in_all_their_parts(rows: Rows) -> None:
    def copied(parent: str, header: bytes, terms: bytes, run_id: str, caller: str, at: int) -> list[Any]:
        key = CheckpointKey("t", "", "1")
        record = CheckpointRecord(key, parent, header, (("a", "1"),), (), terms, run_id, caller, at)
        rows.do(rows.store.put(record, [ChannelValue("a", "1", ValueRecord(header))], {}, []))
        assert rows.do(rows.store.copy_thread("t", "copy"))
        return rows.query(
            "SELECT parent_id, header, terms, run_id, caller_id, written_at, root FROM {s}.checkpoints "
            "JOIN {s}.channel_values USING (thread_id) WHERE thread_id = 'copy'"
        )

    assert copied("p", b"h", b"", "run", "caller", 1) == [("p", b"h", [], "run", "caller", 1, b"h")]
    assert copied("P", b"H", (1).to_bytes(8), "RUN", "CALLER", 2) == [("P", b"H", [1], "RUN", "CALLER", 2, b"H")]


def test_a_thread_was_changed_when_the_latest_of_its_changes_was_made_in_whatever_order_they_arrive(rows: Rows) -> None:
    def times(thread: str = "t") -> Any:
        [found] = rows.query("SELECT created_at, updated_at FROM {s}.threads WHERE thread_id = %s", [thread])
        return found

    rows.put("2", at=20)
    rows.put("1", at=10)
    assert times() == (20, 20)
    rows.write("2", "a", at=30)
    rows.write("2", "b", at=15)
    assert times() == (20, 30)
    writes = [WriteRecord("task", n, "c", "", ValueRecord(b""), 0, False, at) for n, at in enumerate((31, 40, 32))]
    rows.do(rows.store.put_writes(CheckpointKey("t", "", "2"), writes, {}))
    assert times() == (20, 40)
    rows.do(rows.store.copy_thread("t", "copy"))
    rows.put("2", thread="copy", at=50)
    rows.do(rows.store.copy_thread("t", "copy"))
    assert times("copy") == (20, 50)


def test_a_task_waits_until_it_has_settled_its_question_on_the_same_checkpoint_itself(rows: Rows) -> None:
    def write(id_: str, task: str, *, ns: str = "", questions: int = 0, settles: bool = False) -> None:
        value = ValueRecord(b"x")
        one = WriteRecord(task, int(settles), "c", "", value, questions, settles=settles, written_at=1)
        rows.do(rows.store.put_writes(CheckpointKey("t", ns, id_), [one], {}))

    def waiting() -> list[str]:
        return [each.write.task_id for each in rows.do(rows.store.interrupts(InboxQuery()))]

    for ns, id_ in (("", "1"), ("child", "2"), ("", "2")):
        rows.put(id_, ns=ns)
    write("1", "task", settles=True)
    write("2", "task", ns="child", settles=True)
    write("2", "other", settles=True)
    write("2", "task", questions=1)
    assert waiting() == ["task"]
    write("1", "late", questions=1)
    write("2", "late")  # what it asked was on another checkpoint
    assert (waiting(), rows.counts()["waiting"]) == (["task"], 1)
    write("2", "task", settles=True)
    assert waiting() == []


# What a checkpoint relies on


def test_what_another_namespace_has_stored_is_missing(rows: Rows) -> None:
    rows.put("1", ns="child", stored={"a": "1"})
    assert rows.put("1", unchanged={"a": "1"}) == Missing(versions=frozenset({("a", "1")}))
    assert not rows.put("2", ns="child", unchanged={"a": "1"})
    rows.put("3", ns="child", opened=["log"])
    assert rows.put("4", parent="3", opened=["log"]) == Missing(parent=True)
    assert not rows.put("4", ns="child", parent="3", opened=["log"])


def test_a_retired_parent_will_do_for_the_channels_whose_writes_it_has_kept(rows: Rows) -> None:
    rows.put("1", opened=["log", "other"])
    rows.put("2", parent="1", opened=["log"], stored={"other": "2"})
    rows.do(rows.store.prune(["t"], 1))
    assert rows.retired() == [("1", ["log"])]
    assert not rows.put("3", parent="1", opened=["log"])
    assert rows.put("4", parent="1", opened=["log", "other"]).parent


# What is left


def test_a_deleted_thread_leaves_no_row(rows: Rows) -> None:
    rows.put("1", stored={"a": "1"})
    rows.write("1", "asks", questions=1)
    assert 0 not in rows.counts().values()
    rows.do(rows.store.delete_threads(["t"]))
    assert rows.counts() == NOTHING


def test_of_an_ancestor_that_is_needed_only_its_writes_to_the_channels_that_are_still_open_stay(rows: Rows) -> None:
    rows.put("0", stored={"log": "0"}, opened=["other"])
    rows.put("1", parent="0", stored={"other": "1", "log": "1"}, chunk=LONG)
    rows.put("2", parent="1", stored={"gone": "2"}, opened=["log", "other"], chunk=OTHER)
    rows.put("3", parent="2", unchanged={"gone": "2"}, opened=["log", "other"])
    rows.put("4", parent="3", stored={"other": "4"}, opened=["log"])
    for id_ in ("0", "1", "2", "3"):
        rows.write(id_, "log", "other", "none")
    rows.do(rows.store.prune(["t"], 2))
    assert rows.retired() == [("1", ["log", "other"]), ("2", ["log", "other"])]
    rows.do(rows.store.prune(["t"], 1))
    assert rows.retired() == [("1", ["log"]), ("2", ["log"]), ("3", ["log"])]
    assert rows.query("SELECT checkpoint_id, channel FROM {s}.writes ORDER BY 1") == [
        ("1", "log"),
        ("2", "log"),
        ("3", "log"),
    ]
    values = rows.query("SELECT channel, version FROM {s}.channel_values ORDER BY 1")
    assert values == [("log", "1"), ("other", "4")]
    assert rows.counts() == {**NOTHING, "checkpoints": 4, "channel_values": 2, "chunks": 1, "writes": 3, "threads": 1}


def test_a_channel_that_never_had_a_value_keeps_no_ancestor(rows: Rows) -> None:
    rows.put("1", stored={"a": "1"})
    record = CheckpointRecord(CheckpointKey("t", "", "2"), "1", b"", (("empty", "2"),), (), b"", None, None, 1)
    rows.do(rows.store.put(record, [], {}, []))
    rows.do(rows.store.prune(["t"], 1))
    assert rows.counts() == {**NOTHING, "checkpoints": 1, "threads": 1}


def test_the_bytes_of_a_value_are_not_taken_for_ids_of_what_it_needs(rows: Rows) -> None:
    rows.put("1", stored={"a": "1"})
    rows.put("2", stored={"a": "2"}, chunk=Chunk(OTHER.id, LONG.id, node=False))
    # Not even while there is a chunk of such an id: every leaf would be looked up in pieces.
    assert rows.do(rows.store.load(NamespaceKey("t", ""), None)).chunks.keys() == {OTHER.id}
    rows.do(rows.store.prune(["t"], 1))
    assert rows.query("SELECT id FROM {s}.chunks") == [(OTHER.id,)]
    assert rows.do(rows.store.load(NamespaceKey("t", ""), None)).chunks.keys() == {OTHER.id}


@pytest.fixture
def behind(rows: Rows) -> Rows:
    """A thread whose visible checkpoints have a retired parent with a greater id, as callers may choose any ids."""
    rows.put("5", opened=["log"], run_id="gone")
    rows.put("3", parent="5", opened=["log"], run_id="stays")
    rows.put("9", ns="call", opened=["log"], run_id="gone", caller="5")
    rows.put("8", ns="call", parent="9", opened=["log"], run_id="stays", caller="3")
    rows.put("1", ns="ended call", run_id="stays", caller="5")
    rows.do(rows.store.delete_runs(["gone"]))
    assert rows.retired() == [("5", ["log"]), ("9", ["log"])]
    return rows


def test_a_retired_checkpoint_is_never_the_latest(behind: Rows) -> None:
    found = behind.do(behind.store.load(NamespaceKey("t", ""), None))
    assert found.record.key.checkpoint_id == "3"
    ancestry = behind.do(behind.store.ancestry(NamespaceKey("t", ""), None, ["log"]))
    assert len(ancestry.writes) == 1  # its parent's
    behind.write("3", "asks", questions=1)
    [asked] = behind.do(behind.store.interrupts(InboxQuery()))
    assert asked.checkpoint.key.checkpoint_id == "3"
    behind.do(behind.store.prune(["t"], 1))
    assert behind.query("SELECT latest FROM {s}.threads") == [("3",)]
    assert behind.counts()["waiting"] == 1


def test_a_retired_checkpoint_is_in_no_listing(behind: Rows) -> None:
    for query, found in (
        (ListQuery(), ["8", "3", "1"]),
        (ListQuery("t"), ["8", "3", "1"]),
        (ListQuery("t", ""), ["3"]),
        (ListQuery("t", checkpoint_id="3"), ["3"]),
        (ListQuery("t", checkpoint_id="5"), []),
        (ListQuery("t", "", "5"), []),
    ):
        assert [one.record.key.checkpoint_id for one in behind.do(behind.store.list(query))] == found, query


def test_a_retired_checkpoint_is_none_of_those_that_are_kept(behind: Rows) -> None:
    behind.do(behind.store.prune(["t"], 1))
    assert sorted(behind.visible()) == [("", "3"), ("call", "8")]
    assert behind.retired() == [("5", ["log"]), ("9", ["log"])]


def test_a_retired_checkpoint_goes_with_the_last_that_needs_it(behind: Rows) -> None:
    behind.do(behind.store.delete_runs(["stays"]))
    assert behind.counts() == NOTHING


def test_a_call_that_began_within_another_call_goes_though_that_one_stays(rows: Rows) -> None:
    rows.put("2")
    rows.put("7", ns="call", caller="2")
    rows.put("8", ns="its own call", caller="7")
    rows.do(rows.store.prune(["t"], 1))
    assert sorted(rows.visible()) == [("", "2"), ("call", "7")]


def test_one_checkpoint_id_is_found_in_every_namespace(rows: Rows) -> None:
    for ns in ("", "child"):
        for id_ in ("1", "2"):
            rows.put(id_, ns=ns)
    found = rows.do(rows.store.list(ListQuery("t", checkpoint_id="2")))
    assert [one.record.key for one in found] == [CheckpointKey("t", "child", "2"), CheckpointKey("t", "", "2")]


def test_the_server_compresses_nothing_and_keeps_a_chunk_in_its_row(rows: Rows) -> None:
    even = b"a" * 8000
    chunk = Chunk(LONG.id, even, node=False)
    key = CheckpointKey("t", "", "1")
    record = CheckpointRecord(key, None, even, (("a", "1"),), (), b"", None, None, 1)
    value = ValueRecord(even, chunk.id * 500)
    rows.do(rows.store.put(record, [ChannelValue("a", "1", value)], {chunk.id: chunk}, []))
    rows.do(rows.store.put_writes(key, [WriteRecord("task", 0, "a", "", value, 0, False, 1)], {}))
    for table, column in (
        ("checkpoints", "header"),
        ("channel_values", "root"),
        ("channel_values", "refs"),
        ("writes", "root"),
        ("writes", "refs"),
        ("chunks", "body"),
    ):
        how = rows.query(f"SELECT pg_column_compression({column}), length({column}) FROM {{s}}.{table}")
        assert how == [(None, 8000)], (table, column)
    out_of_line = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = '{s}.chunks'::regclass"
    assert rows.query(out_of_line) == [(0,)]
    rows.put("2", stored={"a": "2"}, chunk=Chunk(OTHER.id, b"a" * 20_000, node=False))
    assert rows.query("SELECT DISTINCT pg_column_compression(body) FROM {s}.chunks") == [(None,)]


# What is sent


def test_rows_are_sent_in_one_order_however_they_were_given(rows: Rows) -> None:
    """Or two writers of the same rows might wait for each other."""
    record = CheckpointRecord(CheckpointKey("t", "", "1"), None, b"", (), (), b"", None, None, 1)
    values = [ChannelValue(channel, version, ValueRecord(b"")) for channel in "ab" for version in "12"]
    chunks = {chunk.id: chunk for chunk in (LONG, OTHER)}
    writes = [WriteRecord(task, idx, "c", "", ValueRecord(b""), 0, False, 1) for task in "ab" for idx in (-1, 0)]
    for forth, back in (
        (
            rows.store.put(record, values, chunks, []),
            rows.store.put(record, values[::-1], dict([*chunks.items()][::-1]), []),
        ),
        (
            rows.store.put_writes(record.key, writes, chunks),
            rows.store.put_writes(record.key, writes[::-1], dict([*chunks.items()][::-1])),
        ),
    ):
        given, turned = (
            [getattr(parameter, "elements", parameter) for parameter in next(operation).parameters]
            for operation in (forth, back)
        )
        assert given == turned
