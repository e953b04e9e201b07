"""The first upgrade: what a later version has stored, perhaps while others use the bucket."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from checkpoint_base import SchemaMismatch
from checkpoint_s3 import S3Saver
from tests.s3.bucket import content, keys, overwrite
from tests.s3.threads import config_of, put


@pytest.fixture
def saver(moto_url: str) -> Iterator[S3Saver]:
    with S3Saver.from_conn_string(moto_url) as opened:
        put(opened, 1, thread="new")
        put(opened, 2, thread="new")
        opened.prune(["new"])
        put(opened, 1, thread="old")
        yield opened


def of_a_later_format(body: bytes) -> bytes:
    end = 16 + int.from_bytes(body[8:12], "big")
    frame = b"\x02" + body[5:12]
    return body[:4] + frame + zlib.crc32(frame + body[16:end]).to_bytes(4, "big") + body[16:]


@pytest.mark.parametrize("name", ["t/=new/", "l/"])
def test_objects_of_a_later_version_are_refused_and_neither_taken_for_damaged_nor_overwritten(
    saver: S3Saver, moto_url: str, name: str
) -> None:
    for key in keys(moto_url, name):
        overwrite(moto_url, key, of_a_later_format(content(moto_url, key)))
    before = {key: content(moto_url, key) for key in keys(moto_url, "")}
    with S3Saver.from_conn_string(moto_url) as other:
        calls: list[Callable[[], Any]] = [
            lambda: other.get_tuple(config_of("new")),
            lambda: list(other.list(config_of("new"))),
            lambda: list(other.threads()),
        ]
        if name == "l/":  # which is read before anything is changed
            calls += [
                lambda: put(other, 3, thread="new"),
                lambda: other.copy_thread("new", "copy"),
                lambda: other.prune(["new"]),
                lambda: other.delete_thread("new"),
            ]
        for call in calls:
            with pytest.raises(SchemaMismatch, match="has format 2, this version knows 1: upgrade"):
                call()
        put(other, 1, thread="third")
    assert {key: content(moto_url, key) for key in before} == before


def test_a_thread_of_a_later_version_keeps_no_other_from_being_swept(
    saver: S3Saver, moto_url: str, later: Callable[[float], None]
) -> None:
    [ledger] = keys(moto_url, "l/")
    overwrite(moto_url, ledger, of_a_later_format(content(moto_url, ledger)))
    saver.delete_thread("old")
    later(400)
    with S3Saver.from_conn_string(moto_url):
        assert keys(moto_url, "t/=old/") == []
        assert len(keys(moto_url, "t/=new/")) == 2
