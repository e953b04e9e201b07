"""SQL statements kept in files, each under a line ``-- name: what_it_does``."""

from __future__ import annotations

import re
from importlib.resources import files
from types import SimpleNamespace

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(package: str, file: str) -> SimpleNamespace:
    """Return the statements of ``sql/<file>`` in a package as attributes of their names."""
    text = files(package).joinpath("sql", file).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return SimpleNamespace(**dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True)))
