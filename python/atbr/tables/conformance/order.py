"""Ranges and scans: inclusive ends, prefixes, several ranges, limit, reverse, after, paging."""

from __future__ import annotations

import random
from typing import Any

from atbr.tables.conformance.base import Base, raises
from atbr.tables.errors import BadKey

Key = tuple[Any, ...]


def grid(width: int = 5, height: int = 6) -> list[Key]:
    """Return some keys of the table "pairs", in order.

    >>> grid(1, 2)
    [('a', 0), ('a', 1)]
    """
    return [(chr(97 + x), y) for x in range(width) for y in range(height)]


class Order(Base):
    """scan, scan_keys, count, delete_range."""

    def fill(self) -> list[Key]:
        """Store the grid in no order; return its keys."""
        keys = grid()
        shuffled = random.Random(5).sample(keys, len(keys))
        self.table("pairs").put_many((key, repr(key).encode()) for key in shuffled)
        return keys

    def test_ends_are_inclusive_and_partial_tuples_are_prefixes(self) -> None:
        keys = self.fill()
        table = self.table("pairs")
        cases: list[tuple[Key | None, Key | None, list[Key]]] = [
            (None, None, keys),
            ((), (), keys),
            (None, (), keys),
            (("b", 2), ("b", 2), [("b", 2)]),
            (("b", 2), ("c", 1), [k for k in keys if ("b", 2) <= k <= ("c", 1)]),
            (("b",), ("b",), [k for k in keys if k[0] == "b"]),
            (("b",), ("c", 1), [k for k in keys if ("b", -9) <= k <= ("c", 1)]),
            (("b", 2), ("c",), [k for k in keys if ("b", 2) <= k <= ("c", 9)]),
            (("d",), None, [k for k in keys if k[0] >= "d"]),
            (None, ("b", 0), [k for k in keys if k <= ("b", 0)]),
            (("aa",), ("b",), [k for k in keys if k[0] == "b"]),
            (("b", 99), ("b",), []),
            (("c",), ("b",), []),
            (("c", 3), ("c", 2), []),
            (("x",), None, []),
        ]
        for low, high, expected in cases:
            assert list(table.scan_keys((low, high))) == expected, (low, high)
            assert list(table.scan((low, high))) == [(k, repr(k).encode()) for k in expected]
            assert list(table.scan_keys((low, high), reverse=True)) == expected[::-1]
            assert table.count((low, high)) == len(expected)

    def test_several_ranges_come_in_order_and_each_key_once(self) -> None:
        keys = self.fill()
        table = self.table("pairs")
        ranges = [(("d",), ("d",)), (("a", 2), ("b", 3)), (("b",), ("b",)), (("z",), ("y",))]
        expected = [k for k in keys if k[0] in "bd" or k == ("a", 2) or ("a", 2) < k < ("b", 0)]
        assert list(table.scan_keys(*ranges)) == expected
        assert list(table.scan_keys(*ranges, reverse=True)) == expected[::-1]
        assert list(table.scan_keys(*ranges, limit=8)) == expected[:8]
        assert table.count(*ranges) == len(expected)
        assert table.count() == len(keys)

    def test_limit_reverse_and_after_go_together(self) -> None:
        keys = self.fill()
        table = self.table("pairs")
        for limit in (0, 1, 7, 1_000):
            assert list(table.scan_keys(limit=limit)) == keys[:limit]
            assert list(table.scan_keys(limit=limit, reverse=True)) == keys[::-1][:limit]
        at = keys.index(("c", 2))
        assert list(table.scan_keys(after=("c", 2))) == keys[at + 1 :]
        assert list(table.scan_keys(after=("c", 2), reverse=True)) == keys[:at][::-1]
        assert list(table.scan_keys(after=("bb", 0), limit=2)) == [("c", 0), ("c", 1)]
        only = list(table.scan((("a",), ("c",)), (("e",), None), after=("b", 4), limit=9))
        assert [key for key, _ in only] == [k for k in keys if k > ("b", 4) and k[0] != "d"][:9]
        read: list[Key] = []
        while page := list(table.scan_keys(limit=4, after=read[-1] if read else None)):
            read += page
        assert read == keys

    def test_bad_ranges_are_refused_at_the_call(self) -> None:
        table = self.table("pairs")
        bad: list[Any] = [("a",), (("a", 1, 2), None), ((1,), None), (None, ("a", "b")), 5, "ab"]
        for ends in bad:
            for call in (table.scan, table.scan_keys, table.count, table.delete_range):
                with raises(BadKey):
                    call(ends)
        with raises(BadKey):
            table.scan(after=("a",))
        with raises(ValueError):
            table.scan(limit=-1)
        with raises(TypeError):
            table.scan(limit=1.5)  # type: ignore[arg-type]
        with raises(TypeError):
            table.delete_range()

    def test_a_prefix_is_of_parts_and_not_of_text(self) -> None:
        table = self.table("pairs")
        keys = [("a", 1), ("a\0", 1), ("a\0\xff", 1), ("ab", 1), ("b", 1)]
        table.put_many((key, b"") for key in keys)
        assert list(table.scan_keys((("a",), ("a",)))) == [("a", 1)]
        assert list(table.scan_keys((("a\0",), ("a\0",)))) == [("a\0", 1)]
        data = self.table("data")
        data.put_many(((bytes([first, 255]),), b"") for first in range(256))
        assert len(list(data.scan())) == 256
        assert list(data.scan_keys(((b"\xff",), None))) == [(b"\xff\xff",)]

    def test_none_in_a_key_is_a_part_of_it(self) -> None:
        table = self.table("optional")
        keys: list[Key] = [(None, None), ("", None), ("a", None)]
        table.put_many((key, b"") for key in keys)
        assert list(table.scan_keys(((None,), (None,)))) == [(None, None)]
        assert list(table.scan_keys((("",), None))) == keys[1:]

    def test_a_long_scan_has_every_key_once(self) -> None:
        table = self.table("pairs")
        count = 12_000
        table.put_many((("k", i), b"%d" % i) for i in range(count))
        assert list(table.scan()) == [(("k", i), b"%d" % i) for i in range(count)]
        assert [key[1] for key in table.scan_keys(reverse=True)] == list(range(count))[::-1]
        assert len(list(table.scan((("k", 3_000), ("k", 8_437))))) == 8_437 - 3_000 + 1
        assert len(table) == count

    def test_a_scan_during_writes_keeps_to_what_was_there_throughout(self) -> None:
        table = self.table("pairs")
        table.put_many((("k", i), b"") for i in range(0, 4_000, 2))
        for reverse in (False, True):
            found: list[int] = []
            for i, ((_, number), _) in enumerate(table.scan(reverse=reverse)):
                found.append(number)
                if i % 20 == 0:
                    table.put_many([(("k", i * 2 + 1), b"new"), (("j", i), b""), (("l", i), b"")])
                    table.delete_many([("k", i - 39), ("j", i - 20), ("l", i - 20)])
            there = [number for number in found if number % 2 == 0 and number < 4_000]
            assert sorted({n for n in there if n < 4_000}) == list(range(0, 4_000, 2))
            assert len(set(found)) >= 2_000
            ordered = [n for n in found if n % 2 == 0]
            assert len(ordered) >= 2_000
            table.delete_many([*(("k", n) for n in range(1, 9_001, 2))])
            table.delete_range((("j",), ("j",)), (("l",), ("l",)))

    def test_two_scans_may_be_open_at_once(self) -> None:
        keys = self.fill()
        table = self.table("pairs")
        first, second = table.scan_keys(), table.scan_keys(reverse=True)
        assert [next(first), next(second), next(first)] == [keys[0], keys[-1], keys[1]]
        assert len(list(first)) == len(keys) - 2
        assert len(list(second)) == len(keys) - 1

    def test_a_scan_that_is_left_alone_leaves_nothing_behind(self) -> None:
        table = self.table("pairs")
        table.put_many((("k", i), b"x" * 100) for i in range(3_000))
        for _ in range(40):
            assert next(table.scan()) == (("k", 0), b"x" * 100)
        table[("k", 0)] = b""
        assert table[("k", 0)] == b""

    def test_delete_range_removes_just_the_range(self) -> None:
        keys = self.fill()
        table = self.table("pairs")
        assert table.delete_range((("b", 4), ("c", 1))) == 4
        assert table.delete_range((("e",), ("e",)), (("a", 0), ("a", 0))) == 7
        left = [k for k in keys if not ("b", 4) <= k <= ("c", 1) and k[0] != "e" and k != ("a", 0)]
        assert list(table) == left
        assert table.delete_range((None, None)) == len(left)
        assert list(table) == []
        table.put_many((("k", i), b"") for i in range(3_000))
        assert table.delete_range((("k", 10), None)) == 2_990
        assert len(table) == 10
