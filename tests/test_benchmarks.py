"""The benchmarks count and compute what they say they do; a tiny run, without the peers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from redis import Redis

from benchmarks import page, plot, run
from benchmarks.inside import looking_into
from benchmarks.measure import exponent, growth, percentile
from benchmarks.peers import STORAGE, in_memory_saver
from benchmarks.results import Results, Row
from benchmarks.sides import BACKENDS, BARE, OURS, SERIALIZING, Serializing
from benchmarks.targets import outcomes, overhead
from benchmarks.traffic import PROFILE_BYTES, Put, PutWrites, chat, latest, replayed
from benchmarks.wire import counting, distant
from benchmarks.workloads import chat as chat_workload
from benchmarks.workloads import inbox
from checkpoint_base import SQLiteSaver
from tests.servers.redis import redis

pytestmark = pytest.mark.usefixtures("on_one_worker")  # the tiny run is made once

SQLITE = replace(BACKENDS["SQLite"], sides=BACKENDS["SQLite"].sides[:1], inbox_threads=2000)


# Figures


def test_callers_that_open_the_saver_in_memory_at_once_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> object:
        time.sleep(0.1)
        return object()

    monkeypatch.setattr("langgraph.checkpoint.memory.InMemorySaver", slow)
    monkeypatch.setenv(STORAGE, "opened by several")
    with ThreadPoolExecutor(8) as callers:
        assert len({*callers.map(lambda _: in_memory_saver(), range(8))}) == 1


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7], 0.99) == 7


@pytest.mark.parametrize(("power", "name"), [(1, "linear"), (2, "quadratic")])
def test_growth_is_told_by_its_exponent(power: int, name: str) -> None:
    sizes = [100, 200, 400, 1000]
    assert exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)
    assert growth(exponent(sizes, [3 * size**power for size in sizes])) == name


# Counting


def test_the_bytes_and_round_trips_of_redis_commands_are_counted() -> None:
    with redis() as server, counting(int(server.url.rpartition(":")[2].partition("/")[0])) as proxy:
        client = Redis(port=proxy.port, protocol=2)
        client.ping()  # connects
        before = proxy.said()
        for _ in range(5):
            client.set("key", b"x" * 1000)
        client.get("key")
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(10):
                pipeline.get("absent")
            pipeline.execute()
        client.close()
        said = proxy.said().since(before)
    # RESP: an array of texts, each behind its length, with an end of line behind each part.
    command = len(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1000\r\n") + 1000 + 2
    get = len(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")
    assert said.sent == 5 * command + get + 10 * len(b"*2\r\n$3\r\nGET\r\n$6\r\nabsent\r\n")
    assert said.received == 5 * len(b"+OK\r\n") + len(b"$1000\r\n") + 1000 + 2 + 10 * len(b"$-1\r\n")
    assert said.trips == 7


@pytest.fixture
def web_server() -> Iterator[int]:
    """A server that answers anything that ends with an empty line with an empty response, on one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                while connection.recv(65536):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)


def test_requests_of_http_are_counted_by_their_method(web_server: int) -> None:
    with counting(web_server) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        for line in ("PUT /bucket/a", "GET /bucket/a", "GET /bucket?list-type=2&prefix=a", "DELETE /bucket/a"):
            client.sendall(f"{line} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            assert client.recv(65536)
        assert proxy.said().requests == {"PUT": 1, "GET": 1, "LIST": 1, "DELETE": 1}
        assert proxy.said().trips == 4


def test_a_distant_server_answers_that_much_later(web_server: int) -> None:
    import time

    with distant(web_server, 0.001) as port, socket.create_connection(("127.0.0.1", port)) as client:
        took = []
        for _ in range(500):
            began = time.perf_counter()
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(65536)
            took.append(time.perf_counter() - began)
    # The quickest one, which a busy machine delays least. It was 2.4 ms when waits were rounded up to milliseconds.
    assert 0.001 <= min(took) < 0.002


def test_what_a_saver_hands_to_its_store_is_counted(path: Path) -> None:
    turns = chat(20)
    with SQLiteSaver(path) as saver:
        replayed(turns[:-1], saver, "thread")
        found = []
        for call in turns[-1].calls:
            with looking_into(saver) as seen:
                call.replay(saver, "thread")
            found.append((call.kind, seen.steps, seen.new_bytes))
        with looking_into(saver) as seen:
            assert saver.get_tuple(latest("thread")) is not None
        assert (seen.steps, seen.new_bytes) == (1, 0)
    assert [steps for _, steps, _ in found] == [1] * 5
    # A message of 1 KB is new in the write of its node, and shared by the channel that it is added to.
    assert all(1000 < new < 2000 for kind, _, new in found if kind == "put_writes")
    # Ids of messages are random, and now and then they complete a pack, which may have 24 KB.
    assert sum(new > 20_000 for _, _, new in found) <= 1


# Traffic


def test_the_recorded_chat_is_what_the_graph_asked_for(path: Path) -> None:
    turns = chat(10)
    assert [turn.messages for turn in turns] == [2, 4, 6, 8, 10]
    assert [[call.kind for call in turn.calls] for turn in turns] == [
        ["put, nothing new", "put_writes", "put", "put_writes", "put"]
    ] * 5
    with SQLiteSaver(path) as saver:
        replayed(turns, saver, "thread")
        found = saver.get_tuple(latest("thread"))
        assert found is not None
        state = found.checkpoint["channel_values"]
        assert [len(message.content) for message in state["messages"]] == [1000] * 10
        assert len(state["profile"]) == PROFILE_BYTES
        assert len(list(saver.history(latest("thread")))) == 15
    parents = [call.parent_id for turn in turns for call in turn.calls if isinstance(call, Put)]
    ids = [call.checkpoint["id"] for turn in turns for call in turn.calls if isinstance(call, Put)]
    assert parents == [None, *ids[:-1]]
    assert all(call.checkpoint_id in ids for turn in turns for call in turn.calls if isinstance(call, PutWrites))


def test_the_floor_serialises_what_a_call_brings() -> None:
    dumped: list[Any] = []
    floor = Serializing()
    floor._serde.dumps_typed = lambda value: dumped.append(value) or ("null", b"")  # type: ignore[method-assign,func-returns-value]
    turn = chat(4)[-1]
    for call in turn.calls:
        call.replay(floor, "thread")
    puts = [call for call in turn.calls if isinstance(call, Put)]
    brought = [call.checkpoint["channel_values"][name] for call in puts for name in call.new_versions
               if name in call.checkpoint["channel_values"]]  # fmt: skip
    written = [value for call in turn.calls if isinstance(call, PutWrites) for _, value in call.writes]
    assert sorted(map(id, dumped)) == sorted(map(id, [*brought, *written]))


# A tiny run


@pytest.fixture(scope="module", autouse=True)
def other_tests_are_not_waited_for() -> Iterator[None]:
    """Flushing the whole machine's pending writes, of other tests as well, takes up to a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sync", lambda: None)
        yield


@pytest.fixture(scope="module")
def tiny_run() -> Results:
    found = Results(quick=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_workload, "lengths", lambda quick: (4, 40))
        chat_workload.run(found, SQLITE)
    return found


@pytest.fixture
def results(tiny_run: Results, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.setattr(chat_workload, "lengths", lambda quick: (4, 40))
    return replace(tiny_run, rows=[*tiny_run.rows])


def test_a_run_finds_every_figure_of_each_call(results: Results) -> None:
    for operation in ("put", "put_writes", "get_tuple"):
        timed = results.find("chat", "SQLite", OURS, operation, 40)
        assert timed is not None
        assert timed.p50 is not None
        assert timed.p99 is not None
        assert 0 < timed.p50 <= timed.p99
        assert overhead(results, "SQLite", OURS, operation, 40) is not None
    counted = results.find("chat", "SQLite", OURS, "put, counted", 40)
    bare = results.find("chat", "SQLite", BARE, "put", 40)
    assert counted is not None
    assert bare is not None
    assert counted.steps == 1
    assert counted.new_bytes is not None
    assert counted.sent is not None
    assert counted.sent > counted.new_bytes
    assert results.find("chat", "SQLite", SERIALIZING, "get_tuple", 40) is not None
    listed = results.find("list", "SQLite", OURS, "list")
    assert listed is not None
    assert listed.note == "60 checkpoints"
    assert [row.at_rest for row in results.rows if row.operation == "all"] == sorted(
        row.at_rest or 0 for row in results.rows if row.operation == "all"
    )


def test_the_page_and_its_charts_are_made_of_the_results(results: Results, tmp_path: Path) -> None:
    kept = Results.of(json.loads(json.dumps(results.document())))
    assert kept.rows == results.rows
    peer = BACKENDS["SQLite"].peers[0].name
    for row in [row for row in kept.rows if row.side == OURS and row.workload == "chat"]:
        p50, at_rest = row.p50 and 4 * row.p50, row.at_rest and 40 * row.at_rest
        kept.rows.append(replace(row, side=peer, p50=p50, at_rest=at_rest, new_bytes=None))
    page.write(kept, tmp_path / "benchmarks.md", tmp_path / "charts")
    text = (tmp_path / "benchmarks.md").read_text()
    assert (
        "| SQLite: bytes at rest, chat of 40 messages, against langgraph-checkpoint-sqlite "
        "| ≤ 1/30 | 1/40 | reached, 1.3 times better |" in text
    )
    assert all(len(set(map(len, table))) == 1 for table in _tables(text))
    charts = list((tmp_path / "charts").glob("*.svg"))
    assert {chart.stem for chart in charts} == {"headline", "put-sqlite", "get_tuple-sqlite"}
    for chart in charts:
        drawn = ET.parse(chart).getroot()
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        width, height = float(drawn.attrib["width"]), float(drawn.attrib["height"])
        texts = drawn.findall("{http://www.w3.org/2000/svg}text")
        assert all(0 < float(text.attrib["x"]) < width and 0 < float(text.attrib["y"]) < height for text in texts)
        named = {(text.text or "").partition(":")[0] for text in texts}
        assert named >= ({peer, OURS} if chart.stem != "headline" else {peer, f"{OURS} on SQLite"})
    links = re.findall(r"!\[.*?\]\(benchmarks/(.*?)\.svg\)", text)
    assert sorted(links) == sorted(chart.stem for chart in charts)


def test_what_a_chart_says_of_a_line_is_beside_the_chart_wherever_the_line_ends() -> None:
    lines = [plot.Line("long", [(10, 1), (1000, 100)]), plot.Line("short", [(10, 1), (100, 10)])]
    drawn = ET.fromstring(plot.chart("title", "subtitle", lines, x_title="x", y_text="{:g} s".format))
    said = {text.text: float(text.attrib["x"]) for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert said["short: 10 s at 100"] == said["long: 100 s"]


def _tables(text: str) -> Iterator[list[list[str]]]:
    table: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            table.append(line.split("|"))
        elif table:
            yield table
            table = []


def test_a_target_is_reached_or_not_by_its_figures() -> None:
    found = Results(quick=True)
    common = {"workload": "chat", "backend": "SQLite", "size": chat_workload.target(quick=True)}
    for side, p50 in ((OURS, 0.003), ("langgraph-checkpoint-sqlite", 0.004), (SERIALIZING, 0.002)):
        found.add(**common, side=side, operation="put", p50=p50)
    [outcome] = outcomes(found)
    assert outcome.found == pytest.approx(0.5)
    assert outcome.is_reached == (outcome.found <= 0.5)
    found.rows[0] = Row(**common, side=OURS, operation="put", p50=0.0031)
    assert not outcomes(found)[0].is_reached
    assert page._verdict(outcomes(found)[0]) == "**not reached**, 10 % short"
    found.add(**common, side=BARE, operation="put", p50=0.0015)
    verdict = page._verdict(outcomes(found)[0])
    assert verdict == "**not reached**, 10 % short; one INSERT with commit alone is 0.75"


def test_a_target_that_is_not_reached_says_by_how_much(results: Results, tmp_path: Path) -> None:
    peer = BACKENDS["SQLite"].peers[0].name
    for row in [row for row in results.rows if row.side == OURS and row.operation == "all"]:
        results.rows.append(replace(row, side=peer, at_rest=row.at_rest and 15 * row.at_rest))
    page.write(results, tmp_path / "benchmarks.md", tmp_path / "charts")
    line = next(
        line for line in (tmp_path / "benchmarks.md").read_text().splitlines() if "chat of 40 messages, ag" in line
    )
    assert line.endswith("| ≤ 1/30 | 1/15 | **not reached**, 2 times short |")


def test_results_of_several_runs_make_one_page_unless_one_was_small(tmp_path: Path) -> None:
    files = []
    for backend, quick in (("SQLite", False), ("Redis", False), ("S3", True)):
        found = Results(quick, servers={backend: f"{backend} 1"}, system={"packages": {backend: "1"}})
        found.add(workload="chat", backend=backend, side=OURS, operation="put", size=100, p50=0.001)
        files.append(tmp_path / f"{backend}.json")
        files[-1].write_text(json.dumps(found.document()))
    both = run.together(files[:2])
    assert [row.backend for row in both.rows] == ["SQLite", "Redis"]
    assert both.servers == {"SQLite": "SQLite 1", "Redis": "Redis 1"}
    assert both.system["packages"] == {"SQLite": "1", "Redis": "1"}
    with pytest.raises(ValueError, match="cannot be put together"):
        run.together(files)


def test_the_readme_gets_the_figures_of_every_side(results: Results) -> None:
    peer = BACKENDS["SQLite"].peers[0].name
    kept = Results.of(json.loads(json.dumps(results.document())))
    kept.rows += [
        replace(row, side=peer, at_rest=row.at_rest and 5e9, p50=row.p50 and 2.0)
        for row in results.rows
        if row.side == OURS and row.workload == "chat"
    ]
    readme = page.in_readme("before\n<!-- benchmarks: x -->\nold\n<!-- /benchmarks -->\nafter\n", kept)
    ours, theirs = [line for line in readme.splitlines() if line.startswith("|")][2:]
    assert ours.startswith("| **SQLite** | ")
    assert re.fullmatch(rf"\| {peer} \| 5 GB \| .*B \| 2.00 s \| 2.00 s \|", theirs)
    assert "old" not in readme
    with pytest.raises(ValueError, match="has no place for the summary"):
        page.in_readme("before", kept)


def test_make_bench_runs_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    command = ["make", "--no-print-directory", "-n", "bench", "QUICK=1", "ARGS=--backend SQLite"]
    said = subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True, check=True).stdout
    assert said.rstrip().endswith("-m benchmarks.run --quick --backend SQLite")


def test_the_inbox_is_filled_and_read() -> None:
    found = Results(quick=True)
    inbox.run(found, SQLITE)
    assert {row.operation: row.note for row in found.rows} == {
        "interrupts, all": "10 wait",
        "interrupts, the first 20": "10 wait",
        "interrupts, of one thread": "10 wait",
        "threads, the first 20": "10 wait",
    }
    assert {row.size for row in found.rows} == {100}
