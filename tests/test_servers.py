"""What the tests install is what they lack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import install
from tests.servers.processes import free_port

PACKAGES = {
    "initdb": "postgresql",
    "pgbouncer": "pgbouncer",
    "redis-server": "redis-server",
    "redis-sentinel": "redis-sentinel",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
    "ceph-authtool": "ceph-common",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, with every program in it, on a machine that names no server."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in install.SERVERS:
        monkeypatch.delenv(variable, raising=False)
    for program in PACKAGES:
        (tmp_path / program).touch(0o755)
    return tmp_path


@pytest.mark.parametrize(("program", "package"), PACKAGES.items())
def test_a_package_is_installed_for_each_program_that_is_missing(
    program: str, package: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "DEBIANS_POSTGRESQL", here / "nothing")
    assert install.missing_packages(containers=False) == []
    (here / program).unlink()
    assert install.missing_packages(containers=False) == [package]


def test_programs_in_debian_s_folder_of_postgresql_are_found(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "DEBIANS_POSTGRESQL", here / "postgresql")
    (here / "postgresql/15/bin").mkdir(parents=True)
    (here / "initdb").rename(here / "postgresql/15/bin/initdb")
    assert install.missing_packages(containers=False) == []


def test_a_named_server_and_a_container_need_no_programs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in PACKAGES.keys() - {"initdb", "pgbouncer"}:
        (here / program).unlink()
    assert install.missing_packages(containers=True) == []
    monkeypatch.setenv("CHECKPOINT_TEST_REDIS_URL", "redis://elsewhere")
    assert "redis-server" not in install.missing_packages(containers=False)
    assert "radosgw" in install.missing_packages(containers=False)


def test_no_container_replaces_pgbouncer(here: Path) -> None:
    (here / "pgbouncer").unlink()
    assert install.missing_packages(containers=True) == ["pgbouncer"]


@pytest.mark.parametrize(
    ("gone", "offered"),
    [("pgbouncer", False), ("radosgw", True)],
)
def test_who_cannot_install_is_told_what_helps(
    gone: str, offered: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / gone).unlink()
    monkeypatch.setattr(install.os, "getuid", lambda: 1000)
    assert install.main() == (1 if offered else 0)
    told = capsys.readouterr().err
    assert f"apt-get install -y -qq --no-install-recommends {gone}" in told
    assert ("start Docker" in told) is offered
    assert ("CHECKPOINT_TEST_S3_URL" in told) is offered


ANOTHER_PROCESS = """
import sys
from types import SimpleNamespace
from tests.servers import processes
ports = iter(map(int, sys.argv[1:]))
processes._RANDOM = SimpleNamespace(randrange=lambda *_: next(ports))
print(processes.free_port())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ports are reserved on Linux alone")
def test_a_port_that_one_process_was_given_no_other_is_given_while_that_one_lives() -> None:
    taken = free_port()
    others = [port for port in range(10_000, 22_000, 500) if port != taken]
    command = [sys.executable, "-c", ANOTHER_PROCESS, *map(str, (taken, *others))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) in others
