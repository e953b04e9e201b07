"""Reads Redis URLs, which name a server, a cluster, or a service that Sentinels know."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError

from checkpoint_base.errors import UnsupportedOperation

_DEFAULTS: dict[str, Any] = {
    # The saver must notice within its deadline that a server has silently gone.
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
}
_SENTINEL_PORT = 26379
_REDIS_PORT = 6379
# Messages quote nothing of a URL except the names of its options: an unescaped password may be anywhere in it.
_ESCAPED = "reserved characters of the password as %XX"
_NOT_OF_A_CONNECTION = ("ssl", "unix_socket_path", "max_connections")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a saver's clients connect to. Its repr shows no part that may hold a password.

    ``nodes`` are servers of a cluster, or the Sentinels that know a ``service``. The address of a single server is
    among the ``options``, which are redis-py's.
    """

    nodes: tuple[tuple[str, int], ...] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    is_cluster: bool = False
    service: str | None = None
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)


def parse_deployment(url: str) -> Deployment:
    """Read ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://h1:p1,h2:p2``, ``redis+sentinel://h1,h2/service``.

    The query holds redis-py's own options, such as ``socket_timeout``.

    Raises:
        UnsupportedOperation: it cannot be read, or has an option that redis-py does not know.
    """
    scheme, separator, rest = url.partition("://")
    transport, _, kind = scheme.partition("+")
    known = ("redis", "rediss") if kind else ("redis", "rediss", "unix")
    if not separator or transport not in known or kind not in ("", "cluster", "sentinel"):
        raise UnsupportedOperation(
            "a URL of Redis begins with redis://, rediss://, unix://, redis+cluster://, rediss+cluster://, "
            "redis+sentinel:// or rediss+sentinel://"
        )
    if "#" in rest:
        raise UnsupportedOperation(f"the URL has a fragment: write %23 for a #, and {_ESCAPED}")
    if transport == "unix":
        return Deployment((), _options(url))
    authority, path, query = _split(rest)
    user, at, hosts = authority.rpartition("@")
    if not kind:
        if "," in hosts:
            raise UnsupportedOperation(f"{scheme}:// is one server: use {scheme}+cluster:// or {scheme}+sentinel://")
        if path.rstrip("/") and not path.rstrip("/").isdecimal():  # redis-py would use database 0
            raise UnsupportedOperation(
                f"what follows the host is not the number of a database: write {scheme}://user:password@host:6379/0, "
                f"with {_ESCAPED}"
            )
        return Deployment((), _options(url))
    parts = [unquote(part) for part in path.split("/") if part]
    if kind == "cluster":
        if parts not in ([], ["0"]):
            raise UnsupportedOperation(
                f"a cluster has no databases and no services: write nothing after the hosts, and {_ESCAPED}"
            )
        options = _options_of_nodes(f"{transport}://{user}{at}cluster{query}")
        return Deployment(_nodes(hosts, _REDIS_PORT), options, is_cluster=True)
    if not parts or len(parts) > 2 or not (len(parts) == 1 or parts[1].isdecimal()):
        raise UnsupportedOperation(
            f"name the service that the Sentinels know: {scheme}://host:26379/service, or …/service/0"
        )
    service, database = (*parts, "0")[:2]
    options = _options_of_nodes(f"{transport}://{user}{at}sentinel/{database}{query}", _SENTINEL_OPTIONS)
    credentials = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
    shared = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl"))}
    return Deployment(
        _nodes(hosts, _SENTINEL_PORT), options, service=service, sentinel_options={**shared, **credentials}
    )


def _split(rest: str) -> tuple[str, str, str]:
    before, mark, query = rest.partition("?")
    authority, _, path = before.partition("/")
    return authority, path, mark + query


def _nodes(hosts: str, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_host(host, port) for host in hosts.split(","))


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        found = (parts.hostname, parts.port or port)
    except ValueError:
        found = (None, port)
    if not found[0]:
        raise UnsupportedOperation(
            f"one of the hosts is not a host with a port: write host1:1234,host2:1234, and {_ESCAPED}"
        )
    return found[0], found[1]


def _options_of_nodes(url: str, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Like `_options`, for a URL whose host is a placeholder for several."""
    options = _options(url, extra)
    options.pop("host")
    options.pop("port", None)
    return options


def _options(url: str, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the options of redis-py that a URL stands for, checked."""
    options: dict[str, Any] = {**_DEFAULTS}
    wrong = ""
    try:
        options |= parse_url(url)
    except ValueError as error:
        about_option = str(error).startswith("Invalid value for")  # other messages quote parts of the URL
        wrong = str(error) if about_option else f"write redis://user:password@host:port/0, with {_ESCAPED}"
    if wrong:  # here, because an error that was being handled could still be found by who reports ours
        raise UnsupportedOperation(f"the URL of Redis cannot be read: {wrong}")
    connection = options.pop("connection_class", Connection)
    if connection is SSLConnection:
        options["ssl"] = True
    elif connection is UnixDomainSocketConnection:
        options["unix_socket_path"] = options.pop("path")
        options.pop("socket_connect_timeout")
    if options.get("max_connections", 1) < 1:
        raise UnsupportedOperation(
            f"option max_connections={options['max_connections']}: write a whole number, 1 or more"
        )
    checked = {name: value for name, value in options.items() if name not in (*_NOT_OF_A_CONNECTION, *extra)}
    try:
        connection(**checked)
    except TypeError as error:
        raise UnsupportedOperation(f"the URL of Redis has an option that redis-py does not know: {error}") from error
    except (RedisError, ValueError) as error:
        raise UnsupportedOperation(f"the URL of Redis has an option that cannot be used: {error}") from error
    if connection is SSLConnection:
        _check_certificates(options)
    return options


def _check_certificates(options: dict[str, Any]) -> None:
    """Load what each connection will load. It would not say what is wrong, and be tried again until the deadline."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def load_own(certificate: str | None, key: str | None, password: str | None) -> None:
        if certificate is None:
            raise ValueError("name a certificate for the key")
        context.load_cert_chain(certificate, key, password or "")  # without one, a person would be asked

    steps: dict[tuple[str, ...], Callable[..., object]] = {
        ("ssl_certfile", "ssl_keyfile", "ssl_password"): load_own,
        ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"): context.load_verify_locations,
        ("ssl_ciphers",): context.set_ciphers,
    }
    for names, load in steps.items():
        values = [options.get(name) for name in names]
        if any(value is not None for value in values):
            try:
                load(*values)
            except (OSError, ValueError) as error:
                said = ", ".join(names)
                raise UnsupportedOperation(f"the URL of Redis: {said} cannot be used: {error}") from error
