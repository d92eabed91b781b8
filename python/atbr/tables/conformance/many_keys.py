"""Many keys in one call: order, duplicates, sizes, and nothing written where one of them is bad."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atbr.tables.conformance.base import Base, raises
from atbr.tables.errors import BadKey

BIG = 5_000


class ManyKeys(Base):
    """put_many, get_many, delete_many, update, batch, clear."""

    def test_get_many_keeps_the_order_and_names_the_missing(self) -> None:
        table = self.table("pairs")
        table.put_many((("k", i), b"%d" % i) for i in range(0, BIG, 2))
        keys = [("k", i * 7_919 % BIG) for i in range(BIG)]
        expected = [(key, None if key[1] % 2 else b"%d" % key[1]) for key in keys]
        assert list(table.get_many(keys)) == expected
        assert list(table.get_many(iter(keys))) == expected
        assert list(table.get_many([("k", 2), ("k", 1), ("k", 2)])) == [
            (("k", 2), b"2"),
            (("k", 1), None),
            (("k", 2), b"2"),
        ]

    def test_no_keys_are_no_error(self) -> None:
        table = self.table("text")
        table.put_many([])
        table.delete_many([])
        table.update()
        assert list(table.get_many([])) == []
        assert list(table) == []

    def test_of_equal_keys_the_last_stays(self) -> None:
        table = self.table("text")
        table.put_many([(("k",), b"1"), (("l",), b"1"), (("k",), b"2")])
        assert dict(table.items()) == {("k",): b"2", ("l",): b"1"}
        table.put_many([(("k",), b"%d" % i) for i in range(3_000)])
        assert table[("k",)] == b"2999"

    def test_a_bad_pair_anywhere_writes_nothing(self) -> None:
        table = self.table("pairs")
        good = [(("k", i), b"v") for i in range(BIG)]
        bad: list[Any] = [
            (("k",), b"v"),
            (("k", "1"), b"v"),
            (("k", 1), "text"),
            ("k", 1, b"v"),
            5,
            (("\ud800", 1), b""),
        ]
        for pair in bad:
            with raises(BadKey, TypeError):
                table.put_many([*good, pair])
            with raises(BadKey, TypeError):
                table.put_many(iter([*good, pair]))
        assert len(table) == 0
        table.put_many(good)
        with raises(BadKey):
            table.delete_many([*(key for key, _ in good), ("k", None)])
        assert len(table) == BIG

    def test_an_iterator_that_fails_writes_nothing(self) -> None:
        def broken() -> Iterator[tuple[tuple[str], bytes]]:
            yield ("k",), b"v"
            raise ZeroDivisionError

        table = self.table("text")
        with raises(ZeroDivisionError):
            table.put_many(broken())
        assert len(table) == 0

    def test_a_bad_key_of_a_list_is_found_at_once(self) -> None:
        with raises(BadKey):
            self.table("text").get_many([("a",), (1,)])

    def test_big_values_travel_in_one_call(self) -> None:
        table = self.table("pairs")
        pairs = [(("k", i), bytes([i]) * 300_000) for i in range(12)]
        table.put_many(pairs)
        assert list(table.get_many([key for key, _ in pairs])) == pairs
        assert list(table.scan()) == pairs

    def test_delete_many_leaves_the_rest(self) -> None:
        table = self.table("pairs")
        table.put_many({("k", i): b"" for i in range(BIG)})
        table.delete_many(("k", i) for i in range(0, BIG * 2, 2))
        assert len(table) == BIG // 2
        assert all(key[1] % 2 for key in table)
        table.delete_many([("k", 1), ("k", 1), ("k", 0)])
        assert len(table) == BIG // 2 - 1

    def test_clear_empties_one_table(self) -> None:
        text, pairs = self.table("text"), self.table("pairs")
        text.put_many(((f"k{i}",), b"") for i in range(BIG))
        pairs[("a", 1)] = b"stays"
        text.clear()
        assert list(text) == []
        assert list(pairs) == [("a", 1)]
        text[("again",)] = b"1"
        assert list(text.items()) == [(("again",), b"1")]

    def test_a_batch_is_written_at_its_end(self) -> None:
        table = self.table("pairs")
        table[("old", 1)] = b""
        with table.batch() as batch:
            for i in range(2_500):
                batch.put(("k", i), b"%d" % i)
            batch[("k", 0)] = b"last"
            batch.delete(("old", 1))
            del batch[("k", 1)]
            assert ("old", 1) in table
            assert ("k", 2) not in table
        assert len(table) == 2_499
        assert table[("k", 0)] == b"last"

    def test_a_batch_that_raises_writes_nothing(self) -> None:
        table = self.table("pairs")
        with raises(BadKey), table.batch() as batch:
            batch.put(("k", 1), b"")
            batch.put(("k", "1"), b"")
        with raises(ZeroDivisionError), table.batch() as batch:
            batch.put(("k", 1), b"")
            raise ZeroDivisionError
        assert list(table) == []

    def test_a_table_is_a_mutable_mapping(self) -> None:
        table = self.table("pairs")
        table.update({("a", 1): b"1", ("b", 1): b"2"})
        assert dict(table) == {("a", 1): b"1", ("b", 1): b"2"}
        assert table == {("a", 1): b"1", ("b", 1): b"2"}
        assert table != {("a", 1): b"1"}
        assert list(table.keys()) == [("a", 1), ("b", 1)]
        assert list(table.values()) == [b"1", b"2"]
        assert (("a", 1), b"1") in table.items()
        assert list(reversed(table)) == [("b", 1), ("a", 1)]
        assert bool(table)
