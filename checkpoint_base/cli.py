"""The command line: shows what a store holds, as tables or JSON, and removes what is no longer needed.

Ids and values come from whoever filled the store. Characters of theirs that a terminal would obey are escaped, and no
class that they name is imported.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import click
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from checkpoint_base import arguments, documents, rendering, transport
from checkpoint_base.errors import UNREADABLE, CheckpointError, ConflictError, InvalidKey, StoreUnavailable
from checkpoint_base.importing import AnySaver, import_counting, thread_ids
from checkpoint_base.keys import checkpoint_key
from checkpoint_base.listings import PendingInterrupt, ThreadInfo
from checkpoint_base.rendering import Failure, number, print_json, say, thread_names
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.transfers import transfer_counting

Listed = TypeVar("Listed", ThreadInfo, PendingInterrupt)
Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])

_UNAVAILABLE, _INTERRUPTED = 3, 130

# Hides the warnings about classes that come back as plain data. In a program they matter; here it always happens.
_SILENCE = logging.NullHandler()


class _Unavailable(Failure):
    exit_code = _UNAVAILABLE


class _Waiting(logging.Handler):
    """Tells a person at a terminal once that the store does not answer and is asked again."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said = not rendering.is_watched()

    def emit(self, record: logging.LogRecord) -> None:
        if not self._said:
            self._said = True
            rendering.complain(f"The store does not answer yet; {record.getMessage()}")


class _Commands(click.Group):
    """Gives every outcome of a command its exit code, and imports the conformance suite only for its command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "conformance"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "conformance":
            from conformance_tests.command import conformance

            return conformance
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoreUnavailable as error:
            raise _Unavailable(f"the store is unavailable: {error}") from error
        except CheckpointError as error:
            raise Failure(str(error)) from error
        except click.NoSuchOption as error:
            if error.option_name == "--store":
                raise click.UsageError(
                    "write --store before the command: checkpoints --store URL COMMAND", ctx
                ) from error
            raise
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--store",
    metavar="URL",
    envvar="CHECKPOINT_STORE",
    show_envvar=True,
    help="The store, such as sqlite:///app.db or postgresql://localhost/app.",
)
@click.version_option(package_name="checkpoint-backends")
@click.pass_context
def main(ctx: click.Context, store: str | None) -> None:
    """Show and tidy up the LangGraph checkpoints in a store, or test a saver.

    Example: checkpoints --store sqlite:///app.db threads

    Write --store before the command, or set CHECKPOINT_STORE. Tables are for people; for programs, --json prints one
    JSON document and nothing else. No class that the store names is imported, and nothing in it is run.

    \b
    Exit codes:
      0    done
      1    failed, or declined; or the saver does not conform
      2    wrong usage
      3    the store is unavailable: try again later
      130  interrupted
    """
    rendering.require_output()
    logging.getLogger().addHandler(_SILENCE)
    repeated = logging.getLogger(transport.__name__)
    ctx.call_on_close(partial(repeated.setLevel, repeated.level))
    repeated.setLevel(logging.INFO)
    repeated.addHandler(waiting := _Waiting())
    ctx.call_on_close(partial(repeated.removeHandler, waiting))
    ctx.obj = store


_LIMIT = click.IntRange(1, 1_000_000)

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
_listing_options: list[Callable[[Any], Any]] = [
    click.option(
        "--metadata",
        metavar="KEY=VALUE",
        multiple=True,
        callback=arguments.metadata_entries,
        help="Only those with this entry in the metadata of the thread's latest checkpoint; may be repeated. VALUE is "
        "read as JSON if possible, else as text: user=ann, step=3; quote a number to have it as text: user='\"3\"'.",
    ),
    click.option(
        "--order",
        type=click.Choice(["newest", "oldest"]),
        default="newest",
        show_default=True,
        help="Which come first.",
    ),
    click.option("--limit", metavar="N", type=_LIMIT, default=20, show_default=True, help="How many to list at most."),
    click.option("--after", metavar="CURSOR", help="Continue the listing that printed this cursor."),
    _json_option,
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
@_json_option
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
    found = saver.get_tuple(_config(thread, checkpoint_ns=ns, checkpoint_id=checkpoint_id))
    if found is None:
        _require(saver, [thread])
        missing = f"checkpoint {checkpoint_id!r}" if checkpoint_id else "checkpoints"
        raise Failure(f"thread {thread!r} has no {missing} in {_space(ns)}; `checkpoints history` lists those it has")
    return documents.checkpoint(saver, found)


@main.command()
@click.argument("thread")
@click.option("--ns", metavar="NAMESPACE", help="Only this namespace; '' is the root graph's.")
@click.option("--limit", metavar="N", type=_LIMIT, help="How many to list at most; all if left out.")
@_json_option
@click.pass_obj
def history(store: str | None, thread: str, ns: str | None, limit: int | None, as_json: bool) -> None:
    """List the checkpoints of a thread, newest first.

    Their state is not loaded.

    Example: checkpoints history customer-7 --limit 10
    """
    with arguments.existing_store(store) as saver:
        infos = list(saver.history(_config(thread, checkpoint_ns=ns), limit=limit))
        if not infos:
            _require(saver, [thread])
            raise Failure(f"thread {thread!r} has no checkpoints in {_space(ns or '')}; without --ns, all are listed")
    if as_json:
        return print_json({"checkpoints": infos})
    return rendering.print_history(infos)


@main.command()
@click.argument("threads", nargs=-1, required=True, metavar="THREAD...")
@click.option(
    "--missing-ok",
    is_flag=True,
    help="Accept threads without checkpoints, and delete what may be left of them: writes whose checkpoint was never "
    "stored.",
)
@_yes_option
@_json_option
@click.pass_obj
def delete(store: str | None, threads: Sequence[str], missing_ok: bool, yes: bool, as_json: bool) -> None:
    """Delete threads with everything in them.

    If one of them does not exist, none is deleted.

    Example: checkpoints delete customer-7 customer-8
    """
    threads = list(dict.fromkeys(threads))
    with arguments.existing_store(store) as saver:
        if not missing_ok:
            _require(
                saver, threads, "; nothing was deleted (--missing-ok deletes what may be left without checkpoints, too)"
            )
        count = _count_readable(saver, threads)
        held = "checkpoints that cannot be read" if count is None else number(count, "checkpoint")
        what = f"{thread_names(threads)} with {held}"
        rendering.confirm(f"Delete {what}?", yes)
        saver.prune(threads, strategy="delete")
    if as_json:
        return print_json({"threads": threads, "checkpoints": count})
    return say(f"Deleted {what}.")


@main.command()
@click.argument("source")
@click.argument("target")
@_json_option
@click.pass_obj
def copy(store: str | None, source: str, target: str, as_json: bool) -> None:
    """Copy a thread with its whole history to another thread id.

    Example: checkpoints copy customer-7 customer-7-experiment
    """
    if source == target:
        raise arguments.wrong_usage("SOURCE and TARGET are the same thread")
    with arguments.existing_store(store) as saver:
        _require(saver, [source])
        before = _count(saver, target)
        saver.copy_thread(source, target)
        copied = _count(saver, target) - before
    if as_json:
        return print_json({"source": source, "target": target, "checkpoints": copied})
    return say(f"Copied {number(copied, 'checkpoint')} of thread {source!r} to {target!r}.")


@main.command()
@click.argument("threads", nargs=-1, metavar="[THREAD...]")
@click.option("--all", "everything", is_flag=True, help="Prune every thread of the store.")
@click.option(
    "--idle",
    "since",
    metavar="TIME",
    callback=arguments.time_ago,
    help="Prune every thread that has not changed for this time: a number followed by m, h, d or w, such as 30d.",
)
@click.option(
    "--strategy",
    type=click.Choice(["keep-latest", "delete"]),
    default="keep-latest",
    show_default=True,
    help="Keep the latest checkpoints of every namespace, or delete whole threads; with --idle, those that wait for "
    "an answer stay.",
)
@click.option(
    "--keep",
    metavar="N",
    type=_LIMIT,
    default=1,
    show_default=True,
    help="How many checkpoints of each namespace to keep.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and change nothing.")
@_yes_option
@_json_option
@click.pass_obj
def prune(
    store: str | None,
    /,
    threads: Sequence[str],
    everything: bool,
    since: datetime | None,
    strategy: str,
    keep: int,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove old checkpoints. A thread that keeps its latest can still be continued.

    Example: checkpoints prune --all --keep 10 --dry-run

    To remove threads that nobody uses any more: --idle 30d --strategy delete
    """
    if [bool(threads), everything, since is not None].count(True) != 1:
        raise arguments.wrong_usage("name the threads to prune, or pass either --all or --idle instead")
    if strategy == "delete" and keep != 1:
        raise arguments.wrong_usage("--keep with the strategy delete, which keeps nothing")
    with arguments.existing_store(store) as saver:
        _require(saver, threads, "; nothing was removed")
        listed = _all_threads(saver) if since is None else _idle_threads(saver, since, strategy)
        plans, damaged = _each(
            "Counting",
            rendering.gathered(threads or listed),
            lambda thread: documents.prune_plan(saver, thread, strategy, keep),
        )
        checkpoints, removed = (sum(plan[part] for plan in plans) for part in ("checkpoints", "removed"))
        if removed and not dry_run:
            # Of a hundred thousand threads that are pruned every night, most have nothing to remove.
            wanted = [plan["thread_id"] for plan in plans if plan["removed"]]
            parts = f"{removed} of {number(checkpoints, 'checkpoint')}"
            rendering.confirm(f"Remove {parts} in {thread_names(wanted)}?", yes)
            done, failed = _each("Pruning", wanted, lambda thread: _pruned(saver, thread, since, strategy, keep))
            damaged += failed
            pruned = frozenset(done)
            plans = [plan if plan["thread_id"] in pruned else {**plan, "removed": 0} for plan in plans]
            removed = sum(plan["removed"] for plan in plans)
    if as_json:
        how = {"strategy": strategy, "keep": keep, "dry_run": dry_run}
        total = {"checkpoints": checkpoints, "removed": removed, "damaged": damaged}
        print_json({**how, "threads": plans, **total})
    else:
        if dry_run:
            rendering.print_plans(plan for plan in plans if plan["removed"])
        verb = "Would remove" if dry_run else "Removed"
        say(f"{verb} {removed} of {number(checkpoints, 'checkpoint')} in {number(len(plans), 'thread')}.")
    rendering.report(damaged, "could not be pruned and lost nothing; `checkpoints delete` removes a damaged thread")


def _pruned(saver: CheckpointSaver, thread: str, since: datetime | None, strategy: str, keep: int) -> str | None:
    """Prune a thread and return it; None if it has gone on since then."""
    if since is not None and thread not in _idle_threads(saver, since, strategy, thread):
        return None
    saver.prune([thread], strategy=strategy.replace("-", "_"), keep=keep)
    return thread


def _all_threads(saver: CheckpointSaver) -> Iterator[str]:
    return (info.thread_id for info in saver.threads())


def _changed_threads(saver: CheckpointSaver, other: CheckpointSaver, since: datetime) -> Iterator[str]:
    """The threads that have changed since then, and those that the other store lacks: a copy has its source's times."""
    there = {info.thread_id for info in other.threads()}
    for info in saver.threads():
        if info.updated_at >= since or info.thread_id not in there:
            yield info.thread_id


def _idle_threads(saver: CheckpointSaver, since: datetime, strategy: str, thread: str | None = None) -> Iterator[str]:
    """The threads to prune of those that have not changed since then: none is deleted that waits for an answer."""
    for info in saver.threads(thread_id=thread, order="oldest"):
        if info.updated_at >= since:
            if info.error:  # its time may be damaged, and those behind it idle
                continue
            return
        if strategy != "delete" or not info.pending_interrupts:
            yield info.thread_id


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
@_json_option
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
    with arguments.existing_store(store) as saver, arguments.any_store(target) as other:
        _require(saver, threads, "; nothing was copied")
        listed = _all_threads(saver) if since is None else _changed_threads(saver, other, since)
        named = rendering.gathered(threads or listed)

        def copied(thread: str) -> dict[str, Any]:
            found = transfer_counting(saver, other, thread)
            return {"thread_id": thread, "checkpoints": found.sent + found.there, "sent": found.sent}

        done, failed = _each("Copying", named, copied)
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
@_json_option
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
    be imported whole is reported, and is not there in part.
    """
    if bool(threads) == everything:
        raise arguments.wrong_usage("name the threads to import, or pass --all instead")
    saver = arguments.lasting_store(store)
    # Standard output is for the result, whatever a saver prints.
    with redirect_stdout(sys.stderr), _other_saver(factory_name) as other, saver:
        named = rendering.gathered(threads or thread_ids(other))

        def imported(thread: str) -> dict[str, Any]:
            found = import_counting(other, saver, thread)
            if not found.sent + found.there:
                raise InvalidKey(f"there is no thread {thread!r}")
            return {"thread_id": thread, "checkpoints": found.sent + found.there, "sent": found.sent}

        done, failed = _each("Importing", named, imported, expected=Exception)  # the other saver raises what it likes
    _report_copied("Imported", done, failed, as_json)


@contextmanager
def _other_saver(factory_name: str) -> Iterator[AnySaver]:
    """Open the saver that a factory makes."""
    factory = arguments.factory(factory_name)
    try:
        made = factory()
        opened = made if isinstance(made, AbstractContextManager) else nullcontext(made)
        saver = opened.__enter__()
    except Exception as error:
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


@main.command(name="schema")
@click.argument("backend", metavar="BACKEND", type=click.Choice(["postgres"]))
@click.option(
    "--schema", "name", metavar="NAME", default="checkpoint_backends", show_default=True, help="The schema to create."
)
@click.option("--grant-to", "role", metavar="ROLE", help="Also let this role use what is in it.")
def schema_command(backend: str, name: str, role: str | None) -> None:  # noqa: ARG001  # there is one so far
    """Print the SQL that sets a backend up.

    It is for an administrator, if the application may not create tables. BACKEND is postgres, the only one that needs
    SQL to be run.

    Example: checkpoints schema postgres --grant-to app | psql --set ON_ERROR_STOP=1 app
    """
    if role == "":
        raise Failure("--grant-to is empty: name a role, or leave it out")
    try:
        from checkpoint_postgres.schema import Schema
    except ModuleNotFoundError as error:
        raise Failure(str(error)) from error
    with rendering.printing():
        click.echo(Schema(name).script(role), nl=False)


def _each(
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


# Looking into stores


def _config(thread: str, **place: str | None) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, **place}}


def _space(ns: str) -> str:
    return f"namespace {ns!r}" if ns else "the root namespace"


def _require(saver: CheckpointSaver, threads: Iterable[str], outcome: str = "") -> None:
    missing = [thread for thread in threads if not _exists(saver, thread)]
    if missing:
        be = "is" if len(missing) == 1 else "are"
        raise Failure(f"there {be} no {thread_names(missing)}{outcome}")


def _exists(saver: CheckpointSaver, thread: str) -> bool:
    try:
        return any(saver.threads(thread_id=thread, limit=1))
    except UNREADABLE:
        return True


def _count(saver: CheckpointSaver, thread: str) -> int:
    return sum(1 for _ in saver.history(_config(thread)))


def _count_readable(saver: CheckpointSaver, threads: Sequence[str]) -> int | None:
    """The number of checkpoints in these threads; None if some cannot be read."""
    try:
        return sum(_count(saver, thread) for thread in threads)
    except UNREADABLE:
        return None


def _page(found: Iterator[Listed], limit: int) -> tuple[list[Listed], str | None]:
    """Return the items up to the limit, and the cursor to continue with if there are more."""
    items = list(islice(found, limit))
    return items, items[-1].cursor if next(found, None) else None


if __name__ == "__main__":
    main(prog_name="checkpoints")
