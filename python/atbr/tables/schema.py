"""What the keys and values of a table are: given as types, stored as text, checked by the codec."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Union, get_args, get_origin
from uuid import UUID

from atbr.tables.errors import ConfigurationError, SchemaMismatch

# The bits are those of the compiled codec (src/python/tables/kinds.rs).
KINDS: dict[Any, int] = {
    type(None): 1,
    bytes: 2,
    str: 4,
    int: 8,
    float: 16,
    bool: 32,
    UUID: 64,
    datetime: 128,
    tuple: 256,
}
NAMES = {1: "None", 2: "bytes", 4: "str", 8: "int", 16: "float", 32: "bool", 64: "UUID"} | {
    128: "datetime",
    256: "tuple",
}
MAX_COLUMNS = 50
MAX_NAME = 40
_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{MAX_NAME - 1}}}")


class COUNTER:
    """The value type of integers that `increment` adds to.

    >>> from atbr.tables import KVLayerClient
    >>> client = KVLayerClient("local://", app_name="app", namespace="counts")
    >>> client.setup_namespace({"hits": (str,)}, {"hits": COUNTER})
    >>> client.increment("hits", (("home",), 2))
    >>> list(client.get("hits", ("home",)))
    [(('home',), 2)]
    """


class ACCUMULATOR:
    """The value type of floating-point numbers that `increment` adds to.

    >>> from atbr.tables import KVLayerClient
    >>> client = KVLayerClient("local://", app_name="app", namespace="sums")
    >>> client.setup_namespace({"spent": (str,)}, {"spent": ACCUMULATOR})
    >>> client.increment("spent", (("home",), 0.5))
    >>> list(client.get("spent", ("home",)))
    [(('home',), 0.5)]
    """


VALUES: dict[Any, str] = {
    bytes: "bytes",
    int: "int",
    float: "float",
    COUNTER: "COUNTER",
    ACCUMULATOR: "ACCUMULATOR",
}


class TableSchema(NamedTuple):
    """The kinds of each part of a key, one bit a kind, and the name of the type of the values.

    >>> TableSchema.of("users", (str, int | None)).text
    '(str, int | None) -> bytes'
    >>> TableSchema.parse('(str, int | None) -> bytes').columns
    (4, 9)

    """

    columns: tuple[int, ...]
    values: str = "bytes"

    @classmethod
    def of(cls, table: str, parts: object, values: object = bytes) -> TableSchema:
        """Read what `setup_namespace` is given: a tuple of types, or a number of UUIDs.

        Raises:
            ConfigurationError: It is neither, or a type has no place in a key.

        >>> TableSchema.of("edges", 2).text
        '(UUID, UUID) -> bytes'

        """
        if isinstance(parts, int) and not isinstance(parts, bool):
            parts = (UUID,) * min(parts, MAX_COLUMNS + 1)
        if not isinstance(parts, tuple):
            raise ConfigurationError(
                f"table {table!r}: its keys must be a tuple of types or a number of UUIDs, "
                f"not {parts!r}"
            )
        if not 1 <= len(parts) <= MAX_COLUMNS:
            raise ConfigurationError(f"table {table!r}: keys have 1 to {MAX_COLUMNS} parts")
        if values not in VALUES:
            raise ConfigurationError(
                f"table {table!r}: values must be {', '.join(VALUES.values())}, not {values!r}"
            )
        return cls(tuple(_kinds(table, part) for part in parts), VALUES[values])

    @classmethod
    def parse(cls, text: str) -> TableSchema:
        """Read what `text` gave.

        >>> TableSchema.parse("(UUID) -> int").values
        'int'
        """
        keys, _, values = text.partition(" -> ")
        bits = {name: bit for bit, name in NAMES.items()}
        columns = (
            sum(bits[name] for name in column.split(" | ")) for column in keys[1:-1].split(", ")
        )
        return cls(tuple(columns), values)

    @property
    def text(self) -> str:
        """The schema as text, the same for the same schema."""
        return f"{self.keys_text} -> {self.values}"

    @property
    def keys_text(self) -> str:
        """The types of the key as text.

        >>> TableSchema((4, 8)).keys_text
        '(str, int)'
        """
        return f"({', '.join(_names(column) for column in self.columns)})"

    def check_same(self, table: str, wanted: TableSchema) -> None:
        """Compare the stored schema with what a program asks for.

        Raises:
            SchemaMismatch: They differ.

        >>> TableSchema((4,)).check_same("users", TableSchema((4,)))
        """
        if self.columns != wanted.columns:
            raise SchemaMismatch(
                f"table {table!r} has keys {self.keys_text}, not {wanted.keys_text}"
            )
        if self.values != wanted.values:
            raise SchemaMismatch(f"table {table!r} has values {self.values}, not {wanted.values}")


def check_name(field: str, name: object) -> str:
    """Return `name` if every engine takes it as part of a name.

    Raises:
        ConfigurationError: It is no str of 1 to 40 letters, digits, `_` and `-`.

    >>> check_name("app_name", "my-app")
    'my-app'
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ConfigurationError(
        f"{field}: {name!r} is no name of 1 to {MAX_NAME} letters, digits, '_' and '-'"
    )


def read_schemas(
    tables: Mapping[str, object], value_types: Mapping[str, object]
) -> dict[str, TableSchema]:
    """Read the arguments of `setup_namespace`, all of them before any is used.

    >>> read_schemas({"users": (str,)}, {})
    {'users': TableSchema(columns=(4,), values='bytes')}
    """
    if not isinstance(tables, Mapping):
        raise ConfigurationError(f"tables: {tables!r} is no mapping of names to types")
    unknown = set(value_types) - set(tables)
    if unknown:
        raise ConfigurationError(f"value_types: no table {min(unknown)!r} is being set up")
    return {
        check_name("table", name): TableSchema.of(name, parts, value_types.get(name, bytes))
        for name, parts in tables.items()
    }


def _kinds(table: str, part: object) -> int:
    if part in KINDS:
        return KINDS[part]
    if part is None:
        return KINDS[type(None)]
    # kvlayer writes (int, long) for one part; a tuple of types is their union.
    several = part if isinstance(part, tuple) else ()
    if get_origin(part) in (Union, types.UnionType):
        several = get_args(part)
    if several and all(each is None or each in KINDS for each in several):
        bits = 0
        for each in several:
            bits |= KINDS[type(None) if each is None else each]
        return bits
    name = getattr(part, "__name__", None) or repr(part)
    raise ConfigurationError(
        f"table {table!r}: {name} is no type of a key; there are {', '.join(NAMES.values())}"
    )


def _names(kinds: int) -> str:
    bits = sorted((bit for bit in NAMES if kinds & bit), key=lambda bit: (bit == 1, bit))
    return " | ".join(NAMES[bit] for bit in bits)
