"""Connections that do not wait forever for their server."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection, capabilities

ANSWER_SECONDS = 20.0
"""How long one attempt waits for a silent server before it closes the connection."""

LONG_ANSWER_SECONDS = 600.0
"""`ANSWER_SECONDS` for work that grows with the data: pruning, deleting, copying, large requests."""

CANCELLED_WITHIN = 2.0
"""How long asking the server to cancel may take: the server may not answer that either."""


class _Unanswered(psycopg.OperationalError):
    """The server has been silent for too long. If it answers after all, nobody reads the answer."""


class Punctual(Connection[Any]):
    """A connection that gives up on a silent server.

    psycopg itself has no such limit, and a connection whose server is suspended looks alive.

    Giving up also cancels the work on the server. Otherwise a session that waits for a lock would not notice that its
    client is gone: it would occupy one of the server's connections, and might store what it was sent over newer data.
    Only libpq 17 and newer can cancel with a time limit; psycopg's binary package has it.
    """

    takes_long = False

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        try:
            return super().wait(_in_time(gen, self), *arguments, **options)
        except _Unanswered:
            try:
                if capabilities.has_cancel_safe():
                    with suppress(psycopg.OperationalError):  # the server is unreachable for this, too
                        self.cancel_safe(timeout=CANCELLED_WITHIN)
            finally:
                self.pgconn.finish()
            raise


class AsyncPunctual(AsyncConnection[Any]):
    """`Punctual`, for an event loop."""

    takes_long = False

    async def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        try:
            return await super().wait(_in_time(gen, self), *arguments, **options)
        except _Unanswered:
            try:
                if capabilities.has_cancel_safe():
                    with suppress(psycopg.OperationalError):
                        await self.cancel_safe(timeout=CANCELLED_WITHIN)
            finally:
                self.pgconn.finish()
            raise


def _in_time(steps: Generator[Any, Any, Any], connection: Punctual | AsyncPunctual) -> Generator[Any, Any, Any]:
    """Pass on psycopg's steps, which wait for the socket; raise `_Unanswered` if it is not ready for too long."""
    patience = LONG_ANSWER_SECONDS if connection.takes_long else ANSWER_SECONDS
    give_up_at = time.monotonic() + patience
    try:
        waits_for = next(steps)
        while True:
            # While the socket is not ready, psycopg resumes us every tenth of a second.
            ready = yield waits_for
            now = time.monotonic()
            if ready:
                give_up_at = now + patience
            elif now > give_up_at:
                raise _Unanswered(f"the server has not answered for {patience:.0f} seconds")
            waits_for = steps.send(ready)
    except StopIteration as done:
        return done.value
