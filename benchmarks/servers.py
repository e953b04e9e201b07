"""Real servers for as long as a `with` block lasts.

Each starts on a free port of the loopback interface with its data in a temporary folder, and is ended by its process
id. Nothing is downloaded, and nothing outside this machine is talked to.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"

REDIS_STACK = "REDIS_STACK"
"""Environment variable: the folder that has Redis Stack's `bin/redis-server` and `lib/*.so`."""

_STARTS_WITHIN = 30.0
_STOPS_WITHIN = 20.0


class ServerUnavailable(RuntimeError):
    """A server cannot be started here; the message says what to install, or the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its URL, what it is, and its process id."""

    url: str
    version: str
    pid: int


@contextmanager
def postgres(*, durable: bool = True, connections: int = 400) -> Iterator[Server]:
    """PostgreSQL, the newest one installed, empty, for the user `postgres` without a password.

    ``durable=False`` answers before the disk has anything: quicker, and the same unless the machine itself goes down.
    """
    binaries = _postgres_binaries()
    version = _output(binaries / "postgres", "--version").partition(") ")[2].split()[0]
    with _folder("postgres") as folder:
        user = _unprivileged(folder)
        _output(binaries / "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D",
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
            return subprocess.run(asked, check=False).returncode == 0  # noqa: S603  # its own client

        # SIGINT is its fast shutdown: it does not wait for clients.
        with _running(command, folder, is_ready, stop=signal.SIGINT, user=user) as pid:
            yield Server(f"postgresql://postgres@{HOST}:{port}/postgres", f"PostgreSQL {version}", pid)


@contextmanager
def redis(*options: str) -> Iterator[Server]:
    """Redis without persistence, with further options of its command line."""
    with _redis(_found("redis-server", "redis-server"), *options) as server:
        yield server


@contextmanager
def redis_stack() -> Iterator[Server]:
    """Redis with RediSearch and RedisJSON, from the folder that the environment variable names."""
    named = os.environ.get(REDIS_STACK)
    if not named:
        raise ServerUnavailable(f"Redis with modules is not here: set {REDIS_STACK} to the folder of Redis Stack")
    folder = Path(named)
    files = [folder / "bin" / "redis-server", *(folder / "lib" / f"{name}.so" for name in ("redisearch", "rejson"))]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise ServerUnavailable(f"{REDIS_STACK} names a folder without {', '.join(missing)}")
    program, *modules = files
    with _redis(program, *(option for module in modules for option in ("--loadmodule", str(module)))) as server:
        yield server


def flush_redis(url: str) -> None:
    """Empty a Redis that was started here."""
    said = _asked(int(url.rpartition(":")[2].partition("/")[0]), "FLUSHALL")
    if not said.startswith("+OK"):
        raise ServerUnavailable(f"Redis did not flush: {said.strip()}")


def free_port() -> int:
    """A port that nothing listens on; below 55536, so that a Redis Cluster's bus has one too."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port < 55536:
            return port


@contextmanager
def _redis(program: Path, *options: str) -> Iterator[Server]:
    with _folder("redis") as folder:
        port = free_port()
        fixed = ["--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", "", "--appendonly", "no"]

        def is_ready() -> bool:
            try:
                return _asked(port, "PING").startswith("+PONG")
            except OSError:
                return False

        with _running([program, *fixed, *options], folder, is_ready, stop=signal.SIGTERM) as pid:
            yield Server(f"redis://{HOST}:{port}/0", _redis_version(port), pid)


def _redis_version(port: int) -> str:
    _, _, number = _asked(port, "INFO server").partition("redis_version:")
    # RESP: a value follows its key, each on the line after its length or as ":number".
    words = [word for word in _asked(port, "MODULE LIST").splitlines() if word[:1] not in ("$", "*")]
    names = [words[at + 1] for at, word in enumerate(words) if word == "name"]
    versions = [words[at + 1].removeprefix(":") for at, word in enumerate(words) if word == "ver"]
    modules = sorted(f"{name} {version}" for name, version in zip(names, versions, strict=True))
    return f"Redis {number.split()[0]}{' with ' if modules else ''}{' and '.join(modules)}"


def _asked(port: int, command: str) -> str:
    """What Redis answers to a command, undecoded; short answers only."""
    with socket.create_connection((HOST, port), timeout=1) as talk:
        talk.sendall(f"{command}\r\nQUIT\r\n".encode())
        answer = b""
        while part := talk.recv(65536):
            answer += part
    return answer.decode()


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


def _found(program: str, package: str) -> Path:
    path = shutil.which(program)
    if not path:
        raise ServerUnavailable(f"{program} was not found: install it (apt-get install {package})")
    return Path(path)


def _output(program: Path, *arguments: object, user: str | None = None) -> str:
    done = subprocess.run(  # noqa: S603  # programs of the server
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        user=user,
        group=user,
        extra_groups=[] if user else None,
        cwd="/",
    )
    if done.returncode:
        raise ServerUnavailable(f"{program.name} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _running(
    command: Sequence[object],
    folder: Path,
    is_ready: Callable[[], bool],
    *,
    stop: signal.Signals,
    user: str | None = None,
) -> Iterator[int]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # the server
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
    try:
        deadline = time.monotonic() + _STARTS_WITHIN
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip()[-2000:]
                raise ServerUnavailable(f"{Path(str(command[0])).name} did not start: {said}")
            time.sleep(0.01)
        yield process.pid
    finally:
        process.send_signal(stop)
        try:
            process.wait(_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
