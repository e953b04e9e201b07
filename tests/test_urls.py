"""Savers from URLs."""

from __future__ import annotations

import asyncio
import os
import re
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from checkpoint_base import CheckpointSaver, SQLiteSaver, UnsupportedOperation, open_saver, urls
from checkpoint_postgres import PostgresSaver
from checkpoint_redis import RedisSaver
from checkpoint_s3 import S3Saver


def test_three_slashes_are_a_relative_file_and_four_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_saver("sqlite:///relative.db"), open_saver(f"sqlite:///{tmp_path}/with%20space%3F.db"):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == ["relative.db", "with space?.db"]


def test_no_path_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite://", "sqlite:///:memory:", "sqlite:///"):
        with open_saver(url) as saver:
            assert list(saver.threads()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_scheme_in_capitals_is_the_same_scheme(tmp_path: Path) -> None:
    with open_saver(f"SQLite:///{tmp_path}/a.db") as saver:
        assert list(saver.threads()) == []
    assert (tmp_path / "a.db").exists()


def test_a_saver_is_an_async_context_manager_too(tmp_path: Path) -> None:
    async def use() -> None:
        async with open_saver(f"sqlite:///{tmp_path}/a.db") as saver:
            assert [thread async for thread in saver.athreads()] == []
        async with SQLiteSaver.from_conn_string(tmp_path / "b.db") as saver:
            assert [thread async for thread in saver.athreads()] == []

    asyncio.run(use())
    assert (tmp_path / "a.db").exists()
    assert (tmp_path / "b.db").exists()


@pytest.mark.parametrize("as_query", [True, False])
def test_options_stand_in_the_call_or_in_the_query(as_query: bool) -> None:
    if as_query:
        saver = open_saver("sqlite://?strict=true&deadline=2.5&compression=zstd")
    else:
        saver = open_saver("sqlite://", strict=True, deadline=2.5, compression="zstd")
    assert saver.serde._allowed_msgpack_modules is None  # type: ignore[attr-defined]
    assert saver.deadline == 2.5
    assert saver._codec._compression == "zstd"


@pytest.mark.parametrize(
    ("query", "is_strict", "compression"),
    [
        ("strict=TRUE&compression=none", True, None),
        ("strict=1", True, None),
        ("strict=False&compression=zstd", False, "zstd"),
        ("strict=0", False, None),
    ],
)
def test_options_are_written_in_several_ways(query: str, is_strict: bool, compression: str | None) -> None:
    saver = open_saver(f"sqlite://?{query}")
    assert (saver.serde._allowed_msgpack_modules is None) == is_strict  # type: ignore[attr-defined]
    assert saver._codec._compression == compression


def test_an_adapter_s_texts_are_not_empty_and_its_numbers_are_whole() -> None:
    assert urls.text("schema", "a") == "a"
    assert urls.number("max_size", "12") == 12
    assert urls.number("min_size", "0", least=0) == 0
    with pytest.raises(UnsupportedOperation, match="schema is empty"):
        urls.text("schema", "")
    for bad in ("", "0", "-1", "+1", "1.5", "1_0", " 1", "ten", "\u0661", "\u00b2"):
        with pytest.raises(UnsupportedOperation, match="write a whole number, 1 or more"):
            urls.number("max_size", bad)


@pytest.mark.parametrize(
    ("saver_class", "url"),
    [
        (SQLiteSaver, "sqlite://"),
        (PostgresSaver, "postgresql://localhost/app"),
        (RedisSaver, "redis://localhost"),
        (S3Saver, "s3://bucket/app"),
    ],
)
def test_from_conn_string_takes_the_same_options_as_open_saver(saver_class: Any, url: str) -> None:
    saver = saver_class.from_conn_string(f"{url}?strict=true&deadline=2.5&compression=zstd")
    opened = open_saver(f"{url}?strict=true&deadline=2.5&compression=zstd")
    for each in (saver, opened):
        assert type(each) is saver_class
        assert each.serde._allowed_msgpack_modules is None
        assert (each.transport.deadline, each._codec._compression) == (2.5, "zstd")
        each.close()


def test_a_file_of_sqlite_is_named_by_its_path_or_by_its_url(tmp_path: Path) -> None:
    for name in (tmp_path / "app.db", f"{tmp_path}/app.db", f"sqlite:///{tmp_path}/app.db"):
        with SQLiteSaver.from_conn_string(name):
            assert [file.name for file in tmp_path.glob("*.db")] == ["app.db"]


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("postgres-typo://x", {}, r"postgres-typo:// URLs, only these: .*sqlite"),
        ("postgresql+psycopg://x", {}, r"only these: .*\. Write postgresql://, or"),
        ("just a file.db", {}, "such as sqlite:///file.db"),
        (None, {}, "not NoneType; if it comes from the environment"),
        (Path("file.db"), {}, r"such as sqlite:///file\.db, not \w*Path"),
        ("", {}, "not the URL"),
        ("sqlite://file.db", {}, "sqlite:///file.db"),
        ("sqlite://?colour=blue", {}, "unknown option 'colour'"),
        ("sqlite://?strict=perhaps", {}, "true or false"),
        ("sqlite://?deadline=soon", {}, "number of seconds"),
        ("sqlite://?deadline=inf", {}, "option deadline='inf'"),
        ("sqlite://?deadline=-1", {}, "option deadline='-1'"),
        ("sqlite://?compression=rar", {}, "zstd or none"),
        ("sqlite://?deadline=1&deadline=2", {}, "deadline is given twice"),
        ("sqlite://?strict=true", {"strict": False}, "strict is False as an argument and True in the URL"),
        ("sqlite:///a#b.db", {}, "write %23"),
        ("sqlite://[x", {}, "not the URL"),
        ("sqlite:///a@b:c.db?colour=blue", {}, "unknown option 'colour'"),
    ],
)
def test_a_bad_url_says_what_to_write(url: Any, options: Any, message: str) -> None:
    with pytest.raises(UnsupportedOperation, match=message):
        open_saver(url, **options)


def test_a_url_may_end_with_the_line_break_of_the_file_it_was_read_from(tmp_path: Path) -> None:
    with open_saver(f"sqlite:///{tmp_path}/app.db?deadline=2.5&strict=true\n") as saver:
        assert saver.deadline == 2.5
    with open_saver(f"sqlite:///{tmp_path}/app.db\n"):
        assert [file.name for file in tmp_path.glob("*db*") if "-" not in file.name] == ["app.db"]


@pytest.mark.parametrize(
    "url",
    [
        "typo://ann:secret@box/db?password=secret",
        "sqlite://ann:secret@box/db",
        "sqlite:///db#secret",
        "sqlite:///db?password=secret",
        "ann:secret@box",
        "host=box user=ann password=secret",
        "postgresql:ann:se/cret@box/db",
        "postgresql:ann:se?cret@box/db",
    ],
)
def test_no_message_shows_a_password(url: str) -> None:
    with pytest.raises(UnsupportedOperation) as raised:
        open_saver(url)
    assert not re.search(r"\b(ann|secret|se|cret|box)\b", str(raised.value))


@pytest.mark.parametrize("scheme", ["postgresql", "redis", "redis+cluster", "redis+sentinel", "s3", "sqlite", "typo"])
@pytest.mark.parametrize("password", ["s3cr[et", "s3cr]et", "hunter[2]", "hunter2℀", "hun/ter2", "hun@ter2"])
def test_a_password_with_reserved_characters_is_not_shown_and_how_to_write_it_is_said(
    scheme: str, password: str
) -> None:
    with pytest.raises(UnsupportedOperation, match="%2F for /") as raised:
        open_saver(f"{scheme}://ann:{password}@box/db", deadline=0)
    shown = "".join(traceback.format_exception(raised.value))
    # Whatever reports errors may follow an error to those that it hides.
    error: BaseException | None = raised.value
    while error is not None:
        shown += str(error)
        error = error.__context__
    for part in re.findall("[a-z0-9]{3,}", password):
        assert part not in shown


def test_what_follows_the_host_may_hold_an_at_sign() -> None:
    assert urls.split_url("postgresql://ann:pw@box:5432/team@home").path == "/team@home"


@pytest.mark.parametrize(
    "url", ["postgresql://ann:hunter2%zz@box/db", "redis://ann:pw@box:hunter2/0", "s3://key:hunter2℀@bucket"]
)
def test_the_error_of_a_driver_is_no_part_of_the_message(url: str) -> None:
    with pytest.raises(UnsupportedOperation) as raised:
        open_saver(url, deadline=0)
    error: BaseException | None = raised.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or error.__context__


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises((TypeError, UnsupportedOperation), match="colour"):
        open_saver("sqlite://", colour="blue")


@pytest.mark.parametrize(
    "make", [open_saver, PostgresSaver.from_conn_string, RedisSaver.from_conn_string, S3Saver.from_conn_string]
)
def test_a_url_that_is_missing_in_the_environment_is_told(make: Callable[[Any], CheckpointSaver]) -> None:
    with pytest.raises(UnsupportedOperation, match="not NoneType"):
        make(os.environ.get("NO_SUCH_VARIABLE"))


def test_strict_and_an_own_serializer_contradict_each_other() -> None:
    with pytest.raises(UnsupportedOperation, match="serde"):
        SQLiteSaver(strict=True, serde=SQLiteSaver().serde)


def other_opener(url: str, **options: Any) -> CheckpointSaver:
    assert url == "other://host/place?region=here&region=there#fragment"
    return SQLiteSaver.from_conn_string("sqlite://", **options)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Have one scheme opened by a callable, and no other by any."""

    def only(scheme: str, value: str) -> None:
        monkeypatch.setattr(urls, "entry_points", lambda group: [EntryPoint(scheme, value, group)])
        urls._opener.cache_clear()

    yield only
    urls._opener.cache_clear()


def test_an_installed_package_adds_its_scheme_and_reads_its_own_options(register: Callable[[str, str], None]) -> None:
    with pytest.raises(UnsupportedOperation, match=r"no installed package opens other://"):
        open_saver("other://host/place")
    register("other", "tests.test_urls:other_opener")
    with open_saver("other://host/place?region=here&region=there&strict=true#fragment") as saver:
        assert saver.serde._allowed_msgpack_modules is None  # type: ignore[attr-defined]


def test_a_missing_driver_is_named(register: Callable[[str, str], None]) -> None:
    register("other", "no_such_driver:open [redis]")  # an extra of the package that registers it
    with pytest.raises(UnsupportedOperation, match=r"^other:// cannot be opened: No module named 'no_such_driver'$"):
        open_saver("other://host/db")
