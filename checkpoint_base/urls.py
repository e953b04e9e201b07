"""Opens savers from URLs. Adapters register their scheme as an entry point, so installing a package adds its scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from math import isfinite, nan
from typing import Any, TypeAlias
from urllib.parse import SplitResult, unquote_plus, urlsplit

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.saver import CheckpointSaver

ENTRY_POINT_GROUP = "checkpoint_backends"

OptionReader: TypeAlias = Callable[[str, str], Any]
"""Returns the value of an option, given its name and its text, or raises `UnsupportedOperation`."""


def open_saver(url: str, **options: Any) -> CheckpointSaver:
    """Return the saver for a URL, to be used in ``with`` or ``async with``; entering it sets the store up.

    Args:
        url: ``sqlite:///file.db``, ``sqlite://`` (in memory), ``postgresql://``, ``redis://`` or ``s3://`` with the
            extra of that backend, or any scheme that an installed package registers under the entry point group
            ``checkpoint_backends`` as a callable ``(url, **options) -> CheckpointSaver``.
        options: those of the saver: ``strict``, ``compression``, ``deadline``, ``serde``, and the adapter's own. All
            but ``serde`` may be in the URL's query instead: ``sqlite:///file.db?strict=true&deadline=5``.

    Raises:
        UnsupportedOperation: nothing opens this scheme, or an option in the URL is unknown, badly written or given
            twice. An unknown argument is a `TypeError`, as in any call.
    """
    _require_text(url)
    url = url.strip()  # a file that holds a secret often ends with a line break
    scheme = split_url(url).scheme  # in lower case
    opener = _opener(scheme)
    url = scheme + url[len(scheme) :]
    before_fragment, hash_, fragment = url.partition("#")
    remaining, options = take_options(before_fragment, {}, options)
    return opener(f"{remaining}{hash_}{fragment}", **options)


def _require_text(url: object) -> None:
    if not isinstance(url, str):
        raise UnsupportedOperation(
            f"the URL of a store is text, such as sqlite:///file.db, not {type(url).__name__}; if it comes from the "
            "environment or a file, check that it is set there"
        )


def split_url(url: str) -> SplitResult:
    """Split the URL of a store into its parts.

    Raises:
        UnsupportedOperation: it cannot be read. The message shows no part of it, as any may belong to a password.
    """
    with suppress(ValueError):  # not as the cause of ours: urllib's message shows the password
        parts = urlsplit(url)
        # A / in a password ends the host too early, so that the beginning of the password looks like a port.
        is_cut_off = ":" in parts.netloc and "@" not in parts.netloc and "@" in parts.path
        if parts.scheme and "://" in url and not is_cut_off and parts.netloc.count("@") <= 1:
            return parts
    raise UnsupportedOperation(
        "this is not the URL of a store, such as sqlite:///file.db; special characters of a user name or password are "
        "written as %XX: %2F for /, %40 for @, %5B for ["
    )


@cache  # looking through all installed packages takes milliseconds; errors are not cached
def _opener(scheme: str) -> Callable[..., CheckpointSaver]:
    known: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if scheme not in known:
        bare = scheme.partition("+")[0]  # SQLAlchemy's URLs also name the driver: postgresql+psycopg
        correction = f"Write {bare}://" if bare in known else "Correct the URL"
        raise UnsupportedOperation(
            f"no installed package opens {scheme}:// URLs, only these: {', '.join(sorted(known))}. {correction}, or "
            f"install a package that registers {scheme!r} in the entry point group {ENTRY_POINT_GROUP!r}"
        )
    try:
        opener: Callable[..., CheckpointSaver] = known[scheme].load()
    except ModuleNotFoundError as error:
        raise UnsupportedOperation(f"{scheme}:// cannot be opened: {error}") from error
    return opener


def take_options(
    url: str, readers: Mapping[str, OptionReader], arguments: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Take the options of `CheckpointSaver`, and those that an adapter has ``readers`` for, out of a URL's query.

    Returns the URL without them, and all options: these and the arguments. Other entries of the query stay as they are.
    Readers get decoded text.

    Raises:
        UnsupportedOperation: an option is badly written, given twice, or has another value among the arguments.
    """
    _require_text(url)
    before_query, _, query = url.partition("?")
    options: dict[str, Any] = {}
    remaining = []
    for part in query.split("&") if query else ():
        name, _, text = part.partition("=")
        reader = readers.get(name) or _SAVER_OPTIONS.get(name)
        if reader is None:
            remaining.append(part)
        elif name in options:
            raise UnsupportedOperation(f"option {name} is given twice: write it once")
        else:
            value = options[name] = reader(name, unquote_plus(text))
            if arguments.get(name, value) != value:
                raise UnsupportedOperation(
                    f"option {name} is {arguments[name]!r} as an argument and {value!r} in the URL: leave one out"
                )
    return before_query + ("?" + "&".join(remaining) if remaining else ""), {**arguments, **options}


def refuse_rest(parts: SplitResult, readers: Mapping[str, OptionReader], path: str) -> None:
    """Raise `UnsupportedOperation` if `take_options` left an option in a URL, or if that has a fragment.

    ``path`` says what the URL's path is.
    """
    if parts.query:
        names = ", ".join(repr(part.partition("=")[0]) for part in parts.query.split("&"))
        raise UnsupportedOperation(f"unknown option {names}; known are {', '.join((*readers, *_SAVER_OPTIONS))}")
    if parts.fragment:
        raise UnsupportedOperation(f"the URL has a fragment: write %23 for a # in {path}")


def text(name: str, text: str) -> str:
    """Read an option that is any text except the empty one."""
    if not text:
        raise UnsupportedOperation(f"option {name} is empty: give it a value, or leave it out")
    return text


def number(name: str, text: str, *, least: int = 1) -> int:
    """Read an option that is a whole number, ``least`` or more."""
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise UnsupportedOperation(f"option {name}={text!r}: write a whole number, {least} or more")
    return int(text)


def switch(name: str, text: str) -> bool:
    """Read an option that is true or false."""
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise UnsupportedOperation(f"option {name}={text!r}: write true or false") from None


def seconds(name: str, text: str) -> float:
    """Read an option that is a number of seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not (isfinite(value) and value >= 0):
        raise UnsupportedOperation(f"option {name}={text!r}: write a number of seconds, 0 or more")
    return value


def _compression(name: str, text: str) -> str | None:
    if text not in ("zstd", "none"):
        raise UnsupportedOperation(f"option {name}={text!r}: write zstd or none")
    return None if text == "none" else text


_SAVER_OPTIONS: dict[str, OptionReader] = {
    "strict": switch,
    "deadline": seconds,
    "compression": _compression,
}
