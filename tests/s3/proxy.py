"""An HTTP proxy in front of a real object store: it changes requests, and answers, on their way."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def key(self) -> str:
        """The object's key, without the bucket; empty for a listing."""
        return unquote(urlsplit(self.target).path).lstrip("/").partition("/")[2]

    def has(self, header: str) -> bool:
        return any(name.lower() == header.lower() for name, _ in self.headers)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Cut(Exception):
    """Raised by a hook: reset the connection instead of answering."""


class CutShort(Exception):
    """Raised by a hook that sees an answer: send half of its body, then reset the connection."""


Arriving: TypeAlias = Callable[[Request], "Request | Answer"]
"""What goes on to the server, or is answered at once without it."""

Returning: TypeAlias = Callable[[Request, Answer], Answer]

Moment: TypeAlias = Literal["before", "after"]


def error_answer(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    return Answer(status, (("Content-Type", "application/xml"),), body)


@dataclass(slots=True)
class Fault:
    """What the first ``times`` requests that match meet: an answer with an error, or an exception that cuts.

    ``before`` the server has seen them, or ``after`` it has carried them out.
    """

    error: Answer | type[Exception]
    moment: Moment
    matches: Callable[[Request], bool]
    times: int = 1
    met: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def arriving(self, request: Request) -> Request | Answer:
        return self._meet(request) if self.moment == "before" else request

    def returning(self, request: Request, answer: Answer) -> Answer:
        found = self._meet(request) if self.moment == "after" else answer
        return found if isinstance(found, Answer) else answer

    def _meet(self, request: Request) -> Request | Answer:
        with self._lock:
            if self.met >= self.times or not self.matches(request):
                return request
            self.met += 1
        if isinstance(self.error, Answer):
            return self.error
        raise self.error


class Proxy(AbstractContextManager["Proxy"]):
    """Listens on a free port; ``url`` is its address. The hooks may be set at any time."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = parts.hostname, parts.port
        self.requests: list[Request] = []
        self.pass_all()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def pass_all(self) -> None:
        self.arriving: Arriving = lambda request: request
        self.returning: Returning = lambda _, answer: answer

    def arm(self, fault: Fault) -> Fault:
        self.arriving, self.returning = fault.arriving, fault.returning
        return fault

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        super().__init__((HOST, 0), _Handler)

    def opened(self, connection: socket.socket) -> None:
        self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        self._open.discard(connection)

    def close_connections(self) -> None:
        for connection in [*self._open]:
            with suppress(OSError):  # its client has ended it, and its thread is just closing it
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.request)
        self.upstream = HTTPConnection(*self.server.proxy.upstream)

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def finish(self) -> None:
        self.upstream.close()
        self.server.closed(self.request)
        super().finish()

    def _serve(self) -> None:
        proxy = self.server.proxy
        size = int(self.headers.get("Content-Length", 0))
        request = Request(self.command, self.path, tuple(self.headers.items()), self.rfile.read(size))
        proxy.requests.append(request)
        try:
            found = proxy.arriving(request)
            if isinstance(found, Request):
                answer = self._forwarded(found)
                try:
                    found = proxy.returning(request, answer)
                except CutShort:
                    self._send(replace(answer, body=answer.body[: len(answer.body) // 2]), len(answer.body))
                    raise
        except (Cut, CutShort):
            self._reset()
            return
        self._send(found, len(found.body))

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = _serve

    def _forwarded(self, request: Request) -> Answer:
        # The host is the client's: it is part of what was signed.
        self.upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            if name.lower() != "expect":  # that was between the client and the proxy
                self.upstream.putheader(name, value)
        self.upstream.endheaders(request.body)
        with self.upstream.getresponse() as response:
            body = response.read()
            headers = tuple(
                (name, value)
                for name, value in response.getheaders()
                if name.lower() not in ("content-length", "transfer-encoding", "connection")
            )
            return Answer(response.status, headers, body)

    def _send(self, answer: Answer, length: int) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(answer.body)
        self.wfile.flush()

    def _reset(self) -> None:
        self.close_connection = True
        # Closing with no time to linger resets.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()


# What stores that are not quite S3 do


def ignoring(header: str) -> Arriving:
    """As a store that does not know a condition: it drops the header."""

    def arriving(request: Request) -> Request:
        kept = tuple((name, value) for name, value in request.headers if name.lower() != header.lower())
        return replace(request, headers=kept)

    return arriving


def unsorted(request: Request, answer: Answer) -> Answer:
    """As a store whose listings are in no order."""
    if b"<ListBucketResult" not in answer.body:
        return answer
    entries = iter(re.findall(rb"<Contents>.*?</Contents>", answer.body, re.DOTALL)[::-1])
    body = re.sub(rb"<Contents>.*?</Contents>", lambda _: next(entries), answer.body, flags=re.DOTALL)
    return replace(answer, body=body)
