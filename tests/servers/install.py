"""Install the servers that the tests need and this machine lacks: `python -m tests.servers.install`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SERVERS: dict[str, dict[str, str]] = {
    # the environment variable that names a server instead, and the programs that stand for Debian's packages
    "CHECKPOINT_TEST_POSTGRES_URL": {"initdb": "postgresql"},
    "CHECKPOINT_TEST_REDIS_URL": {"redis-server": "redis-server", "redis-sentinel": "redis-sentinel"},
    "CHECKPOINT_TEST_S3_URL": {
        **{program: program for program in ("ceph-mon", "ceph-osd", "radosgw")},
        "ceph-authtool": "ceph-common",
    },
}
DEBIANS_POSTGRESQL = Path("/usr/lib/postgresql")
"""Debian keeps the programs of each version in a folder of their own, and off the path."""

BESIDE_THEM = {"pgbouncer": "pgbouncer"}
"""What no other server and no container replaces."""


def missing_packages(*, containers: bool) -> list[str]:
    """The packages of all programs that are not here and that neither a named server nor a container replaces."""
    replaced = [programs for variable, programs in SERVERS.items() if containers or variable in os.environ]
    needed = [*(programs for programs in SERVERS.values() if programs not in replaced), BESIDE_THEM]
    return [package for programs in needed for program, package in programs.items() if not _is_here(program)]


def main() -> int:
    if not (missing := missing_packages(containers=False)):
        return 0
    if not (missing := missing_packages(containers=_docker_answers())):
        return 0
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.getuid() != 0 or not shutil.which("apt-get"):
        replaceable = set(missing) - set(BESIDE_THEM.values())
        instead = f" Or start Docker, or name servers in {', '.join(SERVERS)}." if replaceable else ""
        print(
            f"The tests need programs that are not here: sudo {' '.join(command)}.{instead} Then repeat.",
            file=sys.stderr,
        )
        return 1 if replaceable else 0  # the tests that need only what is beside them say so themselves
    print(f"installing {', '.join(missing)}", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-qq"], command):
        done = subprocess.run(step, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{' '.join(step)} failed:\n{done.stderr.strip()[-2000:]}", file=sys.stderr)
            return 1
    return 0


def _docker_answers() -> bool:
    # The client alone starts nothing.
    return bool(shutil.which("docker")) and subprocess.run(["docker", "info"], capture_output=True).returncode == 0


def _is_here(program: str) -> bool:
    return bool(shutil.which(program) or any(DEBIANS_POSTGRESQL.glob(f"*/bin/{program}")))


if __name__ == "__main__":
    sys.exit(main())
