"""The warnings of reading: each once per class, or a long thread would repeat them at every step."""

from __future__ import annotations

import logging

_logger = logging.getLogger("checkpoint_base.serializer")
_warned: set[tuple[str, str, str]] = set()


def warn_once(message: str, module: str, qualname: str, *more: object) -> None:
    """Log a warning whose first arguments are a class's module and qualified name, once in the life of the process."""
    key = (message, module, qualname)
    if key not in _warned and len(_warned) < 1000:  # the bound is for names made up by damaged data
        _warned.add(key)
        _logger.warning(message, module, qualname, *more)
