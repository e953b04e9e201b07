"""The conformance suite on PostgreSQL. With ``CHECKPOINT_TEST_FULL`` set, all runs everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from conformance_tests.case import Case
from conformance_tests.trial import Colour
from tests.postgres.conftest import place_on
from tests.servers.processes import Server
from tests.suite import FULL, SuiteOnURL


@pytest.fixture(scope="session")
def bounced(bouncer: Server, server: Server) -> Iterator[str]:
    place = place_on(server)
    yield f"{bouncer.url}?prepare=false&schema={place.schema}"
    place.query("DROP SCHEMA IF EXISTS {s} CASCADE")


@pytest.fixture(scope="session")
def owned(newest_server: Server) -> Iterator[str]:
    place = place_on(newest_server)
    schema, role = f"Tenant's “{place.schema}", place.schema
    names = {"schema": psycopg.sql.Identifier(schema), "role": psycopg.sql.Identifier(role)}
    with psycopg.connect(newest_server.url, autocommit=True) as admin:
        for statement in (
            "CREATE DATABASE {role}",
            "REVOKE ALL ON DATABASE {role} FROM PUBLIC",
            "CREATE ROLE {role} LOGIN PASSWORD 'p@ss/w?rd'",
            "GRANT CONNECT ON DATABASE {role} TO {role}",
        ):
            admin.execute(psycopg.sql.SQL(statement).format(**names))
    parts = urlsplit(newest_server.url)
    database = parts._replace(path=f"/{role}").geturl()
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        admin.execute(psycopg.sql.SQL("CREATE SCHEMA {schema} AUTHORIZATION {role}").format(**names))
    yield (
        f"postgresql://{role}:{quote('p@ss/w?rd', safe='')}@{parts.hostname}:{parts.port}/{role}?schema={quote(schema)}"
    )
    with psycopg.connect(newest_server.url, autocommit=True) as admin:
        admin.execute(psycopg.sql.SQL("DROP DATABASE {role} WITH (FORCE)").format(**names))
        admin.execute(psycopg.sql.SQL("DROP ROLE {role}").format(**names))


class TestBehindPgBouncer(SuiteOnURL):
    """On the oldest PostgreSQL, behind PgBouncer in transaction mode."""

    @pytest.fixture
    def url(self, bounced: str) -> str:
        return bounced


class TestAsOwnerOfOneSchema(SuiteOnURL):
    """On the newest PostgreSQL, as a role that owns one schema and may do nothing else in the database.

    Each case runs in each colour; on the oldest PostgreSQL, in both by turns as well.
    """

    @classmethod
    def wants(cls, case: Case, colour: Colour) -> bool:
        return FULL in os.environ or cls.has_its_own_colour(case, colour)

    @pytest.fixture
    def url(self, owned: str) -> str:
        return owned
