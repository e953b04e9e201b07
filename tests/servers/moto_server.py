"""A program that serves moto's mock of S3, and keeps connections open. Its arguments are a host and a port.

moto's own server ends the connection after each request, starts a thread for the next one, and looks for the service
that is meant: more work than the mock itself does.
"""

from __future__ import annotations

import gc
import sys
from datetime import datetime
from typing import Any

import waitress
from moto.core import serialize
from moto.server import create_backend_app

# Listings tell the time of each object, which moto writes as ISO 8601 and then takes 0.2 ms to guess the format of.
_guessed = serialize.parse_to_aware_datetime


def _moment(value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return _guessed(value)
    return found if found.tzinfo else _guessed(value)


serialize.parse_to_aware_datetime = _moment

_mock = create_backend_app("s3")
gc.freeze()


def _application(environ: dict[str, Any], start_response: Any) -> Any:
    environ["RAW_URI"] = environ["REQUEST_URI"]  # from which moto tells `%2F` from a slash
    return _mock(environ, start_response)


if __name__ == "__main__":
    # As many threads as a test may have calls at once. At its limit of connections it would accept none until one ends.
    waitress.serve(
        _application,
        host=sys.argv[1],
        port=int(sys.argv[2]),
        threads=64,
        connection_limit=10_000,
        asyncore_use_poll=True,  # select takes 1024 at most
    )
