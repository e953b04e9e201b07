"""Where connections come from: clients of boto3, ours or one that we were given, each with a pool of its own."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from math import inf
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.per_process import MadeOnce, PerProcess
from checkpoint_base.transport import Closable

CONNECTIONS = 32
"""How many requests the threads of a saver carry out at once. Those of its sync callers carry out one each as well."""

CONNECT_SECONDS, READ_SECONDS = 5, 20
"""How many seconds one attempt waits to connect, and for an answer. They count towards `grace` (`docs/s3.md`)."""


UNANNOUNCED_BYTES = 1024 * 1024
"""Objects of up to this size are sent without asking first. curl, too, asks before it sends more than 1 MiB."""


class Clients(Closable, ABC):
    """Hands out a client to any number of threads, until it is closed."""

    connections: int
    """How many requests the saver's own threads carry out at once."""

    timeout: float
    """How many seconds one attempt waits for a connection or for an answer. It hardly ever waits for both."""

    @abstractmethod
    def get(self) -> Any:
        """Return the running process's client."""


class OwnClients(Clients):
    """A client of our own, made when it is first needed, and again in a forked process.

    Args:
        session: see `make_client`.
        options: those of `make_client`.
    """

    connections = CONNECTIONS

    def __init__(self, session: Any, **options: Any) -> None:
        self.timeout = float(READ_SECONDS)
        self._session = session
        self._options = options
        # A process must not share connections with the one that it was forked from.
        self._client = PerProcess(partial(MadeOnce, self._make))

    def get(self) -> Any:
        return self._client.get().get("boto3 has not made a client for S3", seconds=CONNECT_SECONDS)

    def close(self) -> None:
        self._is_closed = True
        if (client := self._client.get().take()) is not None:
            client.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def _make(self) -> Any:
        self._check_open()
        return make_client(self._session, **self._options)  # may ask another service for credentials


class GivenClient(Clients):
    """A client that the user made, in this process; it stays open."""

    def __init__(self, client: Any) -> None:
        self._process = os.getpid()
        config = client.meta.config
        self.connections = config.max_pool_connections
        self.timeout = max(inf if each is None else each for each in (config.connect_timeout, config.read_timeout))
        self._client = client

    def get(self) -> Any:
        self._check_open()
        if os.getpid() != self._process:  # on a shared connection, one process may read what the other has asked for
            raise UnsupportedOperation(
                "the given client was made before this process was forked: make another client and saver in each "
                "process, or leave client= out, and the saver makes a client for each"
            )
        return self._client


def client_config() -> Config:
    """The settings of our own clients. They do not retry, because the saver does, until its deadline."""
    return Config(
        max_pool_connections=2 * CONNECTIONS,  # with fewer, urllib3 closes those that are left over, and warns
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        user_agent_extra="checkpoint-backends",
        # Objects carry our own checksums, and older stores know none of S3's newer ones. These settings and the next
        # save a third of a call's time.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        parameter_validation=False,
    )


# It caches the description of S3 that clients are made from: reading that takes longer than everything else.
_LOADER = botocore.session.Session().get_component("data_loader")


def make_client(session: Any = None, *, profile_name: str | None = None, **options: Any) -> Any:
    """Make a client from ``session``, or from a new one with the credentials and region that boto3 finds.

    It is a new session because threads must not share boto3's default one.
    """
    client = (
        _own_client(profile_name, options)
        if session is None
        else session.client("s3", config=client_config(), **options)
    )
    client.meta.events.register("before-send.s3.PutObject", _send_at_once)
    return client


def _own_client(profile_name: str | None, options: Mapping[str, Any]) -> Any:
    session = botocore.session.Session(profile=profile_name)
    session.register_component("data_loader", _LOADER)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    config = client_config()
    if not session.get_config_variable("user_agent_appid"):  # only what botocore composes itself has that
        # Otherwise botocore composes the header twice for each request, which takes 0.2 ms.
        config = config.merge(Config(user_agent=session.user_agent()))
    return boto3.session.Session(botocore_session=session).client("s3", config=config, **options)


def _send_at_once(request: Any, **_: Any) -> None:
    """Send a small object with its headers: waiting for `100 Continue` is a round trip more for each."""
    if int(request.headers.get("Content-Length", 0)) <= UNANNOUNCED_BYTES:
        request.headers.pop("Expect", None)  # it is not part of the signature


def _moment(text: Any) -> Any:
    """Parse a time in an answer: botocore takes 0.2 ms to guess the format of each, and a listing has hundreds."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):  # in listings, and in headers
        try:
            found = parse(text)
        except (TypeError, ValueError, AttributeError):
            continue
        if found.tzinfo:
            return found
    return parse_timestamp(text)
