"""The stored format: msgpack, with one extension for each kind of value that msgpack has no type for.

The payload of an extension is itself msgpack: an array, unless the comment says otherwise. A code or a name that was
ever written keeps its meaning: add new ones, never renumber. LangGraph's own format uses 0 to 7 for something else.
"""

from __future__ import annotations

from typing import Final

TAG: Final = "msgpack.exact"

# Containers.
TEXT: Final = 16  # a str with lone surrogates; not msgpack, but UTF-8 with Python's "surrogatepass"
BYTEARRAY: Final = 17  # not msgpack, but the content
TUPLE: Final = 18  # [element, ...]
SET: Final = 19  # [element, ...]
FROZENSET: Final = 20  # [element, ...]
DICT: Final = 21  # [key, value, key, value, ...], if any key is not a str; any other dict is a map
ORDERED_DICT: Final = 22  # [key, value, key, value, ...]
DEFAULT_DICT: Final = 23  # [name of the factory or nil, key, value, key, value, ...]
DEQUE: Final = 24  # [maxlen or nil, element, ...]
COUNTER: Final = 25  # [key, count, key, count, ...]
# A list whose first element is a pydantic model: [row, ...]. A row is [kind, map of the fields]; the kind is JSON text,
# [module, qualified name, names of the fields that were set]. An element that is no model or holds more than fields has
# the row [nil, element]. As the payload of another extension, this stands for the array of its elements.
MODELS: Final = 26

# Values of libraries.
SNAPSHOT: Final = 32  # LangGraph's _DeltaSnapshot; not an array, but its value: a list can then be cut between elements
LEAF: Final = 33  # [name of the kind, part, ...]; see `leaves.LEAVES`
ARRAY: Final = 34  # [dtype as numpy writes it, shape, "C" or "F", content]
NUMPY_SCALAR: Final = 35  # as ARRAY, with the shape []

# Instances of classes: [module, qualified name, plain value], and a map of anything else that the instance holds:
# "attributes" (those that are not fields), "absent" (fields without a value), and what pydantic keeps: "set" (fields
# that were set), "extra", "private".
MODEL: Final = 48  # of pydantic; the plain value is a map of the fields, up to SLOTTED
MODEL_V1: Final = 49
DATACLASS: Final = 50
NAMED_TUPLE: Final = 51
SLOTTED: Final = 52  # LangGraph's Send and Item
ENUM: Final = 53  # the plain value is the member's
BUILTIN: Final = 54  # a subclass of a builtin; the plain value is the builtin's
SECRET: Final = 55  # pydantic's Secret, SecretStr and SecretBytes; the plain value is what they hide
URL: Final = 56  # pydantic's; the plain value is its text
