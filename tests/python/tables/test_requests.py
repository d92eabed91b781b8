"""What the compiled part makes of keys and pairs for engines, against slow counterparts and the drivers' own."""

from __future__ import annotations

import itertools
import struct
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from atbr._core import KeyCodec, RedisPacker, cut_pairs, postgresql_copy, sorted_pairs
from atbr.tables import connect, pack, unpack

KEYS = st.one_of(st.binary(max_size=3), st.sampled_from([b"same-head-%d" % i for i in range(4)]))
PAIRS = st.lists(st.tuples(KEYS, st.binary(max_size=40)), max_size=30)


@given(PAIRS)
def test_sorted_pairs_are_those_of_a_sorted_dict(pairs: list[tuple[bytes, bytes]]) -> None:
    assert sorted_pairs(pairs) == sorted(dict(pairs).items())
    assert sorted_pairs(sorted_pairs(pairs)) == sorted_pairs(pairs)


@given(PAIRS, st.integers(1, 7), st.integers(1, 90))
def test_requests_are_as_long_as_they_may_be(
    pairs: list[tuple[bytes, bytes]], rows: int, size: int
) -> None:
    def weight(some: list[tuple[bytes, bytes]]) -> int:
        return sum(len(key) + len(value) for key, value in some)

    parts = cut_pairs(pairs, rows, size)
    assert [pair for part in parts for pair in part] == pairs
    assert all(part and len(part) <= rows for part in parts)
    assert all(weight(part) <= size or len(part) == 1 for part in parts)
    for part, after in itertools.pairwise(parts):
        assert len(part) == rows or weight([*part, after[0]]) > size


@pytest.mark.parametrize("call", [sorted_pairs, lambda pairs: cut_pairs(pairs, 1, 1)])
@pytest.mark.parametrize(
    "bad", [[b"a"], [(b"a",)], [("a", b"")], [(b"a", None)], [(b"", b"", b"")]]
)
def test_what_is_no_pair_is_refused(call: Any, bad: Any) -> None:
    with pytest.raises(TypeError):
        call(bad)


@given(st.lists(st.one_of(st.binary(max_size=9), st.text(max_size=3), st.integers()), max_size=9))
def test_a_command_of_redis_is_the_drivers_own(arguments: list[Any]) -> None:
    connection = pytest.importorskip("redis.connection")
    encode = connection.Encoder("utf-8", "strict", False).encode
    theirs = connection.PythonRespSerializer(6_000, encode).pack
    for name in ("HMGET", "CLIENT SETINFO", b"PING"):
        ours = RedisPacker().pack(name, *arguments)
        assert b"".join(ours) == b"".join(theirs(name, *arguments))


def test_packed_keys_are_arguments_each() -> None:
    codec = KeyCodec([4], 100, 100)
    keys = [(f"k{i}",) for i in range(10)]
    packed = codec.pack_many(keys)
    encoded = [pack(key) for key in keys]
    assert packed.to_list() == encoded
    assert RedisPacker().pack("HMGET", "h", packed, b"") == RedisPacker().pack(
        "HMGET", "h", *encoded, b""
    )
    assert [part.to_list() for part in packed.cut(4)] == [encoded[:4], encoded[4:8], encoded[8:]]
    assert [part.to_list() for part in packed.cut(10)] == [encoded]
    assert [part.to_list() for part in codec.pack_many([]).cut(3)] == [[]]


@pytest.mark.parametrize("buckets", [1, 4])
def test_keys_of_redis_go_packed_and_come_back_in_order(urls: Any, buckets: int) -> None:
    with connect(urls["redis"], namespace=f"packed{buckets}", buckets=buckets) as db:
        db.setup_namespace({"t": (str, int)})
        pairs = {("k", i): b"%d" % i for i in range(9_000)}
        db["t"].put_many(pairs)
        asked = [*reversed(pairs), ("none", 1), ("k", 5), ("k", 5)]
        for keys in (asked, iter(asked)):
            assert list(db["t"].get_many(keys)) == [(key, pairs.get(key)) for key in asked]
        db.delete_namespace()


@pytest.mark.parametrize("bad", [1.5, None, True, ["a"]])
def test_what_is_no_argument_of_redis_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="an argument of Redis must be bytes, str or int"):
        RedisPacker().pack("SET", bad)


@given(PAIRS, st.integers(1, 5), st.integers(1, 60))
def test_rows_of_copy_have_postgresqls_form(
    pairs: list[tuple[bytes, bytes]], rows: int, size: int
) -> None:
    found, at = [], 0
    while at < len(pairs):
        data, after = postgresql_copy(pairs, at, rows, size)
        assert at < after <= at + rows
        while data:
            values = []
            fields, data = struct.unpack(">H", data[:2]), data[2:]
            assert fields == (2,)
            for _ in range(2):
                [length] = struct.unpack(">i", data[:4])
                values.append(data[4 : 4 + length])
                data = data[4 + length :]
            found.append(tuple(values))
        at = after
    assert found == pairs


class Nosy(tzinfo):
    """A time zone that packs keys of its own when it is asked."""

    def utcoffset(self, _moment: Any) -> timedelta:
        assert unpack(pack(("inner", "x" * 5_000))) == ("inner", "x" * 5_000)
        return timedelta(hours=1)

    def dst(self, _moment: Any) -> None:
        return None


def test_a_key_may_be_packed_while_one_is_packed() -> None:
    nosy = datetime(2026, 1, 1, 1, tzinfo=Nosy())
    plain = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert pack(("before", nosy, "after")) == pack(("before", plain, "after"))
    assert pack((1,)) == b"\x15\x01"
