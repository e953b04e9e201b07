"""A TCP proxy that does to a connection what networks do.

It runs on a thread of its own, so that sync and async callers use it alike::

    with Proxy(server.host, server.port) as proxy:
        saver = open_saver(f"redis://{proxy.host}:{proxy.port}")
        proxy.latency = 0.02              # seconds, added to every piece in both directions
        proxy.arm(Fault.DROP_RESPONSE)    # the next piece from the server is lost and its connection reset
        proxy.reset()                     # every open connection, now
        proxy.freeze()                    # half-open: connections stay, are accepted too, and nothing passes
        proxy.thaw()
        proxy.refuse = True               # new connections are reset at once

A piece is what one read gives: for small requests and responses, the whole of one. Nothing is looked into.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_PIECE_BYTES = 1 << 18
_PATIENCE = 30.0


class Fault(StrEnum):
    """What can happen to a piece on its way; the first two to one from a client, the others to one from the server."""

    RESET_REQUEST = "connection reset before the request arrived"
    CUT_REQUEST = "connection reset in the middle of the request"
    DROP_RESPONSE = "connection reset after the request, before its response"
    CUT_RESPONSE = "connection reset in the middle of the response"
    SILENCE = "no response, and the connection stays open"

    @property
    def strikes_requests(self) -> bool:
        return self in (Fault.RESET_REQUEST, Fault.CUT_REQUEST)


class Proxy:
    """Passes bytes between a free port of the loopback interface and a server.

    Attributes:
        host, port: where it listens.
        target: where it connects to; may be changed, for connections to come.
        latency: seconds that each piece takes in each direction.
        refuse: reset connections as soon as they are made.
        chances: how likely each fault is to strike a piece, by ``seed``.
        struck: the faults that struck, in order, armed and by chance.
        accepted: how many connections were ever made.
        bytes_up, bytes_down: how many bytes were passed to the server and back.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.target = (host, port)
        self.host = "127.0.0.1"
        self.port = 0
        self.latency = 0.0
        self.refuse = False
        self.chances: Mapping[Fault, float] = {}
        self.struck: list[Fault] = []
        self.accepted = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._random = random.Random(seed)
        self._armed: list[list[Fault | int]] = []
        self._open: set[_Connection] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, self.host, limit=_PIECE_BYTES), self._loop
        ).result(_PATIENCE)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._do(lambda: len(self._open))

    def arm(self, fault: Fault, *, after: int = 0) -> None:
        """Let a fault strike the next piece of its direction, once, after letting ``after`` others pass."""
        self._do(lambda: self._armed.append([fault, after]))

    def disarm(self) -> None:
        """Forget what was armed and has not struck, and all chances."""
        self.chances = {}
        self._do(self._armed.clear)

    def reset(self) -> None:
        """Reset every open connection."""
        self._do(self._reset)

    def freeze(self) -> None:
        """Let nothing pass, also on connections to come, without anybody being told."""
        self._do(self._passing.clear)

    def thaw(self) -> None:
        """Let pass what has waited."""
        self._do(self._passing.set)

    def _do(self, action: Callable[[], T]) -> T:
        """Carry something out on the proxy's loop."""

        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(_PATIENCE)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self, reader, writer)
        if self.refuse:
            connection.reset()
            return
        self._open.add(connection)
        try:
            await connection.carry()
        finally:
            self._open.discard(connection)

    def _reset(self) -> None:
        for connection in [*self._open]:
            connection.reset()

    async def _end(self) -> None:
        self._listening.close()
        self._passing.set()
        await asyncio.sleep(0.05)  # connections that have been accepted get their tasks
        # Not cancelled: a connection that is just being made would be nobody's then, and stay open.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            self._reset()
            await asyncio.wait(others, timeout=0.02)
        await asyncio.sleep(0.01)  # sockets are closed a turn of the loop after they were reset

    def _fault(self, *, request: bool) -> Fault | None:
        """What strikes this piece, if anything."""
        for entry in self._armed:
            fault, after = entry
            if not isinstance(fault, Fault) or not isinstance(after, int) or fault.strikes_requests != request:
                continue
            if after:
                entry[1] = after - 1
                return None
            self._armed.remove(entry)
            self.struck.append(fault)
            return fault
        for fault, chance in self.chances.items():
            if fault.strikes_requests == request and self._random.random() < chance:
                self.struck.append(fault)
                return fault
        return None


class _Connection:
    """A client's connection and ours to the server, for its sake."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = reader, writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._is_silent = False

    async def carry(self) -> None:
        try:
            self._server = await asyncio.open_connection(*self._proxy.target, limit=_PIECE_BYTES)
        except OSError:
            self.reset()  # as if it had been refused
            return
        try:
            # An error, if the client was reset meanwhile.
            for _, writer in (self._client, self._server):
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(
                self._pass(self._client[0], self._server[1], request=True),
                self._pass(self._server[0], self._client[1], request=False),
            )
        except OSError:
            pass  # one of the two is gone; so is the other, below
        finally:
            self.reset()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, request: bool) -> None:
        proxy = self._proxy
        while piece := await reader.read(_PIECE_BYTES):
            if proxy.latency:
                await asyncio.sleep(proxy.latency)
            await proxy._passing.wait()
            if self._is_silent and not request:
                continue
            match proxy._fault(request=request):
                case Fault.RESET_REQUEST | Fault.DROP_RESPONSE:
                    raise ConnectionResetError
                case Fault.CUT_REQUEST | Fault.CUT_RESPONSE:
                    writer.write(piece[: len(piece) // 2])
                    await writer.drain()
                    await asyncio.sleep(0.005)  # so that it is read before the reset discards it
                    raise ConnectionResetError
                case Fault.SILENCE:
                    self._is_silent = True
                    continue
            writer.write(piece)
            await writer.drain()
            if request:
                proxy.bytes_up += len(piece)
            else:
                proxy.bytes_down += len(piece)
        if writer.can_write_eof():
            writer.write_eof()

    def reset(self) -> None:
        """End both connections at once, unread data and all."""
        for end in (self._client, self._server):
            if end is None or end[1].transport.is_closing():
                continue
            linger = struct.pack("ii", 1, 0)  # close with a reset
            end[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            end[1].transport.abort()
