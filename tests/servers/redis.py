"""Redis servers."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.processes import HOST, Server, ServerUnavailable, found, free_port, running, temporary_folder

REDIS_STACK = "REDIS_STACK"
"""Environment variable: the folder that has Redis Stack's `bin/redis-server` and `lib/*.so`."""


@contextmanager
def redis(*options: str) -> Iterator[Server]:
    """Redis without persistence, with further options of its command line."""
    with _redis(found("redis-server", "redis-server"), *options) as server:
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


@contextmanager
def _redis(program: Path, *options: str) -> Iterator[Server]:
    with temporary_folder("redis") as folder:
        port = free_port()
        fixed = ["--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", "", "--appendonly", "no"]

        def is_ready() -> bool:
            try:
                return _asked(port, "PING").startswith("+PONG")
            except OSError:
                return False

        with running([program, *fixed, *options], folder, is_ready, stop=signal.SIGTERM) as pid:
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
