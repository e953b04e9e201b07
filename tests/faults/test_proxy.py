"""The proxy itself: each fault does what it says, and nothing else happens."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.faults.proxy import Fault, Proxy


class Shouting(socketserver.StreamRequestHandler):
    """Answers each line in capitals."""

    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.server.heard.append(line)
                self.wfile.write(line.upper())
        except ConnectionError:
            pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Shouting)
        self.heard: list[bytes] = []


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(*server.server_address) as running:
        yield running


@contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection((proxy.host, proxy.port), timeout=60) as client:
        yield client


def eventually(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def asked(client: socket.socket, line: bytes = b"hello\n") -> bytes:
    client.sendall(line)
    return client.recv(100)


def test_bytes_pass_and_are_counted(proxy: Proxy) -> None:
    with connected(proxy) as client:
        assert asked(client) == b"HELLO\n"
        assert asked(client) == b"HELLO\n"
        assert proxy.connections == 1
    assert (proxy.accepted, proxy.bytes_up, proxy.bytes_down, proxy.struck) == (1, 12, 12, [])


def test_latency_is_added_in_both_directions(proxy: Proxy) -> None:
    proxy.latency = 0.05
    with connected(proxy) as client:
        began = time.monotonic()
        assert asked(client) == b"HELLO\n"
        assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("fault", [Fault.RESET_REQUEST, Fault.CUT_REQUEST, Fault.DROP_RESPONSE, Fault.CUT_RESPONSE])
def test_a_fault_strikes_once_after_what_was_let_pass(proxy: Proxy, server: Server, fault: Fault) -> None:
    proxy.arm(fault, after=1)
    with connected(proxy) as client:
        assert asked(client) == b"HELLO\n"
        client.sendall(b"again\n")
        if fault is Fault.CUT_RESPONSE:
            assert client.recv(100) == b"AGA"
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    assert proxy.struck == [fault]
    was_applied = fault in (Fault.DROP_RESPONSE, Fault.CUT_RESPONSE)
    assert (b"again\n" in server.heard) == was_applied
    with connected(proxy) as client:
        assert asked(client) == b"HELLO\n"


def test_silence_keeps_the_connection_and_loses_the_response(proxy: Proxy, server: Server) -> None:
    proxy.arm(Fault.SILENCE)
    with connected(proxy) as client:
        client.sendall(b"hello\n")
        eventually(lambda: proxy.struck == [Fault.SILENCE])
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert server.heard == [b"hello\n"]
        assert proxy.connections == 1


def test_reset_ends_every_connection(proxy: Proxy) -> None:
    with connected(proxy) as one, connected(proxy) as other:
        assert asked(one) == asked(other)
        proxy.reset()
        for client in (one, other):
            with pytest.raises(ConnectionResetError):
                client.recv(100)


def test_what_was_frozen_passes_later(proxy: Proxy, server: Server) -> None:
    proxy.freeze()
    with connected(proxy) as client:
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            asked(client)
        assert server.heard == []
        proxy.thaw()
        client.settimeout(60)
        assert client.recv(100) == b"HELLO\n"


def test_connections_are_refused_and_a_dead_server_refuses_too(proxy: Proxy, server: Server) -> None:
    proxy.refuse = True
    with pytest.raises(ConnectionError), connected(proxy) as client:
        asked(client)
    proxy.refuse = False
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        proxy.target = nobody.getsockname()
        with pytest.raises(ConnectionError), connected(proxy) as client:
            asked(client)


def test_chances_are_the_same_for_the_same_seed(server: Server) -> None:
    struck = []
    for _ in range(2):
        with Proxy(*server.server_address, seed=7) as proxy:
            proxy.chances = {Fault.DROP_RESPONSE: 0.3}
            outcomes = []
            for _ in range(20):
                with connected(proxy) as client:
                    try:
                        outcomes.append(asked(client))
                    except ConnectionResetError:
                        outcomes.append(b"")
            struck.append(outcomes)
            assert len(proxy.struck) == outcomes.count(b"")
    assert struck[0] == struck[1]
    assert b"" in struck[0]
    assert b"HELLO\n" in struck[0]
