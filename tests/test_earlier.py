"""What an earlier version stored is read by this one, answered, and maintained."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.earlier.contents import assert_all_is_there, assert_it_is_maintained
from tests.earlier.stores import FOLDER, kept, restore
from tests.faults.backends import BACKENDS, Servers

VERSIONS = sorted(path.name for path in FOLDER.iterdir() if path.name[0].isdigit())


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers() as started:
        yield started


@pytest.mark.parametrize("backend_name", BACKENDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_an_earlier_version_is_read_and_goes_on(version: str, backend_name: str, servers: Servers) -> None:
    with servers.backend(backend_name) as backend:
        restore(kept(version, backend_name).read_bytes(), backend)
        assert_all_is_there(backend.url)
        assert_it_is_maintained(backend.url)
