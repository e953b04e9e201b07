"""A TCP proxy that counts the traffic between a saver and its server, and can delay it as if the server were far away.

The counting proxy runs in this process, on a thread of its own, and never while something is timed. The delaying proxy
runs in a process of its own, so that it takes no interpreter time from the client.
"""

from __future__ import annotations

import asyncio
import re
import select
import selectors
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HOST = "127.0.0.1"

_HTTP = re.compile(rb"(GET|PUT|POST|DELETE|HEAD) (\S+) HTTP/1\.1\r\n")
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Said:
    """The traffic between client and server.

    ``sent`` and ``received`` are bytes. ``trips`` counts how often a client sent something after it had received
    something, on any connection. ``requests`` counts HTTP requests by method; LIST is a GET of a bucket's listing.
    """

    sent: int = 0
    received: int = 0
    trips: int = 0
    requests: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Said) -> Said:
        return Said(
            self.sent + other.sent,
            self.received + other.received,
            self.trips + other.trips,
            self.requests + other.requests,
        )

    def since(self, before: Said) -> Said:
        return Said(
            self.sent - before.sent,
            self.received - before.received,
            self.trips - before.trips,
            self.requests - before.requests,
        )


NOTHING = Said()


class Proxy:
    """Listens on a free port, and passes everything on to another port of this machine, ``delay`` seconds later."""

    def __init__(self, port: int, delay: float = 0.0) -> None:
        self.target = port
        self.delay = delay
        self.port = 0
        self._sent = self._received = self._trips = 0
        self._requests: Counter[str] = Counter()
        self.open: set[asyncio.Transport] = set()

    def said(self) -> Said:
        """All traffic so far. An answer is counted before the client can read it."""
        return Said(self._sent, self._received, self._trips, self._requests.copy())

    async def listen(self) -> asyncio.Server:
        server = await asyncio.get_running_loop().create_server(lambda: _Client(self), HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def count(self, piece: bytes, *, up: bool, spoke_before: bool) -> None:
        if not up:
            self._received += len(piece)
            return
        self._sent += len(piece)
        if not spoke_before:
            self._trips += 1
            if http := _HTTP.match(piece):
                method, path = http[1].decode(), http[2]
                self._requests["LIST" if method == "GET" and b"list-type=2" in path else method] += 1


class _Client(asyncio.Protocol):
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._spoke_last = False
        self._waiting: list[bytes] = []
        self._server: _Server | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # a type
        _without_delay(transport)
        self.transport = transport
        self._proxy.open.add(transport)
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(
            loop.create_connection(lambda: _Server(self, self._proxy), HOST, self._proxy.target)
        )

    def server_is_there(self, server: _Server) -> None:
        self._server = server
        for piece in self._waiting:
            server.transport.write(piece)

    def data_received(self, data: bytes) -> None:
        self._proxy.count(data, up=True, spoke_before=self._spoke_last)
        self._spoke_last = True
        _later(self._proxy.delay, self._pass_on, data)

    def _pass_on(self, data: bytes) -> None:
        if self._server is None:
            self._waiting.append(data)
        else:
            self._server.transport.write(data)

    def answered(self, data: bytes) -> None:
        self._proxy.count(data, up=False, spoke_before=False)
        self._spoke_last = False
        _later(self._proxy.delay, self.transport.write, data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        self._proxy.open.discard(self.transport)
        if self._server is not None:
            self._server.transport.close()


class _Server(asyncio.Protocol):
    def __init__(self, client: _Client, proxy: Proxy) -> None:
        self._client = client
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # a type
        _without_delay(transport)
        self.transport = transport
        self._proxy.open.add(transport)
        self._client.server_is_there(self)

    def data_received(self, data: bytes) -> None:
        self._client.answered(data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        self._proxy.open.discard(self.transport)
        self._client.transport.close()


def _later(delay: float, act: object, data: bytes) -> None:
    if delay:
        asyncio.get_running_loop().call_later(delay, act, data)  # type: ignore[arg-type]
    else:
        act(data)  # type: ignore[operator]


def _without_delay(transport: asyncio.Transport) -> None:
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextmanager
def counting(port: int) -> Iterator[Proxy]:
    """A counting proxy in front of the server on this port, on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    proxy = Proxy(port)
    server = asyncio.run_coroutine_threadsafe(proxy.listen(), loop).result(_PATIENCE)
    try:
        yield proxy
    finally:

        async def end() -> None:
            server.close()
            await asyncio.sleep(0.05)  # for connections that were just opened or closed
            for transport in [*proxy.open]:
                transport.abort()
            await asyncio.sleep(0.01)  # the loop closes their sockets in its next iteration

        asyncio.run_coroutine_threadsafe(end(), loop).result(_PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE)
        loop.close()


@contextmanager
def distant(port: int, seconds: float) -> Iterator[int]:
    """A port behind which the server on ``port`` seems to be ``seconds`` away, there and back together."""
    command = [sys.executable, "-m", "benchmarks.wire", str(port), str(seconds / 2)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # this module
    try:
        assert process.stdout is not None  # noqa: S101  # a type
        if not select.select([process.stdout], [], [], _PATIENCE)[0]:
            raise TimeoutError("the proxy did not start")
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(_PATIENCE)
        if process.stdout:
            process.stdout.close()


async def _serve(port: int, delay: float) -> None:
    proxy = Proxy(port, delay)
    async with await proxy.listen() as server:
        print(proxy.port, flush=True)
        await server.serve_forever()


def _precise_loop() -> asyncio.AbstractEventLoop:
    """A loop that waits for half a millisecond where asyncio's own, on Linux, would wait for two.

    `epoll` takes whole milliseconds, so Python rounds what it is to wait for up, and 1 ms away became 2.4 ms.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_precise_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
