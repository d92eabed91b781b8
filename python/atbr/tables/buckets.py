"""Tables cut into buckets, so that an engine can spread one table over its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import TypeVar
from zlib import crc32

from atbr._core import bucket_positions
from atbr.tables.backend import Pair

T = TypeVar("T")
MERGED_PAGE = 1_000


def bucket_of(key: bytes, buckets: int) -> int:
    """Return the bucket of a key, the same for ever.

    >>> bucket_of(b"key", 1), bucket_of(b"key", 16)
    (0, 9)
    """
    return crc32(key) % buckets if buckets > 1 else 0


def by_bucket(items: list[T], keys: list[bytes], buckets: int) -> dict[int, list[T]]:
    """Return the items of each bucket, in order; each has its key at the same place of `keys`.

    >>> by_bucket(["one", "two", "three"], [b"key", b"a", b"key"], 16)
    {3: ['two'], 9: ['one', 'three']}
    """
    if buckets == 1:
        return {0: items}
    return {
        number: [items[position] for position in positions]
        for number, positions in enumerate(bucket_positions(keys, buckets))
        if positions
    }


def pairs_by_bucket(pairs: list[Pair], buckets: int) -> dict[int, list[Pair]]:
    """Return the pairs of each bucket, in order.

    >>> pairs_by_bucket([(b"key", b"1")], 16)
    {9: [(b'key', b'1')]}
    """
    return by_bucket(pairs, [key for key, _ in pairs] if buckets > 1 else [], buckets)


def merged(scans: list[Iterator[list[Pair]]], reverse: bool) -> Iterator[list[Pair]]:
    """Merge the pages of buckets, each in order, to pages in order.

    >>> list(merged([iter([[(b"a", b""), (b"c", b"")]]), iter([[(b"b", b"")]])], False))
    [[(b'a', b''), (b'b', b''), (b'c', b'')]]
    """
    if len(scans) == 1:
        yield from scans[0]
        return
    rows = merge(*(_flat(scan) for scan in scans), reverse=reverse)
    while page := list(islice(rows, MERGED_PAGE)):
        yield page


def _flat(pages: Iterator[list[Pair]]) -> Iterator[Pair]:
    for page in pages:
        yield from page
