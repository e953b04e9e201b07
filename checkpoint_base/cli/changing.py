"""The commands that change or remove what a store holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import click

from checkpoint_base.cli import arguments, documents, rendering
from checkpoint_base.cli.group import LIMIT, json_option, main, yes_option
from checkpoint_base.cli.rendering import number, print_json, say, thread_names
from checkpoint_base.cli.threads import act_on_each, count_of, count_readable, require_threads
from checkpoint_base.saver import CheckpointSaver


@main.command()
@click.argument("threads", nargs=-1, required=True, metavar="THREAD...")
@click.option(
    "--missing-ok",
    is_flag=True,
    help="Accept threads without checkpoints, and delete what may be left of them: writes whose checkpoint was never "
    "stored.",
)
@yes_option
@json_option
@click.pass_obj
def delete(store: str | None, threads: Sequence[str], missing_ok: bool, yes: bool, as_json: bool) -> None:
    """Delete threads with everything in them.

    If one of them does not exist, none is deleted.

    Example: checkpoints delete customer-7 customer-8
    """
    threads = list(dict.fromkeys(threads))
    with arguments.existing_store(store) as saver:
        if not missing_ok:
            require_threads(
                saver, threads, "; nothing was deleted (--missing-ok deletes what may be left without checkpoints, too)"
            )
        count = count_readable(saver, threads)
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
@json_option
@click.pass_obj
def copy(store: str | None, source: str, target: str, as_json: bool) -> None:
    """Copy a thread with its whole history to another thread id.

    Example: checkpoints copy customer-7 customer-7-experiment
    """
    if source == target:
        raise arguments.wrong_usage("SOURCE and TARGET are the same thread")
    with arguments.existing_store(store) as saver:
        require_threads(saver, [source])
        before = count_of(saver, target)
        saver.copy_thread(source, target)
        copied = count_of(saver, target) - before
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
@arguments.metadata_option
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
    type=LIMIT,
    default=1,
    show_default=True,
    help="How many checkpoints of each namespace to keep.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and change nothing.")
@yes_option
@json_option
@click.pass_obj
def prune(
    store: str | None,
    /,
    threads: Sequence[str],
    everything: bool,
    since: datetime | None,
    metadata: Mapping[str, Any],
    strategy: str,
    keep: int,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove old checkpoints. A thread that keeps its latest can still be continued.

    Example: checkpoints prune --all --keep 10 --dry-run

    To remove threads that nobody uses any more: --idle 30d --strategy delete

    With --metadata, a damaged thread is left alone and not named: whose it is cannot be told.
    """
    if [bool(threads), everything, since is not None].count(True) != 1:
        raise arguments.wrong_usage("name the threads to prune, or pass either --all or --idle instead")
    if threads and metadata:
        raise arguments.wrong_usage("--metadata chooses among the threads of --all or --idle, not among named ones")
    if strategy == "delete" and keep != 1:
        raise arguments.wrong_usage("--keep with the strategy delete, which keeps nothing")
    with arguments.existing_store(store) as saver:
        require_threads(saver, threads, "; nothing was removed")
        chosen = partial(_chosen, saver, since, metadata, strategy)
        plans, failed = act_on_each(
            "Counting",
            rendering.gathered(threads or chosen()),
            lambda thread: documents.prune_plan(saver, thread, strategy, keep),
        )
        checkpoints, removed = (sum(plan[part] for plan in plans) for part in ("checkpoints", "removed"))
        if removed and not dry_run:
            # Of a hundred thousand threads that are pruned every night, most have nothing to remove.
            wanted = [plan["thread_id"] for plan in plans if plan["removed"]]
            parts = f"{removed} of {number(checkpoints, 'checkpoint')}"
            rendering.confirm(f"Remove {parts} in {thread_names(wanted)}?", yes)
            may_change = since is not None or bool(metadata)
            done, unpruned = act_on_each(
                "Pruning",
                wanted,
                lambda thread: _pruned(saver, thread, chosen(thread) if may_change else [thread], strategy, keep),
            )
            failed += unpruned
            pruned = frozenset(done)
            plans = [plan if plan["thread_id"] in pruned else {**plan, "removed": 0} for plan in plans]
            removed = sum(plan["removed"] for plan in plans)
    if as_json:
        how = {"strategy": strategy, "keep": keep, "dry_run": dry_run}
        total = {"checkpoints": checkpoints, "removed": removed, "failed": failed}
        print_json({**how, "threads": plans, **total})
    else:
        if dry_run:
            rendering.print_plans(plan for plan in plans if plan["removed"])
        verb = "Would remove" if dry_run else "Removed"
        say(f"{verb} {removed} of {number(checkpoints, 'checkpoint')} in {number(len(plans), 'thread')}.")
    rendering.report(failed, "could not be pruned and lost nothing; `checkpoints delete` removes a damaged thread")


def _pruned(saver: CheckpointSaver, thread: str, chosen: Iterable[str], strategy: str, keep: int) -> str | None:
    """Prune a thread and return it; None if it has gone on, and is not among the chosen ones any more."""
    if thread not in chosen:
        return None
    saver.prune([thread], strategy=strategy.replace("-", "_"), keep=keep)
    return thread


def _chosen(
    saver: CheckpointSaver,
    since: datetime | None,
    metadata: Mapping[str, Any],
    strategy: str,
    thread: str | None = None,
) -> Iterator[str]:
    """The threads to prune, of all or of one: if ``since`` is given, those that have not changed since then.

    Of idle ones, none is deleted that waits for an answer. Of those with some ``metadata``, no damaged one is pruned.
    """
    for info in saver.threads(thread_id=thread, metadata=metadata, order="newest" if since is None else "oldest"):
        if since is not None and info.updated_at >= since:
            if info.error:  # its time may be damaged, and those behind it idle
                continue
            return
        if info.error and metadata:
            continue
        if since is None or strategy != "delete" or not info.pending_interrupts:
            yield info.thread_id
