"""What people install: the wheel and the sdist, in environments of their own, with what the package index has."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.backends import BACKENDS, Servers

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("checkpoint_base", "checkpoint_postgres", "checkpoint_redis", "checkpoint_s3", "conformance_tests")

DRIVERS = {
    "postgres": {"psycopg", "psycopg-binary", "psycopg-pool"},
    "redis": {"redis", "hiredis"},
    "s3": {"boto3", "botocore", "s3transfer"},
    "conformance": {"pytest", "hypothesis", "langgraph-checkpoint-conformance"},
}

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("on_one_worker")]  # the environments are made once


def uv(*arguments: object, folder: Path = ROOT) -> str:
    """Run uv, which every target of the Makefile brings along; return what it printed."""
    program = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    ran = subprocess.run(
        [program, "--quiet", "--no-config", *map(str, arguments)],
        cwd=folder,
        env=_clean(),
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _clean() -> dict[str, str]:
    """The environment, without what would put this checkout or its packages on a path."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "MYPY"))}


@dataclass(frozen=True, slots=True)
class Wheel:
    file: Path
    sdist: Path

    def requirement(self, *extras: str) -> str:
        return f"checkpoint-backends[{','.join(extras)}] @ {self.file.as_uri()}"


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with the wheel in it, and LangGraph."""

    python: Path

    @classmethod
    def made(cls, folder: Path, wheel: Wheel, *extras: str) -> Environment:
        uv("venv", "--python", sys.executable, folder)
        python = folder / "bin" / "python"
        uv("pip", "install", "--python", python, wheel.requirement(*extras), "langgraph")
        return cls(python)

    def run(self, *arguments: str, folder: Path) -> str:
        ran = subprocess.run(
            [self.python, *arguments],
            cwd=folder,
            env=_clean(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def packages(self) -> dict[str, str]:
        """What is installed, with its versions."""
        listed = json.loads(uv("pip", "list", "--python", self.python, "--format", "json"))
        return {each["name"].lower(): each["version"] for each in listed}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """The wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--sdist", "--out-dir", folder)
    (file,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return Wheel(file, sdist)


@pytest.fixture(scope="module")
def bare(wheel: Wheel, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment.made(tmp_path_factory.mktemp("bare") / "venv", wheel)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A folder with the examples and nothing else of the checkout."""
    (tmp_path / "examples").mkdir()
    for name in ("approval.py", "demo.py", "any_backend.py"):
        (tmp_path / "examples" / name).write_bytes((ROOT / "examples" / name).read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers() as started:
        yield started


# What is in them


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel: Wheel) -> None:
    with zipfile.ZipFile(wheel.file) as opened:
        inside = {name for name in opened.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split()) <= inside
    assert {name.partition("/")[0] for name in inside} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside


def test_the_sdist_makes_the_same_wheel(wheel: Wheel, tmp_path: Path) -> None:
    with tarfile.open(wheel.sdist) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert not [name for name in ("uv.lock", ".ci", ".venv", ".uv") if (source / name).exists()]
    uv("build", "--wheel", "--out-dir", tmp_path / "again", folder=source)
    (again,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(wheel.file) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
        assert not [name for name in one.namelist() if one.read(name) != other.read(name)]


# What they bring along


def test_without_an_extra_no_driver_is_installed_and_the_demo_runs_on_sqlite(bare: Environment, examples: Path) -> None:
    assert set(bare.packages()).isdisjoint(set().union(*DRIVERS.values()))
    assert "It works" in bare.run("-m", "examples.demo", folder=examples)
    assert [file.name for file in examples.iterdir()] == ["examples"]  # it cleans up behind itself
    assert (bare.python.parent / "checkpoints").exists()


def test_the_application_for_a_langgraph_server_can_be_installed_beside_it(bare: Environment, tmp_path: Path) -> None:
    uv("pip", "install", "--python", bare.python, ROOT / "examples" / "langgraph_server", folder=tmp_path)
    assert "refunds" in bare.packages()


def test_a_url_of_a_missing_extra_names_the_extra(bare: Environment, tmp_path: Path) -> None:
    program = (
        "import sys, checkpoint_base\n"
        "for url in sys.argv[1:]:\n"
        "    try: checkpoint_base.open_saver(url)\n"
        "    except checkpoint_base.UnsupportedOperation as error: print(error)\n"
    )
    urls = ("postgresql://localhost/x", "redis://localhost", "s3://bucket")
    said = bare.run("-c", program, *urls, folder=tmp_path).splitlines()
    for line, extra in zip(said, ("postgres", "redis", "s3"), strict=True):
        assert line.endswith(f'pip install "checkpoint-backends[{extra}]"')


def test_importing_what_needs_a_missing_extra_names_the_extra(bare: Environment, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "for line in sys.argv[1:]:\n"
        "    try: exec(line)\n"
        "    except ModuleNotFoundError as error: print(error.name, error)\n"
    )
    lines = (
        "from checkpoint_postgres import PostgresSaver",
        "from checkpoint_redis import RedisSaver",
        "from checkpoint_s3 import S3Saver",
        "from conformance_tests import SaverConformance",
        "from conformance_tests.case import all_cases; all_cases()",
    )
    said = bare.run("-c", program, *lines, folder=tmp_path).splitlines()
    needed = (
        ("psycopg", "postgres"),
        ("redis", "redis"),
        ("boto", "s3"),
        ("pytest", "conformance"),
        ("", "conformance"),
    )
    for line, (module, extra) in zip(said, needed, strict=True):
        assert line.startswith(module)
        assert line.endswith(f'pip install "checkpoint-backends[{extra}]"')


@pytest.mark.parametrize("extra", ["postgres", "redis", "s3"])
def test_with_one_extra_its_drivers_are_installed_and_no_others_and_the_graph_runs_on_its_server(
    wheel: Wheel, servers: Servers, examples: Path, tmp_path: Path, extra: str
) -> None:
    environment = Environment.made(tmp_path / "venv", wheel, extra)
    installed = set(environment.packages())
    assert installed >= DRIVERS[extra]
    assert installed.isdisjoint(set().union(*(drivers for name, drivers in DRIVERS.items() if name != extra)))
    with servers.backend(extra) as backend:
        said = environment.run("-m", "examples.any_backend", backend.url, folder=examples)
    assert said.split()[1:3] == ["249.00", "paid"]


def test_the_suite_s_extra_brings_no_drivers(wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(wheel.requirement("conformance"))
    resolved = uv("pip", "compile", "--python", sys.executable, "--no-annotate", "--no-header", tmp_path / "in")
    named = {line.partition("==")[0].partition(" @")[0] for line in resolved.lower().splitlines()}
    assert named >= DRIVERS["conformance"]
    assert named.isdisjoint(set().union(*(drivers for name, drivers in DRIVERS.items() if name != "conformance")))


# The oldest versions of what it needs; `make lowest` runs more on them

WITHOUT_LANGGRAPH = """
from langgraph.checkpoint.base import empty_checkpoint
import checkpoint_postgres, checkpoint_redis, checkpoint_s3
from checkpoint_base import SQLiteSaver, cli

checkpoint = {**empty_checkpoint(), "channel_values": {"a": ("b", 1)}, "channel_versions": {"a": 1}}
config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
with SQLiteSaver("oldest.db", compression="zstd") as saver:
    stored = saver.put(config, checkpoint, {"step": 1}, {"a": 1})
    print(saver.get_tuple(stored).checkpoint["channel_values"])
cli.main(["--store", "sqlite:///oldest.db", "history", "1"])
"""


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="some of the oldest versions have no wheels for newer Pythons")
def test_it_works_on_the_oldest_versions_of_its_dependencies_that_it_claims(
    wheel: Wheel, servers: Servers, examples: Path, tmp_path: Path
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    claimed = [*project["dependencies"], *(each for extra in ("postgres", "redis", "s3") for each in extras[extra])]
    oldest = dict(re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", each).groups() for each in claimed)  # type: ignore[union-attr,misc]

    uv("venv", "--python", sys.executable, tmp_path / "venv")
    environment = Environment(tmp_path / "venv" / "bin" / "python")
    install = ("pip", "install", "--python", environment.python, "--resolution", "lowest-direct")
    uv(*install, wheel.requirement("all"), *claimed)
    installed = environment.packages()
    assert {name: installed[name] for name in oldest} == {name: _padded(version) for name, version in oldest.items()}
    printed = environment.run("-c", WITHOUT_LANGGRAPH, folder=tmp_path).splitlines()
    assert printed[0] == "{'a': ('b', 1)}"
    assert len(printed) == 4

    langgraph = [each for each in extras["conformance"] if each.startswith("langgraph>=")]
    uv(*install, wheel.requirement("all"), *claimed, *langgraph)
    drivers = [name for extra in ("postgres", "redis", "s3") for name in DRIVERS[extra] if name in oldest]
    assert {name: environment.packages()[name] for name in drivers} == {name: _padded(oldest[name]) for name in drivers}
    with ExitStack() as opened:
        urls = [opened.enter_context(servers.backend(name)).url for name in BACKENDS]
        said = environment.run("-m", "examples.any_backend", *urls, folder=examples).splitlines()
    assert [line.split()[1:3] for line in said] == [["249.00", "paid"]] * len(BACKENDS)


def _padded(version: str) -> str:
    return version + ".0" * (2 - version.count("."))


# What an import costs; `python -m benchmarks.imports` has the time

COUNT = """
import json, sys
import langgraph.checkpoint.base, langgraph.checkpoint.serde.jsonplus
theirs = set(sys.modules)
import checkpoint_base
print(json.dumps([sorted(theirs), sorted(set(sys.modules) - theirs)]))
"""


def test_importing_the_package_adds_few_modules_to_those_of_langgraph_checkpoint() -> None:
    # In this environment, where everything that it must not import could be.
    ran = subprocess.run([sys.executable, "-c", COUNT], cwd=ROOT, capture_output=True, text=True, check=True)
    theirs, ours = json.loads(ran.stdout)
    never = {
        "langgraph.graph",
        "langgraph.pregel",
        "redis",
        "psycopg",
        "boto3",
        "pytest",
        "click",
        "rich",
        "numpy",
        "opentelemetry",
    }
    assert never.isdisjoint({*theirs, *ours})
    assert not [name for name in ours if name.startswith(("conformance_tests", "checkpoint_base.cli"))]
    assert len(ours) < len(theirs) / 7, ours


# Types

PROGRAM = '''
"""What a user writes, in both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool
from redis import Redis

from checkpoint_base import (
    CheckpointError,
    CheckpointSaver,
    ExactSerializer,
    PendingInterrupt,
    SQLiteSaver,
    StoreUnavailable,
    ThreadInfo,
    atransfer,
    open_saver,
    transfer,
)
from checkpoint_postgres import AsyncPostgresSaver, PostgresSaver
from checkpoint_redis import RedisSaver
from checkpoint_s3 import S3Saver


class State(TypedDict, total=False):
    amount: int
    approved: bool


def ask(state: State) -> State:
    return {"approved": bool(interrupt(f"{state['amount']}?"))}


builder = StateGraph(State).add_node(ask).add_edge(START, "ask")


def config(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}, "metadata": {"user": "ann"}}


def waiting(saver: CheckpointSaver) -> Sequence[PendingInterrupt]:
    return list(saver.interrupts(metadata={"user": "ann"}, order="oldest", limit=10))


def sync(url: str) -> int:
    with open_saver(url, strict=True, compression="zstd", deadline=5.0) as saver:
        graph = builder.compile(checkpointer=saver)
        graph.invoke({"amount": 9}, config("1"))
        for question in waiting(saver):
            asked: datetime = question.created_at
            print(asked, question.thread_id)
            graph.invoke(Command(resume={question.interrupt_id: True}), config(question.thread_id))
        found = saver.get_tuple(config("1"))
        steps = [info.metadata.get("step") for info in saver.history(config("1"))]
        saver.copy_thread("1", "2")
        saver.prune(["1"], strategy="keep_latest")
        return len(steps) if found is not None else 0


async def both(path: str) -> list[ThreadInfo]:
    async with SQLiteSaver.from_conn_string(path, serde=ExactSerializer(allowed=[dict])) as saver:
        await builder.compile(checkpointer=saver).ainvoke({"amount": 9}, config("1"))
        async for question in saver.ainterrupts(thread_id="1"):
            print(question.value)
        with SQLiteSaver() as other:
            moved: int = transfer(saver, other, "1")
            moved += await atransfer(saver, other, "1")
        return [thread async for thread in saver.athreads(order="newest")]


def on_postgres(url: str, pool: ConnectionPool[Connection[TupleRow]]) -> int:
    with PostgresSaver.from_conn_string(url, schema="graphs", max_size=4) as saver:
        saver.setup()
        given: CheckpointSaver = PostgresSaver(pool, prepare=False)
        return len(waiting(saver)) + len(waiting(given))


async def on_postgres_async(url: str) -> None:
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.asetup()
        await builder.compile(checkpointer=saver).ainvoke({"amount": 9}, config("1"))


def on_redis(url: str, client: Redis) -> None:
    with RedisSaver.from_conn_string(url, ttl=60.0, refresh_on_read=True) as saver:
        waiting(saver)
    waiting(RedisSaver(client, prefix="app"))


def on_s3(bucket: str) -> None:
    with S3Saver(bucket, prefix="app", endpoint_url="http://localhost:9000", sse="AES256") as saver:
        waiting(saver)
    with S3Saver.from_conn_string(f"s3://{bucket}/app", grace=60.0) as saver:
        builder.compile(checkpointer=saver)


if __name__ == "__main__":
    try:
        print(sync("sqlite:///typed.db"), len(asyncio.run(both("other.db"))))
    except StoreUnavailable as error:
        print("later", error)
    except CheckpointError as error:
        print(type(error).__name__)
'''


WRONG = """
from checkpoint_base import SQLiteSaver
from checkpoint_postgres import PostgresSaver
for question in SQLiteSaver().interrupts(order='latest', thread_id=7):
    question.thread
PostgresSaver(7)
"""


def test_a_user_s_program_is_clean_under_mypy_strict_which_sees_mistakes_and_it_runs(
    wheel: Wheel, tmp_path: Path
) -> None:
    environment = Environment.made(tmp_path / "venv", wheel, "all")
    program, wrong = tmp_path / "program.py", tmp_path / "wrong.py"
    program.write_text(PROGRAM)
    wrong.write_text(WRONG)
    options = ["--strict", "--no-incremental", "--python-executable", str(environment.python)]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, program.name, wrong.name],
        cwd=tmp_path,
        env=_clean(),
        capture_output=True,
        encoding="utf-8",
    )
    *errors, total = checked.stdout.splitlines()
    assert {line.partition(":")[0] for line in errors} == {"wrong.py"}, checked.stdout
    assert total.startswith("Found 4 errors in 1 file (checked 2 source files)")
    assert environment.run(program.name, folder=tmp_path).splitlines()[-1] == "3 1"
