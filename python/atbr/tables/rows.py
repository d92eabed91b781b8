"""Rows of TSV as pairs for a table: a column for each part of the key, then the value."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from atbr.tables.errors import ConfigurationError, TablesError
from atbr.tables.schema import NAMES, TableSchema

Pair = tuple[tuple[Any, ...], bytes]
NONE = 1


class RowError(TablesError, ValueError):
    """A row of a TSV file does not fit its table.

    Attributes:
        file: The file's name.
        line: The row's number, from 1.
        byte_offset: Where the row begins, in bytes from 0.

    >>> RowError("no value", "f.tsv", 3, 20).line
    3

    """

    def __init__(self, message: str, file: str, line: int, byte_offset: int) -> None:
        super().__init__(f"{file}: line {line} (byte {byte_offset}): {message}")
        self.file = file
        self.line = line
        self.byte_offset = byte_offset


def _bool(field: bytes) -> bool:
    if field in (b"true", b"false"):
        return field == b"true"
    raise ValueError(f"{field!r} is not true or false")


def _moment(field: bytes) -> datetime:
    text = field.decode()
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


_READERS: dict[str, Callable[[bytes], Any]] = {
    "str": bytes.decode,
    "bytes": bytes,
    "int": int,
    "float": float,
    "bool": _bool,
    "UUID": lambda field: UUID(field.decode()),
    "datetime": _moment,
}


def readers_of(table: str, schema: TableSchema) -> list[Callable[[bytes], Any]]:
    """Return a function for each part of the key that reads it from a field.

    An empty field is None where the table takes None.

    Raises:
        ConfigurationError: A part is a tuple, or one of several types.

    >>> [read(b"7") for read in readers_of("t", TableSchema.of("t", (str, int)))]
    ['7', 7]
    """
    found = []
    for number, kinds in enumerate(schema.columns):
        name = NAMES.get(kinds & ~NONE, "")
        if name not in _READERS:
            raise ConfigurationError(
                f"table {table!r}: part {number} of its key, {schema.keys_text}, has no form in TSV"
            )
        read = _READERS[name]
        found.append(_optional(read) if kinds & NONE else read)
    return found


def _optional(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    return lambda field: read(field) if field else None


def parse(
    block: bytes, readers: list[Callable[[bytes], Any]], file: str, offset: int
) -> list[Pair]:
    r"""Return the pairs of whole rows; later tabs belong to the value.

    Raises:
        RowError: A row has too few fields, or a field is not of its type.

    >>> parse(b"a\t1\tx\ty\n", [bytes.decode, int], "f.tsv", 0)
    [(('a', 1), b'x\ty')]
    """
    width = len(readers)
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    pairs: list[Pair] = []
    try:
        for line in lines:
            fields = line.split(b"\t", width)
            value = fields[width]
            pairs.append(
                (tuple([read(f) for read, f in zip(readers, fields, strict=False)]), value)
            )
    except (ValueError, IndexError) as error:
        bad = lines[len(pairs)]
        at = offset + sum(len(line) + 1 for line in lines[: len(pairs)])
        fields_there = bad.count(b"\t") + 1
        missing = f"it has {fields_there} fields, and needs {width + 1}"
        message = missing if isinstance(error, IndexError) else str(error)
        raise RowError(message, file, _line_number(file, at), at) from None
    return pairs


def _line_number(file: str, offset: int) -> int:
    count = 1
    with open(file, "rb") as stream:  # noqa: PTH123
        while offset > 0 and (some := stream.read(min(offset, 2**20))):
            count += some.count(b"\n")
            offset -= len(some)
    return count
