"""Many async calls on a store that says nothing, with fewer threads than calls."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import boto3
import pytest
from botocore.config import Config

from checkpoint_base import StoreUnavailable
from checkpoint_s3 import S3Saver, transport
from tests.s3.threads import config_of
from tests.servers.processes import HOST, arrived


def test_callers_of_a_store_that_says_nothing_do_not_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SILENT_SECONDS", 0.2)
    callers = 20

    async def get_all(client: Any) -> None:
        saver = S3Saver("bucket", client=client, deadline=0)
        async with contextlib.aclosing(saver):  # type: ignore[type-var]
            calls = (saver.aget_tuple(config_of("thread")) for _ in range(callers))
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in found] == [StoreUnavailable] * callers

    settings = Config(max_pool_connections=4, connect_timeout=0.5, read_timeout=0.5, retries={"total_max_attempts": 1})
    with socket.create_server((HOST, 0), backlog=50) as silent:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{HOST}:{silent.getsockname()[1]}",
            region_name="us-east-1",
            aws_access_key_id="id",
            aws_secret_access_key="secret",
            config=settings,
        )
        with contextlib.closing(client):
            asyncio.run(get_all(client))
        # Those who have a thread first; of the others, each would find out for itself.
        assert 1 <= arrived(silent) < callers
