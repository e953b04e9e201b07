"""The pytest plugin: registers the suite's marker. Every pytest run loads it, so it imports nothing else."""

from __future__ import annotations

from typing import Any


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", "conformance_long: a case of the conformance suite that takes seconds")
