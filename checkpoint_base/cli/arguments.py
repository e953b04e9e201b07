"""What the arguments of the command line stand for: stores, factories, times, and entries of metadata."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from urllib.parse import unquote

import click
import orjson

from checkpoint_base.cli.rendering import Failure, described, visible
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.sqlite.connections import MEMORY
from checkpoint_base.urls import open_saver, split_url


def wrong_usage(message: str) -> click.UsageError:
    """The error that ends a command and names its help."""
    return click.UsageError(visible(message), click.get_current_context())


def metadata_entries(ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
    """The entries that are written KEY=VALUE."""
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


metadata_option = click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    callback=metadata_entries,
    help="Only those with this entry in the metadata of the thread's latest checkpoint; may be repeated. VALUE is "
    "read as JSON if possible, else as text: user=ann, step=3; quote a number to have it as text: user='\"3\"'.",
)

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def time_ago(ctx: click.Context, param: click.Parameter, text: str | None) -> datetime | None:
    """The moment that lies this long before now."""
    if text is None:
        return None
    if not (parts := re.fullmatch(r"([0-9]{1,5})([mhdw])", text)):
        raise click.BadParameter(f"write a number with m, h, d or w behind it, such as 30d, not {text!r}", ctx, param)
    return datetime.now(UTC) - timedelta(**{_UNITS[parts[2]]: int(parts[1])})


def existing_store(url: str | None) -> CheckpointSaver:
    """Open a store; a file that does not exist is not made."""
    path = _path(url) if url else None
    if path and path != MEMORY and not os.path.exists(path):  # opening it would create it
        raise Failure(f"there is no file {path!r} (an absolute path takes four slashes: sqlite:////folder/app.db)")
    return lasting_store(url)


def lasting_store(url: str | None) -> CheckpointSaver:
    """Open a store that outlives this command; it may be new."""
    if not url:
        raise wrong_usage(
            "no store is named: write checkpoints --store URL COMMAND, or set CHECKPOINT_STORE, to a URL such as "
            "sqlite:///app.db"
        )
    if is_in_memory(url):
        raise wrong_usage(
            "the URL names a store in memory, which is empty here: write sqlite:///file.db, or another URL"
        )
    return open_strict(url)


def is_in_memory(url: str) -> bool:
    return _path(url) in ("", MEMORY)


def _path(url: str) -> str | None:
    """Return the path in a URL of SQLite; None for other URLs, and for one with a host, which opening refuses."""
    parts = split_url(url)
    return unquote(parts.path[1:]) if parts.scheme == "sqlite" and not parts.netloc else None


def is_same(one: str, other: str) -> bool:
    """Whether two URLs are equal, or name one file of SQLite."""
    paths = (_path(one), _path(other))
    return one == other or (all(paths) and len({os.path.realpath(path) for path in paths if path}) == 1)


def open_strict(url: str) -> CheckpointSaver:
    """Open a store, which may be new, so that no class is imported, even if an application's URL says otherwise."""
    bare, _, query = url.partition("?")
    kept = "&".join(option for option in query.split("&") if not option.startswith("strict="))
    return open_saver(f"{bare}?{kept}" if kept else bare, strict=True)


def factory(name: str) -> Callable[[], Any]:
    """What is named as PACKAGE.MODULE:FACTORY, imported from the current folder or from what is installed."""
    module_name, _, attribute = name.partition(":")
    if not (module_name and attribute.isidentifier()):
        raise wrong_usage(f"write PACKAGE.MODULE:FACTORY, for example my_package.savers:open_for_tests, not {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module that raises SystemExit(0) must not look like success
        raise wrong_usage(
            f"{module_name!r} cannot be imported from the current folder or from what is installed: {described(error)}"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        what = "is not callable" if hasattr(module, attribute) else "does not exist"
        raise wrong_usage(f"{name} {what}; write the name of a function or class that opens the saver")
    made: Callable[[], Any] = found
    return made
