"""The stored format: msgpack, with one extension for each kind of value that msgpack has no type for.

The payload of an extension is msgpack again, an array where nothing else is said. A code or a name that was ever
written keeps its meaning: add some, never renumber. 0 to 7 mean something else in LangGraph's own format.
"""

from __future__ import annotations

from typing import Final

TAG: Final = "msgpack.exact"

# Containers.
TEXT: Final = 16  # a str with lone surrogates; no msgpack but its UTF-8, where Python's "surrogatepass" encodes these
BYTEARRAY: Final = 17  # no msgpack but its content
TUPLE: Final = 18  # [element, ...]
SET: Final = 19  # [element, ...]
FROZENSET: Final = 20  # [element, ...]
DICT: Final = 21  # [key, value, key, value, ...], with keys other than texts; any other dict is a map
ORDERED_DICT: Final = 22  # [key, value, key, value, ...]
DEFAULT_DICT: Final = 23  # [name of the factory or nil, key, value, key, value, ...]
DEQUE: Final = 24  # [maxlen or nil, element, ...]
COUNTER: Final = 25  # [key, count, key, count, ...]
# A list whose first element is a pydantic model: [row, ...]. A row is [kind, map of the fields], where a kind is JSON:
# [module, qualified name, set names]; or [nil, element] for one that is no model or holds more than fields. In the
# payload of another extension it stands for the array of these elements.
MODELS: Final = 26

# Values of libraries.
SNAPSHOT: Final = 32  # LangGraph's _DeltaSnapshot; no array but its value, so that a list's begins with a list's header
LEAF: Final = 33  # [name of the kind, part, ...]; `leaves.LEAVES` tells the kinds and their parts
ARRAY: Final = 34  # [dtype as numpy writes it, shape, "C" or "F", content]
NUMPY_SCALAR: Final = 35  # the same, with the shape []

# Instances of classes: [module, qualified name, plain value], and a map of what else the instance holds, if anything:
# "attributes" (that are no fields), "absent" (fields without a value), and what pydantic keeps: "set" (the fields that
# were set), "extra", "private".
MODEL: Final = 48  # pydantic; plain is a map of the fields, as for the next four
MODEL_V1: Final = 49
DATACLASS: Final = 50
NAMED_TUPLE: Final = 51
SLOTTED: Final = 52  # LangGraph's Send and Item
ENUM: Final = 53  # plain is the member's value
BUILTIN: Final = 54  # a subclass of a builtin; plain is the builtin's value
SECRET: Final = 55  # pydantic's SecretStr and SecretBytes; plain is what they hide
