"""The saver on dictionaries, and its URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from checkpoint_base import CheckpointSaver, UnsupportedOperation

from .store import DictStore


class DictSaver(CheckpointSaver):
    """A `CheckpointSaver` on dictionaries that all savers of this process share under one name.

    Args:
        name: the name of the dictionaries. A new name begins with empty ones.
        options: those of `CheckpointSaver`.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(DictStore(name), **options)


def open_dict(url: str, **options: Any) -> DictSaver:
    """Open ``dict://name``."""
    parts = urlsplit(url)
    if not parts.netloc or parts.path or parts.query or parts.fragment:
        raise UnsupportedOperation(f"{url!r} is not understood: write dict://name, without path, query or fragment")
    return DictSaver(parts.netloc, **options)
