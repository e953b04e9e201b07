"""Each kind of damage to one thread is told in the same way by every backend, and keeps nobody from other threads.

A saver raises `CorruptCheckpoint`, which names the thread and says what to do. A listing of threads or questions shows
it as the error of that thread, and lists the others. LangGraph's ``list``, and ``history``, have no place for an error:
they raise it, too, even if they list all threads. When the thread is deleted, everything is as if it had never been.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Interrupt

from checkpoint_base import CheckpointSaver, CorruptCheckpoint, open_saver
from tests.faults.acts import checkpoint, config, messages
from tests.faults.backends import Backend, Cell

BAD, OTHERS = "bad", ["before", "later"]


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(_: bytes) -> bytes:
    return b""


def flip(at: int) -> Callable[[bytes], bytes]:
    def flipped(content: bytes) -> bytes:
        damaged = bytearray(content)
        damaged[at] ^= 0x40
        return bytes(damaged)

    return flipped


@dataclass(frozen=True, slots=True)
class Damage:
    """Where it is, as a part of the cell's text, and what it does to the cell; without ``change``, it removes it.

    If there are several such cells, it is the first, or the one ``at`` a place in their order.
    """

    where: str
    change: Callable[[bytes], bytes] | None
    at: int = 0


CONTENTS = ("get_tuple", "list", "list of all")
BARE = ("history", "history of all")
INBOX = ("threads", "interrupts")
EVERYTHING = (*CONTENTS, *BARE, *INBOX)

# The latest checkpoint is the second. SQLite numbers its rows, and S3 sorts objects by descending ids.
KINDS: dict[str, tuple[Sequence[str], dict[str, Damage]]] = {
    "a record cut off": (
        EVERYTHING,
        {
            "sqlite": Damage("checkpoints channels", cut, -1),
            "postgres": Damage("checkpoints header", cut, -1),
            "redis": Damage("b'c\\x00", lambda content: content[:20], -1),
            "s3": Damage("/c", lambda content: content[:20]),
        },
    ),
    "an empty record": (
        EVERYTHING,
        {
            "sqlite": Damage("checkpoints header", empty, -1),
            "postgres": Damage("checkpoints header", empty, -1),
            "redis": Damage("b'c\\x00", empty, -1),
            "s3": Damage("/c", empty),
        },
    ),
    "a record that begins with something else": (
        (*CONTENTS, *BARE),  # whether a checkpoint is visible does not matter to Redis's inbox
        {
            "sqlite": Damage("checkpoints header", flip(0), -1),
            "postgres": Damage("checkpoints header", flip(0), -1),
            "redis": Damage("b'c\\x00", flip(0), -1),
            "s3": Damage("/c", flip(1)),
        },
    ),
    "a flipped bit in a header": (
        EVERYTHING,
        {
            "sqlite": Damage("checkpoints header", flip(-1), -1),
            "postgres": Damage("checkpoints header", flip(-1), -1),
            "redis": Damage("b'c\\x00", flip(-1), -1),
            "s3": Damage("/c", flip(40)),
        },
    ),
    "a value cut off": (
        CONTENTS,
        {
            "sqlite": Damage("channel_values root", cut),
            "postgres": Damage("channel_values root", cut),
            "redis": Damage("b'v\\x00", cut),
            "s3": Damage("/c", cut, -1),
        },
    ),
    "a write cut off": (
        CONTENTS,
        {
            "sqlite": Damage("writes root | 'task'", cut),
            "postgres": Damage("writes root | 'task'", cut),
            "redis": Damage("b'p\\x00 | \\x00task\\x00", cut),
            "s3": Damage("/w", cut),
        },
    ),
    "a question cut off": (
        (*CONTENTS, "interrupts"),
        {
            "sqlite": Damage("writes root | 'asking'", cut),
            "postgres": Damage("writes root | 'asking'", cut),
            "redis": Damage("b'p\\x00 | \\x00asking\\x00", cut),
            "s3": Damage("/x", cut),
        },
    ),
    "an empty question": (
        (*CONTENTS, "interrupts"),
        {
            "sqlite": Damage("writes root | 'asking'", empty),
            "postgres": Damage("writes root | 'asking'", empty),
            "redis": Damage("b'p\\x00 | \\x00asking\\x00", empty),
            "s3": Damage("/x", empty),
        },
    ),
    "a lost question": (
        (*CONTENTS, "interrupts"),
        {"redis": Damage("b'p\\x00 | \\x00asking\\x00", None)},  # elsewhere nothing but itself says that it was there
    ),
    "a chunk of another kind": (
        CONTENTS,
        {
            "sqlite": Damage("chunks body", flip(0)),
            "postgres": Damage("chunks body", flip(0)),
            "redis": Damage("b'#", flip(0)),
            "s3": Damage("/c", flip(-1), -1),
        },
    ),
    "a chunk cut off": (
        CONTENTS,
        {
            "sqlite": Damage("chunks body", cut),
            "postgres": Damage("chunks body", cut),
            "redis": Damage("b'#", cut),
            "s3": Damage("/c", lambda content: content[:-9], -1),
        },
    ),
    "a lost chunk": (
        CONTENTS,
        {
            "sqlite": Damage("chunks body", None),
            "postgres": Damage("chunks body", None),
            "redis": Damage("b'#", None),
            "s3": Damage("/c", None, -1),
        },
    ),
    "a lost record": (
        EVERYTHING,
        {"redis": Damage("b'c\\x00", None, -1)},  # elsewhere nothing but itself says that it was there
    ),
    "another latest checkpoint": (
        ("get_tuple", *INBOX),
        {"redis": Damage("b's'", flip(-1))},
    ),
    "a latest checkpoint that is no text": (
        ("get_tuple", *INBOX),
        {"redis": Damage("b's'", lambda _: b"\xff\xfe")},
    ),
    "an empty latest checkpoint": (
        ("get_tuple", *INBOX),
        {"redis": Damage("b's'", empty)},
    ),
    "the rest of a thread cut off": (
        ("threads",),
        {"redis": Damage("b'm'", lambda content: b"x" + content[1:-1])},
    ),
    "an empty rest of a thread": (
        ("threads",),
        {"redis": Damage("b'm'", empty), "s3": Damage("/l/", empty)},
    ),
    "a list of writes cut off": (
        CONTENTS,
        {"redis": Damage("b'w\\x00", cut, -1)},
    ),
}
"""What notices each kind of damage, and the damage on each backend that can have it."""

CASES = [(kind, name) for kind, (_, damages) in KINDS.items() for name in damages]


def grow(saver: CheckpointSaver, thread: str) -> None:
    """Two checkpoints that share a long value, a write, and a question; the ledger of S3 has the thread."""
    metadata: Any = {"source": "loop", "step": 1, "run_id": "run"}
    made: Any = checkpoint(1, {"messages": [f"{thread}: {text}" for text in messages(4)]})
    versions = made["channel_versions"]
    stored: Any = saver.put(config(thread), made, metadata, versions)  # type: ignore[arg-type]
    made = checkpoint(2, {**made["channel_values"], "n": 1})
    made["channel_versions"] = {**versions, "n": "1"}
    stored = saver.put(stored, made, metadata, {"n": "1"})
    saver.put_writes(stored, [("n", 2)], "task")
    saver.put_writes(stored, [("__interrupt__", (Interrupt("?", id=thread),))], "asking")


def found_cells(backend: Backend, known: Sequence[Cell], damage: Damage) -> Sequence[Cell]:
    places = {cell.place for cell in known}
    parts = damage.where.split(" | ")
    new = (cell for cell in backend.cells() if cell.place not in places)
    return sorted((cell for cell in new if all(part in str(cell) for part in parts)), key=str)


def asked(saver: CheckpointSaver) -> dict[str, Callable[[], Any]]:
    """The answers of a saver, in both colours."""
    bad: Any = {"configurable": {"thread_id": BAD}}

    async def listed(items: Any) -> list[Any]:
        return [each async for each in items]

    return {
        "get_tuple": lambda: saver.get_tuple(bad),
        "list": lambda: list(saver.list(bad)),
        "list of all": lambda: list(saver.list(None)),
        "history": lambda: list(saver.history(bad)),
        "history of all": lambda: list(saver.history(None)),
        "threads": lambda: list(saver.threads()),
        "interrupts": lambda: list(saver.interrupts()),
        "aget_tuple": lambda: asyncio.run(saver.aget_tuple(bad)),  # type: ignore[arg-type]
        "alist": lambda: asyncio.run(listed(saver.alist(bad))),
        "alist of all": lambda: asyncio.run(listed(saver.alist(None))),
        "ahistory": lambda: asyncio.run(listed(saver.ahistory(bad))),
        "ahistory of all": lambda: asyncio.run(listed(saver.ahistory(None))),
        "athreads": lambda: asyncio.run(listed(saver.athreads())),
        "ainterrupts": lambda: asyncio.run(listed(saver.ainterrupts())),
    }


def is_told(said: str) -> bool:
    """Whether a message names the thread, says what to do, and shows nothing of how a store works inside."""
    return f"thread {BAD!r}" in said and "from a backup, or delete" in said and "user_script" not in said


def misread(name: str, ask: Callable[[], Any], must_notice: Sequence[str]) -> Iterator[str]:
    """What is wrong with an answer about a damaged thread."""
    plain = name.removeprefix("a") if name not in must_notice and name[0] == "a" else name
    try:
        found = ask()
    except CorruptCheckpoint as error:
        if plain in INBOX:
            yield f"{name} hides other threads: {error}"
        elif not is_told(str(error)):
            yield f"{name} said {error}"
        return
    errors = {each.thread_id: each.error for each in found} if plain in INBOX else {}
    if plain in INBOX and (set(OTHERS) - errors.keys() or [id_ for id_ in OTHERS if errors[id_]]):
        yield f"{name} found {errors}"
    if error := errors.get(BAD):
        if not (is_told(error) or "a stored time is damaged" in error):
            yield f"{name} listed {error}"
    elif plain in must_notice:
        yield f"{name} noticed nothing"


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{kind} on {name}" for kind, name in CASES])
def test_damage_is_told_of_its_thread_and_hides_no_other(kind: str, name: str, servers: Any) -> None:
    must_notice, damages = KINDS[kind]
    with servers.backend(name) as backend:
        with open_saver(backend.url) as saver:
            for thread in OTHERS:
                grow(saver, thread)
            known = backend.cells()
            counts = backend.counts()
            grow(saver, BAD)
            if "/l/" in damages[name].where:
                saver.prune([BAD])  # now it has a ledger
        damage = damages[name]
        cell = found_cells(backend, known, damage)[damage.at]
        if damage.change is None:
            backend.remove(cell)
        else:
            backend.overwrite(cell, damage.change(cell.content))
        with open_saver(backend.url) as saver:
            wrong = [said for name, ask in asked(saver).items() for said in misread(name, ask, must_notice)]
            assert not wrong, "\n".join(wrong)
        with open_saver(backend.url) as saver:
            saver.delete_thread(BAD)
            for name, ask in asked(saver).items():
                if name.endswith(("of all", *INBOX)):
                    assert {thread_of(each) for each in ask()} == set(OTHERS), name
            assert backend.counts() == counts


CONTENT_CASES = [(kind, name) for kind, name in CASES if "get_tuple" in KINDS[kind][0]]


@pytest.mark.parametrize(("kind", "name"), CONTENT_CASES, ids=[f"{kind} on {name}" for kind, name in CONTENT_CASES])
def test_a_copy_of_a_damaged_thread_is_refused_and_leaves_nothing_or_is_as_damaged(
    kind: str, name: str, servers: Any
) -> None:
    damage = KINDS[kind][1][name]
    with servers.backend(name) as backend:
        with open_saver(backend.url) as saver:
            known = backend.cells()
            grow(saver, BAD)
        cell = found_cells(backend, known, damage)[damage.at]
        if damage.change is None:
            backend.remove(cell)
        else:
            backend.overwrite(cell, damage.change(cell.content))
        with open_saver(backend.url) as saver:
            refused = ""
            try:
                saver.copy_thread(BAD, "copy")
            except CorruptCheckpoint as error:
                refused = str(error)
            if refused:
                assert is_told(refused)
                assert saver.get_tuple(config("copy")) is None  # type: ignore[arg-type]
                assert "copy" not in {each.thread_id for each in saver.threads()}
            else:
                with pytest.raises(CorruptCheckpoint):
                    saver.get_tuple(config("copy"))  # type: ignore[arg-type]


def thread_of(listed: Any) -> str:
    named = listed.config["configurable"] if isinstance(listed, CheckpointTuple) else {"thread_id": listed.thread_id}
    return str(named["thread_id"])


REMOVALS: dict[str, tuple[Callable[[CheckpointSaver], None], int]] = {
    "prune": (lambda saver: saver.prune(["before", BAD, "later"]), 1),
    "delete_for_runs": (lambda saver: saver.delete_for_runs(["run"]), 0),
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_removing_from_many_threads_leaves_out_a_damaged_one_alone_and_names_it(removal: str, backend: Backend) -> None:
    remove, left = REMOVALS[removal]
    with open_saver(backend.url) as saver:
        for thread in OTHERS:
            grow(saver, thread)
        known = backend.cells()
        grow(saver, BAD)
    damage = KINDS["a record cut off"][1][backend.name]
    cell = found_cells(backend, known, damage)[damage.at]
    backend.overwrite(cell, (damage.change or cut)(cell.content))
    with open_saver(backend.url) as saver:
        if backend.name == "postgres":
            remove(saver)  # it reads columns, and never the header
        else:
            with pytest.raises(CorruptCheckpoint) as raised:
                remove(saver)
            assert is_told(str(raised.value))
        for thread in OTHERS:
            assert len(list(saver.history(config(thread)))) == left  # type: ignore[arg-type]
        saver.delete_thread(BAD)
        assert BAD not in {each.thread_id for each in saver.threads()}
