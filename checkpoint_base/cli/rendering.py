"""What the command line prints: tables and sentences for people, JSON for programs.

Ids and values come from whoever filled the store. Characters of theirs that a terminal would obey are escaped, and
printing a value never fails.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

import click
import orjson
from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.progress import track
from rich.table import Table
from rich.text import Text

from checkpoint_base.listings import CheckpointInfo, PendingInterrupt, ThreadInfo

T = TypeVar("T")

_WRITTEN = frozenset(("datetime", "decimal", "fractions", "ipaddress", "pathlib", "pydantic", "uuid", "zoneinfo"))
"""Modules whose instances are written by str()."""

_SHORT = 160  # characters of a value in a table
_NAMED = 5  # threads that a message names; the others are counted
_NESTED = 200  # levels of a value that are printed; orjson allows 254
_ENDLESS = 100_000  # columns, if there is no terminal: then no line needs to break
_DAY = 10  # columns of a time that is broken into two lines, if a table is too wide for the terminal
_ID = 36  # columns of the longest id that LangGraph makes
_LEAST = 16  # columns that are left for what is broken into lines, so that an id is not

# Control characters above ASCII, characters that are invisible or reorder those around them, and lone surrogates.
_HIDDEN = (
    "\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f"
)
_UNSAFE = re.compile(f"[\x00-\x1f{_HIDDEN}]")
_BREAK = re.compile(r"\s*\n\s*")
_UNFINISHED = re.compile(r"(?<=\w)\s*\n\s*")  # the end of a line that has no full stop
_UNSAFE_IN_JSON = re.compile(f"[{_HIDDEN}]")  # JSON itself escapes the others


class Failure(click.ClickException):
    """Ends the command with a message on stderr."""

    def show(self, file: Any = None) -> None:
        click.echo(f"Error: {_one_line(self.message)}", file=file, err=True)


@contextmanager
def printing() -> Iterator[None]:
    """Ensure that what is printed within has been written at the end.

    Raises:
        Failure: it cannot be written. A closed pipe is not a failure: click then ends the command.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # The interpreter writes the rest of the buffer when it ends; let that go nowhere. From Python 3.13 on, it would
        # report that the pipe is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise Failure(f"the output cannot be written: {error.strerror}") from error


def require_output() -> None:
    """Raise `Failure` if there is no standard output: a command whose result nobody gets should not run.

    With PYTHONUNBUFFERED, Python writes directly to the file, and what that does not take at once would be lost.
    """
    if sys.stdout is None:
        raise Failure("the output cannot be written: it is closed; send it to /dev/null if you do not want it")
    if isinstance(sys.stdout, io.TextIOWrapper) and isinstance(sys.stdout.buffer, io.RawIOBase):
        sys.stdout = open(  # noqa: SIM115  # for as long as the program runs
            sys.stdout.fileno(), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False
        )


# Printing for people


def console() -> Console:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    width = None if sys.stdout.isatty() else _ENDLESS
    return Console(width=width, markup=False, highlight=False, emoji=False)


def table_of(*headers: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def add_row(table: Table, *cells: object) -> None:
    table.add_row(*(Text(visible(_cell(cell)), overflow="fold") for cell in cells))


def print_table(table: Table) -> None:
    """Print a table. If it is too wide for the terminal, times are broken into two lines, so that ids need not be."""
    shown = console()
    room = shown.options.update(max_width=_ENDLESS)
    if (width := Measurement.get(shown, room, table).maximum) > shown.width:
        _narrow(table, shown.width, width)
    with printing():  # after capturing, rich writes an empty text; without a buffer even that can fail
        with shown.capture() as captured:
            shown.print(table)
        for line in captured.get().rstrip("\n").split("\n"):
            sys.stdout.write(f"{line.rstrip()}\n")


def _narrow(table: Table, available: int, width: int) -> None:
    """Keep short columns whole, the first ones first, as long as enough is left for the others."""
    whole = [max(cell_len(str(text)) for text in (column.header, *column.cells)) for column in table.columns]
    between = width - sum(whole)
    for index, column in enumerate(table.columns):
        if str(column.header).endswith("(UTC)"):
            column.max_width = whole[index] = min(whole[index], _DAY)
    taken = [min(each, _LEAST) for each in whole]
    for index, column in enumerate(table.columns):
        if whole[index] <= _ID and sum(taken) - taken[index] + whole[index] + between <= available:
            column.width = taken[index] = whole[index]


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        with suppress(OverflowError):  # in the year 1 or 9999
            value = value.astimezone(UTC) if value.tzinfo else value
        return value.replace(tzinfo=None).isoformat(" ", "seconds")
    return "" if value is None else _as_text(_plain(value, brief=True))  # str() refuses huge numbers


def _short(value: Any) -> str:
    plain = _plain(value, brief=True)
    text = _as_text(plain)
    if len(text) <= _SHORT:
        return text
    if isinstance(plain, list) and len(plain) > 1:  # a conversation is best told by its last message
        return f"{len(plain)} items, the last: {_cut(_as_text(plain[-1]))}"
    return _cut(text)


def _as_text(plain: Any) -> str:
    return plain if isinstance(plain, str) else orjson.dumps(plain).decode()


def _cut(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}… ({number(len(text), 'character')})"


def print_threads(infos: Sequence[ThreadInfo], cursor: str | None) -> None:
    table = table_of("thread", "updated (UTC)", "created (UTC)", "step", "interrupts")
    for info in infos:
        step = "cannot be read" if info.error else info.step
        add_row(table, info.thread_id, info.updated_at, info.created_at, step, info.pending_interrupts or "")
    _print_page(table, "No threads.", cursor)


def print_interrupts(questions: Sequence[PendingInterrupt], cursor: str | None) -> None:
    table = table_of("thread", "asked (UTC)", "interrupt", "value")
    for question in questions:
        value = f"cannot be read: {question.error}" if question.error else _short(question.value)
        add_row(table, question.thread_id, question.created_at, question.interrupt_id, value)
    _print_page(table, "Nothing waits for an answer.", cursor)


def print_checkpoint(shown: Mapping[str, Any]) -> None:
    facts = Table.grid("", "", padding=(0, 2))
    for name in ("thread_id", "checkpoint_ns", "checkpoint_id", "parent_id", "created_at", "source", "step"):
        if shown[name] not in (None, ""):
            add_row(facts, name.replace("_", " "), shown[name])
    for name, value in shown["metadata"].items():
        add_row(facts, "metadata", f"{name} = {_short(value)}")
    print_table(facts)
    say("")
    _print_part(("channel", "value"), shown["channels"].items())
    deltas = ((name, _contributions(each)) for name, each in shown["delta_channels"].items())
    _print_part(("delta channel", "what it is rebuilt from"), deltas)
    _print_part(("pending write of task", "channel", "value"), (write.values() for write in shown["pending_writes"]))
    asked = ((each.interrupt_id, each.created_at, each.value) for each in shown["interrupts"])
    _print_part(("pending interrupt", "asked (UTC)", "value"), asked)


def _contributions(delta: Mapping[str, Any]) -> Any:
    if delta["error"]:
        return f"cannot be read: {delta['error']}"
    return delta["writes"] if delta["begins_with"] is None else [delta["begins_with"], *delta["writes"]]


def print_history(infos: Sequence[CheckpointInfo]) -> None:
    inner = any(info.checkpoint_ns for info in infos)
    table = table_of("checkpoint", "created (UTC)", "step", "source", "parent", *["namespace"] * inner)
    for info in infos:
        step, source = info.metadata.get("step"), info.metadata.get("source")
        add_row(table, info.checkpoint_id, info.created_at, step, source, info.parent_id, *[info.checkpoint_ns] * inner)
    print_table(table)


def print_plans(plans: Iterable[Mapping[str, Any]]) -> None:
    _print_part(("thread", "checkpoints", "to remove"), (plan.values() for plan in plans))


def _print_page(table: Table, nothing: str, cursor: str | None) -> None:
    if not table.row_count:
        return say(nothing)
    print_table(table)
    if cursor:
        say("")
        say(f"There are more: --after {cursor}")
    return None


def _print_part(headers: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table whose last column has values; nothing if it is empty."""
    table = table_of(*headers)
    for *ids, value in rows:
        add_row(table, *ids, _short(value))
    if table.row_count:
        print_table(table)
        say("")


def say(sentence: str) -> None:
    with printing():
        console().print(Text(visible(sentence)), soft_wrap=True)


def visible(text: str) -> str:
    """Escape characters that a terminal would obey or hide."""
    return _UNSAFE.sub(lambda found: ascii(found.group())[1:-1], text)


def described(error: BaseException) -> str:
    """What an error says, and of which class it is."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def thread_names(threads: Sequence[str]) -> str:
    names = ", ".join(repr(thread) for thread in threads[:_NAMED])
    more = f" and {len(threads) - _NAMED} more" if len(threads) > _NAMED else ""
    return f"thread {names}" if len(threads) == 1 else f"threads {names}{more}"


# Messages on stderr


def is_watched() -> bool:
    """Whether stderr is a terminal, so that a person sees messages while a command runs."""
    return sys.stderr is not None and sys.stderr.isatty()


def gathered(threads: Iterable[str]) -> list[str]:
    """Each thread once. To find them may take as long as to read a listing of all."""
    with Console(stderr=True).status("Listing threads") if is_watched() else nullcontext():
        return list(dict.fromkeys(threads))


def tracked(doing: str, items: Sequence[T]) -> Iterable[T]:
    if not is_watched():  # some versions of rich print an empty line even if they show no progress
        return items
    return track(items, doing, console=Console(stderr=True), transient=True)


def complain(message: str) -> None:
    click.echo(_one_line(message), err=True)


def report(failures: Sequence[Mapping[str, str]], outcome: str) -> None:
    """If some threads failed, print why, and end the command with a failure."""
    for each in failures:
        name = thread_names([each["thread_id"]])
        complain(each["error"] if name in each["error"] else f"{name}: {each['error']}")
    if failures:
        raise Failure(f"{number(len(failures), 'thread')} {outcome}")


def _one_line(message: str) -> str:
    """Return a message on one line: those of drivers have several."""
    return visible(_BREAK.sub(" ", _UNFINISHED.sub(". ", message.strip())))


def confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise Failure("nothing was done: there is no terminal to confirm on; pass --yes to go ahead without")
    click.echo(f"{visible(question)} [y/N] ", nl=False, err=True)
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # after Ctrl-C or Ctrl-D, what comes next would stand behind the question
            click.echo(err=True)
    if answer.strip().lower() not in ("y", "yes"):
        raise Failure("nothing was done: you did not confirm with y")


# Printing for programs


def print_json(document: Any) -> None:
    text = orjson.dumps(_plain(document), option=orjson.OPT_INDENT_2).decode()
    with printing():
        click.echo(_UNSAFE_IN_JSON.sub(lambda found: json.dumps(found.group())[1:-1], text).encode())


def _plain(value: Any, *, brief: bool = False, room: int = _NESTED) -> Any:
    """Return any value as JSON's types, as text where JSON has no type for it. This never fails.

    ``brief`` leaves out the empty fields of messages and other models, and shows bytes as Python does.
    """
    with suppress(Exception):  # looking at an instance of a user's class may raise anything
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
    """Return a text that can be encoded, with lone surrogates escaped."""
    return value.encode("utf-8", "backslashreplace").decode()
