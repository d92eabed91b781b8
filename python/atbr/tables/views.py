"""Live views of a table's items and values: as a mapping's, but they iterate by scan."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atbr.tables.table import Table


class TableItems(ItemsView[tuple[Any, ...], bytes]):
    """The (key, value) pairs of a table.

    >>> from atbr.tables.ordered import _users
    >>> (("a", 1), b"1") in TableItems(_users({("a", 1): b"1"}))
    True
    """

    _mapping: Table

    def __iter__(self) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        return self._mapping.scan()

    def __reversed__(self) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        return self._mapping.scan(reverse=True)


class TableValues(ValuesView[bytes]):
    """The values of a table, in the order of their keys.

    >>> from atbr.tables.ordered import _users
    >>> b"1" in TableValues(_users({("a", 1): b"1"}))
    True
    """

    _mapping: Table

    def __iter__(self) -> Iterator[bytes]:
        return (value for _, value in self._mapping.scan())

    def __contains__(self, value: object) -> bool:
        return any(value == each for each in self)

    def __reversed__(self) -> Iterator[bytes]:
        return (value for _, value in self._mapping.scan(reverse=True))
