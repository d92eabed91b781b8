"""Ranges of keys as intervals of bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from atbr.tables.errors import BadKey

if TYPE_CHECKING:
    from atbr._core import KeyCodec


class Interval(NamedTuple):
    """Keys from `low` on and below `high`, if there is one.

    >>> Interval(b"a", b"b").low
    b'a'
    """

    low: bytes = b""
    high: bytes | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no key can be in it.

        >>> Interval(b"b", b"a").is_empty
        True
        """
        return self.high is not None and self.high <= self.low

    def beyond(self, key: bytes, reverse: bool) -> Interval:
        r"""Return what is left of it after `key`, in the direction of a scan.

        >>> Interval(b"a", b"z").beyond(b"c", reverse=False)
        Interval(low=b'c\x00', high=b'z')
        """
        if reverse:
            return self if self.high is not None and self.high <= key else Interval(self.low, key)
        return Interval(max(self.low, key + b"\x00"), self.high)

    def where(self, begin: str, mark: str) -> tuple[str, tuple[bytes, ...]]:
        """Return it as conditions of SQL on k that begin with `begin`, and the values for their marks.

        >>> Interval(b"a", b"b").where("WHERE", "?")
        (' WHERE k >= ? AND k < ?', (b'a', b'b'))
        """
        if self.high is None:
            return (f" {begin} k >= {mark}", (self.low,)) if self.low else ("", ())
        return f" {begin} k >= {mark} AND k < {mark}", (self.low, self.high)


ALL = Interval()


def intervals_of(codec: KeyCodec, ranges: Iterable[Any]) -> list[Interval]:
    """Return the intervals of some ranges, in order and without overlap; all keys for no range.

    Raises:
        BadKey: A range is no pair, or an end does not fit the table.
    """
    intervals = [_interval_of(codec, each) for each in ranges]
    if not intervals:
        return [ALL]
    merged: list[Interval] = []
    for each in sorted((each for each in intervals if not each.is_empty), key=lambda i: i.low):
        last = merged[-1] if merged else None
        if last is None or (last.high is not None and last.high < each.low):
            merged.append(each)
        elif last.high is not None and (each.high is None or each.high > last.high):
            merged[-1] = Interval(last.low, each.high)
    return merged


def _interval_of(codec: KeyCodec, ends: Any) -> Interval:
    try:
        low, high = ends
    except (TypeError, ValueError):
        raise BadKey(f"a range must be (first, last), not {ends!r}") from None
    return Interval(
        b"" if low is None else codec.encode_prefix(low),
        # Every key that extends a prefix is below the prefix and ff; () extends to all.
        None if high is None or high == () else codec.encode_prefix(high) + b"\xff",
    )
