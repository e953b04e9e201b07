"""What the tests install is what they lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import install

EVERYTHING = {program for programs in (*install.SERVERS.values(), install.BESIDE_THEM) for program in programs}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, with every program in it, on a machine that names no server."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in install.SERVERS:
        monkeypatch.delenv(variable, raising=False)
    for program in EVERYTHING:
        (tmp_path / program).touch(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("program", "package"),
    [
        (program, package)
        for programs in (*install.SERVERS.values(), install.BESIDE_THEM)
        for program, package in programs.items()
    ],
)
def test_a_package_is_installed_for_each_program_that_is_missing(program: str, package: str, here: Path) -> None:
    assert install.missing_packages(containers=False) == []
    (here / program).unlink()
    found_elsewhere = any(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    assert install.missing_packages(containers=False) == ([] if found_elsewhere else [package])


def test_a_named_server_and_a_container_need_no_programs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in EVERYTHING - {"initdb", "pgbouncer"}:
        (here / program).unlink()
    assert install.missing_packages(containers=True) == []
    monkeypatch.setenv("CHECKPOINT_TEST_REDIS_URL", "redis://elsewhere")
    assert "redis-server" not in install.missing_packages(containers=False)
    assert "radosgw" in install.missing_packages(containers=False)


def test_no_container_replaces_pgbouncer(here: Path) -> None:
    (here / "pgbouncer").unlink()
    assert install.missing_packages(containers=True) == ["pgbouncer"]
