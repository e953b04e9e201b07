"""The commands that bring threads into another store."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from datetime import datetime
from typing import Any

import click
from langgraph.checkpoint.base import BaseCheckpointSaver

from checkpoint_base.cli import arguments, rendering
from checkpoint_base.cli.group import json_option, main
from checkpoint_base.cli.rendering import Failure, number, print_json, say
from checkpoint_base.cli.threads import act_on_each, require_threads
from checkpoint_base.errors import CheckpointError, InvalidKey
from checkpoint_base.importing import AnySaver, import_counting, thread_ids
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.transfers import transfer_counting


@main.command(name="transfer")
@click.argument("threads", nargs=-1, metavar="[THREAD...]")
@click.option("--all", "everything", is_flag=True, help="Copy every thread of the store.")
@click.option(
    "--changed",
    "since",
    metavar="TIME",
    callback=arguments.time_ago,
    help="Copy every thread that has changed within this time, or that the other store lacks: a number followed by m, "
    "h, d or w, such as 2h.",
)
@click.option(
    "--to",
    "target",
    metavar="URL",
    required=True,
    envvar="CHECKPOINT_TARGET",
    show_envvar=True,
    help="The store to copy to; set up if it is new.",
)
@json_option
@click.pass_obj
def transfer_command(
    store: str | None, threads: Sequence[str], everything: bool, since: datetime | None, target: str, as_json: bool
) -> None:
    """Copy threads to another store, of any kind.

    Example: checkpoints --store sqlite:///app.db transfer --all --to postgresql://localhost/app

    Every checkpoint is copied as it is, with its metadata, pending writes and times, and read back from the other
    store. The store that is copied does not change. The command can be stopped and repeated; it then sends only what
    the other store lacks.

    To move an application: copy everything while it is running. Then stop it, copy again with --changed and the time
    since the first copy began, and start it with the new URL.
    """
    if [bool(threads), everything, since is not None].count(True) != 1:
        raise arguments.wrong_usage("name the threads to copy, or pass either --all or --changed instead")
    if arguments.is_in_memory(target):
        raise arguments.wrong_usage(
            "a store in memory ends with this command: write --to sqlite:///file.db, or another URL"
        )
    # Otherwise every thread would be reported as there already, as after a move.
    if store and arguments.is_same(store, target):
        raise arguments.wrong_usage("--to names the store that is copied: write the URL of another one")
    with arguments.existing_store(store) as saver, arguments.open_strict(target) as other:
        require_threads(saver, threads, "; nothing was copied")
        listed = (
            (info.thread_id for info in saver.threads()) if since is None else _changed_threads(saver, other, since)
        )
        named = rendering.gathered(threads or listed)

        def copied(thread: str) -> dict[str, Any]:
            found = transfer_counting(saver, other, thread)
            return {"thread_id": thread, "checkpoints": found.sent + found.there, "sent": found.sent}

        done, failed = act_on_each("Copying", named, copied)
    _report_copied("Copied", done, failed, as_json)


@main.command(name="import")
@click.argument("factory_name", metavar="PACKAGE.MODULE:FACTORY")
@click.argument("threads", nargs=-1, metavar="[THREAD...]")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Import every thread. To find them, all checkpoints are read with their state, so name the threads of a large "
    "store.",
)
@json_option
@click.pass_obj
def import_command(
    store: str | None, factory_name: str, threads: Sequence[str], everything: bool, as_json: bool
) -> None:
    """Import threads from another LangGraph saver into a store.

    Example: checkpoints --store postgresql://localhost/app import my_app.savers:old --all

    FACTORY is called without arguments. It returns the saver to read, or a context manager of it, such as what
    from_conn_string returns; its methods that are not async are used.

    Every checkpoint is stored with its metadata, pending writes and time, and can be continued. The saver that is read
    does not change. The command can be stopped and repeated; it then stores only what is missing. A thread that cannot
    be imported whole is reported, and is not there in part, unless it was there in part before.
    """
    if bool(threads) == everything:
        raise arguments.wrong_usage("name the threads to import, or pass --all instead")
    saver = arguments.lasting_store(store)
    # Standard output is for the result, whatever a saver prints.
    with redirect_stdout(sys.stderr), _other_saver(factory_name) as other, saver:
        try:
            named = rendering.gathered(threads or thread_ids(other))
        except CheckpointError:
            raise
        except Exception as error:  # there are savers that list the checkpoints of one thread only
            raise Failure(f"its threads cannot be listed, so name them: {rendering.described(error)}") from error

        def imported(thread: str) -> dict[str, Any]:
            found = import_counting(other, saver, thread)
            if not found.sent + found.there:
                raise InvalidKey(f"there is no thread {thread!r}")
            return {"thread_id": thread, "checkpoints": found.sent + found.there, "sent": found.sent}

        # The other saver raises what it likes.
        done, failed = act_on_each("Importing", named, imported, expected=Exception)
    _report_copied("Imported", done, failed, as_json)


@contextmanager
def _other_saver(factory_name: str) -> Iterator[AnySaver]:
    """Open the saver that a factory makes."""
    factory = arguments.factory(factory_name)
    try:
        made = factory()
        opened = made if isinstance(made, AbstractContextManager) else nullcontext(made)
        saver = opened.__enter__()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit(0) must not look like success
        raise Failure(f"{factory_name} cannot open the saver: {rendering.described(error)}") from error
    try:
        if not isinstance(saver, BaseCheckpointSaver):
            raise arguments.wrong_usage(
                f"{factory_name} opens no LangGraph saver but an instance of {type(saver).__name__}; for one that has "
                "async methods only, call aimport_thread in a program"
            )
        yield saver
    finally:
        opened.__exit__(None, None, None)


def _report_copied(verb: str, done: Sequence[dict[str, Any]], failed: Sequence[dict[str, str]], as_json: bool) -> None:
    checkpoints, sent = (sum(each[part] for each in done) for part in ("checkpoints", "sent"))
    if as_json:
        print_json({"threads": done, "checkpoints": checkpoints, "sent": sent, "failed": failed})
    else:
        there = f"; {checkpoints - sent} were there already" if checkpoints > sent else ""
        say(f"{verb} {number(sent, 'checkpoint')} of {number(len(done), 'thread')}{there}.")
    rendering.report(failed, f"could not be {verb.lower()}")


def _changed_threads(saver: CheckpointSaver, other: CheckpointSaver, since: datetime) -> Iterator[str]:
    """The threads that have changed since then, and those that the other store lacks: a copy has its source's times."""
    there = {info.thread_id for info in other.threads()}
    for info in saver.threads():
        if info.updated_at >= since or info.thread_id not in there:
            yield info.thread_id
