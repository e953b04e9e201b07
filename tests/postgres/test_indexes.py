"""How the server finds what is asked for: its own plans, among 100,000 checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.metadata import terms_of
from checkpoint_base.records import CheckpointRecord, InboxQuery, ListQuery, ValueRecord, WriteRecord
from checkpoint_base.transport import Operation, run
from checkpoint_postgres import PostgresSaver
from checkpoint_postgres.store import PostgresStore
from tests.postgres.conftest import Place, place_on
from tests.servers.processes import Server

pytestmark = pytest.mark.usefixtures("on_one_worker")  # the stores are filled once

THREADS = 20_000
CHECKPOINTS = 100_900
PAGE = 20

MOST_ROWS = 40 * PAGE
"""How many rows a page may take: what it returns, with what belongs to it, and not a part of the store."""

THREAD = "thread 01042"
"""One of twenty that have 50 checkpoints; every other one has 5."""

RARE = terms_of({"user": "user 17"})
COMMON = terms_of({"source": "loop"})
UNKNOWN = terms_of({"user": "nobody"})

# Every second thread waits for an answer. A user has four threads; a run has two checkpoints. No two checkpoints have
# the same id, as in life: the server's guesses depend on it.
FILL = """
CREATE FUNCTION {s}.id_of(n integer, t integer) RETURNS text IMMUTABLE
RETURN to_char(n, '"id "FM000 ') || to_char(t, 'FM00000');
INSERT INTO {s}.threads
SELECT to_char(t, '"thread "FM00000'), t, 1000000 + t, {s}.id_of(CASE t % 1000 WHEN 42 THEN 49 ELSE 4 END, t)
FROM generate_series(1, 20000) AS t;
INSERT INTO {s}.checkpoints (thread_id, ns, checkpoint_id, checkpoint_ns, parent_id, run_id, written_at, retired,
                             channels, versions, open_channels, terms, header)
SELECT to_char(t, '"thread "FM00000'), '', {s}.id_of(n, t), '', {s}.id_of(nullif(n, 0) - 1, t),
       'run ' || t || '.' || n / 2, 1000000 + t, false, '{{messages,log}}', ARRAY['s' || n, 's' || n], '{{log}}',
       ARRAY[{common}, (({users}::bigint[])[1 + t / 4]), t * 1000 + n / 2], decode(repeat('ab', 200), 'hex')
FROM generate_series(1, 20000) AS t, generate_series(0, CASE t % 1000 WHEN 42 THEN 49 ELSE 4 END) AS n;
INSERT INTO {s}.channel_values
SELECT thread_id, ns, 'messages', versions[1], '', decode(md5(thread_id || checkpoint_id), 'hex') FROM {s}.checkpoints;
INSERT INTO {s}.chunks
SELECT thread_id, decode(md5(thread_id || checkpoint_id), 'hex'), false, decode(repeat('cd', 200), 'hex')
FROM {s}.checkpoints;
INSERT INTO {s}.writes
SELECT thread_id, ns, checkpoint_id, 'task', 0, 0, true, written_at, 'log', '', '', '' FROM {s}.checkpoints;
INSERT INTO {s}.writes
SELECT thread_id, '', latest, 'asking', -3, 1, false, updated_at, '__interrupt__', '', '', ''
FROM {s}.threads WHERE created_at % 2 = 1;
INSERT INTO {s}.waiting
SELECT thread_id, task_id, written_at, questions FROM {s}.writes WHERE questions > 0;
"""

EXPLAINED = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_format = json;
SET auto_explain.log_level = notice;
SET jit = off;
"""


@dataclass
class Explained:
    """A store of 100,000 checkpoints, on a connection whose server tells the plan of every statement it runs."""

    store: PostgresStore
    plans: list[Any] = field(default_factory=list)

    def notice(self, diagnostic: Any) -> None:
        text = diagnostic.message_primary
        if "plan:" in text:
            self.plans.append(json.loads(text.partition("plan:")[2])["Plan"])

    def run(self, operation: Operation[Any]) -> Any:
        self.plans.clear()
        result = run(operation, self.store.transport)
        assert self.plans, "the server told no plan"
        return result

    @property
    def scans(self) -> list[dict[str, Any]]:
        """The nodes of all plans that read a table."""
        return [node for node in self._nodes if "Relation Name" in node and "Scan" in node["Node Type"]]

    @property
    def _nodes(self) -> list[dict[str, Any]]:
        found = [*self.plans]
        for node in found:  # which grows
            found += node.get("Plans", ())
        return found

    def check(self, most: int = MOST_ROWS) -> None:
        """Every table was read by an index, and not more rows of it than the answer needs."""
        assert self.scans
        for node in self.scans:
            assert node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Heap Scan"), (_described(node), node)
        taken = sorted(((_rows(node), _described(node)) for node in self.scans), reverse=True)
        assert self.rows <= most, taken

    @property
    def rows(self) -> int:
        return sum(_rows(node) for node in self.scans)

    @property
    def pages(self) -> int:
        """Pages that the whole statement looked at, if the server was asked to count them."""
        return max(int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) for plan in self.plans)

    @property
    def compared(self) -> int:
        """Rows that were read again of what a query, a function or an array had brought, as in an unhashed NOT IN."""
        return sum(_rows(node) for node in self._nodes if "Relation Name" not in node and "Scan" in node["Node Type"])


def _rows(node: dict[str, Any]) -> int:
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck", "Rows Removed by Join Filter")
    each = node["Actual Rows"] + sum(node.get(name, 0) for name in removed)
    return round(each * node["Actual Loops"])


def _described(node: dict[str, Any]) -> str:
    return f"{node['Node Type']} {node.get('Index Name', node['Relation Name'])}"


def _number(term: bytes) -> int:
    return int.from_bytes(term, signed=True)


@pytest.fixture(scope="module")
def explained(server: Server) -> Iterator[Explained]:
    place = place_on(server)
    with psycopg.connect(server.url, autocommit=True) as connection:
        saver = PostgresSaver(connection, schema=place.schema)
        saver.setup()
        users = [_number(terms_of({"user": f"user {number}"})[0]) for number in range(THREADS // 4 + 1)]
        names = {
            "s": sql.Identifier(place.schema),
            "common": sql.Literal(_number(COMMON[0])),
            "users": sql.Literal(users),
        }
        connection.execute(sql.SQL(FILL).format(**names))
        connection.execute("VACUUM ANALYZE")
        assert place.query("SELECT count(*) FROM {s}.checkpoints") == [(CHECKPOINTS,)]
        connection.execute(EXPLAINED)
        explained = Explained(saver.store)
        connection.add_notice_handler(explained.notice)
        yield explained
    place.query("DROP SCHEMA {s} CASCADE")


NAMESPACE = NamespaceKey(THREAD, "")
LATEST = CheckpointKey(THREAD, "", "id 049 01042")

LISTS = {
    "a thread": (ListQuery(THREAD, limit=PAGE), PAGE),
    "a namespace": (ListQuery(THREAD, "", limit=PAGE), PAGE),
    "the page after": (ListQuery(THREAD, "", after=CheckpointKey(THREAD, "", "id 030"), limit=PAGE), PAGE),
    "before a checkpoint": (ListQuery(THREAD, before="id 005", limit=PAGE), 5),
    "one checkpoint": (ListQuery(THREAD, "", "id 020 01042", limit=PAGE), 1),
    "a thread, filtered": (ListQuery(THREAD, terms=COMMON, limit=PAGE), PAGE),
    "a thread, by what it has not": (ListQuery(THREAD, terms=RARE, limit=PAGE), 0),
    "everything": (ListQuery(limit=PAGE), PAGE),
    "everything, the page after": (ListQuery(after=CheckpointKey("thread 01000", "", "id 003"), limit=PAGE), PAGE),
    "everything before": (ListQuery(before="id 003", limit=PAGE), PAGE),
    "everything of a common kind": (ListQuery(terms=COMMON, limit=PAGE), PAGE),
    "everything of a user": (ListQuery(terms=RARE, limit=PAGE), PAGE),
    "everything of both": (ListQuery(terms=(*COMMON, *RARE), limit=PAGE), PAGE),
    "everything of nobody": (ListQuery(terms=UNKNOWN, limit=PAGE), 0),
}


@pytest.mark.parametrize("contents", [True, False], ids=["list", "history"])
@pytest.mark.parametrize("what", LISTS)
def test_a_page_of_checkpoints_is_read_by_an_index(explained: Explained, what: str, contents: bool) -> None:
    query, expected = LISTS[what]
    query = ListQuery(**{**{name: getattr(query, name) for name in query.__slots__}, "contents": contents})
    found = explained.run(explained.store.list(query))
    assert len(found) == expected
    assert all(len(each.values) == contents for each in found)
    explained.check()


INBOXES = {
    "all": InboxQuery(limit=PAGE),
    "the oldest": InboxQuery(order="oldest", limit=PAGE),
    "the page after": InboxQuery(after=(1000700, "thread 00700", "asking"), limit=PAGE),
    "the oldest, the page after": InboxQuery(after=(1000700, "thread 00700", "asking"), order="oldest", limit=PAGE),
    "of a common kind": InboxQuery(terms=COMMON, limit=PAGE),
    "of a common kind, the oldest": InboxQuery(terms=COMMON, order="oldest", limit=PAGE),
    "of a common kind, the page after": InboxQuery(terms=COMMON, after=(1000700, "thread 00700", "asking"), limit=PAGE),
}
OF_ONE = {
    "one thread": InboxQuery("thread 00047", limit=PAGE),
    "a user": InboxQuery(terms=terms_of({"user": "user 12"}), limit=PAGE),
    "a user, the oldest": InboxQuery(terms=terms_of({"user": "user 12"}), order="oldest", limit=PAGE),
    "nobody": InboxQuery(terms=UNKNOWN, limit=PAGE),
}


@pytest.mark.parametrize("what", [*INBOXES, *OF_ONE])
def test_a_page_of_threads_is_read_by_an_index(explained: Explained, what: str) -> None:
    found = explained.run(explained.store.threads({**INBOXES, **OF_ONE}[what]))
    assert len(found) == {"one thread": 1, "a user": 4, "a user, the oldest": 4, "nobody": 0}.get(what, PAGE)
    explained.check()


@pytest.mark.parametrize("what", [*INBOXES, *OF_ONE])
def test_a_page_of_interrupts_is_read_by_an_index(explained: Explained, what: str) -> None:
    found = explained.run(explained.store.interrupts({**INBOXES, **OF_ONE}[what]))
    assert len(found) == {"one thread": 1, "a user": 2, "a user, the oldest": 2, "nobody": 0}.get(what, PAGE)
    explained.check()


@pytest.mark.parametrize("checkpoint_id", [None, "id 020 01042"])
def test_a_checkpoint_is_read_by_an_index(explained: Explained, checkpoint_id: str | None) -> None:
    found = explained.run(explained.store.load(NAMESPACE, checkpoint_id))
    assert found.record.key.checkpoint_id == (checkpoint_id or "id 049 01042")
    assert len(found.values) == len(found.writes) == len(found.chunks) == 1
    explained.check(most=12)


@pytest.mark.parametrize("checkpoint_id", [None, "id 049 01042"])
def test_a_delta_channel_s_history_is_read_by_an_index(explained: Explained, checkpoint_id: str | None) -> None:
    found = explained.run(explained.store.ancestry(NAMESPACE, checkpoint_id, ["log"]))
    assert len(found.writes) == 49
    assert all(len(writes) == 1 for writes in found.writes)
    explained.check(most=49 * 6)


def test_writers_find_what_they_rely_on_by_an_index(explained: Explained) -> None:
    thread = "thread 03042"
    chunk = explained.run(explained.store.load(NamespaceKey(thread, ""), None)).values["messages"].chunk_ids[0]
    key = CheckpointKey(thread, "", "id 050")
    record = CheckpointRecord(key, "id 049 03042", b"", (("messages", "s49"),), ("log",), b"", "run", None, 1)
    missing = explained.run(explained.store.put(record, [], {}, [("messages", "s49")]))
    assert not missing
    explained.check(most=12)
    write = WriteRecord("task", 0, "log", "", ValueRecord(b"", chunk), 1, False, 1)
    assert not explained.run(explained.store.put_writes(key, [write], {}))
    explained.check(most=12)


def test_what_is_removed_and_copied_is_found_by_an_index(explained: Explained) -> None:
    explained.run(explained.store.delete_runs(["run 1990.1", "run 1991.0"]))
    explained.check()
    explained.run(explained.store.copy_thread("thread 01900", "copy"))
    explained.check()
    explained.run(explained.store.prune(["thread 01901", "thread 01902"], 1))
    explained.check()
    explained.run(explained.store.prune(["thread 01905"], 2))
    explained.check()
    explained.run(explained.store.prune(["thread 02042"], 1))  # all of whose checkpoints the latest is rebuilt from
    explained.check(most=50 * 20)
    explained.run(explained.store.delete_threads(["thread 01903", "thread 01904"]))
    explained.check()
    for thread, left in {"thread 01990": 3, "copy": 5, "thread 01901": 1, "thread 01905": 2, "thread 01903": 0}.items():
        visible = explained.run(explained.store.list(ListQuery(thread, contents=False)))
        assert len(visible) == left, thread


LONG = 1000
"""Checkpoints of a thread that is longer than the server expects."""

GROWN = """
ALTER TABLE {s}.threads SET (autovacuum_enabled = off);
ALTER TABLE {s}.checkpoints SET (autovacuum_enabled = off);
ALTER TABLE {s}.channel_values SET (autovacuum_enabled = off);
ALTER TABLE {s}.chunks SET (autovacuum_enabled = off);
ALTER TABLE {s}.writes SET (autovacuum_enabled = off);
ALTER TABLE {s}.waiting SET (autovacuum_enabled = off);
CREATE FUNCTION {s}.id_of(n integer) RETURNS text IMMUTABLE RETURN to_char(n, '"id "FM0000');
CREATE FUNCTION {s}.grow(thread text, n integer, delta boolean) RETURNS void LANGUAGE sql BEGIN ATOMIC
    INSERT INTO {s}.threads VALUES (thread, 1, n, {s}.id_of(n - 1));
    INSERT INTO {s}.checkpoints (thread_id, ns, checkpoint_id, checkpoint_ns, parent_id, run_id, written_at, retired,
                                 channels, versions, open_channels, terms, header)
    SELECT thread, '', {s}.id_of(i), '', {s}.id_of(nullif(i, 0) - 1), 'run ' || i % 2 || ' of ' || thread, i, false,
           '{{messages,log}}', ARRAY['s' || i, 's' || i],
           CASE WHEN delta THEN '{{log}}'::text[] ELSE '{{}}' END, '{{}}', ''
    FROM generate_series(0, n - 1) AS i;
    INSERT INTO {s}.channel_values
    SELECT thread_id, ns, 'messages', versions[1], '', decode(md5(checkpoint_id), 'hex')
    FROM {s}.checkpoints WHERE thread_id = thread;
    INSERT INTO {s}.chunks
    SELECT thread_id, decode(md5(checkpoint_id), 'hex'), false, decode(repeat('cd', 20), 'hex')
    FROM {s}.checkpoints WHERE thread_id = thread;
    INSERT INTO {s}.writes
    SELECT thread_id, ns, checkpoint_id, 'task', 0, 0, true, written_at, 'log', '', '', ''
    FROM {s}.checkpoints WHERE thread_id = thread;
END;
"""


@contextmanager
def _growing(server: Server) -> Iterator[tuple[Place, psycopg.Connection[Any], PostgresStore]]:
    """A store without threads, on a connection that all goes through; its schema has the functions of `GROWN`."""
    place = place_on(server)
    with psycopg.connect(server.url, autocommit=True) as connection:
        store = PostgresSaver(connection, schema=place.schema).store
        run(store.setup(), store.transport)
        _execute(connection, place, GROWN)
        yield place, connection, store
    place.query("DROP SCHEMA {s} CASCADE")


def _execute(connection: psycopg.Connection[Any], place: Place, script: str, *parameters: Any) -> None:
    """Execute SQL that says ``{s}`` for the schema."""
    composed = sql.SQL(script).format(s=sql.Identifier(place.schema))  # type: ignore[arg-type]
    connection.execute(composed, parameters or None)


@pytest.fixture(scope="module")
def grown(server: Server) -> Iterator[Callable[[str, bool], Explained]]:
    """Makes a thread of `LONG` checkpoints, with or without a delta channel, in a store whose plans are older.

    They were made when there were a few short threads, and the server has never counted its rows.
    """
    with _growing(server) as (place, connection, store):
        grow = sql.SQL("SELECT {}.grow(%s, %s, %s)").format(sql.Identifier(place.schema))
        for delta in (True, False):
            connection.execute(grow, ["short", 3, delta])
            for act in (*SMALL.values(), *WHOLE_THREADS.values()):
                run(act(store, "short"), store.transport)
            run(store.delete_threads(["short", "copy of short"]), store.transport)
        connection.execute(EXPLAINED)
        explained = Explained(store)
        connection.add_notice_handler(explained.notice)

        def grown(thread: str, delta: bool) -> Explained:
            connection.execute(grow, [thread, LONG, delta])
            return explained

        yield grown


def _put(store: PostgresStore, thread: str) -> Operation[Any]:
    parent, version = f"id {LONG - 1:04}", f"s{LONG - 1}"
    key = CheckpointKey(thread, "", f"id {LONG:04}")
    record = CheckpointRecord(key, parent, b"", (("messages", version), ("log", "s")), ("log",), b"", None, None, LONG)
    return store.put(record, [], {}, [("messages", version)])


def _put_writes(store: PostgresStore, thread: str) -> Operation[Any]:
    write = WriteRecord("asking", -3, "__interrupt__", "", ValueRecord(b"", b""), 1, False, LONG)
    return store.put_writes(CheckpointKey(thread, "", f"id {LONG - 1:04}"), [write], {})


SMALL: dict[str, Callable[[PostgresStore, str], Operation[Any]]] = {
    "put_writes": _put_writes,
    "put": _put,
    "load": lambda store, thread: store.load(NamespaceKey(thread, ""), None),
}

WHOLE_THREADS: dict[str, Callable[[PostgresStore, str], Operation[Any]]] = {
    "list": lambda store, thread: store.list(ListQuery(thread, limit=PAGE)),
    "interrupts": lambda store, _: store.interrupts(InboxQuery(limit=PAGE)),
    "ancestry": lambda store, thread: store.ancestry(NamespaceKey(thread, ""), None, ["log"]),
    "copy_thread": lambda store, thread: store.copy_thread(thread, f"copy of {thread}"),
    "copy_thread again": lambda store, thread: store.copy_thread(thread, f"copy of {thread}"),
    "delete_runs": lambda store, thread: store.delete_runs([f"run 1 of {thread}"]),
    "prune to a quarter": lambda store, thread: store.prune([thread], LONG // 4),
    "prune": lambda store, thread: store.prune([thread], 1),
    "prune again": lambda store, thread: store.prune([thread], 1),
    "delete_threads": lambda store, thread: store.delete_threads([thread]),
}


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "plain"])
def test_plans_from_before_a_thread_grew_stay_good(grown: Callable[[str, bool], Explained], delta: bool) -> None:
    explained = grown(f"long, {delta}", delta)
    rows, compared = {}, {}
    for name, act in (*SMALL.items(), *WHOLE_THREADS.items()):
        explained.run(act(explained.store, f"long, {delta}"))
        rows[name], compared[name] = explained.rows, explained.compared
    assert {name: rows[name] for name in SMALL if rows[name] > MOST_ROWS} == {}
    assert {name: rows[name] for name in WHOLE_THREADS if rows[name] > 30 * LONG} == {}
    assert {name: compared[name] for name in compared if compared[name] > 50 * LONG} == {}


COUNTED = "ANALYZE {s}.threads, {s}.checkpoints, {s}.channel_values, {s}.chunks, {s}.writes, {s}.waiting"


def test_a_long_history_among_many_short_threads_takes_a_few_pages_for_each_ancestor(newest_server: Server) -> None:
    """Since PostgreSQL 16, an EXISTS that is made a join may read all values of the thread for each ancestor."""
    with _growing(newest_server) as (place, connection, store):
        _execute(connection, place, "SELECT count({s}.grow('short ' || t, 2, true)) FROM generate_series(1, 2000) AS t")
        _execute(connection, place, COUNTED)
        _execute(connection, place, "SELECT {s}.grow('long', %s, true)", 3 * LONG)
        asked = sql.SQL(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM {}.ancestry('long', '', NULL, '{{log}}')"
        )
        (((plan,),),) = connection.execute(asked.format(sql.Identifier(place.schema))).fetchall()
        assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 20 * 3 * LONG
        found = run(store.ancestry(NamespaceKey("long", ""), None, ["log"]), store.transport)
        assert len(found.writes) == 3 * LONG - 1


def test_a_thread_is_deleted_by_an_index_though_its_plan_is_from_when_there_were_few_others(server: Server) -> None:
    with _growing(server) as (place, connection, store):
        _execute(connection, place, "SELECT {s}.grow('first', 3, false)")
        _execute(connection, place, COUNTED)
        for _ in range(8):  # now the server keeps its plans
            run(store.delete_threads(["no such thread"]), store.transport)
        _execute(connection, place, "SELECT {s}.grow('long', %s, false)", LONG)
        connection.execute(EXPLAINED)
        explained = Explained(store)
        connection.add_notice_handler(explained.notice)
        explained.run(store.delete_threads(["first"]))
        explained.check()


WIDE = """
INSERT INTO {s}.threads VALUES ('wide', 1, 1, {s}.id_of(0));
INSERT INTO {s}.checkpoints (thread_id, ns, checkpoint_id, checkpoint_ns, parent_id, run_id, written_at, retired,
                             channels, versions, open_channels, terms, header)
SELECT 'wide', decode(md5(space::text), 'hex'), {s}.id_of(5 * space + n), 'sub:' || space, NULL, NULL, 1, false,
       '{{}}', '{{}}', '{{}}', '{{}}', ''
FROM generate_series(0, 199) AS space, generate_series(0, 4) AS n;
INSERT INTO {s}.checkpoints (thread_id, ns, checkpoint_id, checkpoint_ns, parent_id, run_id, written_at, retired,
                             channels, versions, open_channels, terms, header)
SELECT 'short ' || t, '', 'later ' || t, '', NULL, NULL, 1, false, '{{}}', '{{}}', '{{}}', '{{}}', ''
FROM generate_series(1, 40000) AS t;
"""


def test_a_page_of_a_long_thread_takes_no_more_than_one_of_a_short_thread(server: Server) -> None:
    """In all namespaces, of which a thread with subgraphs may have thousands; and whatever has come after it."""
    with _growing(server) as (place, connection, store):
        _execute(connection, place, WIDE)
        _execute(connection, place, "SELECT {s}.grow('long', %s, false)", LONG)
        connection.execute("VACUUM ANALYZE")
        connection.execute(EXPLAINED)
        connection.execute("SET auto_explain.log_buffers = on")
        explained = Explained(store)
        connection.add_notice_handler(explained.notice)
        explained.run(store.list(ListQuery("short 1", contents=False)))  # the first time, functions are looked up
        for thread in ("long", "wide"):
            query = ListQuery(thread, limit=PAGE, contents=False)
            found = explained.run(store.list(query))
            explained.check()
            assert explained.pages <= 8 * PAGE
            following = explained.run(store.list(replace(query, after=found[-1].record.key)))
            explained.check()
            assert explained.pages <= 8 * PAGE
            ids = [each.record.key.checkpoint_id for each in (*found, *following)]
            assert ids == [f"id {LONG - 1 - at:04}" for at in range(2 * PAGE)]


def _pages(connection: psycopg.Connection[Any], place: Place, call: str) -> int:
    """How many pages a call of a function looks at, after the first time."""
    asked = sql.SQL(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM {{}}.{call}")  # type: ignore[arg-type]
    for _ in range(2):
        (((plan,),),) = connection.execute(asked.format(sql.Identifier(place.schema))).fetchall()
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


def test_the_latest_checkpoint_is_found_by_its_key_where_the_server_knows_of_one_thread_only(
    newest_server: Server,
) -> None:
    """As of a program that runs for years in one thread. Every new subgraph looks for its latest checkpoint."""
    with _growing(newest_server) as (place, connection, _):
        _execute(connection, place, "SELECT {s}.grow('first', 50, false)")
        _execute(connection, place, "ANALYZE {s}.checkpoints")
        _execute(connection, place, "SELECT {s}.grow('long', %s, false)", 5 * LONG)
        assert _pages(connection, place, "load('long', 'new', NULL)") < 20
        assert _pages(connection, place, "load('first', '', NULL)") < 60


def test_listings_are_read_in_their_order_where_the_server_knows_of_one_thread_only(newest_server: Server) -> None:
    """It may then take every thread to have every checkpoint."""
    with _growing(newest_server) as (place, connection, store):
        _execute(connection, place, "SELECT {s}.grow('first', 50, false)")
        _execute(connection, place, COUNTED)
        _execute(
            connection, place, "SELECT count({s}.grow('short ' || t, 2, false)) FROM generate_series(1, 2000) AS t"
        )
        connection.execute("SET statement_timeout = '60s'")
        query = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
        for what in ("threads", "interrupts"):
            parameters = dict.fromkeys(("thread_id", "after_time", "after_thread", "after_task"))
            statement = query + getattr(store._sql, f"{what}_newest")
            (((plan,),),) = connection.execute(statement, {**parameters, "terms": [], "limit": PAGE}).fetchall()
            nodes = [plan["Plan"]]
            for node in nodes:
                nodes += node.get("Plans", ())
            assert sum(_rows(node) for node in nodes if "Scan" in node["Node Type"]) <= MOST_ROWS
