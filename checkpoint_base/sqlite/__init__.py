"""The embedded store: one SQLite file, shared by any number of threads, event loops and processes."""

from checkpoint_base.sqlite.saver import SQLiteSaver
from checkpoint_base.sqlite.store import SQLiteStore
from checkpoint_base.sqlite.transport import SQLiteTransport

__all__ = ["SQLiteSaver", "SQLiteStore", "SQLiteTransport"]
