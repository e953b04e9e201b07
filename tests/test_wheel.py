"""What people install: the wheel and the sdist, each in an empty environment, as pip gets them from its index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.redis import redis

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("wheel")]  # the fixtures are made once

DRIVERS = {
    "postgres": {"psycopg", "psycopg-binary", "psycopg-pool"},
    "redis": {"redis", "hiredis"},
    "s3": {"boto3", "botocore", "s3transfer"},
    "conformance": {"pytest", "hypothesis", "langgraph-checkpoint-conformance"},
}


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment, and the program in it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @classmethod
    def made(cls, folder: Path, *requirements: str) -> Environment:
        venv.create(folder, with_pip=True)
        environment = cls(folder)
        environment.pip("install", *requirements)
        return environment

    def pip(self, *arguments: str) -> str:
        return self.run("-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)

    def run(self, *arguments: str, folder: Path | None = None, **environment: str) -> str:
        """Run its Python, without anything of this checkout on its path; return what it printed."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        ran = subprocess.run(
            [self.python, *arguments],
            cwd=folder or self.folder,
            env={**clean, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def packages(self) -> set[str]:
        return {each["name"].lower() for each in json.loads(self.pip("list", "--format", "json"))}


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment.made(tmp_path_factory.mktemp("builder") / "venv", "hatchling>=1.27")


@pytest.fixture(scope="session")
def built(builder: Environment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    builder.run("-m", "hatchling", "build", "-d", str(folder), folder=ROOT)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="session")
def bare(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel without extras, and LangGraph."""
    return Environment.made(tmp_path_factory.mktemp("bare") / "venv", str(built[0]), "langgraph")


@pytest.fixture(scope="session")
def with_redis(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel with one extra, and LangGraph."""
    return Environment.made(tmp_path_factory.mktemp("redis") / "venv", f"{built[0]}[redis]", "langgraph")


@pytest.fixture
def examples(tmp_path: Path) -> Iterator[Path]:
    """A folder with the examples and nothing else of the checkout."""
    (tmp_path / "examples").mkdir()
    for name in ("approval.py", "demo.py", "any_backend.py"):
        (tmp_path / "examples" / name).write_bytes((ROOT / "examples" / name).read_bytes())
    return tmp_path


# What is in them


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    packages = ("checkpoint_base", "checkpoint_postgres", "checkpoint_redis", "checkpoint_s3", "conformance_tests")
    tracked = subprocess.run(["git", "ls-files", *packages], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split()) <= inside
    assert {name.partition("/")[0] for name in inside} == set(packages)
    assert {f"{package}/py.typed" for package in packages} <= inside


def test_the_sdist_makes_the_same_wheel(builder: Environment, built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[1]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert not [name for name in ("uv.lock", ".ci", ".venv", ".uv") if (source / name).exists()]
    builder.run("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again"), folder=source)
    (again,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(built[0]) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
        assert not [name for name in one.namelist() if one.read(name) != other.read(name)]


# What they bring along


def test_without_an_extra_no_driver_is_installed_and_the_demo_runs_on_sqlite(bare: Environment, examples: Path) -> None:
    assert bare.packages().isdisjoint(set().union(*DRIVERS.values()))
    assert "It works" in bare.run("-m", "examples.demo", folder=examples)
    said = bare.run("-c", "import checkpoint_base.cli as c; c.main(['--version'])")
    assert said.startswith("checkpoints, version ")


def test_a_url_of_a_missing_extra_names_the_extra(bare: Environment) -> None:
    program = (
        "import sys, checkpoint_base\n"
        "for url in sys.argv[1:]:\n"
        "    try: checkpoint_base.open_saver(url)\n"
        "    except checkpoint_base.UnsupportedOperation as error: print(error)\n"
    )
    said = bare.run("-c", program, "postgresql://localhost/x", "redis://localhost", "s3://bucket").splitlines()
    for line, extra in zip(said, ("postgres", "redis", "s3"), strict=True):
        assert line.endswith(f'pip install "checkpoint-backends[{extra}]"')


@pytest.mark.parametrize("extra", DRIVERS)
def test_an_extra_brings_its_own_drivers_and_none_of_the_others(
    bare: Environment, built: tuple[Path, Path], extra: str, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    bare.pip("install", "--dry-run", "--report", str(report), f"{built[0]}[{extra}]")
    added = {each["metadata"]["name"].lower() for each in json.loads(report.read_text())["install"]}
    assert added >= DRIVERS[extra]
    assert added.isdisjoint(set().union(*(drivers for name, drivers in DRIVERS.items() if name != extra)))


def test_with_one_extra_the_same_graph_runs_on_its_server(with_redis: Environment, examples: Path) -> None:
    with redis() as server:
        said = with_redis.run("-m", "examples.any_backend", "sqlite:///a.db", server.url, folder=examples)
    assert [line.split()[:2] for line in said.splitlines()] == [["sqlite", "249.00"], ["redis", "249.00"]]


# What an import costs

COUNT = """
import json, sys
import langgraph.checkpoint.base, langgraph.checkpoint.serde.jsonplus, langgraph.checkpoint.serde.encrypted
theirs = set(sys.modules)
import checkpoint_base
print(json.dumps([sorted(theirs), sorted(set(sys.modules) - theirs)]))
"""


def test_importing_the_package_costs_little_beside_langgraph_checkpoint(with_redis: Environment) -> None:
    theirs, ours = json.loads(with_redis.run("-c", COUNT))
    never = {"langgraph.graph", "langgraph.pregel", "redis", "psycopg", "boto3", "pytest", "click", "rich", "numpy"}
    assert never.isdisjoint({*theirs, *ours})
    assert not [name for name in ours if name.startswith(("conformance_tests", "checkpoint_base.cli"))]
    assert len(ours) < len(theirs) / 8, ours


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
from checkpoint_redis import RedisSaver


class State(TypedDict, total=False):
    amount: int
    approved: bool


def ask(state: State) -> State:
    return {"approved": bool(interrupt(f"{state['amount']}?"))}


builder = StateGraph(State).add_node(ask).add_edge(START, "ask")


def config(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


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


def on_redis(url: str) -> RedisSaver:
    with RedisSaver.from_conn_string(url, ttl=60.0) as saver:
        return saver


if __name__ == "__main__":
    try:
        print(sync("sqlite:///typed.db"), len(asyncio.run(both("other.db"))))
    except StoreUnavailable as error:
        print("later", error)
    except CheckpointError as error:
        print(type(error).__name__)
'''


def test_a_user_s_program_is_clean_under_mypy_strict_and_runs(with_redis: Environment, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    arguments = ["--strict", "--no-incremental", "--python-executable", str(with_redis.python), program.name]
    clean = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout.strip()) == (0, "Success: no issues found in 1 source file")
    assert with_redis.run(program.name, folder=tmp_path).splitlines()[-1] == "3 1"


def test_mypy_sees_a_user_s_mistake(with_redis: Environment, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "from checkpoint_base import SQLiteSaver\n"
        "for question in SQLiteSaver().interrupts(order='latest', thread_id=7):\n"
        "    question.thread\n"
    )
    arguments = ["--strict", "--no-incremental", "--python-executable", str(with_redis.python), "wrong.py"]
    checked: Any = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Found 3 errors" in checked.stdout
