"""``python -m tests.earlier.write``: keep a store of each backend as this version writes it."""

from __future__ import annotations

from importlib.metadata import version

from tests.earlier.contents import write
from tests.earlier.stores import kept, taken
from tests.faults.backends import BACKENDS, Servers


def main() -> None:
    with Servers() as servers:
        for name in BACKENDS:
            file = kept(version("checkpoint-backends"), name)
            with servers.backend(name) as backend:
                write(backend.url)
                store = taken(backend)
            file.parent.mkdir(exist_ok=True)
            with file.open("xb") as new:  # what was released stays as it is
                new.write(store)
            print(file, len(store))


if __name__ == "__main__":
    main()
