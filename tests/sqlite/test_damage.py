"""Damaged files and rows: what is reported, and what other threads see of it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, StateGraph
from langgraph.types import Interrupt, interrupt

from checkpoint_base import (
    CheckpointError,
    ConflictError,
    CorruptCheckpoint,
    ExactSerializer,
    SQLiteSaver,
    paging,
    transfer,
)
from checkpoint_base.codec import Codec
from checkpoint_base.operations import _associated_with
from checkpoint_base.records import InboxQuery
from checkpoint_base.transport import run
from tests.sqlite.conftest import CONFIG, put

THREADS = ["t0", "t1", "t2", "t3"]
DAMAGED = "t2"

BROKEN_JSON = "channels = '[[secret'"
NO_PAIRS = """channels = '["secret"]'"""
NO_TEXT = "channels = 5"
NO_UTF8 = "channels = CAST(x'5b736563726574ff5d' AS TEXT)"
PARENT_NO_UTF8 = "parent_id = CAST(x'736563726574ff' AS TEXT)"
OPEN_CHANNELS = "open_channels = 'secret'"
OPEN_NO_UTF8 = "open_channels = CAST(x'5b22736563726574ff225d' AS TEXT)"
HEADER_NO_BYTES = "header = 'secret'"
DAMAGES = [BROKEN_JSON, NO_PAIRS, NO_TEXT, NO_UTF8, PARENT_NO_UTF8, OPEN_CHANNELS, OPEN_NO_UTF8]

any_damage = pytest.mark.parametrize("damage", DAMAGES)


class State(TypedDict):
    n: int


def ask(state: State) -> State:
    return {"n": interrupt("how many?")}


@pytest.fixture
def waiting(saver: SQLiteSaver) -> SQLiteSaver:
    """Threads that wait at an interrupt: two checkpoints each, all of the run "r"."""
    graph = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)
    for thread_id in THREADS:
        graph.invoke({"n": 0}, {"configurable": {"thread_id": thread_id}, "metadata": {"run_id": "r"}})
    return saver


def damage_latest(path: Path, damage: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        latest = "(SELECT latest FROM threads WHERE thread_id = ?)"
        changed = db.execute(f"UPDATE checkpoints SET {damage} WHERE checkpoint = {latest}", (DAMAGED,))
        assert changed.rowcount == 1


def checkpoints_left(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as db:
        return dict(
            db.execute(
                "SELECT thread_id, count(*) FROM checkpoints JOIN namespaces USING (namespace) "
                "JOIN threads USING (thread) GROUP BY thread_id"
            )
        )


def names_the_thread_only(message: str) -> bool:
    return repr(DAMAGED) in message and "secret" not in message


@pytest.mark.parametrize("damage", [*DAMAGES, HEADER_NO_BYTES])
def test_a_damaged_checkpoint_hides_no_other_thread_from_the_inbox(
    damage: str, path: Path, waiting: SQLiteSaver
) -> None:
    damage_latest(path, damage)
    for listed in (list(waiting.interrupts(order="oldest")), list(waiting.threads(order="oldest"))):
        assert [item.thread_id for item in listed] == THREADS
        [error] = [item.error for item in listed if item.error]
        assert names_the_thread_only(error)
        assert all(bool(item.error) == (item.thread_id == DAMAGED) for item in listed)
    assert [question.value for question in waiting.interrupts(thread_id="t1")] == ["how many?"]


def test_what_could_not_be_decoded_is_still_damaged_after_a_listing_has_passed_it(
    path: Path, waiting: SQLiteSaver
) -> None:
    damage_latest(path, PARENT_NO_UTF8)
    before = checkpoints_left(path)
    assert [thread.thread_id for thread in waiting.threads() if thread.error] == [DAMAGED]
    with pytest.raises(CorruptCheckpoint):
        waiting.prune([DAMAGED])
    assert checkpoints_left(path) == before


@pytest.mark.parametrize("content", [5, [1], [{}, 5], [[], []], [{}, {}, {}]], ids=repr)
def test_a_header_that_holds_something_else_hides_no_other_thread(
    content: Any, path: Path, waiting: SQLiteSaver
) -> None:
    [found] = run(waiting.store.threads(InboxQuery(thread_id=DAMAGED)), waiting.transport)
    record = found.latest
    assert record
    associated = _associated_with(record.key, record.parent_id, record.channels, record.open_channels, None)
    header = Codec().encode_whole(*ExactSerializer().dumps_typed(content), associated=associated)
    damage_latest(path, f"header = x'{header.hex()}'")
    for listed in (list(waiting.interrupts(order="oldest")), list(waiting.threads(order="oldest"))):
        assert [item.thread_id for item in listed if item.error] == [DAMAGED]
        assert [item.thread_id for item in listed] == THREADS
    with pytest.raises(CorruptCheckpoint, match=DAMAGED):
        waiting.get_tuple({"configurable": {"thread_id": DAMAGED}})


@any_damage
@pytest.mark.parametrize(
    "read",
    [
        lambda saver: saver.get_tuple({"configurable": {"thread_id": DAMAGED}}),
        lambda saver: list(saver.list({"configurable": {"thread_id": DAMAGED}})),
        lambda saver: list(saver.history({"configurable": {"thread_id": DAMAGED}})),
        lambda saver: saver.get_delta_channel_history(config={"configurable": {"thread_id": DAMAGED}}, channels=["n"]),
    ],
    ids=["get_tuple", "list", "history", "get_delta_channel_history"],
)
def test_what_reads_a_damaged_thread_names_it_and_shows_nothing_of_it(
    read: Callable[[SQLiteSaver], object], damage: str, path: Path, waiting: SQLiteSaver
) -> None:
    damage_latest(path, damage)
    with pytest.raises(CorruptCheckpoint) as raised:
        read(waiting)
    assert names_the_thread_only(str(raised.value))
    assert str(raised.value).endswith("restore it from a backup, or delete the thread")


def test_a_damaged_question_hides_no_other(path: Path, waiting: SQLiteSaver) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        asked = "task_id = (SELECT task_id FROM waiting JOIN threads USING (thread) WHERE thread_id = ?)"
        assert db.execute(f"UPDATE writes SET root = 'secret' WHERE {asked}", (DAMAGED,)).rowcount == 1
    listed = list(waiting.interrupts(order="oldest"))
    assert [question.thread_id for question in listed] == THREADS
    assert [question.value for question in listed] == ["how many?", "how many?", None, "how many?"]
    assert names_the_thread_only(str(listed[2].error))


@pytest.mark.parametrize("damage", [*DAMAGES, HEADER_NO_BYTES])
def test_a_listing_of_all_threads_names_the_damaged_one(damage: str, path: Path, waiting: SQLiteSaver) -> None:
    damage_latest(path, damage)
    with pytest.raises(CorruptCheckpoint) as raised:
        list(waiting.list(None))
    assert names_the_thread_only(str(raised.value))


REMOVALS: list[Any] = [
    pytest.param(lambda saver: saver.prune(THREADS), {DAMAGED: 2, "t0": 1, "t1": 1, "t3": 1}, id="prune"),
    pytest.param(lambda saver: saver.delete_for_runs(["r"]), {DAMAGED: 2}, id="delete_for_runs"),
]


@any_damage
@pytest.mark.parametrize(("remove", "left"), REMOVALS)
def test_removing_from_many_threads_leaves_out_a_damaged_one_alone_and_names_it(
    remove: Callable[[SQLiteSaver], None], left: dict[str, int], damage: str, path: Path, waiting: SQLiteSaver
) -> None:
    damage_latest(path, damage)
    with pytest.raises(CorruptCheckpoint) as raised:
        remove(waiting)
    assert names_the_thread_only(str(raised.value))
    assert checkpoints_left(path) == left


@any_damage
def test_a_damaged_thread_can_be_deleted(damage: str, path: Path, waiting: SQLiteSaver) -> None:
    damage_latest(path, damage)
    waiting.delete_thread(DAMAGED)
    assert checkpoints_left(path) == dict.fromkeys(["t0", "t1", "t3"], 2)


@pytest.fixture
def broken(path: Path) -> Iterator[sqlite3.Connection]:
    """A thread with every kind of stored bytes, and a connection to damage them."""
    with SQLiteSaver(path) as saver:
        stored = put(saver, {"short": "s", "long": ["x" * 1500 + str(n) for n in range(40)]})
        saver.put_writes(stored, [("w", "y" * 3000), ("short", 1)], "task-1")
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("checkpoints", "header"),
        ("checkpoints", "channels"),
        ("channel_values", "root"),
        ("channel_values", "refs"),
        ("writes", "root"),
        ("writes", "refs"),
        ("chunks", "body"),
    ],
)
def test_any_changed_bit_is_noticed_and_nothing_else_is_raised(
    table: str, column: str, path: Path, broken: sqlite3.Connection
) -> None:
    randomness = random.Random(f"{table}.{column}")
    key = {"channel_values": "channel, version", "writes": "task_id, idx"}.get(table, "rowid")
    rows = broken.execute(f"SELECT {key}, {column} FROM {table} WHERE length({column}) > 0").fetchall()
    where = " AND ".join(f"{name} = ?" for name in key.split(", "))
    with SQLiteSaver(path) as saver:
        intact = saver.get_tuple(CONFIG)
        for _ in range(60):
            *place, content = randomness.choice(rows)
            damaged = bytearray(content.encode() if isinstance(content, str) else content)
            damaged[randomness.randrange(len(damaged))] ^= 1 << randomness.randrange(8)
            value: Any = bytes(damaged)
            if isinstance(content, str):
                value = value.decode("latin-1")
            broken.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *place))
            try:
                saver.get_tuple(CONFIG)
            except CorruptCheckpoint:
                pass
            else:
                pytest.fail(f"the damage went unnoticed: {place}")
            broken.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (content, *place))
        assert saver.get_tuple(CONFIG) == intact


def test_another_caller_of_a_subgraph_is_noticed(path: Path, saver: SQLiteSaver) -> None:
    caller = put(saver, {"n": 1})
    called: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": f"ask:{UUID(int=1)}"}}
    parents = {"": caller["configurable"]["checkpoint_id"]}
    stored = saver.put(called, empty_checkpoint(), {"parents": parents}, {})
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute("UPDATE checkpoints SET caller_id = 'x' WHERE caller_id IS NOT NULL").rowcount == 1
    with SQLiteSaver(path) as reader, pytest.raises(CorruptCheckpoint, match="checksum"):
        reader.get_tuple(stored)


def test_a_checkpoint_in_another_namespace_is_noticed(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"n": 1})
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute("UPDATE namespaces SET checkpoint_ns = 'x'").rowcount == 1
    moved: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": "x"}}
    with SQLiteSaver(path) as reader, pytest.raises(CorruptCheckpoint, match="checksum"):
        reader.get_tuple(moved)


@pytest.mark.parametrize(
    "change", ["questions = 7", "settles = 1 - settles", "idx = 7", "task_path = 7", "task_id = 7"]
)
def test_a_write_whose_place_or_meaning_has_changed_is_noticed(path: Path, saver: SQLiteSaver, change: str) -> None:
    stored = put(saver, {"n": 1})
    saver.put_writes(stored, [("n", 2)], "1", "1")
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(f"UPDATE writes SET {change}").rowcount == 1
    with SQLiteSaver(path) as reader, pytest.raises(CorruptCheckpoint, match=r"of thread 'thread'.*checksum"):
        reader.get_tuple(stored)


def test_a_lost_chunk_is_an_error_that_names_the_place(path: Path, broken: sqlite3.Connection) -> None:
    broken.execute("DELETE FROM chunks WHERE chunk = (SELECT max(chunk) FROM chunks WHERE NOT node)")
    with SQLiteSaver(path) as saver, pytest.raises(CorruptCheckpoint, match=r"thread 'thread'.*missing"):
        saver.get_tuple(CONFIG)


def test_a_damaged_file_is_an_error(path: Path, broken: sqlite3.Connection) -> None:
    broken.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    broken.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with SQLiteSaver(path) as saver, pytest.raises(CheckpointError):
        saver.get_tuple(CONFIG)


@pytest.mark.parametrize("use", [lambda saver: saver.get_tuple(CONFIG), lambda saver: saver.copy_thread("thread", "t")])
def test_a_damaged_schema_that_no_message_of_sqlite_can_quote_is_an_error(
    use: Callable[[SQLiteSaver], object], path: Path, broken: sqlite3.Connection
) -> None:
    broken.execute("PRAGMA writable_schema = ON")
    view = "FROM sqlite_schema WHERE name = 'visible_checkpoints'"
    [(schema,)] = broken.execute(f"SELECT CAST(sql AS BLOB) {view}")
    damaged = schema.replace(b"checkpoint_ns", b"checkpoint_n\xff")
    broken.execute("UPDATE sqlite_schema SET sql = CAST(? AS TEXT) WHERE name = 'visible_checkpoints'", (damaged,))
    with SQLiteSaver(path) as saver, pytest.raises(CorruptCheckpoint, match=r"is damaged: .* Restore it from a backup"):
        use(saver)


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
@pytest.mark.parametrize("time", [1 << 60, -1, 253_402_300_800_000_000])
def test_a_thread_with_a_damaged_time_is_listed_with_an_error_and_hides_no_other(
    waiting: SQLiteSaver, path: Path, column: str, time: int
) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE threads SET {column} = ? WHERE thread_id = ?", (time, DAMAGED))
    for order in ("newest", "oldest"):
        for each in waiting.threads(order=order):
            list(waiting.threads(order=order, after=each.cursor))  # it is a cursor
    errors = {each.thread_id: each.error for each in waiting.threads()}
    assert errors == {**dict.fromkeys(THREADS), DAMAGED: f"a stored time is damaged: {time} microseconds since 1970"}


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("time", [1 << 60, -1, 0])
def test_a_listing_goes_on_behind_a_question_with_a_damaged_time(
    saver: SQLiteSaver, path: Path, order: Any, time: int
) -> None:
    for number in range(250):
        stored = put(saver, {"n": 0}, {"configurable": {"thread_id": f"{number:03}", "checkpoint_ns": ""}})
        saver.put_writes(stored, [("__interrupt__", (Interrupt(number, id=f"{number}"),))], "task")
    everything = [f"{number:03}" for number in range(250)]
    with closing(sqlite3.connect(path)) as db, db:
        damaged = "SELECT latest FROM threads WHERE thread_id IN ('099', '150')"
        place = f"(SELECT namespace, checkpoint_id FROM checkpoints WHERE checkpoint IN ({damaged}))"
        db.execute(f"UPDATE writes SET written_at = ? WHERE (namespace, checkpoint_id) IN {place}", (time,))
        assert db.execute("SELECT changes()").fetchone() == (2,)
    found = [each.thread_id for each in islice(saver.interrupts(order=order), 1000)]
    assert found == (everything if order == "oldest" else everything[::-1])
    assert [each.value for each in saver.interrupts(thread_id="099")] == [99]


def test_a_question_with_a_damaged_time_is_listed_with_an_error_and_hides_no_other(
    waiting: SQLiteSaver, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        damaged = f"written_at = {1 << 60} WHERE questions > 0 AND"
        thread = "(SELECT thread FROM threads WHERE thread_id = ?)"
        db.execute(f"UPDATE waiting SET {damaged} thread = {thread}", (DAMAGED,))
        spaces = f"(SELECT namespace FROM namespaces WHERE thread = {thread})"
        db.execute(f"UPDATE writes SET {damaged} namespace IN {spaces}", (DAMAGED,))
    found = {each.thread_id: (each.error or "")[:24] for each in waiting.interrupts()}
    assert found == {**dict.fromkeys(THREADS, ""), DAMAGED: "a stored time is damaged"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with threads that all wait, of two namespaces each and with values that consist of chunks."""
    path = tmp_path_factory.mktemp("stored") / "file.db"
    with SQLiteSaver(path) as saver:
        for thread_id in THREADS:
            for ns in ("sub", ""):
                config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}
                for step in range(2):
                    checkpoint: Any = empty_checkpoint()
                    values = {"n": step, "long": [f"{number} ".ljust(900, ".") for number in range(300)]}
                    checkpoint.update(channel_values=values, channel_versions={"n": f"{step}", "long": "1"})
                    config = saver.put(config, checkpoint, {"run_id": "r"}, checkpoint["channel_versions"])
                    for task in range(3):
                        saver.put_writes(config, [("__interrupt__", (Interrupt("sure?", id="i"),))], f"task-{task}")
                        saver.put_writes(config, [("long", ["x" * 2000])], "done")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM chunks WHERE node").fetchone()[0] > 0
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


_THREAD = f"(SELECT thread FROM threads WHERE thread_id = '{DAMAGED}')"
_SPACES = f"(SELECT namespace FROM namespaces WHERE thread = {_THREAD})"
ROWS = {
    "threads": f"thread = {_THREAD}",
    "namespaces": f"thread = {_THREAD} AND checkpoint_ns = ''",
    "checkpoints": f"checkpoint = (SELECT latest FROM threads WHERE thread = {_THREAD})",
    "channel_values": f"namespace IN {_SPACES}",
    "writes": f"namespace IN {_SPACES} AND task_id <> 'task-2'",
    "chunks": f"thread = {_THREAD}",
    "waiting": f"thread = {_THREAD} AND task_id <> 'task-2'",
}
COLUMNS = {
    "threads": "thread_id created_at updated_at latest",
    "namespaces": "checkpoint_ns",
    "checkpoints": "checkpoint_id parent_id run_id caller_id written_at retired channels open_channels terms header",
    "channel_values": "channel version root refs",
    "writes": "checkpoint_id task_id idx channel task_path questions settles written_at root refs",
    "chunks": "id node body",
    "waiting": "task_id written_at questions",
}


def transfer_to_another(saver: SQLiteSaver) -> None:
    with SQLiteSaver() as other:
        transfer(saver, other, DAMAGED)


READS: list[Callable[[SQLiteSaver], object]] = [
    lambda saver: saver.get_tuple({"configurable": {"thread_id": DAMAGED}}),
    lambda saver: list(saver.list({"configurable": {"thread_id": DAMAGED}})),
    lambda saver: list(saver.history({"configurable": {"thread_id": DAMAGED}})),
    lambda saver: saver.get_delta_channel_history(config={"configurable": {"thread_id": DAMAGED}}, channels=["n"]),
    lambda saver: list(saver.list(None)),
    lambda saver: list(saver.history(None)),
    transfer_to_another,
]


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table, names in COLUMNS.items() for column in names.split()]
)
def test_what_is_stored_as_another_type_is_damage_and_hides_no_other_thread(
    table: str, column: str, stored: Path, path: Path
) -> None:
    """SQLite keeps the type of each value beside it, where one changed bit makes bytes of a text."""
    path.write_bytes(stored.read_bytes())
    with closing(sqlite3.connect(path)) as db, db:
        other_type = f"CASE typeof({column}) WHEN 'blob' THEN hex({column}) ELSE CAST(ifnull({column}, 0) AS BLOB) END"
        assert db.execute(f"UPDATE {table} SET {column} = {other_type} WHERE {ROWS[table]}").rowcount
    others = [thread_id for thread_id in THREADS if thread_id != DAMAGED]
    with SQLiteSaver(path) as saver:
        for read in READS:
            with suppress(CorruptCheckpoint, ConflictError):
                read(saver)
        for order in ("oldest", "newest"):
            expected = others[::-1] if order == "newest" else others
            for listing in (saver.threads, saver.interrupts):
                everything = islice(listing(order=order), 100)
                assert [*dict.fromkeys(each.thread_id for each in everything if each.thread_id in others)] == expected
                list(listing(order=order, thread_id=DAMAGED))
        removals = {2: lambda: saver.prune(THREADS), 0: lambda: saver.delete_for_runs(["r"])}
        for count, remove in removals.items():
            with suppress(CorruptCheckpoint):
                remove()
            left = checkpoints_left(path)
            assert {left.get(thread_id, 0) for thread_id in others} == {count}


@pytest.mark.parametrize("time", ["0.5", "-0.5", "1e300", "-1e300", "x'00'"])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_thread_whose_time_is_no_whole_number_hides_no_other(
    waiting: SQLiteSaver, path: Path, order: Any, time: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE threads SET updated_at = {time} WHERE thread_id = ?", (DAMAGED,))
    monkeypatch.setattr(paging, "PAGE", 1)
    found = [each.thread_id for each in islice(waiting.threads(order=order), 10)]
    assert [*dict.fromkeys(thread_id for thread_id in found if thread_id != DAMAGED)] == (
        ["t0", "t1", "t3"] if order == "oldest" else ["t3", "t1", "t0"]
    )
    for each in waiting.threads(order=order):
        list(waiting.threads(order=order, after=each.cursor))  # it is a cursor
