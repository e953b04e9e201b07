"""Warnings while reading: each once per class, because a long thread would repeat it at every step."""

from __future__ import annotations

import logging

_logger = logging.getLogger("checkpoint_base.serializer")
_warned: set[tuple[str, str, str]] = set()


def warn_once(message: str, module: str, qualname: str, *more: object) -> None:
    """Log a warning about a class once in the life of the process. The message's first two arguments name the class."""
    key = (message, module, qualname)
    if key not in _warned and len(_warned) < 1000:  # the bound is for names made up by damaged data
        _warned.add(key)
        _logger.warning(message, module, qualname, *more)
