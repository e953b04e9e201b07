"""Damage what is stored, behind the adapter's back, and read it: right answers or `CorruptCheckpoint`, nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from checkpoint_base import CheckpointSaver, CorruptCheckpoint, open_saver
from tests.faults.acts import LAST, Act, answered, call, checkpoint, config, grow
from tests.faults.atomicity import CHANGES
from tests.faults.backends import Backend, Cell
from tests.faults.figures import Figures

Damage = Callable[[bytes, random.Random], bytes]


def _flipped(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(8 * len(content))
    damaged = bytearray(content)
    damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _noise(content: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice([len(content), chance.randrange(64)]))


def _patched(content: bytes, chance: random.Random) -> bytes:
    """Overwrite a few bytes in the middle, as a bad sector would."""
    at = chance.randrange(len(content))
    return content[:at] + chance.randbytes(4) + content[at + 4 :]


# A flipped bit is the likeliest to go unnoticed.
DAMAGES: tuple[Damage, ...] = (_flipped, _flipped, _flipped, _cut, _noise, _patched)

QUESTIONS: dict[str, Callable[[CheckpointSaver, str], Any]] = {
    "get_tuple of the latest": lambda saver, thread: saver.get_tuple(config(thread)),
    "get_tuple of the first": lambda saver, thread: saver.get_tuple(config(thread, checkpoint(1, {})["id"])),
    "get_tuple of the subgraph": lambda saver, thread: saver.get_tuple(config(thread, ns="child:1")),
    "list": lambda saver, thread: list(saver.list({"configurable": {"thread_id": thread}})),
    "history": lambda saver, thread: list(saver.history(config(thread))),
    "delta history": lambda saver, thread: saver.get_delta_channel_history(
        config=config(thread, checkpoint(LAST, {})["id"]), channels=["delta"]
    ),
    "interrupts": lambda saver, thread: list(saver.interrupts(thread_id=thread)),
    "threads": lambda saver, thread: list(saver.threads(thread_id=thread)),
}

FOLLOWS_LINKS = "delta history"
"""It follows parents and picks writes by their channel without reading the rest of a record, whose checksum covers
both. A damaged link makes it shorter; whoever lists the checkpoints is told."""


def damaged(backend: Backend, *, times: int, seed: str) -> Figures:
    """Damage one stored value of a thread at a time and ask every question; then repair it and ask again."""
    figures = Figures()
    chance = random.Random(f"{seed}-{backend.name}")
    with open_saver(backend.url) as saver:
        thread = "damaged-0"
        grow(saver, thread)
        right = {name: answered(ask(saver, thread), thread) for name, ask in QUESTIONS.items()}
        cells = _cells(backend)
        for _ in range(times):
            cell = chance.choice(cells)
            changed = _damaged(cell, chance)
            if changed is None:
                continue
            situation = _situation(backend, cell, changed)
            backend.overwrite(cell, changed)
            figures.damages += 1
            wrong: dict[str, str] = {}
            for name, ask in QUESTIONS.items():
                figures.operations += 1
                if said := _misread(ask, saver, thread, right[name], is_index=cell.is_index):
                    wrong[name] = f"{situation}: {name} {said}"
            if wrong.keys() == {FOLLOWS_LINKS} and _is_noticed(saver, thread):
                wrong = {}
            figures.losses += wrong.values()
            backend.overwrite(cell, cell.content)
        for name, ask in QUESTIONS.items():
            if answered(ask(saver, thread), thread) != right[name]:
                figures.losses.append(f"{backend.name}: {name} is another after reading damage")
        saver.delete_thread(thread)
    return figures


def worked_on(backend: Backend, *, times: int, seed: str) -> Figures:
    """Damage one stored value of a thread, call what changes the thread, and delete it: nothing may be left."""
    figures = Figures()
    chance = random.Random(f"{seed}-{backend.name}-worked-on")
    with open_saver(backend.url) as saver:
        for number in range(times):
            thread = f"worked-on-{number:04}"
            grow(saver, thread)
            cell = chance.choice(_cells(backend))
            act = CHANGES[number % len(CHANGES)]
            changed = _damaged(cell, chance)
            if changed is not None:
                backend.overwrite(cell, changed)
                figures.damages += 1
            situation = _situation(backend, cell, changed or b"")
            figures.operations += 2
            figures.losses += _misworked(act, saver, thread, situation)
            for name in (thread, f"{thread}-other"):
                try:
                    saver.delete_thread(name)
                except Exception as error:
                    figures.losses.append(f"{situation}: deleting {name} raised {type(error).__name__}: {error}")
            if left := backend.leftovers():
                figures.losses.append(f"{situation}: after {act.name} the threads were deleted; left are {left}")
                break
    return figures


def _situation(backend: Backend, cell: Cell, changed: bytes) -> str:
    pairs = enumerate(zip(cell.content, changed, strict=False))
    at = next((at for at, (was, became) in pairs if was != became), min(len(cell.content), len(changed)))
    near = slice(max(0, at - 8), at + 32)
    return f"{backend.name}: {cell}: from byte {near.start} on, {cell.content[near]!r} became {changed[near]!r}"


def _cells(backend: Backend) -> list[Cell]:
    """Return what can be damaged, in an order that does not depend on the server."""
    return sorted((cell for cell in backend.cells() if cell.content), key=str)


def _damaged(cell: Cell, chance: random.Random) -> bytes | None:
    """Other content for a cell; None if there is none that the cell can hold."""
    for _ in range(20):
        changed = chance.choice(DAMAGES)(cell.content, chance)
        if changed == cell.content:
            continue
        if cell.is_text:
            try:
                if "\0" in changed.decode():
                    continue
            except UnicodeDecodeError:
                continue
        return changed
    return None


def _misread(
    ask: Callable[[CheckpointSaver, str], Any], saver: CheckpointSaver, thread: str, right: str, *, is_index: bool
) -> str | None:
    """Return what is wrong with an answer about a damaged thread, or None."""
    try:
        found = ask(saver, thread)
    except CorruptCheckpoint:
        return None
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    answer = answered(found, thread)
    if answer == right or is_index:
        return None
    # The inbox lists what cannot be read with its ``error``, so that one thread's damage hides no other thread.
    if isinstance(found, list) and any(getattr(each, "error", None) for each in found):
        return None
    return f"gave another answer: {answer[:400]}"


def _is_noticed(saver: CheckpointSaver, thread: str) -> bool:
    """Whether a listing of the thread raises `CorruptCheckpoint`."""
    try:
        QUESTIONS["list"](saver, thread)
    except CorruptCheckpoint:
        return True
    return False


def _misworked(act: Act, saver: CheckpointSaver, thread: str, where: str) -> list[str]:
    try:
        call(saver, act.step(thread))
    except CorruptCheckpoint:
        return []
    except Exception as error:
        return [f"{where}: {act.name} raised {type(error).__name__}: {error}"]
    return []
