"""Durable, interchangeable persistence for LangGraph graphs: the saver, the store interface, and SQLite."""

from checkpoint_base.errors import (
    CheckpointError,
    ConflictError,
    CorruptCheckpoint,
    InvalidKey,
    SchemaMismatch,
    SerializationError,
    StoreUnavailable,
    UnsupportedOperation,
)
from checkpoint_base.importing import aimport_thread, import_thread
from checkpoint_base.listings import CheckpointInfo, PendingInterrupt, ThreadInfo
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.serializer import ExactSerializer
from checkpoint_base.sqlite import SQLiteSaver
from checkpoint_base.store import CheckpointStore
from checkpoint_base.transfers import atransfer, transfer
from checkpoint_base.urls import open_saver

__all__ = [
    "CheckpointError",
    "CheckpointInfo",
    "CheckpointSaver",
    "CheckpointStore",
    "ConflictError",
    "CorruptCheckpoint",
    "ExactSerializer",
    "InvalidKey",
    "PendingInterrupt",
    "SQLiteSaver",
    "SchemaMismatch",
    "SerializationError",
    "StoreUnavailable",
    "ThreadInfo",
    "UnsupportedOperation",
    "aimport_thread",
    "atransfer",
    "import_thread",
    "open_saver",
    "transfer",
]
