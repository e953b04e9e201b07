"""PgBouncer in front of a PostgreSQL server."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from tests.servers.postgres import unprivileged
from tests.servers.processes import HOST, Server, found, free_port, output, running, temporary_folder


@contextmanager
def pgbouncer(server: Server, *, connections: int = 20, mode: str = "transaction") -> Iterator[Server]:
    """PgBouncer, which lends a server connection to a client for one transaction, or for what ``mode`` says."""
    program = found("pgbouncer", "pgbouncer")
    parts = urlsplit(server.url)
    password = f" password='{unquote(parts.password)}'" if parts.password else ""
    port = free_port()
    with temporary_folder("pgbouncer") as folder:
        user = unprivileged(folder)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(f"""
[databases]
* = host={parts.hostname} port={parts.port or 5432} user={parts.username}{password}

[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {connections}
max_client_conn = 2000
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
""")
        os.chmod(configuration, 0o644)
        version = output(program, "--version").split()[1]

        def is_ready() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((HOST, port)) == 0

        with running([program, configuration], folder, is_ready, stop=signal.SIGINT, user=user) as pid:
            yield Server(
                f"postgresql://{parts.username}@{HOST}:{port}{parts.path}",
                f"PgBouncer {version} on {server.version}",
                pid,
            )
