"""What several test modules share."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import SQLiteSaver
from checkpoint_base.transport import Retrying, Transport

# How long an example took, or was in the making, says how busy the machine was.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


class CountingTransport:
    """A transport that counts the requests it passes on: the round trips that they would be on a network."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.requests = 0

    def execute(self, request: Any) -> Any:
        self.requests += 1
        return self.inner.execute(request)

    async def aexecute(self, request: Any) -> Any:
        self.requests += 1
        return await self.inner.aexecute(request)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


def put(saver: SQLiteSaver, values: dict[str, Any], config: Any = CONFIG, **metadata: Any) -> Any:
    checkpoint: Any = empty_checkpoint()
    versions = {channel: saver.get_next_version(None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return saver.put(config, checkpoint, {"source": "loop", "step": 1, **metadata}, versions)


def config_of(thread_id: object, **entries: object) -> Any:
    return {"configurable": {"thread_id": thread_id, **entries}}


def counted(saver: SQLiteSaver) -> CountingTransport:
    """Put a counter between a saver and its store."""
    transport = CountingTransport(saver.store.transport)
    saver.transport = Retrying(transport, deadline=5)
    return transport


ON_ONE_WORKER = frozenset(
    (
        "tests/postgres/test_indexes.py",  # stores of 100,000 checkpoints
        "tests/test_benchmarks.py",  # a small run
        "tests/examples/test_answers.py",  # every server
        "tests/examples/test_programs.py",  # every server
        "tests/test_wheel.py",  # environments with the wheel
    )
)
"""Modules that make something once that takes long."""


# By their names: of marks, the process that distributes tests knows what xdist adds to ids, which pytest 9.2 drops.
@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each test to the next free worker, but all tests of some modules to the same one, and those first."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return module if module in ON_ONE_WORKER else nodeid

    return Scheduling(config, log)


@pytest.fixture(scope="module")
def on_one_worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fails if the tests of a module are distributed all the same."""
    assert request.node.nodeid in ON_ONE_WORKER
    if request.config.getoption("loadgroup", False):  # in a worker
        (tmp_path_factory.getbasetemp().parent / request.node.path.name).touch(exist_ok=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases of the suite that a class does not want: its ``wants`` takes a case and a colour."""
    left_out = []
    for item in items:
        wants = getattr(getattr(item, "cls", None), "wants", None)
        if wants and isinstance(item, pytest.Function) and not wants(**item.callspec.params):
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Keep the garbage collector off the modules and tests: it would pass through them for a fifth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.db"


@pytest.fixture
def saver(path: Path) -> Iterator[SQLiteSaver]:
    with SQLiteSaver(path) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SQLiteSaver]:
    """The store that a thread is copied from."""
    with SQLiteSaver(tmp_path / "source.db") as saver:
        yield saver


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SQLiteSaver]:
    """The store that it is copied to."""
    with SQLiteSaver(tmp_path / "target.db") as saver:
        yield saver
