"""What a table has because its keys are in order: scans of ranges, counts, iteration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from atbr._core import KeyCodec
from atbr.tables.backend import Backend
from atbr.tables.ranges import ALL, Interval, intervals_of

if TYPE_CHECKING:
    from atbr.tables.table import Table

Key = tuple[Any, ...]
Range = tuple["Key | None", "Key | None"]


class OrderedTable(MutableMapping[Key, bytes]):
    """The part of `Table` that reads and removes by ranges.

    >>> list(_users({("b", 1): b"2", ("a", 1): b"1"}))
    [('a', 1), ('b', 1)]
    """

    __slots__ = ("_backend", "_codec", "_name")
    __hash__ = None  # type: ignore[assignment]
    _backend: Backend
    _codec: KeyCodec
    _name: str

    def scan(
        self,
        *ranges: Range,
        limit: int | None = None,
        reverse: bool = False,
        after: Key | None = None,
    ) -> Iterator[tuple[Key, bytes]]:
        """Yield the entries of some ranges, or of the whole table, in the order of their keys.

        Args:
            ranges: Pairs (first, last), both inclusive. A partial tuple stands for all keys that
                begin with it; None and () for no bound. Where ranges overlap, a key comes once.
            limit: How many to yield at most.
            reverse: From the last key to the first.
            after: Go on beyond this key, in the direction of the scan.

        Lazy, a page at a time, in constant memory. Writes may go on meanwhile: a key that is there
        throughout comes exactly once.

        >>> users = _users({("a", 1): b"1", ("a", 2): b"2", ("b", 1): b"3"})
        >>> list(users.scan((("a", 2), None)))
        [(('a', 2), b'2'), (('b', 1), b'3')]
        >>> list(users.scan(reverse=True, limit=1))
        [(('b', 1), b'3')]
        >>> list(users.scan(after=("a", 2)))
        [(('b', 1), b'3')]

        """
        intervals = self._intervals(ranges, limit, reverse, after)
        return self._rows(intervals, limit, reverse, keys_only=False)

    def scan_keys(
        self,
        *ranges: Range,
        limit: int | None = None,
        reverse: bool = False,
        after: Key | None = None,
    ) -> Iterator[Key]:
        """Yield the keys that `scan` yields entries of, without fetching values.

        >>> list(_users({("a", 1): b"1", ("b", 1): b"2"}).scan_keys((("b",), ())))
        [('b', 1)]
        """
        intervals = self._intervals(ranges, limit, reverse, after)
        return self._rows(intervals, limit, reverse, keys_only=True)

    def count(self, *ranges: Range) -> int:
        """Return how many keys some ranges have, or the table.

        O(1) round trips, but O(keys) work on SQLite, PostgreSQL and Cassandra.

        >>> _users({("a", 1): b"1", ("b", 1): b"2"}).count((("b",), ("b",)))
        1
        """
        intervals = intervals_of(self._codec, ranges)
        return sum(self._backend.count(self._name, interval) for interval in intervals)

    def delete_range(self, *ranges: Range) -> int:
        """Remove the keys of some ranges; return how many. No range is an error: `clear()` is that.

        >>> users = _users({("a", 1): b"1", ("b", 1): b"2"})
        >>> users.delete_range((("a",), ("a",))), list(users)
        (1, [('b', 1)])
        """
        if not ranges:
            raise TypeError("delete_range() needs a range; clear() removes everything")
        intervals = intervals_of(self._codec, ranges)
        return sum(self._backend.delete_range(self._name, interval) for interval in intervals)

    def __iter__(self) -> Iterator[Key]:
        return self.scan_keys()

    def __reversed__(self) -> Iterator[Key]:
        return self.scan_keys(reverse=True)

    def __len__(self) -> int:
        return self._backend.count(self._name, ALL)

    def __bool__(self) -> bool:
        return any(True for _ in self.scan_keys(limit=1))

    def items(self) -> Any:
        """Return a view of the (key, value) pairs, which iterates by `scan`. O(1).

        >>> list(_users({("a", 1): b"1"}).items())
        [(('a', 1), b'1')]
        """
        from atbr.tables.views import TableItems

        return TableItems(self)

    def values(self) -> Any:
        """Return a view of the values in the order of their keys, which iterates by `scan`. O(1).

        >>> list(_users({("a", 1): b"1"}).values())
        [b'1']
        """
        from atbr.tables.views import TableValues

        return TableValues(self)

    def _intervals(
        self, ranges: Iterable[Range], limit: int | None, reverse: bool, after: Key | None
    ) -> list[Interval]:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            raise TypeError(f"limit must be int or None, not {type(limit).__name__}")
        if limit is not None and limit < 0:
            raise ValueError(f"limit must not be negative, and is {limit}")
        intervals = intervals_of(self._codec, ranges)
        if after is not None:
            key = self._codec.encode(after)
            intervals = [each.beyond(key, reverse) for each in intervals]
            intervals = [each for each in intervals if not each.is_empty]
        return intervals[::-1] if reverse else intervals

    def _rows(
        self, intervals: list[Interval], limit: int | None, reverse: bool, keys_only: bool
    ) -> Iterator[Any]:
        for interval in intervals:
            if limit == 0:
                return
            for page in self._backend.rows(
                self._name,
                self._codec,
                interval,
                reverse=reverse,
                keys_only=keys_only,
                limit=limit,
            ):
                if limit is None:
                    yield from page
                    continue
                yield from page[:limit]
                limit -= min(limit, len(page))
                if limit == 0:
                    return


def _users(entries: dict[Key, bytes] | None = None) -> Table:
    """Return a table for the examples above.

    >>> len(_users())
    0
    """
    from atbr.tables.database import connect

    db = connect("local://")
    db.setup_namespace({"users": (str, int)})
    db["users"].put_many(entries or {})
    return db["users"]
