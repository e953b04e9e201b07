"""Arrays arrive as they were sent."""

from __future__ import annotations

import struct

import psycopg
import pytest

from checkpoint_postgres.arrays import Array, BigIntegers, Blobs, Booleans, Integers, Texts
from checkpoint_postgres.transport import _Cursor
from tests.servers.processes import Server


@pytest.mark.parametrize(
    ("array", "type_"),
    [
        (Texts(["", "plain", "Zürich", 'a "quoted", {odd} \\ NULL']), "text[]"),
        (Blobs([b"", b"\x00\xff", b"x" * 100_000]), "bytea[]"),
        (Booleans([True, False]), "boolean[]"),
        (Integers([-(2**31), -1, 0, 2**31 - 1]), "integer[]"),
        (BigIntegers([-(2**63), 0, 2**63 - 1]), "bigint[]"),
        *((kind([]), f"{name}[]") for kind, name in ((Texts, "text"), (Blobs, "bytea"), (BigIntegers, "bigint"))),
    ],
)
def test_an_array_arrives_as_it_was_sent_and_of_its_type(server: Server, array: Array, type_: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        found = (
            _Cursor(connection)
            .execute("SELECT pg_typeof(%b)::text, to_json(%b)::text, %b", (array, array, array))
            .fetchone()
        )
    assert found is not None
    assert (found[0], found[2]) == (type_, array.elements)


def test_elements_that_do_not_fit_are_refused_before_anything_is_sent(server: Server) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for array in (Integers([2**31]), BigIntegers([2**63])):
            with pytest.raises(struct.error):
                _Cursor(connection).execute("SELECT %b", (array,))
        assert connection.execute("SELECT 1").fetchone() == (1,)
