"""Real servers for as long as a `with` block lasts.

Each starts on a free port of the loopback interface with its data in a temporary folder, and is ended by its process
id. Nothing is downloaded, and nothing outside this machine is talked to.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

HOST = "127.0.0.1"

# Tests seed the module's generator, so it would give all workers the same ports.
_RANDOM = SystemRandom()

# Of util-linux: a run that is killed leaves no servers behind.
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()

# To Linux the parent is a thread, not a process: servers are children of one that lives as long as the run.
_parent = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parent-of-servers")

_STARTS_WITHIN = 60.0
_STOPS_WITHIN = 60.0


class ServerUnavailable(RuntimeError):
    """A server cannot be started here; the message says what to install, or the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its URL, what it is, and its process id."""

    url: str
    version: str
    pid: int


def free_port() -> int:
    """A port that nothing uses, and nor does anything the one 10000 above it, which the bus of a Redis Cluster takes.

    Both are below the ports of outgoing connections, of which one may be opened before the server is started. On Linux,
    no other process gets one of them from here while this one lives: it may start its server later.
    """
    while True:
        port = _RANDOM.randrange(10_000, 22_000)
        # Reserved first: another process may be about to start a server there, which must not find it taken.
        with suppress(OSError), socket.socket() as probe, socket.socket() as bus:
            _reserve(port)
            _reserve(port + 10_000)
            probe.bind((HOST, port))
            bus.bind((HOST, port + 10_000))
            return port


def _reserve(port: int) -> None:
    if sys.platform == "linux":
        with socket.socket(socket.AF_UNIX) as mark:
            mark.bind(f"\0port {port} of a test")  # a name that is no file, and is free again when this process ends
            mark.detach()


def arrived(silent: socket.socket) -> int:
    """How many have connected to a listening socket of which nobody accepts connections; it ends those."""
    silent.setblocking(False)
    number = 0
    with suppress(BlockingIOError):
        while True:
            silent.accept()[0].close()
            number += 1
    return number


def found(program: str, package: str) -> Path:
    path = shutil.which(program)
    if not path:
        raise ServerUnavailable(f"{program} was not found: install it (apt-get install {package})")
    return Path(path)


def output(program: Path, *arguments: object, user: str | None = None) -> str:
    done = subprocess.run(  # programs of the server
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
def temporary_folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def running(
    command: Sequence[object],
    folder: Path,
    is_ready: Callable[[], bool],
    *,
    stop: signal.Signals,
    user: str | None = None,
) -> Iterator[int]:
    log = folder / "log"
    with log.open("wb") as output:
        process = _parent.submit(
            subprocess.Popen,  # the server
            [*_DIES_WITH_US, *(str(part) for part in command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        ).result()
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
