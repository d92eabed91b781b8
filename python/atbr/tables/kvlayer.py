"""`KVLayerClient`: kvlayer's own words, so that a program written for it ports by its import line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from atbr.tables.database import Database, connect
from atbr.tables.errors import BadKey, ConfigurationError, NotSupported
from atbr.tables.ordered import Key, Range
from atbr.tables.schema import TableSchema
from atbr.tables.table import Table

_TYPES: dict[str, type] = {
    "bytes": bytes,
    "int": int,
    "float": float,
    "COUNTER": int,
    "ACCUMULATOR": float,
}


class KVLayerClient:
    """A client with kvlayer's methods on any engine of `atbr.tables`.

    Args:
        url_or_config: As for `connect`; a mapping may be kvlayer's configuration.
        app_name: Overrides the configuration's.
        namespace: Overrides the configuration's.
        options: As for `connect`.

    Differences from kvlayer: a bad key or value is refused before anything of the call is
    written; every range of a scan counts, on every engine; str keys are text and bytes keys bytes;
    an int or float value has 64 bits, and is stored as its text.

    >>> import uuid
    >>> client = KVLayerClient({"storage_type": "local"}, app_name="app", namespace="name")
    >>> client.setup_namespace({"table": (str,), "ids": 2})
    >>> client.put("table", (("foo",), b"one"), (("bar",), b"two"))
    >>> list(client.get("table", ("foo",), ("none",)))
    [(('foo',), b'one'), (('none',), None)]
    >>> list(client.scan("table", (("a",), ("e",))))
    [(('bar',), b'two')]
    >>> client.delete("table", ("foo",))
    >>> list(client.scan_keys("table"))
    [('bar',)]

    """

    def __init__(
        self,
        url_or_config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        app_name: str | None = None,
        namespace: str | None = None,
        **options: Any,
    ) -> None:
        self._db: Database = connect(
            url_or_config, app_name=app_name, namespace=namespace, **options
        )

    def setup_namespace(
        self, table_names: Mapping[str, Any], value_types: Mapping[str, Any] | None = None
    ) -> None:
        """Make tables; those that are there stay.

        Args:
            table_names: For each table a tuple of types, or a number of UUIDs.
            value_types: bytes (the default), int, float, COUNTER or ACCUMULATOR.

        Raises:
            SchemaMismatch: A table is there with other types.
            ConfigurationError: A name or a type is none.

        >>> client = _client()
        >>> client.setup_namespace({"pairs": 2}, {"pairs": int})

        """
        # kvlayer wrote str where it meant bytes.
        types = {name: bytes if kind is str else kind for name, kind in (value_types or {}).items()}
        known = {name: kind for name, kind in types.items() if name in table_names}
        self._db.setup_namespace(table_names, known)

    def put(self, table_name: str, *keys_and_values: tuple[Key, Any], **_kwargs: Any) -> None:
        """Store (key, value) pairs. Nothing is written if one of them is bad.

        Raises:
            BadKey: A key is not of the table's shape, or a value not of its type.

        >>> _client().put("table", (("a",), b"1"))

        """
        table = self._db[table_name]
        pairs = [(key, _to_bytes(table, value)) for key, value in map(_pair, keys_and_values)]
        table.put_many(pairs)

    def get(self, table_name: str, *keys: Key, **_kwargs: Any) -> Iterator[tuple[Key, Any]]:
        """Yield (key, value) in order, with None for a missing key. Lazy.

        >>> list(_client().get("table", ("none",)))
        [(('none',), None)]
        """
        table = self._db[table_name]
        found = table.get_many(keys)
        return ((key, _from_bytes(table, value)) for key, value in found)

    def scan(
        self, table_name: str, *key_ranges: Range, **_kwargs: Any
    ) -> Iterator[tuple[Key, Any]]:
        """Yield (key, value) of some ranges in the order of the keys. Lazy.

        Both ends are inclusive, a partial tuple stands for all keys that begin with it, None and
        () for no bound.

        >>> list(_client().scan("table"))
        []
        """
        table = self._db[table_name]
        return ((key, _from_bytes(table, value)) for key, value in table.scan(*key_ranges))

    def scan_keys(self, table_name: str, *key_ranges: Range, **_kwargs: Any) -> Iterator[Key]:
        """Yield the keys that `scan` yields.

        >>> list(_client().scan_keys("table", (("a",), None)))
        []
        """
        return self._db[table_name].scan_keys(*key_ranges)

    def delete(self, table_name: str, *keys: Key, **_kwargs: Any) -> None:
        """Remove keys; a missing one is no error.

        >>> _client().delete("table", ("none",))
        """
        self._db[table_name].delete_many(keys)

    def increment(self, table_name: str, *keys_and_values: tuple[Key, float]) -> None:
        """Add to the values of keys, each as one step; a missing key counts as 0.

        Raises:
            NotSupported: The table is not of COUNTER or ACCUMULATOR values.
            BadKey: A key is not of the table's shape, or a number not of its type.

        >>> from atbr.tables import COUNTER
        >>> client = _client()
        >>> client.setup_namespace({"hits": (str,)}, {"hits": COUNTER})
        >>> client.increment("hits", (("a",), 1), (("b",), 5))
        >>> list(client.scan("hits"))
        [(('a',), 1), (('b',), 5)]

        """
        table = self._db[table_name]
        if table.schema.values not in ("COUNTER", "ACCUMULATOR"):
            raise NotSupported(f"table {table_name!r} has values {table.schema.values}, no counter")
        pairs = [_pair(pair) for pair in keys_and_values]
        for key, number in pairs:
            _to_bytes(table, number)
            table._codec.encode(key)
        for key, number in pairs:
            if table.schema.values == "COUNTER":
                table.increment(key, number)
            else:
                _accumulate(table, key, number)

    def clear_table(self, table_name: str) -> None:
        """Remove every key of a table.

        >>> _client().clear_table("table")
        """
        self._db[table_name].clear()

    def delete_namespace(self) -> None:
        """Forget every table of the namespace.

        >>> _client().delete_namespace()
        """
        self._db.delete_namespace()

    def shutdown(self) -> None:
        """Let go of connections; kvlayer's other word for it is `close`.

        >>> _client().shutdown()
        """
        self._db.close()

    close = shutdown

    def __enter__(self) -> KVLayerClient:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.shutdown()


def client(
    config: str | Mapping[str, Any] | None = None,
    app_name: str | None = None,
    namespace: str | None = None,
) -> KVLayerClient:
    """Return a client, as `kvlayer.client()` does.

    >>> client({"storage_type": "local"}, "app", "name").close()
    """
    return KVLayerClient(config, app_name, namespace)


def _pair(pair: Any) -> tuple[Any, Any]:
    if isinstance(pair, (tuple, list)) and len(pair) == 2:
        return pair[0], pair[1]
    raise BadKey(f"a pair must be (key, value), not {pair!r}")


def _to_bytes(table: Table, value: Any) -> bytes:
    kind = _TYPES[table.schema.values]
    if kind is bytes:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            if not -(2**63) <= value < 2**63:
                raise BadKey(f"value {value} of table {table.name!r} is beyond 64 bits")
            return b"%d" % value
    elif isinstance(value, float):
        return repr(value).encode()
    raise BadKey(
        f"a value of table {table.name!r} must be {kind.__name__}, not {type(value).__name__}"
    )


def _from_bytes(table: Table, value: bytes | None) -> Any:
    kind = _TYPES[table.schema.values]
    return value if value is None or kind is bytes else kind(value)


def _accumulate(table: Table, key: Key, number: float) -> None:
    while True:
        before = table.get(key)
        total = (0.0 if before is None else float(before)) + number
        if table.compare_and_set(key, before, repr(total).encode()):
            return


def _client() -> KVLayerClient:
    """Return a client for the examples above.

    >>> _client().close()
    """
    made = KVLayerClient("local://", app_name="app", namespace="name")
    made.setup_namespace({"table": (str,)})
    return made


__all__ = ["BadKey", "ConfigurationError", "KVLayerClient", "TableSchema", "client"]
