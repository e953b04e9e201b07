"""The command line: what a store holds, for people or as JSON, and the removal of what is no longer needed.

Ids and values come from whoever filled the store. None of their characters reaches a terminal that could do more there
than be seen, and no class of theirs is imported.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import logging
import math
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import click
import orjson
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from checkpoint_base.errors import CheckpointError, CorruptCheckpoint, SerializationError, StoreUnavailable
from checkpoint_base.listings import PendingInterrupt, ThreadInfo
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.urls import open_saver

T = TypeVar("T")
Listed = TypeVar("Listed", ThreadInfo, PendingInterrupt)
Command = TypeVar("Command", bound=Callable[..., Any])

_UNAVAILABLE, _INTERRUPTED = 3, 130

_DAMAGED = (CorruptCheckpoint, SerializationError)
"""Said of what is there and cannot be read. It can be deleted, as these errors advise."""

_WRITTEN = frozenset(("datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid", "zoneinfo"))
"""Modules whose instances are written by str()."""

_SHORT = 160  # characters of a value in a table
_NAMED = 5  # threads that a message names; of the others it says how many they are
_NESTED = 200  # levels of a value; orjson writes 254
_ENDLESS = 100_000  # columns: where no terminal is, no line needs to break
_NARROW = 120  # columns: below, a time takes two lines so that ids need not

# Controls above ASCII, whatever hides or reorders the characters around it, and lone surrogates.
_HIDDEN = (
    "\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f"
)
_UNSAFE = re.compile(f"[\x00-\x1f{_HIDDEN}]")
_UNSAFE_IN_JSON = re.compile(f"[{_HIDDEN}]")  # JSON escapes the others anyway

# That a class comes back as plain data deserves a warning in a program. Here it is what always happens.
_SILENCE = logging.NullHandler()


class _Failure(click.ClickException):
    """Ends the command with a message on stderr."""

    def show(self, file: Any = None) -> None:
        click.echo(f"Error: {_visible(self.message)}", file=file, err=True)


class _Unavailable(_Failure):
    exit_code = _UNAVAILABLE


class _Commands(click.Group):
    """Gives every outcome of a command its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CheckpointError as error:
            failure = _Unavailable if isinstance(error, StoreUnavailable) else _Failure
            raise failure(str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--store", metavar="URL", envvar="CHECKPOINT_STORE", show_envvar=True, help="Where the checkpoints are.")
@click.version_option(package_name="checkpoint-backends")
@click.pass_context
def main(ctx: click.Context, store: str | None) -> None:
    """Look into a store of LangGraph checkpoints, and tidy it up.

    Example: checkpoints --store sqlite:///app.db threads

    Give --store before the command, or set CHECKPOINT_STORE once. Tables are for people; for programs, --json prints
    one JSON document and nothing else. Nothing in the store is imported or run.

    \b
    Exit codes:
      0    done
      1    the request failed, or was declined
      2    the command line is wrong
      3    the store is unavailable: try again later
      130  interrupted
    """
    logging.getLogger().addHandler(_SILENCE)
    ctx.obj = store


def _entries(ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals) or key in entries:
            raise click.BadParameter(f"write KEY=VALUE, every key once, not {text!r}", ctx, param)
        try:
            entries[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            entries[key] = value
    return entries


_LIMIT = click.IntRange(1, 1_000_000)

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
_listing_options: list[Callable[[Any], Any]] = [
    click.option(
        "--metadata",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_entries,
        help="Only what has this entry in its metadata; may be repeated. VALUE is JSON if it can be read as JSON, "
        "otherwise text: user=ann, step=3, and for the text 3: user='\"3\"'.",
    ),
    click.option("--order", type=click.Choice(["newest", "oldest"]), default="newest", show_default=True),
    click.option("--limit", type=_LIMIT, default=20, show_default=True, help="The most to list."),
    click.option("--after", metavar="CURSOR", help="Continue where the listing that printed this cursor ended."),
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
    with _open(store) as saver:
        infos, cursor = _page(saver.threads(limit=limit + 1, **query), limit)
    if as_json:
        return _print_json({"threads": infos, "next": cursor})
    table = _table("thread", "updated (UTC)", "created (UTC)", "step", "interrupts")
    for info in infos:
        _row(table, info.thread_id, info.updated_at, info.created_at, info.step, info.pending_interrupts or "")
    return _print_page(table, "No threads.", cursor)


@main.command()
@click.option("--thread", "thread_id", metavar="THREAD", help="Only the interrupts of this thread.")
@_listing
@click.pass_obj
def interrupts(store: str | None, /, limit: int, as_json: bool, **query: Any) -> None:
    """List the questions that wait for an answer, by the time they were asked.

    Example: checkpoints interrupts --order oldest
    """
    with _open(store) as saver:
        questions, cursor = _page(saver.interrupts(limit=limit + 1, **query), limit)
    if as_json:
        return _print_json({"interrupts": questions, "next": cursor})
    table = _table("thread", "asked (UTC)", "interrupt", "value")
    for question in questions:
        _row(table, question.thread_id, question.created_at, question.interrupt_id, _short(question.value))
    return _print_page(table, "Nothing waits for an answer.", cursor)


@main.command()
@click.argument("thread")
@click.option("--checkpoint-id", metavar="ID", help="This checkpoint instead of the latest.")
@click.option("--ns", default="", metavar="NAMESPACE", help="The namespace of a subgraph instead of the root graph's.")
@_json_option
@click.pass_obj
def show(store: str | None, thread: str, checkpoint_id: str | None, ns: str, as_json: bool) -> None:
    """Show the latest checkpoint of a thread, or the one named, with its state.

    Example: checkpoints show customer-7
    """
    with _open(store) as saver:
        shown = _checkpoint(saver, thread, ns, checkpoint_id)
    if as_json:
        return _print_json(shown)
    facts = Table.grid("", "", padding=(0, 2))
    for name in ("thread_id", "checkpoint_ns", "checkpoint_id", "parent_id", "created_at", "source", "step"):
        _row(facts, name.replace("_", " "), shown[name])
    for name, value in shown["metadata"].items():
        _row(facts, "metadata", f"{name} = {_short(value)}")
    _console().print(facts, "")
    _print_part(("channel", "value"), shown["channels"].items())
    _print_part(("pending write of task", "channel", "value"), (write.values() for write in shown["pending_writes"]))
    asked = ((each.interrupt_id, each.created_at, each.value) for each in shown["pending_interrupts"])
    return _print_part(("pending interrupt", "asked (UTC)", "value"), asked)


def _checkpoint(saver: CheckpointSaver, thread: str, ns: str, checkpoint_id: str | None) -> dict[str, Any]:
    found = saver.get_tuple(_config(thread, checkpoint_ns=ns, checkpoint_id=checkpoint_id))
    if found is None:
        _require(saver, [thread])
        missing = f"checkpoint {checkpoint_id!r}" if checkpoint_id else "checkpoints"
        raise _Failure(f"thread {thread!r} has no {missing} in namespace {ns!r}; checkpoints history lists what it has")
    metadata = dict(found.metadata)
    key = {**found.config["configurable"]}
    writes = found.pending_writes or ()
    waiting = (each for each in saver.interrupts(thread_id=thread) if each.checkpoint_id == key["checkpoint_id"])
    return {
        **key,
        "parent_id": found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None,
        "created_at": found.checkpoint.get("ts"),
        "source": metadata.pop("source", None),
        "step": metadata.pop("step", None),
        "metadata": metadata,
        "channels": found.checkpoint["channel_values"],
        "pending_writes": [dict(zip(("task_id", "channel", "value"), write, strict=True)) for write in writes],
        "pending_interrupts": [each for each in waiting if each.checkpoint_ns == ns],
    }


@main.command()
@click.argument("thread")
@click.option("--ns", metavar="NAMESPACE", help="Only this namespace; '' is that of the root graph.")
@click.option("--limit", type=_LIMIT, help="The most to list; all without it.")
@_json_option
@click.pass_obj
def history(store: str | None, thread: str, ns: str | None, limit: int | None, as_json: bool) -> None:
    """List the checkpoints of a thread, newest first, without loading their state.

    Example: checkpoints history customer-7 --limit 10
    """
    with _open(store) as saver:
        infos = list(saver.history(_config(thread, checkpoint_ns=ns), limit=limit))
        if not infos:
            _require(saver, [thread])
            raise _Failure(f"thread {thread!r} has no checkpoints in namespace {ns or ''!r}")
    if as_json:
        return _print_json({"checkpoints": infos})
    inner = any(info.checkpoint_ns for info in infos)
    table = _table("checkpoint", "created (UTC)", "step", "source", "parent", *["namespace"] * inner)
    for info in infos:
        step, source = info.metadata.get("step"), info.metadata.get("source")
        _row(table, info.checkpoint_id, info.created_at, step, source, info.parent_id, *[info.checkpoint_ns] * inner)
    return _console().print(table)


@main.command()
@click.argument("threads", nargs=-1, required=True, metavar="THREAD...")
@_yes_option
@click.pass_obj
def delete(store: str | None, threads: Sequence[str], yes: bool) -> None:
    """Delete threads with everything in them: all that are named, or none.

    Example: checkpoints delete customer-7 customer-8
    """
    threads = list(dict.fromkeys(threads))
    with _open(store) as saver:
        _require(saver, threads, "; nothing was deleted")
        what = f"{_named(threads)} with {_counted(saver, threads)}"
        _confirm(f"Delete {what}?", yes)
        saver.prune(threads, strategy="delete")
    _say(f"Deleted {what}.")


@main.command()
@click.argument("source")
@click.argument("target")
@click.pass_obj
def copy(store: str | None, source: str, target: str) -> None:
    """Copy a thread with its whole history to another thread id.

    Example: checkpoints copy customer-7 customer-7-experiment
    """
    if source == target:
        raise click.UsageError("SOURCE and TARGET are the same thread", click.get_current_context())
    with _open(store) as saver:
        _require(saver, [source])
        before = _count(saver, target)
        saver.copy_thread(source, target)
        copied = _count(saver, target) - before
    _say(f"Copied {_number(copied, 'checkpoint')} of thread {source!r} to {target!r}.")


@main.command()
@click.argument("threads", nargs=-1, metavar="[THREAD...]")
@click.option("--all", "everything", is_flag=True, help="Prune every thread of the store.")
@click.option(
    "--strategy",
    type=click.Choice(["keep-latest", "delete"]),
    default="keep-latest",
    show_default=True,
    help="Keep the latest checkpoint of every namespace, or delete whole threads.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and change nothing.")
@_yes_option
@_json_option
@click.pass_obj
def prune(store: str | None, /, threads: Sequence[str], everything: bool, yes: bool, as_json: bool, **how: Any) -> None:
    """Remove old checkpoints. A thread that keeps its latest can still be continued.

    Example: checkpoints prune --all --dry-run
    """
    if bool(threads) == everything:
        raise click.UsageError("name the threads to prune, or pass --all instead", click.get_current_context())
    with _open(store) as saver:
        _require(saver, threads, "; nothing was removed")
        named = list(dict.fromkeys(threads or (info.thread_id for info in saver.threads())))
        plans = [_plan(saver, thread, **how) for thread in _tracked("Counting", named)]
        checkpoints, removed = (sum(plan[part] for plan in plans) for part in ("checkpoints", "removed"))
        if removed and not how["dry_run"]:
            _confirm(f"Remove {removed} of {_number(checkpoints, 'checkpoint')} in {_named(named)}?", yes)
            for thread in _tracked("Pruning", named):
                saver.prune([thread], strategy=how["strategy"].replace("-", "_"))
    if as_json:
        return _print_json({**how, "threads": plans, "checkpoints": checkpoints, "removed": removed})
    if how["dry_run"]:
        _print_part(("thread", "checkpoints", "to remove"), (plan.values() for plan in plans))
    verb = "Would remove" if how["dry_run"] else "Removed"
    return _say(f"{verb} {removed} of {_number(checkpoints, 'checkpoint')} in {_number(len(plans), 'thread')}.")


def _plan(saver: CheckpointSaver, thread: str, strategy: str, **_: Any) -> dict[str, Any]:
    spaces = [info.checkpoint_ns for info in saver.history(_config(thread))]
    kept = len(set(spaces)) if strategy == "keep-latest" else 0
    return {"thread_id": thread, "checkpoints": len(spaces), "removed": len(spaces) - kept}


# Asking the store, and the person


def _open(url: str | None) -> CheckpointSaver:
    if not url:
        raise click.UsageError(
            "which store? Write checkpoints --store URL COMMAND, or set CHECKPOINT_STORE; a URL is like "
            "sqlite:///app.db",
            click.get_current_context(),
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _Failure(f"{url!r} is not a URL of a store: {error}") from error
    path = unquote(parts.path[1:])
    is_file = parts.scheme == "sqlite" and not parts.netloc and path not in ("", ":memory:")
    if is_file and not os.path.isfile(path):  # opening it would make it
        raise _Failure(f"there is no file {path!r}; an absolute path has four slashes: sqlite:////folder/app.db")
    # The URL may be an application's, with a wish of its own; here no class is imported whatever it says.
    bare, _, query = url.partition("?")
    kept = "&".join(option for option in query.split("&") if not option.startswith("strict="))
    return open_saver(f"{bare}?{kept}" if kept else bare, strict=True)


def _config(thread: str, **place: str | None) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, **place}}


def _require(saver: CheckpointSaver, threads: Iterable[str], outcome: str = "") -> None:
    missing = [thread for thread in threads if not _exists(saver, thread)]
    if missing:
        raise _Failure(f"there is no {_named(missing)}{outcome}")


def _exists(saver: CheckpointSaver, thread: str) -> bool:
    try:
        return any(saver.threads(thread_id=thread, limit=1))
    except _DAMAGED:
        return True


def _count(saver: CheckpointSaver, thread: str) -> int:
    return sum(1 for _ in saver.history(_config(thread)))


def _counted(saver: CheckpointSaver, threads: Sequence[str]) -> str:
    try:
        return _number(sum(_count(saver, thread) for thread in threads), "checkpoint")
    except _DAMAGED:
        return "damaged checkpoints"


def _page(found: Iterator[Listed], limit: int) -> tuple[list[Listed], str | None]:
    """The items up to the limit, and the cursor to continue with if there is one more."""
    items = list(islice(found, limit))
    return items, items[-1].cursor if next(found, None) else None


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise _Failure("there is no terminal to ask for confirmation: pass --yes; nothing was done")
    click.echo(f"{_visible(question)} [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise _Failure("declined; nothing was done")


def _tracked(doing: str, items: Sequence[T]) -> Iterable[T]:
    return track(items, doing, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


# Printing for people


def _console() -> Console:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    width = None if sys.stdout.isatty() else _ENDLESS
    return Console(width=width, markup=False, highlight=False, emoji=False)


def _table(*headers: str) -> Table:
    narrow = _console().width < _NARROW
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        is_time = header.endswith("(UTC)")
        table.add_column(header, overflow="fold", max_width=10 if is_time and narrow else None)
    return table


def _row(table: Table, *cells: object) -> None:
    table.add_row(*(Text(_visible(_cell(cell)), overflow="fold") for cell in cells))


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        with suppress(OverflowError):  # in the year 1 or 9999
            value = value.astimezone(UTC) if value.tzinfo else value
        return value.replace(tzinfo=None).isoformat(" ", "seconds")
    return "" if value is None else str(value)


def _short(value: Any) -> str:
    plain = _plain(value, brief=True)
    text = plain if isinstance(plain, str) else orjson.dumps(plain).decode()
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}… ({_number(len(text), 'character')})"


def _print_page(table: Table, nothing: str, cursor: str | None) -> None:
    if not table.row_count:
        return _say(nothing)
    _console().print(table)
    return click.echo(f"\nMore follows: --after {cursor}") if cursor else None


def _print_part(headers: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table whose last column is values; nothing when it is empty."""
    table = _table(*headers)
    for *ids, value in rows:
        _row(table, *ids, _short(value))
    if table.row_count:
        _console().print(table, "")


def _say(sentence: str) -> None:
    _console().print(Text(_visible(sentence)), soft_wrap=True)


def _visible(text: str) -> str:
    """Write what a terminal would obey or hide as an escape, so that it is seen."""
    return _UNSAFE.sub(lambda found: ascii(found.group())[1:-1], text)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _named(threads: Sequence[str]) -> str:
    names = ", ".join(repr(thread) for thread in threads[:_NAMED])
    more = f" and {len(threads) - _NAMED} more" if len(threads) > _NAMED else ""
    return f"thread {names}" if len(threads) == 1 else f"threads {names}{more}"


# Printing for programs


def _print_json(document: Any) -> None:
    text = orjson.dumps(_plain(document), option=orjson.OPT_INDENT_2).decode()
    click.echo(_UNSAFE_IN_JSON.sub(lambda found: json.dumps(found.group())[1:-1], text).encode())


def _plain(value: Any, *, brief: bool = False, room: int = _NESTED) -> Any:
    """Return any value as what JSON has, described where JSON has nothing for it. This never fails.

    ``brief`` leaves out the empty fields of messages and other models, and shows bytes as Python does.
    """
    with suppress(Exception):  # whatever an instance of somebody's class does when it is looked at
        if room:
            return _converted(value, lambda part: _plain(part, brief=brief, room=room - 1), brief)
    with suppress(Exception):
        return _text(repr(value))
    return f"<{type(value).__name__}>"


def _converted(value: Any, plain: Callable[[Any], Any], brief: bool) -> Any:
    match value:
        case None | bool():
            return value
        case Enum():
            return plain(value.value)
        case str():
            return _text(value)
        case int():
            return int(value) if -(2**63) <= value < 2**64 else str(value)
        case float():
            return float(value) if math.isfinite(value) else str(value)
        case bytes() | bytearray():
            return repr(value) if brief else {"base64": base64.b64encode(value).decode()}
        case datetime():
            return value.isoformat()
        case list() | tuple() | deque():
            return [plain(part) for part in value]
        case Set():
            return [plain(part) for part in sorted(value, key=repr)]
        case Mapping():
            return _object(value.items(), plain)
        case BaseModel():
            return _object(((name, part) for name, part in value if not brief or part not in (None, "", [], {})), plain)
    if dataclasses.is_dataclass(value):
        return _object(((each.name, getattr(value, each.name)) for each in dataclasses.fields(value)), plain)
    if hasattr(value, "tolist"):  # of numpy
        return plain(value.tolist())
    return _text(str(value) if type(value).__module__.partition(".")[0] in _WRITTEN else repr(value))


def _object(items: Iterable[tuple[Any, Any]], plain: Callable[[Any], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, part in items:
        name = _text(str(key))
        found[name if name not in found else _text(repr(key))] = plain(part)  # 1 and "1" are two keys
    return found


def _text(value: str) -> str:
    """Return a text that can be encoded: a lone surrogate is written as an escape."""
    return value.encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    main(prog_name="checkpoints")
