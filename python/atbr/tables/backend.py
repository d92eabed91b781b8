"""The contract between a table and its engine. A backend knows bytes only: no tuple, no schema.

Whoever writes one runs `atbr.tables.conformance` against it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from atbr._core import cut_pairs
from atbr.tables.errors import NotSupported
from atbr.tables.ranges import Interval

Pair = tuple[bytes, bytes]
Write = tuple[bytes, "bytes | None"]
T = TypeVar("T")
Fetch = Callable[[Interval, int], "list[Pair]"]
Page = tuple["list[T]", bytes, int]

if TYPE_CHECKING:
    from atbr._core import KeyCodec

# A page is some hundred kilobytes, whatever the size of a row.
PAGE_BYTES = 512 * 1024
FIRST_PAGE = 16
LARGEST_PAGE = 8_192
SAMPLED = 64
# What one request carries at most.
CHUNK_ROWS = 1_000
CHUNK_BYTES = 1024 * 1024


class Backend(ABC):
    """One namespace of one engine; any method may be called from any thread.

    Keys and values are bytes, tables the names that `create` was given. An engine that does not
    answer is a BackendUnavailable; no other exception of a driver comes through.
    """

    scheme: ClassVar[str]
    #: Whether `write` is one step: all of it is seen, or nothing.
    atomic: ClassVar[bool]
    has_ttl: ClassVar[bool] = False
    #: Whether another process can use the same tables, so that a handle may be pickled.
    shared: ClassVar[bool] = True
    #: How many keys `get_many` is best asked for at once, where values are small.
    read_rows: ClassVar[int] = 4_000
    max_key: ClassVar[int] = 65_535
    max_value: ClassVar[int]

    @abstractmethod
    def schemas(self) -> dict[str, str]:
        """Return the text of each table's schema."""

    @abstractmethod
    def create(self, tables: dict[str, str]) -> None:
        """Make tables and keep the texts; of two that do so at once, one text stays."""

    @abstractmethod
    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each key, or None; keys may come twice."""

    def encoded(self, codec: KeyCodec, keys: list[Any]) -> Any:
        """Return the keys in the form that `values_of` takes, all of them checked."""
        return codec.encode_many(keys)

    def values_of(self, table: str, encoded: Any) -> list[bytes | None]:
        """Return what `get_many` returns, of keys that `encoded` has made."""
        return self.get_many(table, encoded)

    @abstractmethod
    def put_many(self, table: str, pairs: list[Pair], ttl: float | None = None) -> None:
        """Store pairs; of equal keys the last stays."""

    @abstractmethod
    def delete_many(self, table: str, keys: list[bytes]) -> None:
        """Remove keys; a missing one is no error."""

    def write(self, table: str, writes: list[Write]) -> None:
        """Store or remove (None) distinct keys; in one step if `atomic`, else as here."""
        puts = [(key, value) for key, value in writes if value is not None]
        deletes = [key for key, value in writes if value is None]
        if puts:
            self.put_many(table, puts)
        if deletes:
            self.delete_many(table, deletes)

    @abstractmethod
    def scan(
        self, table: str, interval: Interval, *, reverse: bool, keys_only: bool, limit: int | None
    ) -> Iterator[list[Pair]]:
        """Yield pages of entries in order; with `keys_only` the values are empty.

        `limit` is a hint: no more will be looked at. A key that is there from the first page to
        the last comes exactly once.
        """

    def rows(
        self,
        table: str,
        codec: KeyCodec,
        interval: Interval,
        *,
        reverse: bool,
        keys_only: bool,
        limit: int | None,
    ) -> Iterator[list[Any]]:
        """Yield pages of what `scan` yields, decoded: (tuple, value) pairs, or tuples.

        Where the rows are in this process they can be decoded without becoming bytes objects first.
        """
        pages = self.scan(table, interval, reverse=reverse, keys_only=keys_only, limit=limit)
        for page in pages:
            if keys_only:
                yield codec.decode_many([key for key, _ in page])
            else:
                yield codec.decode_pairs(page)

    def lifetimes(self, table: str, keys: list[bytes]) -> list[int | None]:
        """Return the seconds left of each key's ttl: None without one, 0 where the key is gone."""
        return [None] * len(keys)

    @abstractmethod
    def count(self, table: str, interval: Interval) -> int:
        """Return how many keys there are."""

    @abstractmethod
    def delete_range(self, table: str, interval: Interval) -> int:
        """Remove keys; return how many there were."""

    @abstractmethod
    def pop(self, table: str, key: bytes) -> bytes | None:
        """Remove a key; return its value, or None. One step."""

    @abstractmethod
    def compare_and_set(
        self, table: str, key: bytes, expected: bytes | None, new: bytes | None
    ) -> bool:
        """Store or remove (None) if the value is `expected` (None: missing). One step."""

    @abstractmethod
    def increment(self, table: str, key: bytes, delta: int) -> int:
        """Add to a decimal integer, 0 if missing; return the sum. One step.

        Raises:
            ValueError: The value is no decimal 64-bit integer.
            OverflowError: The sum is none.
        """

    @abstractmethod
    def drop_namespace(self) -> None:
        """Forget every table and schema."""

    def clear(self, table: str) -> None:
        """Remove every key."""
        self.delete_range(table, Interval())

    @abstractmethod
    def close(self) -> None:
        """Let go of connections; closing twice is fine."""

    def refuse_ttl(self, ttl: float | None) -> None:
        """Raise NotSupported if there is a ttl and the engine has none."""
        if ttl is not None and not self.has_ttl:
            raise NotSupported(f"ttl=: {self.scheme}:// has none; cassandra:// has")


def pages(
    fetch: Fetch,
    interval: Interval,
    *,
    reverse: bool,
    limit: int | None,
    largest: int = LARGEST_PAGE,
) -> Iterator[list[Pair]]:
    """Yield pages by the last key of the one before; sizes follow the rows' bytes.

    Because each page begins beyond the last key, writes meanwhile make no key come twice or not at
    all.
    """

    def measured(rest: Interval, size: int) -> Page[Pair]:
        rows = fetch(rest, size)
        # Some rows say enough of all: their lengths are asked for a page at a time.
        sample = rows[:: len(rows) // SAMPLED + 1]
        bytes_of_sample = sum(len(key) + len(value) for key, value in sample)
        total = bytes_of_sample * len(rows) // max(1, len(sample))
        return rows, rows[-1][0] if rows else b"", total

    return paged(measured, interval, reverse=reverse, limit=limit, largest=largest)


def paged(
    fetch: Callable[[Interval, int], Page[T]],
    interval: Interval,
    *,
    reverse: bool,
    limit: int | None,
    largest: int = LARGEST_PAGE,
) -> Iterator[list[T]]:
    """Yield the rows of pages; `fetch` returns them, the last one's key, and the bytes of all."""
    size = FIRST_PAGE
    left = limit
    while not interval.is_empty:
        wanted = size if left is None else min(size, left)
        if wanted == 0:
            return
        rows, last, total = fetch(interval, wanted)
        if rows:
            yield rows
            interval = interval.beyond(last, reverse)
        if len(rows) < wanted:
            return
        if left is not None:
            left -= len(rows)
        size = next_size(len(rows), total, size, largest)


def next_size(rows: int, total: int, size: int, largest: int = LARGEST_PAGE) -> int:
    """Return how many rows the next page may have: four times as many while they are small.

    >>> next_size(16, 1_000, 16), next_size(16, 10**8, 16)
    (64, 1)
    """
    return max(1, min(size * 4, PAGE_BYTES * rows // (total + 1), largest))


def chunks(pairs: list[Pair], rows: int = CHUNK_ROWS, size: int = CHUNK_BYTES) -> list[list[Pair]]:
    """Cut pairs into requests of bounded rows and bytes.

    >>> chunks([(b"a", b""), (b"b", b""), (b"c", b"")], rows=2)
    [[(b'a', b''), (b'b', b'')], [(b'c', b'')]]
    """
    return cut_pairs(pairs, rows, size)


def distinct(pairs: list[Pair]) -> list[Pair]:
    """Return pairs without those that a later one of the same key replaces.

    >>> distinct([(b"a", b"1"), (b"a", b"2")])
    [(b'a', b'2')]
    """
    last = dict(pairs)
    return pairs if len(last) == len(pairs) else list(last.items())
