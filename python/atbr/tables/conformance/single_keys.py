"""One key at a time: what is stored is found, in every shape of key and value."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from atbr.tables.conformance.base import Base, raises
from atbr.tables.errors import BadKey, NotSupported

UTC = timezone.utc
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# In the order that their table has to give them back in.
KEYS: dict[str, list[tuple[Any, ...]]] = {
    "text": [
        *[("",), ("\0",), ("\0\0",), ("\0a",), ("\x01",), ("a",), ("a\0",), ("a\0b",)],
        *[("a" * 511 + "b",), ("a" * 511 + "c",), ("ab",), ("b" * 512,), ("b" * 2_000,), ("z",)],
        *[("ä",), ("€",), ("\uffff",), ("\U0001f600",), ("\U0010ffff",)],
    ],
    "data": [(b"",), (b"\0",), (b"\0\xff",), (b"\x01",), (b"a",), (b"\xff",), (b"\xff" * 9,)],
    "pairs": [
        *[("a", -(2**2_039)), ("a", -(2**64)), ("a", 1 - 2**64), ("a", -(2**63) - 1)],
        *[("a", -(2**63)), ("a", -65_536), ("a", -256), ("a", -255), ("a", -1), ("a", 0)],
        *[("a", 1), ("a", 255), ("a", 256), ("a", 2**63 - 1), ("a", 2**63), ("a", 2**64 - 1)],
        *[("a", 2**64), ("a", 2**2_040 - 1), ("b", -1)],
    ],
    "ids": [(UUID(int=0),), (UUID(int=1),), (UUID(int=255),), (UUID(int=2**128 - 1),)],
    "floats": [
        *[(-math.inf,), (-1e300,), (-1.5,), (-1e-300,), (-5e-324,), (0.0,), (5e-324,)],
        *[(1e-300,), (1.5,), (1e300,), (math.inf,)],
    ],
    "flags": [(False, -1), (False, 1), (True, -1), (True, 1)],
    "moments": [
        (datetime.min.replace(tzinfo=UTC),),
        (EPOCH - timedelta(microseconds=1),),
        (EPOCH,),
        (EPOCH + timedelta(microseconds=1),),
        (datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),),
        (datetime.max.replace(tzinfo=UTC),),
    ],
    "nested": [
        *[((),), ((None,),), ((None, b""),), ((b"\0",),), (("a", ()),), (("a", (None,)),)],
        *[(("a", (1, 2)),), (("a", 0),), (("b",),), ((1, (2, (3, (4,)))),), ((2.5,),)],
    ],
    "optional": [(None, None), (None, UUID(int=0)), ("", None), ("a", UUID(int=1))],
}

BAD: dict[str, list[Any]] = {
    "text": [
        (1,),
        (b"a",),
        (None,),
        (),
        ("a", "b"),
        ["a"],
        "a",
        None,
        ("\ud800",),
        ("a" * 70_000,),
    ],
    "pairs": [("a",), ("a", True), ("a", 1.0), ("a", "1"), (1, "a"), ("a", 2**2_040), ("a", None)],
    "data": [("a",), (bytearray(b"a"),)],
    "ids": [("6ba7b810-9dad-11d1-80b4-00c04fd430c8",), (1,)],
    "floats": [(math.nan,), (1,), (True,)],
    "flags": [(0, 1), (True, False)],
    "moments": [(datetime(2024, 1, 1),), (EPOCH.date(),)],
    "nested": [([],), (("a", math.nan),), (({},),)],
    "optional": [(b"", None)],
}


class SingleKeys(Base):
    """`[]`, get, in, del, pop, popitem, setdefault, increment, compare_and_set."""

    def test_every_kind_of_key_is_found_and_in_order(self) -> None:
        for name, keys in KEYS.items():
            table = self.table(name)
            for key in reversed(keys):
                table[key] = repr(key).encode()[:100]
            for key in keys:
                assert table[key] == repr(key).encode()[:100], (name, key)
                assert key in table
            assert list(table) == keys, name
            assert [tuple(map(type, key)) for key in table] == [tuple(map(type, k)) for k in keys]
            assert len(table) == len(keys)

    def test_a_moment_of_another_time_zone_is_the_same_key(self) -> None:
        table = self.table("moments")
        table[(EPOCH,)] = b"x"
        assert table[(EPOCH.astimezone(timezone(timedelta(hours=5, minutes=30))),)] == b"x"

    def test_a_bad_key_is_refused_by_every_call(self) -> None:
        for name, keys in BAD.items():
            table = self.table(name)
            for key in keys:
                for call in (
                    lambda table=table, key=key: table[key],
                    lambda table=table, key=key: table.put(key, b""),
                    lambda table=table, key=key: table.get(key),
                    lambda table=table, key=key: key in table,
                    lambda table=table, key=key: table.pop(key, None),
                    lambda table=table, key=key: table.increment(key),
                    lambda table=table, key=key: table.compare_and_set(key, None, b""),
                    lambda table=table, key=key: table.get_many([key]),
                    lambda table=table, key=key: table.delete_many([key]),
                    lambda table=table, key=key: table.scan(after=key) if key else table[key],
                ):
                    if key is not None:
                        with raises(BadKey):
                            call()
            assert len(table) == 0, name

    def test_any_bytes_are_a_value(self) -> None:
        table = self.table("text")
        values = [b"", b"\0", bytes(range(256)), b"\xff" * 70_000, b"x" * 1_000_000]
        for value in values:
            table[("k",)] = value
            assert table[("k",)] == value
            assert list(table.scan()) == [(("k",), value)]
        for buffer in (bytearray(b"ab"), memoryview(b"ab")):
            table[("k",)] = buffer  # type: ignore[assignment]
            assert table[("k",)] == b"ab"

    def test_what_is_no_bytes_is_no_value(self) -> None:
        table = self.table("text")
        bad: list[Any] = ["text", 1, None, [b"a"]]
        for value in bad:
            with raises(TypeError, match="bytes"):
                table[("k",)] = value
        assert ("k",) not in table

    def test_a_missing_key_is_a_key_error(self) -> None:
        table = self.table("pairs")
        key = ("none", 1)
        with raises(KeyError):
            table[key]
        with raises(KeyError):
            del table[key]
        with raises(KeyError):
            table.pop(key)
        with raises(KeyError):
            table.popitem()
        assert table.get(key) is None
        assert table.get(key, b"?") == b"?"
        assert table.pop(key, b"?") == b"?"
        assert key not in table
        assert not table

    def test_a_removed_key_is_gone(self) -> None:
        table = self.table("pairs")
        for i in range(4):
            table[("a", i)] = b"%d" % i
        del table[("a", 0)]
        assert table.pop(("a", 2)) == b"2"
        assert table.popitem() == (("a", 1), b"1")
        assert list(table.items()) == [(("a", 3), b"3")]
        table[("a", 2)] = b"again"
        assert table[("a", 2)] == b"again"

    def test_setdefault_stores_once(self) -> None:
        table = self.table("text")
        assert table.setdefault(("k",), b"1") == b"1"
        assert table.setdefault(("k",), b"2") == b"1"

    def test_increment_counts_from_zero_and_below(self) -> None:
        table = self.table("text")
        assert table.increment(("n",)) == 1
        assert table.increment(("n",), -11) == -10
        assert table[("n",)] == b"-10"
        table[("n",)] = b"41"
        assert table.increment(("n",)) == 42
        assert list(table) == [("n",)]

    def test_increment_keeps_to_64_bits(self) -> None:
        table = self.table("text")
        assert table.increment(("n",), 2**63 - 1) == 2**63 - 1
        with raises(OverflowError):
            table.increment(("n",), 1)
        assert table[("n",)] == b"9223372036854775807"
        with raises(OverflowError):
            table.increment(("n",), 2**63)
        with raises(TypeError):
            table.increment(("n",), True)
        for value in (b"", b"x", b"1.5", b"1 ", b"\xff", b"9" * 30):
            table[("n",)] = value
            with raises(ValueError):
                table.increment(("n",))
            assert table[("n",)] == value

    def test_compare_and_set_writes_only_what_was_expected(self) -> None:
        table = self.table("text")
        key = ("k",)
        assert not table.compare_and_set(key, b"", b"1")
        assert key not in table
        assert table.compare_and_set(key, None, b"1")
        assert not table.compare_and_set(key, None, b"2")
        assert not table.compare_and_set(key, b"0", b"2")
        assert table.compare_and_set(key, b"1", b"")
        assert table.compare_and_set(key, b"", b"3")
        assert table[key] == b"3"
        assert not table.compare_and_set(key, b"2", None)
        assert table.compare_and_set(key, b"3", None)
        assert key not in table
        assert table.compare_and_set(key, None, None)
        assert list(table) == []

    def test_a_ttl_is_kept_or_refused(self) -> None:
        table = self.table("text")
        if table.has_ttl:
            table.put(("k",), b"v", ttl=3_600)
            assert table[("k",)] == b"v"
        else:
            with raises(NotSupported, match="ttl"):
                table.put(("k",), b"v", ttl=60)
            with raises(NotSupported, match="ttl"):
                table.put_many([(("k",), b"v")], ttl=60)
            assert ("k",) not in table
        for ttl in (0, -1, math.nan):
            with raises(ValueError):
                table.put(("l",), b"v", ttl=ttl)
        assert ("l",) not in table
