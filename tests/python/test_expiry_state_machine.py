"""Any sequence of operations and of moments does what it does to a dict with deadlines."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from atbr import JSON, ManualClock, Store
from machines import cases

MISSING = object()
NEVER = 2**60

# Few keys, so that operations meet; lengths on both sides of every limit inside.
NAMES = st.one_of(
    st.sampled_from(["", "a", "b", "ä", "k" * 62, "k" * 63, "k" * 64, "k" * 300, "k" * 2_100]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n"), max_size=2),
)
SIZES = st.one_of(
    st.integers(0, 40), st.sampled_from([127, 128, *range(2_030, 2_050), 4_097, 70_000])
)
# Milliseconds, dense around the ticks and levels of the wheel.
SPANS = st.one_of(
    st.integers(1, 300),
    st.sampled_from([127, 128, 129, 8_191, 8_192, 8_193, 524_288, 33_554_432, 315_576_000_000]),
    st.integers(1, 36).flatmap(lambda bits: st.integers(1, 2**bits)),
)
# `...`: left out; None: never.
TTLS = st.one_of(st.just(...), st.none(), SPANS)


class Machine(RuleBasedStateMachine):
    """A store and what it should hold: by name, the value and the deadline in milliseconds."""

    value_type: Any = str

    def value(self, seed: int, size: int) -> Any:
        if self.value_type is bytes:
            return bytes([seed + 65]) * size
        if self.value_type is JSON:
            return {"n": seed, "x": "ä" * (size % 50)}
        return "aä€😀"[seed % 4] * size

    @initialize(seed=st.integers(0, 2**64 - 1), default=st.one_of(st.none(), SPANS))
    def make(self, seed: int, default: int | None) -> None:
        self.clock = ManualClock()
        self.default = default
        self.model: dict[str, tuple[Any, int]] = {}
        self.store: Store[Any] = Store(
            values=self.value_type,
            seed=seed,
            ttl=None if default is None else default / 1_000,
            clock=self.clock,
        )

    @property
    def now(self) -> int:
        return round(self.clock.now() * 1_000)

    def deadline(self, ttl: Any) -> int:
        span = self.default if ttl is ... else ttl
        return NEVER if span is None else self.now + span

    def live(self) -> dict[str, tuple[Any, int]]:
        now = self.now
        self.model = {name: entry for name, entry in self.model.items() if entry[1] > now}
        return self.model

    def contents(self) -> dict[str, Any]:
        return {name: value for name, (value, _) in self.live().items()}

    def ttl_of(self, name: str) -> float | None:
        deadline = self.live()[name][1]
        return None if deadline == NEVER else (deadline - self.now) / 1_000

    @staticmethod
    def argument(ttl: Any) -> Any:
        return ttl / 1_000 if isinstance(ttl, int) else ttl

    # -- time --------------------------------------------------------------------------------------

    @rule(span=SPANS)
    def wait(self, span: int) -> None:
        # A store can tell deadlines for 34 years.
        if self.now + span > 20 * 31_557_600_000:
            return
        self.clock.advance(span / 1_000)

    @precondition(lambda self: any(d < NEVER for _, d in self.model.values()))
    @rule(data=st.data(), early=st.sampled_from([0, 0, 1]))
    def wait_for_a_deadline(self, data: st.DataObject, early: int) -> None:
        deadlines = sorted({d for _, d in self.live().values() if d < NEVER})
        if deadlines and deadlines[-1] < 20 * 31_557_600_000:
            deadline = data.draw(st.sampled_from(deadlines))
            self.clock.advance(max(0, deadline - self.now - early) / 1_000)

    @rule()
    def expire(self) -> None:
        self.store.expire()
        assert len(self.store) == len(self.live())
        assert bool(self.store) == bool(self.model)

    # -- writes ------------------------------------------------------------------------------------

    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES, ttl=TTLS)
    def set(self, name: str, seed: int, size: int, ttl: Any) -> None:
        value = self.value(seed, size)
        if ttl is ... and seed % 2:
            self.store[name] = value
        else:
            self.store.set(name, value, ttl=self.argument(ttl))
        self.live()[name] = (value, self.deadline(ttl))

    @rule(
        pairs=st.lists(st.tuples(NAMES, st.integers(0, 9), SIZES), max_size=15),
        ttl=TTLS,
        how=st.sampled_from(["set_many", "iterator", "update"]),
    )
    def set_many(self, pairs: list[tuple[str, int, int]], ttl: Any, how: str) -> None:
        entries = [(name, self.value(seed, size)) for name, seed, size in pairs]
        live = self.live()
        new = len(dict(entries).keys() - live.keys())
        if how == "update":
            self.store.update(entries)
            ttl = ...
        else:
            source: Any = iter(entries) if how == "iterator" else entries
            assert self.store.set_many(source, ttl=self.argument(ttl)) == new
        live.update({name: (value, self.deadline(ttl)) for name, value in entries})

    @rule(
        rows=st.lists(st.tuples(NAMES, st.integers(0, 99)), max_size=15),
        ttl=TTLS,
        keep=st.sampled_from(["first", "last"]),
    )
    def load(self, rows: list[tuple[str, int]], ttl: Any, keep: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "rows.tsv")
            path.write_bytes(b"".join(f"{name}\t{number}\n".encode() for name, number in rows))
            report = self.store.load(path, keep=keep, ttl=self.argument(ttl))
        live = self.live()
        new = len({name for name, _ in rows} - live.keys())
        assert (report.rows, report.new) == (len(rows), new)
        assert report.replaced == (len(rows) - new if keep == "last" else 0)
        for name, number in rows:
            text = str(number)
            value = {str: text, bytes: text.encode()}.get(self.value_type, number)
            if keep == "last" or name not in live:
                live[name] = (value, self.deadline(ttl))

    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES, ttl=TTLS)
    def add(self, name: str, seed: int, size: int, ttl: Any) -> None:
        value = self.value(seed, size)
        assert self.store.add(name, value, ttl=self.argument(ttl)) == (name not in self.live())
        self.model.setdefault(name, (value, self.deadline(ttl)))

    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES, ttl=TTLS)
    def setdefault(self, name: str, seed: int, size: int, ttl: Any) -> None:
        value = self.value(seed, size)
        found = self.store.setdefault(name, value, ttl=self.argument(ttl))
        assert found == self.live().setdefault(name, (value, self.deadline(ttl)))[0]

    @rule(name=st.sampled_from(["n", "m"]), delta=st.integers(-99, 99), ttl=TTLS)
    def incr(self, name: str, delta: int, ttl: Any) -> None:
        value, deadline = self.live().get(name, (10, self.deadline(ttl)))
        if isinstance(value, dict) or len(str(value)) > 10:
            return
        after = int(value) + delta
        assert self.store.incr(name, delta, initial=10, ttl=self.argument(ttl)) == after
        text = str(after)
        kept = {str: text, bytes: text.encode()}.get(self.value_type, after)
        self.model[name] = (kept, deadline)

    @precondition(lambda self: self.value_type is not JSON)
    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES)
    def append(self, name: str, seed: int, size: int) -> None:
        tail = self.value(seed, size)
        value, deadline = self.live().get(name, (tail[:0], self.deadline(...)))
        self.store.append(name, tail)
        self.model[name] = (value + tail, deadline)

    @rule(name=NAMES, seed=st.integers(0, 9), size=SIZES, matching=st.booleans())
    def compare_and_set(self, name: str, seed: int, size: int, matching: bool) -> None:
        value = self.value(seed, size)
        there = self.live().get(name)
        now = None if there is None else there[0]
        expected = now if matching else self.value(seed + 1, size + 1)
        assert self.store.compare_and_set(name, expected, value) == (now == expected)
        if now == expected:
            self.model[name] = (value, self.deadline(...) if there is None else there[1])

    @rule(name=NAMES, ttl=TTLS)
    def touch(self, name: str, ttl: Any) -> None:
        there = name in self.live()
        assert self.store.touch(name, self.argument(ttl)) == there
        if there:
            self.model[name] = (self.model[name][0], self.deadline(ttl))

    @rule(ttl=TTLS)
    def touch_all(self, ttl: Any) -> None:
        for name in list(self.live()):
            assert self.store.touch(name, self.argument(ttl))
            self.model[name] = (self.model[name][0], self.deadline(ttl))

    @rule(name=NAMES)
    def persist(self, name: str) -> None:
        expires = name in self.live() and self.model[name][1] != NEVER
        assert self.store.persist(name) == expires
        if expires:
            self.model[name] = (self.model[name][0], NEVER)

    # -- removals ----------------------------------------------------------------------------------

    @rule(name=NAMES, how=st.sampled_from(["delete", "pop", "delete_many"]))
    def remove(self, name: str, how: str) -> None:
        there = self.live().pop(name, None)
        if how == "delete":
            assert self.store.delete(name) == (there is not None)
        elif how == "pop":
            assert self.store.pop(name, MISSING) == (MISSING if there is None else there[0])
        else:
            assert self.store.delete_many([name, name]) == (there is not None)

    @rule()
    def popitem(self) -> None:
        if self.live():
            key, value = self.store.popitem()
            assert self.model.pop(key)[0] == value
        else:
            with pytest.raises(KeyError):
                self.store.popitem()

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()

    # -- the whole ---------------------------------------------------------------------------------

    @rule()
    def copy(self) -> None:
        copied = self.store.copy()
        assert len(copied) == len(self.live())
        assert copied == self.store
        self.store.clear()
        self.store = copied

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def compare(self) -> None:
        contents = self.contents()
        assert self.store == contents
        assert contents == self.store
        assert self.store.keys() == contents.keys()
        if contents:
            contents.popitem()
            assert self.store != contents

    @rule(name=NAMES)
    def look(self, name: str) -> None:
        there = self.live().get(name)
        value = MISSING if there is None else there[0]
        assert self.store.get(name, MISSING) == value
        assert (name in self.store) == (there is not None)
        if there is None:
            with pytest.raises(KeyError):
                self.store.get_ttl(name)

    @invariant()
    def contents_and_ttls_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        contents = self.contents()
        found = {name: (value, ttl) for name, value, ttl in self.store.items_with_ttl()}
        assert found.keys() == contents.keys()
        for name, (value, ttl) in found.items():
            expected = self.ttl_of(name)
            assert value == contents[name]
            assert (ttl is None) == (expected is None)
            for left in (ttl, self.store.get_ttl(name)):
                # Times are whole milliseconds, and what is left of one counts as one.
                assert left == expected or abs((left or 0) - (expected or 0)) <= 0.001
        assert self.store.mget(contents, MISSING) == list(contents.values())
        assert len(self.store) >= len(contents)
        stats = self.store.stats()
        assert stats.expiring >= sum(deadline < NEVER for _, deadline in self.model.values())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.clock.advance(315_576_000)
            self.clock.advance(1)
            self.store.expire()
            lasting = {name for name, (_, deadline) in self.model.items() if deadline == NEVER}
            assert len(self.store) == len(lasting)
            assert set(self.store) == lasting
            assert self.store.stats().expiring == 0
            self.store.close()


class BytesValues(Machine):
    value_type = bytes


class JsonValues(Machine):
    value_type = JSON


KINDS = [Machine, BytesValues, JsonValues]


@pytest.mark.parametrize("case", cases(KINDS, 20, 40), ids=lambda case: case.__name__)
def test_any_sequence_does_what_it_does_to_a_dict_with_deadlines(case: type[Any]) -> None:
    case("runTest").runTest()


@pytest.mark.deep
@pytest.mark.parametrize("case", cases(KINDS, 400, 80), ids=lambda case: case.__name__)
def test_any_long_sequence_does_what_it_does_to_a_dict_with_deadlines(case: type[Any]) -> None:
    case("runTest").runTest()
