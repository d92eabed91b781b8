"""Any sequence of operations does on every engine what it does to a sorted dict."""

from __future__ import annotations

import uuid
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from atbr.tables import connect

# Few keys, so that operations meet; order by type is None before text.
FIRST = st.sampled_from([None, "", "a", "a\0", "ab", "b", "ÿ"])
SECOND = st.one_of(st.integers(-3, 3), st.sampled_from([-(2**64), -(2**63), 2**63, 2**2_000]))
KEYS = st.tuples(FIRST, SECOND)
VALUES = st.one_of(st.binary(max_size=5), st.just(b"\0" * 3_000))
ENDS = st.one_of(st.none(), st.just(()), st.tuples(FIRST), KEYS)
RANGES = st.lists(st.tuples(ENDS, ENDS), max_size=3)


def place(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((part is not None, part if part is not None else 0) for part in key)


def within(key: tuple[Any, ...], ends: tuple[Any, Any]) -> bool:
    low, high = (place(end or ()) for end in ends)
    at = place(key)
    return at[: len(low)] >= low and at[: len(high)] <= high


class Machine(RuleBasedStateMachine):
    """A table and the dict it should behave as."""

    url = "local://machine"

    @initialize()
    def make(self) -> None:
        self.db = connect(self.url, app_name="machine", namespace=f"n{uuid.uuid4().hex[:12]}")
        self.db.setup_namespace({"t": (str | None, int)})
        self.table = self.db["t"]
        self.model: dict[tuple[Any, ...], bytes] = {}

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.delete_namespace()
            self.db.close()

    def expected(self, *ranges: Any) -> list[tuple[Any, ...]]:
        keys = sorted(self.model, key=place)
        return [k for k in keys if not ranges or any(within(k, ends) for ends in ranges)]

    @rule(key=KEYS, value=VALUES)
    def put(self, key: Any, value: bytes) -> None:
        self.table[key] = value
        self.model[key] = value

    @rule(pairs=st.lists(st.tuples(KEYS, VALUES), max_size=12))
    def put_many(self, pairs: list[Any]) -> None:
        self.table.put_many(pairs)
        self.model.update(pairs)

    @rule(keys=st.lists(KEYS, max_size=12))
    def get_many(self, keys: list[Any]) -> None:
        assert list(self.table.get_many(keys)) == [(k, self.model.get(k)) for k in keys]

    @rule(keys=st.lists(KEYS, max_size=8))
    def delete_many(self, keys: list[Any]) -> None:
        self.table.delete_many(keys)
        for key in keys:
            self.model.pop(key, None)

    @rule(key=KEYS)
    def pop(self, key: Any) -> None:
        assert self.table.pop(key, None) == self.model.pop(key, None)

    @rule(key=KEYS, new=st.one_of(st.none(), VALUES), other=VALUES, right=st.booleans())
    def compare_and_set(self, key: Any, new: bytes | None, other: bytes, right: bool) -> None:
        expected = self.model.get(key) if right else other
        same = self.model.get(key) == expected
        assert self.table.compare_and_set(key, expected, new) == same
        if same:
            self.model.pop(key, None)
            if new is not None:
                self.model[key] = new

    @rule(key=KEYS, delta=st.integers(-9, 9))
    def increment(self, key: Any, delta: int) -> None:
        before = self.model.get(key, b"0")
        if not before.lstrip(b"-").isdigit():
            with pytest.raises(ValueError):
                self.table.increment(key, delta)
            return
        if before.lstrip(b"-").startswith(b"0") and before != b"0":
            # Engines differ on leading zeros; nobody who counts writes them.
            return
        assert self.table.increment(key, delta) == int(before) + delta
        self.model[key] = b"%d" % (int(before) + delta)

    @rule(writes=st.lists(st.tuples(KEYS, st.one_of(st.none(), VALUES)), max_size=8))
    def batch(self, writes: list[Any]) -> None:
        with self.table.batch() as batch:
            for key, value in writes:
                if value is None:
                    batch.delete(key)
                    self.model.pop(key, None)
                else:
                    batch.put(key, value)
                    self.model[key] = value

    @rule(ranges=RANGES, reverse=st.booleans(), limit=st.one_of(st.none(), st.integers(0, 5)))
    def scan(self, ranges: list[Any], reverse: bool, limit: int | None) -> None:
        keys = self.expected(*ranges)
        keys = (keys[::-1] if reverse else keys)[:limit]
        found = list(self.table.scan(*ranges, reverse=reverse, limit=limit))
        assert found == [(k, self.model[k]) for k in keys]
        assert list(self.table.scan_keys(*ranges, reverse=reverse, limit=limit)) == keys

    @rule(ranges=RANGES, after=KEYS, reverse=st.booleans())
    def scan_after(self, ranges: list[Any], after: Any, reverse: bool) -> None:
        keys = self.expected(*ranges)
        keys = [
            k for k in keys if (place(k) < place(after) if reverse else place(k) > place(after))
        ]
        found = list(self.table.scan_keys(*ranges, after=after, reverse=reverse))
        assert found == (keys[::-1] if reverse else keys)

    @rule(ranges=st.lists(st.tuples(ENDS, ENDS), min_size=1, max_size=2))
    def delete_range(self, ranges: list[Any]) -> None:
        keys = self.expected(*ranges)
        assert self.table.count(*ranges) == len(keys)
        assert self.table.delete_range(*ranges) == len(keys)
        for key in keys:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.table.clear()
        self.model.clear()

    @invariant()
    def the_same_keys_are_there(self) -> None:
        if hasattr(self, "db"):
            assert list(self.table.items()) == [(k, self.model[k]) for k in self.expected()]
            assert len(self.table) == len(self.model)


def run(url: str, examples: int, steps: int) -> None:
    machine = type("OnEngine", (Machine,), {"url": url})
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case("runTest").runTest()


def test_any_sequence_of_operations_does_what_it_does_to_a_sorted_dict(url: str) -> None:
    run(url, 60 if url.startswith("local") else 12, 25)


@pytest.mark.deep
@pytest.mark.parametrize(
    "engine", ["local", "sqlite", "postgresql", "redis", "redis+cluster", "cassandra"]
)
def test_any_long_sequence_of_operations_does_it_too(engine: str, urls: Any) -> None:
    run(urls[engine], 20 if engine == "cassandra" else 200, 60)
