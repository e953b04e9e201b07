"""Where connections come from: clients of boto3, each with a pool of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

CONNECTIONS = 32
"""How many requests a client of our own carries out at once."""

CONNECT_SECONDS, READ_SECONDS = 5, 20
"""How long one attempt waits. With the lease they stay below the grace period of removals (`docs/s3.md`)."""


def client_config() -> Config:
    """The settings of clients of our own. They do not retry: the saver does, and counts towards its deadline."""
    return Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        user_agent_extra="checkpoint-backends",
        # Objects carry checksums of their own, and older stores know no others. Together a third of a call's time.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        parameter_validation=False,
    )


# The description of S3 that clients are made of: reading it takes longer than all the rest.
_LOADER = botocore.session.Session().get_component("data_loader")


def make_client(session: Any = None, *, profile_name: str | None = None, **options: Any) -> Any:
    """Make a client as boto3 finds credentials and region, of a session of its own: the default is not to be shared.

    A ``session`` that is given is used as it is.
    """
    if session is None:
        own = botocore.session.Session(profile=profile_name)
        own.register_component("data_loader", _LOADER)
        own.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
        session = boto3.session.Session(botocore_session=own)
    return session.client("s3", config=client_config(), **options)


def _moment(text: Any) -> Any:
    """A time in an answer. botocore takes 0.2 ms to guess the form of each, and a listing has hundreds."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)
    return found if found.tzinfo else parse_timestamp(text)
