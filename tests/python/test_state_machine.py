"""Any sequence of operations does what it does to a dict."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from atbr import JSON, Store
from machines import cases

MISSING = object()

# Few keys, so that operations meet; lengths on both sides of every limit inside.
NAMES = st.one_of(
    st.sampled_from(["", "a", "b", "\0", "ä", "€", "k" * 63, "k" * 64, "k" * 300]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)
SIZES = st.one_of(
    st.integers(0, 40), st.sampled_from([126, 127, 128, 2_047, 2_048, 2_049, 4_096, 4_097, 70_000])
)


class Machine(RuleBasedStateMachine):
    """A store and the dict it should behave as. The dict has str keys and the plain values."""

    key_type: type = str
    value_type: Any = str

    def own_key(self, name: str) -> Any:
        return name if self.key_type is str else name.encode()

    def value(self, seed: int, size: int) -> Any:
        if self.value_type is bytes:
            return bytes([seed % 256]) * size
        if self.value_type is JSON:
            return {"n": seed, "x": ["ä" * (size % 50)]}
        return "aä€😀"[seed % 4] * size

    def entries(self) -> dict[Any, Any]:
        return {self.own_key(name): value for name, value in self.model.items()}

    # The seed is drawn as well, so that popitem takes the same entries when an example runs again.
    @initialize(
        release=st.sampled_from(["auto", "always", "never"]),
        hasher=st.sampled_from(["fast", "siphash"]),
        seed=st.integers(0, 2**64 - 1),
    )
    def make(self, release: Any, hasher: Any, seed: int) -> None:
        self.model: dict[str, Any] = {}
        self.store: Store[Any, Any] = Store(
            keys=self.key_type,
            values=self.value_type,
            release_gil=release,
            hasher=hasher,
            seed=seed,
        )

    @rule(name=NAMES, as_bytes=st.booleans(), seed=st.integers(0, 9), size=SIZES)
    def set(self, name: str, as_bytes: bool, seed: int, size: int) -> None:
        value = self.value(seed, size)
        self.store[name.encode() if as_bytes else name] = value
        self.model[name] = value

    @rule(name=NAMES, as_bytes=st.booleans())
    def get(self, name: str, as_bytes: bool) -> None:
        key = name.encode() if as_bytes else name
        expected = self.model.get(name, MISSING)
        assert self.store.get(key, MISSING) == expected
        assert (key in self.store) == (expected is not MISSING)
        if expected is not MISSING:
            assert self.store[key] == expected
            return
        with pytest.raises(KeyError) as caught:
            self.store[key]
        assert caught.value.args == (key,)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        assert self.store.delete(name) == (self.model.pop(name, MISSING) is not MISSING)

    @rule(name=NAMES)
    def pop(self, name: str) -> None:
        assert self.store.pop(name, MISSING) == self.model.pop(name, MISSING)

    @precondition(lambda self: self.model)
    @rule()
    def popitem(self) -> None:
        key, value = self.store.popitem()
        assert type(key) is self.key_type
        assert self.model.pop(key if isinstance(key, str) else key.decode()) == value

    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES)
    def setdefault(self, name: str, seed: int, size: int) -> None:
        value = self.value(seed, size)
        assert self.store.setdefault(name, value) == self.model.setdefault(name, value)

    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES)
    def add(self, name: str, seed: int, size: int) -> None:
        value = self.value(seed, size)
        assert self.store.add(name, value) == (name not in self.model)
        self.model.setdefault(name, value)

    @precondition(lambda self: self.value_type is not JSON)
    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES)
    def append(self, name: str, seed: int, size: int) -> None:
        tail = self.value(seed, size)
        whole = self.model.get(name, tail[:0]) + tail
        length = len(whole.encode() if isinstance(whole, str) else whole)
        assert self.store.append(name, tail) == length
        self.model[name] = whole

    @rule(name=st.sampled_from(["counter 1", "counter 2"]), delta=st.integers(-(2**62), 2**62))
    def incr(self, name: str, delta: int) -> None:
        before = int(self.model.get(name, 0))
        try:
            after = self.store.incr(name, delta)
        except OverflowError:
            assert not -(2**63) <= before + delta < 2**63
            return
        assert after == before + delta
        text = str(after)
        self.model[name] = {str: text, bytes: text.encode()}.get(self.value_type, after)

    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES, matching=st.booleans())
    def compare_and_set(self, name: str, seed: int, size: int, matching: bool) -> None:
        value = self.value(seed, size)
        expected = self.model.get(name) if matching else self.value(seed + 1, size + 1)
        same = self.model.get(name) == expected
        assert self.store.compare_and_set(name, expected, value) == same
        if same:
            self.model[name] = value

    @rule(names=st.lists(NAMES, max_size=20))
    def read_many(self, names: list[str]) -> None:
        assert self.store.get_many(names) == {n: self.model[n] for n in names if n in self.model}
        assert self.store.mget(names, MISSING) == [self.model.get(n, MISSING) for n in names]

    @rule(
        pairs=st.lists(st.tuples(NAMES, st.integers(0, 9), SIZES), max_size=20),
        how=st.sampled_from(["set_many", "update", "iterator", "|="]),
    )
    def write_many(self, pairs: list[tuple[str, int, int]], how: str) -> None:
        entries = [(name, self.value(seed, size)) for name, seed, size in pairs]
        new = len(dict(entries).keys() - self.model.keys())
        if how == "set_many":
            assert self.store.set_many(entries) == new
        elif how == "update":
            self.store.update(dict(entries))
        elif how == "iterator":
            self.store.update(iter(entries))
        else:
            self.store |= entries
        self.model.update(entries)

    @rule(names=st.lists(NAMES, max_size=20))
    def delete_many(self, names: list[str]) -> None:
        assert self.store.delete_many(names) == len(self.model.keys() & set(names))
        for name in names:
            self.model.pop(name, None)

    @rule(prefix=st.sampled_from(["", "a", "k", "kk", "ä", "\0"]), count=st.integers(0, 3))
    def scan(self, prefix: str, count: int) -> None:
        found = list(self.store.scan(prefix, count=count))
        expected = {self.own_key(name) for name in self.model if name.startswith(prefix)}
        assert len(found) == len(expected)
        assert set(found) == expected

    @rule()
    def iterate(self) -> None:
        entries = self.entries()
        assert dict(self.store.items()) == entries
        assert sorted(self.store) == sorted(entries)
        assert len(list(self.store.values())) == len(entries)
        assert self.store == entries
        assert self.store.keys() == entries.keys()

    @rule()
    def copy(self) -> None:
        copied = self.store.copy()
        assert copied == self.store
        self.store.clear()
        self.store = copied

    @rule(view=st.booleans())
    def look_from_elsewhere(self, view: bool) -> None:
        raw = self.store.view(keys=bytes, values=bytes)
        assert len(raw) == len(self.model)
        assert self.store.view(keys=self.key_type, values=self.value_type) == self.store

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()

    @rule(count=st.integers(0, 5_000))
    def reserve(self, count: int) -> None:
        self.store.reserve(count)

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @invariant()
    def lengths_agree(self) -> None:
        if hasattr(self, "store"):
            assert len(self.store) == len(self.model)
            assert bool(self.store) == bool(self.model)


class BytesValues(Machine):
    value_type = bytes


class BytesKeys(Machine):
    key_type = bytes


class BytesBoth(Machine):
    key_type = bytes
    value_type = bytes


class JsonValues(Machine):
    value_type = JSON


KINDS = [Machine, BytesValues, BytesKeys, BytesBoth, JsonValues]


@pytest.mark.parametrize("case", cases(KINDS, 25, 40), ids=lambda case: case.__name__)
def test_any_sequence_of_operations_does_what_it_does_to_a_dict(case: type[Any]) -> None:
    case("runTest").runTest()


@pytest.mark.deep
@pytest.mark.parametrize("case", cases(KINDS, 400, 80), ids=lambda case: case.__name__)
def test_any_long_sequence_of_operations_does_what_it_does_to_a_dict(case: type[Any]) -> None:
    case("runTest").runTest()
