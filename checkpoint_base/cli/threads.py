"""What the commands ask of the threads of a store, and how they act on each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from langchain_core.runnables import RunnableConfig

from checkpoint_base.cli import rendering
from checkpoint_base.cli.rendering import Failure, thread_names
from checkpoint_base.errors import UNREADABLE, CheckpointError, ConflictError, InvalidKey, StoreUnavailable
from checkpoint_base.saver import CheckpointSaver

Result = TypeVar("Result")


def act_on_each(
    doing: str,
    threads: Sequence[str],
    act: Callable[[str], Result],
    expected: type[Exception] | tuple[type[Exception], ...] = (*UNREADABLE, ConflictError, InvalidKey),
) -> tuple[list[Result], list[dict[str, str]]]:
    """Act on each thread, even after one that fails for a reason of its own; return results and failures."""
    results: list[Result] = []
    failures: list[dict[str, str]] = []
    for thread in rendering.tracked(doing, threads):
        try:
            results.append(act(thread))
        except StoreUnavailable:
            raise
        except expected as error:
            said = str(error) if isinstance(error, CheckpointError) else rendering.described(error)
            failures.append({"thread_id": thread, "error": said})
    return results, failures


def thread_config(thread: str, **place: str | None) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, **place}}


def space_of(ns: str) -> str:
    return f"namespace {ns!r}" if ns else "the root namespace"


def require_threads(saver: CheckpointSaver, threads: Iterable[str], outcome: str = "") -> None:
    missing = [thread for thread in threads if not _exists(saver, thread)]
    if missing:
        be = "is" if len(missing) == 1 else "are"
        raise Failure(f"there {be} no {thread_names(missing)}{outcome}")


def _exists(saver: CheckpointSaver, thread: str) -> bool:
    try:
        return any(saver.threads(thread_id=thread, limit=1))
    except UNREADABLE:
        return True


def count_of(saver: CheckpointSaver, thread: str) -> int:
    return sum(1 for _ in saver.history(thread_config(thread)))


def count_readable(saver: CheckpointSaver, threads: Sequence[str]) -> int | None:
    """The number of checkpoints in these threads; None if some cannot be read."""
    try:
        return sum(count_of(saver, thread) for thread in threads)
    except UNREADABLE:
        return None
