"""LangGraph checkpoints in dictionaries that the savers of a process share by name."""

from .saver import DictSaver, open_dict
from .store import DictStore
from .transport import DictTransport

__all__ = ["DictSaver", "DictStore", "DictTransport", "open_dict"]
