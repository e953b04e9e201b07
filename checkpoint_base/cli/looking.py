"""The commands that show what a store holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import click

from checkpoint_base.cli import arguments, documents, rendering
from checkpoint_base.cli.group import LIMIT, json_option, main
from checkpoint_base.cli.rendering import Failure, print_json
from checkpoint_base.cli.threads import require_threads, space_of, thread_config
from checkpoint_base.keys import checkpoint_key
from checkpoint_base.listings import PendingInterrupt, ThreadInfo
from checkpoint_base.saver import CheckpointSaver

Listed = TypeVar("Listed", ThreadInfo, PendingInterrupt)
Command = TypeVar("Command", bound=Callable[..., Any])

_listing_options: list[Callable[[Any], Any]] = [
    arguments.metadata_option,
    click.option(
        "--order",
        type=click.Choice(["newest", "oldest"]),
        default="newest",
        show_default=True,
        help="Which come first.",
    ),
    click.option("--limit", metavar="N", type=LIMIT, default=20, show_default=True, help="How many to list at most."),
    click.option("--after", metavar="CURSOR", help="Continue the listing that printed this cursor."),
    json_option,
]


def _listing(command: Command) -> Command:
    for option in reversed(_listing_options):
        command = option(command)
    return command


@main.command()
@_listing
@click.pass_obj
def threads(store: str | None, /, limit: int, as_json: bool, **query: Any) -> None:
    """List threads by the time of their last change.

    Example: checkpoints threads --metadata user=ann --limit 5
    """
    with arguments.existing_store(store) as saver:
        infos, cursor = _page(saver.threads(limit=limit + 1, **query), limit)
    if as_json:
        return print_json({"threads": infos, "next": cursor})
    return rendering.print_threads(infos, cursor)


@main.command()
@click.option("--thread", "thread_id", metavar="THREAD", help="Only the interrupts of this thread.")
@_listing
@click.pass_obj
def interrupts(store: str | None, /, limit: int, as_json: bool, **query: Any) -> None:
    """List the questions that wait for an answer.

    Example: checkpoints interrupts --order oldest
    """
    with arguments.existing_store(store) as saver:
        questions, cursor = _page(saver.interrupts(limit=limit + 1, **query), limit)
    if as_json:
        return print_json({"interrupts": questions, "next": cursor})
    return rendering.print_interrupts(questions, cursor)


@main.command()
@click.argument("thread")
@click.option("--checkpoint-id", metavar="ID", help="This checkpoint instead of the latest one.")
@click.option("--ns", default="", metavar="NAMESPACE", help="The namespace of a subgraph instead of the root graph's.")
@json_option
@click.pass_obj
def show(store: str | None, thread: str, checkpoint_id: str | None, ns: str, as_json: bool) -> None:
    """Show a checkpoint of a thread with its state.

    It is the latest one of the root graph unless you choose another.

    Example: checkpoints show customer-7
    """
    with arguments.existing_store(store) as saver:
        shown = _checkpoint(saver, thread, ns, checkpoint_id)
    if as_json:
        return print_json(shown)
    return rendering.print_checkpoint(shown)


def _checkpoint(saver: CheckpointSaver, thread: str, ns: str, checkpoint_id: str | None) -> dict[str, Any]:
    if checkpoint_id is not None:
        checkpoint_key(checkpoint_id)  # in a config, an empty one means the latest
    found = saver.get_tuple(thread_config(thread, checkpoint_ns=ns, checkpoint_id=checkpoint_id))
    if found is None:
        require_threads(saver, [thread])
        missing = f"checkpoint {checkpoint_id!r}" if checkpoint_id else "checkpoints"
        raise Failure(f"thread {thread!r} has no {missing} in {space_of(ns)}; `checkpoints history` lists those it has")
    return documents.checkpoint(saver, found)


@main.command()
@click.argument("thread")
@click.option("--ns", metavar="NAMESPACE", help="Only this namespace; '' is the root graph's.")
@click.option("--limit", metavar="N", type=LIMIT, help="How many to list at most; all if left out.")
@json_option
@click.pass_obj
def history(store: str | None, thread: str, ns: str | None, limit: int | None, as_json: bool) -> None:
    """List the checkpoints of a thread, newest first.

    Their state is not loaded.

    Example: checkpoints history customer-7 --limit 10
    """
    with arguments.existing_store(store) as saver:
        infos = list(saver.history(thread_config(thread, checkpoint_ns=ns), limit=limit))
        if not infos:
            require_threads(saver, [thread])
            raise Failure(f"thread {thread!r} has no checkpoints in {space_of(ns or '')}; without --ns, all are listed")
    if as_json:
        return print_json({"checkpoints": infos})
    return rendering.print_history(infos)


def _page(found: Iterator[Listed], limit: int) -> tuple[list[Listed], str | None]:
    """Return the items up to the limit, and the cursor to continue with if there are more."""
    items = list(islice(found, limit))
    return items, items[-1].cursor if next(found, None) else None
