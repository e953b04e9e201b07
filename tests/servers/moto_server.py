"""A program that serves moto's mock of S3, and keeps connections open. Its arguments are a host and a port.

moto's own server is werkzeug's for development. It ends the connection after each request, starts a thread for the next
one, and looks for the service that is meant: more work than the mock itself does.
"""

from __future__ import annotations

import io
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from moto.server import create_backend_app


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), _Handler)
        self.application = create_backend_app("s3")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves as one packet
    server: _Server

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _serve(self) -> None:
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            answer[:] = [int(status.split()[0]), headers]

        content = self.server.application(self._environ(), start_response)
        body = b"".join(content)
        content.close()  # type: ignore[attr-defined]  # of a WSGI application's answer
        status, headers = answer
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        if self.command == "HEAD":
            body = b""
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = _serve

    def _environ(self) -> dict[str, Any]:
        parts = urlsplit(self.path)
        names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()}
        length = self.headers.get("Content-Length", "0")
        return names | {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(parts.path, "latin-1"),  # as PEP 3333 has it
            "QUERY_STRING": parts.query,
            "RAW_URI": self.path,  # from which moto tells `%2F` from a slash
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": length,
            "SERVER_NAME": self.server.server_name,
            "SERVER_PORT": str(self.server.server_port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self.client_address[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.rfile.read(int(length))),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }


if __name__ == "__main__":
    _Server(sys.argv[1], int(sys.argv[2])).serve_forever()
