"""A checkpoint's metadata: what LangGraph puts into it, and how a store filters by it without reading it.

Filters must never become part of a query, whatever they hold, and must work where some metadata is encrypted. So a
store sees only *terms*, digests of ``(key, value)``. Equal entries have equal terms. Different entries may share one,
though rarely, so the saver compares again what a store has found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from numbers import Number
from typing import Any

from langgraph.checkpoint.base import EXCLUDED_METADATA_KEYS

TERM_BYTES = 8

_NUMPY_BOOLS = ("bool_", "bool")  # of numpy 1 and 2: not a Number, but equal to one


def merged_metadata(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``metadata`` together with the scalar entries of the config, as LangGraph's savers store it.

    Unlike `langgraph.checkpoint.base.get_checkpoint_metadata`, this leaves texts unchanged.
    """
    merged = dict(metadata)
    for source in (config.get("metadata"), config.get("configurable")):
        for key, value in (source or {}).items():
            if not isinstance(key, str) or key in merged or key in EXCLUDED_METADATA_KEYS or key.startswith("__"):
                continue
            if isinstance(value, (str, int, bool, float)):
                merged[key] = value
    return merged


def terms_of(metadata: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Return the terms of all entries that have one: those whose value is a text or a number."""
    found = (_term(key, value) for key, value in metadata.items())
    return tuple(term for term in found if term is not None)


def has_terms(terms: bytes, wanted: Sequence[bytes]) -> bool:
    """Whether a record's terms, joined as bytes, include all wanted ones."""
    return not wanted or {terms[at : at + TERM_BYTES] for at in range(0, len(terms), TERM_BYTES)}.issuperset(wanted)


def matches(metadata: Mapping[str, Any], filter_: Mapping[str, Any]) -> bool:
    """Whether every entry of the filter equals that of the metadata; None also matches a missing entry."""
    return all(_equal(metadata.get(key), value) for key, value in filter_.items())


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except (TypeError, ValueError, ArithmeticError):  # arrays have no single answer, a signalling NaN has none at all
        return False


def _term(key: str, value: Any) -> bytes | None:
    if isinstance(value, str):
        content = b"s" + value.encode("utf-8", "surrogatepass")
    elif isinstance(value, Number) or type(value).__name__ in _NUMPY_BOOLS:
        # Python promises equal hashes for equal numbers of any type (1, 1.0, True, Decimal(1)), in every process.
        try:
            content = b"n%d" % hash(value)
        except TypeError:  # a signalling NaN equals nothing
            return None
    else:
        return None
    name = str(key).encode("utf-8", "surrogatepass")
    return blake2b(len(name).to_bytes(4, "big") + name + content, digest_size=TERM_BYTES).digest()
