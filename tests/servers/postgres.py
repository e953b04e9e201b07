"""PostgreSQL servers."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.processes import HOST, Server, ServerUnavailable, free_port, output, running, temporary_folder


@contextmanager
def postgres(*, durable: bool = True, connections: int = 400) -> Iterator[Server]:
    """PostgreSQL, the newest one installed, empty, for the user `postgres` without a password.

    ``durable=False`` answers before the disk has anything: quicker, and the same unless the machine itself goes down.
    """
    binaries = _postgres_binaries()
    version = output(binaries / "postgres", "--version").partition(") ")[2].split()[0]
    with temporary_folder("postgres") as folder:
        user = _unprivileged(folder)
        output(binaries / "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D",
                folder / "data", user=user)  # fmt: skip
        port = free_port()
        settings = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": "",
            "max_connections": connections,
            **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
        }
        command = [binaries / "postgres", "-D", folder / "data"]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]

        def is_ready() -> bool:
            asked = [str(binaries / "pg_isready"), "-q", "-h", HOST, "-p", str(port)]
            return subprocess.run(asked, check=False).returncode == 0  # its own client

        # SIGINT is its fast shutdown: it does not wait for clients.
        with running(command, folder, is_ready, stop=signal.SIGINT, user=user) as pid:
            yield Server(f"postgresql://postgres@{HOST}:{port}/postgres", f"PostgreSQL {version}", pid)


def _postgres_binaries() -> Path:
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    # Debian keeps them off the path, a folder for each version.
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: float(file.parts[-3]))
    if not installed:
        raise ServerUnavailable("initdb was not found: install PostgreSQL (apt-get install postgresql)")
    return installed[-1].parent


def _unprivileged(folder: Path) -> str | None:
    """The user to run PostgreSQL as, who gets the folder: it refuses root."""
    if os.getuid() != 0:
        return None
    try:
        user = pwd.getpwnam("postgres")
    except KeyError as error:
        raise ServerUnavailable("PostgreSQL refuses to run as root, and there is no user `postgres`") from error
    os.chown(folder, user.pw_uid, user.pw_gid)
    return user.pw_name
