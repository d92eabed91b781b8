"""Ordered tables with tuple keys: in RAM, or on the database that you outgrow one machine with.

>>> import atbr.tables
>>> with atbr.tables.connect("local://", app_name="docs", namespace="start") as db:
...     db.setup_namespace({"users": (str, int)})
...     users = db["users"]
...     users[("ada", 1)] = b"countess"
...     list(users.scan((("ada",), ("ada",))))
[(('ada', 1), b'countess')]
"""

from __future__ import annotations

from atbr._core import pack, unpack
from atbr.tables.batch import Batch
from atbr.tables.database import Database, connect
from atbr.tables.errors import (
    BackendUnavailable,
    BadKey,
    ConfigurationError,
    MissingDriver,
    NotSupported,
    SchemaMismatch,
    TablesError,
    UnknownTable,
)
from atbr.tables.kvlayer import KVLayerClient
from atbr.tables.schema import ACCUMULATOR, COUNTER, TableSchema
from atbr.tables.table import Table

__all__ = [
    "ACCUMULATOR",
    "COUNTER",
    "BackendUnavailable",
    "BadKey",
    "Batch",
    "ConfigurationError",
    "Database",
    "KVLayerClient",
    "MissingDriver",
    "NotSupported",
    "SchemaMismatch",
    "Table",
    "TableSchema",
    "TablesError",
    "UnknownTable",
    "connect",
    "pack",
    "unpack",
]
