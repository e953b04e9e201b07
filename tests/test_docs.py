"""What README.md and the pages of docs/ show is true: every block runs, or is part of a file that does, or is checked.

A page's Python blocks run one after the other in one process, as a reader follows them, in an empty folder; where they
name a server, they get one. A comment `# prints …` tells what must be printed.
"""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypedDict
from uuid import uuid4

import click
import pytest
import yaml
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from mkdocs.utils.yaml import get_yaml_loader

from checkpoint_base import CheckpointSaver, cli, open_saver
from tests.servers.processes import Server

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
SOURCES = ("checkpoint_base", "checkpoint_postgres", "checkpoint_redis", "checkpoint_s3", "examples", "benchmarks")
SECONDS = 100


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^( *)```([\w-]*)[^\n]*\n(.*?)^\1```$", text, flags=re.DOTALL | re.MULTILINE)
    return [
        Block(page, text.count("\n", 0, each.start()) + 1, each[2], textwrap.dedent(each[3]) if each[1] else each[3])
        for each in fences
    ]


EVERY_BLOCK = [block for page in PAGES for block in blocks(page)]


def in_language(*languages: str) -> list[Block]:
    return [block for block in EVERY_BLOCK if block.language in languages]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def sources() -> list[str]:
    endings = {".py", ".toml", ".json", ".sql", ".lua", ".ini", ".yaml", ".yml"}
    files = [file for folder in SOURCES for file in (ROOT / folder).rglob("*") if file.suffix in endings]
    return [file.read_text(encoding="utf-8") for file in files]


def is_quoted(block: Block, sources: list[str]) -> bool:
    """Whether a block is part of a file, whose own tests prove it."""
    return any(block.text in source for source in sources)


# Servers, for the blocks that name one


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    if url := os.environ.get("CHECKPOINT_TEST_POSTGRES_URL"):
        yield url
        return
    from tests.servers.postgres import postgres

    with postgres(durable=False) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    if url := os.environ.get("CHECKPOINT_TEST_REDIS_URL"):
        yield url
        return
    from tests.servers.redis import redis

    with redis() as server:
        yield server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    from tests.servers import s3

    with s3.moto() as server:
        yield server


Serve = Callable[[str], tuple[str, dict[str, str]]]


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Serve:
    """Give the URLs in a text servers of their own; return the text, and what its process needs in its environment."""

    def served(text: str) -> tuple[str, dict[str, str]]:
        code = re.sub(r"(^|\s)#\s.*", "", text)
        environment: dict[str, str] = {}
        if re.search(r"postgres(ql)?://", code):
            database = _database(request.getfixturevalue("postgresql_url"))
            text = re.sub(r"postgres(ql)?://[^\s\"'?,)]+", lambda _: database, text)
        if re.search(r"\bredis://", code):
            server = request.getfixturevalue("redis_url")
            text = re.sub(r"\bredis://[^\s\"'?,)]+", lambda _: server, text)
        if re.search(r"\bs3://|S3Saver\(", code):
            environment = _buckets(request.getfixturevalue("s3_server"), code)
            endpoint = environment["AWS_ENDPOINT_URL_S3"]
            text = re.sub(r"(endpoint_url=\"?)https?://[^\s\"'&)]+", lambda found: found[1] + endpoint, text)
        return text, environment

    return served


def _database(url: str) -> str:
    import psycopg

    name = f"page_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]  # our own name
    before, _, query = url.partition("?")
    return f"{before.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def _buckets(server: Server, text: str) -> dict[str, str]:
    import boto3

    from tests.servers import s3

    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=s3.REGION,
        aws_access_key_id=s3.ACCESS_KEY,
        aws_secret_access_key=s3.SECRET_KEY,
    )
    for name in set(re.findall(r"(?:s3://|S3Saver\(\s*\"|Bucket=\")([a-z0-9.-]+)", text)):
        client.create_bucket(Bucket=name)
    client.close()
    return {
        "AWS_ENDPOINT_URL_S3": server.url,
        "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY,
        "AWS_DEFAULT_REGION": s3.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


# Python

RUNNER = """
import json as _json
for _name, _text in _json.load(open("blocks.json", encoding="utf-8")):
    print(f"\\x1e{_name}\\n", end="")
    exec(compile(_text, _name, "exec"))
"""


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.language == "python" for b in blocks(page))], ids=page_name
)
def test_the_python_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path, sources: list[str], serve: Serve) -> None:
    programs = [
        block
        for block in blocks(page)
        if block.language == "python" and not is_quoted(block, sources) and "SaverConformance" not in block.text
    ]
    separator = "\n#\x1e\n"
    text, environment = serve(separator.join(block.text for block in programs))
    texts = text.split(separator)
    (tmp_path / "blocks.json").write_text(
        json.dumps([(block.name, text) for block, text in zip(programs, texts, strict=bool(programs))]),
        encoding="utf-8",
    )
    (tmp_path / "page.py").write_text(RUNNER, encoding="utf-8")
    ran = python("page.py", folder=tmp_path, **environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    printed = dict(part.partition("\n")[::2] for part in ran.stdout.split("\x1e")[1:])
    assert list(printed) == [block.name for block in programs]
    for block in programs:
        for shown in re.findall(r"#\s*prints (.+)$", block.text, flags=re.MULTILINE):
            assert shown in printed[block.name], block.name


@pytest.mark.parametrize(
    "block",
    [block for block in in_language("python") if "SaverConformance" in block.text],
    ids=lambda block: block.name,
)
def test_a_block_that_runs_the_suite_does(block: Block, tmp_path: Path, sources: list[str]) -> None:
    if is_quoted(block, sources):
        return
    (tmp_path / "test_page.py").write_text(block.text, encoding="utf-8")
    # Only one clause: the savers of others need not pass them all.
    ran = python("-m", "pytest", "-q", "-k", "PUT-1", "test_page.py", folder=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout


def python(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )


# Commands


def commands(block: Block) -> list[list[str]]:
    """The commands of a block, without what is set in their environment."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
            words = words[1:]
        for is_pipe, piped in groupby(words, "|".__eq__):
            if not is_pipe:
                command = [*piped]
                found.append(command[3:] if command[0] == "xargs" else command)  # behind -d '\\n'
    return found


def check_make(arguments: list[str]) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {each for each in arguments if "=" not in each} <= targets


def check_pip(arguments: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert arguments[0] == "install"
    for requirement in arguments[1:]:
        if found := re.fullmatch(rf"(?:\.|{project['name']})\[([\w,]+)\]", requirement):
            assert set(found[1].split(",")) <= set(project["optional-dependencies"])


def check_checkpoints(arguments: list[str]) -> None:
    main = cli.main.make_context("checkpoints", list(arguments))
    if arguments in (["--help"], ["--version"]):
        return
    words = [*main._protected_args, *main.args]
    name, command, rest = cli.main.resolve_command(main, words)
    assert command is not None
    command.make_context(name, rest, parent=main)


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]) is not None
    else:
        assert (ROOT / arguments[0]).is_file()


def check_uvicorn(arguments: list[str]) -> None:
    module, _, name = arguments[0].partition(":")
    assert hasattr(importlib.import_module(module), name)


def is_enough(arguments: list[str]) -> None:
    """Programs of others, as their users know them."""


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": check_make,
    "pip": check_pip,
    "checkpoints": check_checkpoints,
    "python": check_python,
    "uvicorn": check_uvicorn,
    **dict.fromkeys(
        ("export", "pytest", "langgraph", "psql", "pg_dump", "redis-cli", "aws", "createdb", "curl", "cd"), is_enough
    ),
}


@pytest.mark.parametrize("block", in_language("sh", "console"), ids=lambda block: block.name)
def test_a_command_is_one_that_exists(block: Block) -> None:
    found = commands(block)
    assert found
    for program, *arguments in found:
        assert program in CHECKS, f"{program} is not known to this test"
        try:
            CHECKS[program](arguments)
        except (click.ClickException, click.exceptions.Exit) as error:
            raise AssertionError(f"{shlex.join([program, *arguments])}: {error!r}") from error


class Refund(TypedDict, total=False):
    amount: int
    approved: bool


@pytest.fixture(scope="session")
def refunds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store that pages look into: two refunds of the README's graph, which wait."""
    folder = tmp_path_factory.mktemp("refunds")
    builder: Any = StateGraph(Refund)
    builder.add_node("ask", lambda state: {"approved": interrupt(f"Refund {state['amount']}?")})
    builder.add_edge(START, "ask")
    with open_saver(f"sqlite:///{folder}/refunds.db") as saver:
        for thread in ("order-17", "order-18"):
            builder.compile(checkpointer=saver).invoke({"amount": 249}, {"configurable": {"thread_id": thread}})
    return folder


@pytest.mark.parametrize(
    "block",
    [block for block in in_language("console") if "sqlite:///refunds.db" in block.text],
    ids=lambda block: block.name,
)
def test_a_command_prints_what_the_page_shows(block: Block, refunds: Path, tmp_path: Path) -> None:
    (tmp_path / "refunds.db").write_bytes((refunds / "refunds.db").read_bytes())
    environment: dict[str, str] = {}
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        program, *arguments = shlex.split(line)
        if program == "export":
            environment.update(each.split("=", 1) for each in arguments)
            continue
        assert program == "checkpoints"
        ran = python("-m", "checkpoint_base.cli", *arguments, folder=tmp_path, **environment)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert without_chance(ran.stdout) == without_chance(shown)


def without_chance(text: str) -> list[str]:
    """Lines of output, without times, ids and the widths that these have."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID", text)
    return [re.sub(r" +|─+", " ", line).strip() for line in text.splitlines() if line.strip()]


# Everything else

PARSED: dict[str, Callable[[str], Any]] = {
    "toml": tomllib.loads,
    "json": json.loads,
    "yaml": yaml.safe_load,
    "ini": lambda text: configparser.ConfigParser(strict=True).read_string(text),
}
SHOWN_AS_IT_IS = ("", "text")


@pytest.mark.parametrize("block", [b for b in EVERY_BLOCK if b.language in PARSED], ids=lambda block: block.name)
def test_a_setting_can_be_read(block: Block, sources: list[str]) -> None:
    assert PARSED[block.language](block.text) or is_quoted(block, sources) or block.language == "ini"


def test_sql_can_be_run(request: pytest.FixtureRequest, sources: list[str]) -> None:
    for block in in_language("sql"):
        if is_quoted(block, sources):
            continue
        import psycopg

        url = _database(request.getfixturevalue("postgresql_url"))
        with open_saver(url):
            pass
        with psycopg.connect(url) as connection:
            connection.execute("DO 'BEGIN CREATE ROLE app; EXCEPTION WHEN duplicate_object THEN END'")
            # Of LangGraph's own savers, which a page tells to move from.
            connection.execute("CREATE TABLE checkpoints (thread_id text, checkpoint_ns text, checkpoint_id text)")
            for statement in filter(str.strip, block.text.split(";\n")):
                connection.execute(statement)  # type: ignore[arg-type]  # the page's
            connection.rollback()  # roles belong to the whole server


def test_every_block_says_its_language_and_is_proven() -> None:
    known = {"python", "sh", "console", "sql", *PARSED, *SHOWN_AS_IT_IS}
    assert [block.name for block in EVERY_BLOCK if block.language not in known] == []
    assert len(in_language("python")) > 20


def test_the_map_of_the_house_has_every_module() -> None:
    house = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = ("checkpoint_base", "conformance_tests", "benchmarks")
    modules = {file.name for name in folders for file in (ROOT / name).glob("*.py")} - {"__init__.py"}
    assert {name for name in modules if f" {name}" not in house} == set()


def test_readme_begins_with_the_two_commands() -> None:
    shell = [words for block in in_language("sh") if block.page.name == "README.md" for words in commands(block)]
    assert shell[:2] == [["make", "demo"], ["make", "test"]]


def test_each_import_to_change_to_gives_the_name_that_the_old_one_gave() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `from langgraph\S+ import (\w+)` \| `(from .+)` \|$", readme, flags=re.MULTILINE)
    assert len(rows) == 6
    for name, line in rows:
        names: dict[str, Any] = {}
        exec(line, names)
        assert issubclass(names[name], CheckpointSaver), line


def test_the_page_about_writing_a_store_has_all_of_the_example_s_test_file() -> None:
    example = ROOT / "examples" / "dict_store" / "tests" / "test_conformance.py"
    page = ROOT / "docs" / "writing-a-store.md"
    assert example.read_text(encoding="utf-8") in [block.text for block in blocks(page)]


# Links


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings], target


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    ran = python("-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site"), folder=ROOT)
    assert ran.returncode == 0, ran.stderr
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), get_yaml_loader())["nav"]
    files = set(re.findall(r"'([\w-]+)\.md'", str(nav)))
    assert files == {page.stem for page in PAGES if page.parent == ROOT / "docs"}
    for name in files:
        built = (tmp_path / "site" / f"{name}.html").read_text(encoding="utf-8")
        assert re.search(r"<h1[ >]", built), name
        # The site stands alone: nothing is fetched from elsewhere.
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"https?://", built), name
