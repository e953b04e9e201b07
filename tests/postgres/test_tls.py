"""A server that accepts nothing but TLS and a password, as those that cloud providers run do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from checkpoint_base import UnsupportedOperation, open_saver
from tests.postgres.conftest import CONFIG
from tests.servers.certificates import certificate
from tests.servers.postgres import Installation, cluster, installations
from tests.servers.processes import ServerUnavailable, output


def has_tls(installation: Installation, data: Path, user: str | None) -> bool:
    return output(installation.folder / "postgres", "-C", "ssl_library", "-D", data, user=user).strip() != ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The URL of the server, for a role whose password is `secret`; `server.crt` in the folder is its certificate."""
    for installation in installations():
        with cluster(installation) as place:
            data = place.folder / "data"
            if not has_tls(installation, data, place.user):
                continue
            with place.started() as server, psycopg.connect(server.url, autocommit=True) as admin:
                admin.execute("CREATE ROLE app LOGIN PASSWORD 'secret'")
                admin.execute("GRANT CREATE ON DATABASE postgres TO app")
            for path in certificate(folder, "server"):
                shutil.copy(path, data)
                (data / path.name).chmod(0o600)
                if place.user:
                    shutil.chown(data / path.name, place.user)
            with (data / "postgresql.conf").open("a") as settings:
                settings.write("ssl = on\n")  # with server.crt and server.key
            (data / "pg_hba.conf").write_text("hostssl all app all scram-sha-256\n")
            with place.started() as server:
                yield server.url.replace("postgres@", "app:secret@")
            return
    raise ServerUnavailable("no PostgreSQL with TLS was found: install one (apt-get install postgresql)")


def test_a_graph_pauses_and_goes_on_where_the_certificate_is_verified(url: str, folder: Path) -> None:
    builder = StateGraph(dict).add_node("ask", lambda _: {"paused": True}).add_edge(START, "ask")
    verified = f"{url}?sslmode=verify-full&sslrootcert={folder / 'server.crt'}"
    with open_saver(verified) as saver:
        graph = builder.compile(checkpointer=saver, interrupt_before=["ask"])
        graph.invoke({"paused": False}, CONFIG)
    with open_saver(verified) as saver:  # the server accepts nothing else
        graph = builder.compile(checkpointer=saver, interrupt_before=["ask"])
        assert graph.get_state(CONFIG).next == ("ask",)
        assert graph.invoke(Command(resume=True), CONFIG) == {"paused": True}


@pytest.mark.parametrize(
    ("query", "password", "reason"),
    [
        ("sslmode=verify-full&sslrootcert={folder}/other.crt", "secret", "certificate verify failed"),
        ("sslmode=verify-full&sslrootcert={folder}/nowhere.crt", "secret", "does not exist"),
        ("sslmode=disable", "secret", "no encryption"),
        ("sslmode=require", "wrong", "password authentication failed"),
    ],
)
def test_a_refusal_is_told_at_once_and_not_taken_for_a_server_that_is_away(
    url: str, folder: Path, query: str, password: str, reason: str
) -> None:
    certificate(folder, "other")
    address = url.replace("secret", password)
    with pytest.raises(UnsupportedOperation, match=reason) as refused:  # only StoreUnavailable is tried again
        open_saver(f"{address}?{query.format(folder=folder)}").setup()
    assert password not in str(refused.value)
