"""Times to live: every promise about them, with time moved by a clock of our own."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from atbr import JSON, ManualClock, Store

TEN_YEARS = 10 * 365.25 * 24 * 3600
MISSING = object()


def encoded(values: Any, text: str) -> Any:
    return text.encode() if values is bytes else text


def file_of(folder: Path, *rows: tuple[str, str]) -> Path:
    path = folder / "rows.tsv"
    path.write_text("".join(f"{key}\t{value}\n" for key, value in rows))
    return path


# -- an expired key is absent ----------------------------------------------------------------------


@pytest.fixture
def gone(clock: ManualClock, values: Any) -> Store[Any]:
    """A store with a default ttl of 60 s, one key that stays and one that has expired."""
    store: Store[Any] = Store(values=values, ttl=60, clock=clock)
    store.set("stays", encoded(values, "2"), ttl=None)
    store.set("gone", encoded(values, "1"), ttl=1)
    clock.advance(0.999)
    assert store["gone"] == encoded(values, "1")
    assert store.get_ttl("gone") == 0.001
    clock.advance(0.001)
    return store


def test_an_expired_key_is_absent_for_reads(gone: Store[Any], values: Any) -> None:
    two = encoded(values, "2")
    for key in ("gone", b"gone"):
        assert gone.get(key) is None
        assert gone.get(key, 7) == 7
        assert key not in gone
        assert gone.mget([key, "stays"]) == [None, two]
        assert gone.get_many([key, "stays"]) == {"stays": two}
        for read in (gone.__getitem__, gone.get_ttl, gone.pop, gone.__delitem__):
            with pytest.raises(KeyError) as caught:
                read(key)
            assert caught.value.args == (key,)
    assert list(gone) == list(gone.keys()) == list(gone.scan()) == ["stays"]
    assert list(gone.scan("g")) == list(gone.scan(match="*one")) == []
    assert list(gone.values()) == [two]
    assert list(gone.items()) == [("stays", two)]
    assert list(gone.items_with_ttl()) == [("stays", two, None)]
    assert dict(gone) == {"stays": two}
    assert gone == {"stays": two}
    assert gone != {"stays": two, "gone": encoded(values, "1")}


def test_an_expired_key_is_absent_for_views_and_set_operations(
    gone: Store[Any], values: Any
) -> None:
    one, two = encoded(values, "1"), encoded(values, "2")
    assert "gone" not in gone.keys()  # noqa: SIM118
    assert ("gone", one) not in gone.items()
    assert one not in gone.values()
    assert gone.keys() & {"gone", "stays"} == {"stays"}
    assert gone.keys() | {"x"} == {"stays", "x"}
    assert {"gone", "stays"} - gone.keys() == {"gone"}
    assert gone.keys() ^ {"gone"} == {"gone", "stays"}
    assert gone.keys().isdisjoint({"gone"})
    assert gone.items() == {("stays", two)}
    assert gone.view(keys=bytes).get(b"gone") is None
    assert list(gone.view(keys=bytes)) == [b"stays"]


def test_an_expired_key_is_absent_in_copies_unions_and_files(
    gone: Store[Any], values: Any, tmp_path: Path
) -> None:
    two = encoded(values, "2")
    for made in (gone.copy(), gone | {}, {} | gone):
        assert dict(made) == {"stays": two}
        assert len(made) == 1
    gone.set("gone", encoded(values, "1"), ttl=1)
    assert gone.save(tmp_path / "saved.tsv").rows == 2


def test_an_expired_key_is_not_saved(gone: Store[Any], tmp_path: Path) -> None:
    path = tmp_path / "saved.tsv"
    assert gone.save(path).rows == 1
    assert path.read_text().startswith("stays\t")


def test_an_expired_key_is_absent_for_removals(gone: Store[Any], values: Any) -> None:
    assert gone.pop("gone", MISSING) is MISSING
    assert gone.delete("gone") is False
    assert gone.delete_many(["gone", "gone"]) == 0
    assert gone.popitem() == ("stays", encoded(values, "2"))
    with pytest.raises(KeyError):
        gone.popitem()
    gone.expire()
    assert len(gone) == 0
    assert not gone
    assert gone.stats().expirations == 1


def test_pops_of_many_meet_no_expired_key(clock: ManualClock) -> None:
    store = Store(clock=clock)
    store.set_many({str(i): "" for i in range(2_000)}, ttl=1)
    store.update({f"stays {i}": "" for i in range(500)})
    clock.advance(1)
    popped = {store.popitem()[0] for _ in range(500)}
    assert popped == {f"stays {i}" for i in range(500)}
    with pytest.raises(KeyError):
        store.popitem()


def test_nothing_but_a_write_brings_an_expired_key_back(gone: Store[Any]) -> None:
    assert gone.touch("gone", 5) is False
    assert gone.touch("gone", None) is False
    assert gone.persist("gone") is False
    assert gone.compare_and_set("gone", gone["stays"], gone["stays"]) is False
    assert "gone" not in gone
    assert gone.expire() in {0, 1}
    assert len(gone) == 1


CREATING: dict[str, tuple[Callable[[Store[Any], Any], Any], Any, float | None]] = {
    "[]": (lambda s, v: s.__setitem__("gone", v), None, 60),
    "set": (lambda s, v: s.set("gone", v, 5), None, 5),
    "set_many": (lambda s, v: s.set_many({"gone": v}, 5), 1, 5),
    "update": (lambda s, v: s.update(gone=v), None, 60),
    "add": (lambda s, v: s.add("gone", v, 5), True, 5),
    "add by default": (lambda s, v: s.add("gone", v), True, 60),
    "add for good": (lambda s, v: s.add("gone", v, None), True, None),
    "setdefault": (lambda s, v: s.setdefault("gone", v, 5) == v, True, 5),
    "incr": (lambda s, _: s.incr("gone", 3, initial=4, ttl=5), 7, 5),
    "incr by default": (lambda s, _: s.incr("gone", 7), 7, 60),
    "compare_and_set": (lambda s, v: s.compare_and_set("gone", None, v), True, 60),
    "append": (lambda s, v: s.append("gone", v), 1, 60),
}


@pytest.mark.parametrize("create", CREATING.values(), ids=CREATING)
def test_writes_create_an_expired_key_anew(gone: Store[Any], values: Any, create: Any) -> None:
    write, answer, ttl = create
    value = encoded(values, "7")
    if answer == 7 and values is JSON:
        value = 7
    if write is CREATING["append"][0] and values is JSON:
        return  # encoded values are not appended to
    assert write(gone, value) == answer
    assert gone["gone"] == value
    assert gone.get_ttl("gone") == ttl
    gone.expire()
    assert len(gone) == 2
    assert gone.stats().expirations == 1
    assert gone.stats().expiring == (ttl is not None)


@pytest.mark.parametrize("rows", [1, 200_000], ids=["row by row", "in bulk"])
@pytest.mark.parametrize("keep", ["first", "last"])
def test_a_load_replaces_what_has_expired(
    clock: ManualClock, tmp_path: Path, keep: Any, rows: int
) -> None:
    store = Store(clock=clock)
    store.set("gone", "old", ttl=1)
    store.set("short", "old", ttl=10)
    store.set("lasting", "old")
    clock.advance(1)
    more = ((str(i), "x" * 20) for i in range(rows))
    names = ("gone", "short", "lasting")
    report = store.load(file_of(tmp_path, *((n, "new") for n in names), *more), keep=keep, ttl=5)
    assert report.rows == rows + 3
    assert report.new == rows + 1
    assert report.replaced == (2 if keep == "last" else 0)
    assert store["gone"] == "new"
    assert store.get_ttl("gone") == 5
    kept = {"first": ("old", 9, None), "last": ("new", 5, 5)}[keep]
    assert (store["short"], store.get_ttl("short"), store.get_ttl("lasting")) == kept
    assert store.stats().expirations == 1
    assert store.stats().expiring == rows + (2 if keep == "first" else 3)
    clock.advance(5)
    store.expire()
    assert sorted(store) == (["lasting", "short"] if keep == "first" else [])
    assert len(store) == (2 if keep == "first" else 0)
    store.load(tmp_path / "rows.tsv", ttl=None)
    assert store.stats().expiring == 0
    assert len(store) == rows + 3


def test_an_expired_key_is_not_compared() -> None:
    clock = ManualClock()
    one = Store({"a": "1", "b": "2"}, clock=clock)
    other = Store({"a": "1"}, clock=clock)
    other.set("c", "3", ttl=1)
    assert one != other
    clock.advance(1)
    # As long as each other, as far as len() tells, and all that `other` yields is in `one`.
    assert one != other
    assert other != one
    assert other == {"a": "1"}
    other["b"] = "2"
    other.set("d", "4", ttl=1)
    clock.advance(1)
    assert one == other
    assert other.keys() == {"a", "b"}
    assert other.items() == one.items()


# -- figures ---------------------------------------------------------------------------------------


def test_get_ttl_counts_down_by_milliseconds(clock: ManualClock) -> None:
    store = Store(clock=clock)
    store.set("k", "v", ttl=10)
    for step in (0.001, 0.5, 3.25, 6.248):
        left = store.get_ttl("k")
        assert left is not None
        clock.advance(step)
        assert store.get_ttl("k") == pytest.approx(left - step, abs=1e-9)
    assert store.get_ttl("k") == 0.001
    clock.advance(0.001)
    with pytest.raises(KeyError):
        store.get_ttl("k")
    with pytest.raises(KeyError):
        store.get_ttl("never was")


def test_items_with_ttl_and_copies_have_what_is_left(clock: ManualClock, values: Any) -> None:
    store: Store[Any] = Store(values=values, ttl=50, clock=clock)
    one = encoded(values, "1")
    store.set_many({f"{i}": one for i in range(3_000)}, ttl=100)
    store.set("short", one, ttl=2.5)
    store.set("lasting", one, ttl=None)
    store["default"] = one
    clock.advance(1)
    for handle in (store, store.copy(), store.copy().copy()):
        found = {key: ttl for key, value, ttl in handle.items_with_ttl() if value == one}
        assert found.pop("short") == 1.5
        assert found.pop("lasting") is None
        assert found.pop("default") == 49
        assert found == dict.fromkeys(map(str, range(3_000)), 99.0)
    copied = store.copy()
    store.persist("short")
    clock.advance(2)
    assert "short" in store
    assert "short" not in copied
    # The copy has the default as well, and the clock.
    copied["new"] = one
    assert copied.get_ttl("new") == 50


def test_a_union_keeps_the_ttls_of_the_store_on_the_left(clock: ManualClock) -> None:
    store = Store(clock=clock)
    store.set("a", "1", ttl=5)
    both = store | {"b": "2"}
    assert both.get_ttl("a") == 5
    assert both.get_ttl("b") is None


def test_persist_and_touch_say_what_they_did(clock: ManualClock) -> None:
    store = Store({"lasting": ""}, clock=clock)
    store.set("k", "", ttl=5)
    assert (store.persist("k"), store.persist("k"), store.persist("none")) == (True, False, False)
    assert (store.touch("lasting", 1), store.touch("none", 1)) == (True, False)
    assert store.get_ttl("k") is None
    clock.advance(1)
    assert list(store) == ["k"]


def test_len_is_exact_after_expire(clock: ManualClock) -> None:
    store = Store(clock=clock)
    for i in range(400):
        store.set(str(i), "", ttl=(i + 1) / 1_000)
    for i in range(400):
        clock.advance(0.001)
        store.expire()
        assert len(store) == 399 - i
        assert bool(store) == (i < 399)


def test_expire_counts_what_it_reclaims() -> None:
    # The sweeper may have been faster, so stats() has the sum.
    clock = ManualClock()
    store = Store(clock=clock)
    assert store.expire() == 0
    store.set_many({str(i): "" for i in range(1_000)}, ttl=1)
    assert store.expire() == 0
    clock.advance(5)
    assert 0 <= store.expire() <= 1_000
    assert store.stats().expirations == 1_000
    assert store.expire() == 0


def test_stats_count_expiry(clock: ManualClock) -> None:
    store = Store({"lasting": ""}, clock=clock)
    assert store.stats().expiry_bytes == 0
    store.set("a", "", ttl=1)
    store.set("b", "", ttl=1)
    store.set("c", "", ttl=50)
    store.set("d", "", ttl=50)
    store.persist("d")
    stats = store.stats()
    assert (stats.entries, stats.expiring, stats.expirations) == (5, 3, 0)
    assert 0 < stats.expiry_bytes < stats.bytes_allocated
    store.get("a"), store.get("none"), "b" in store, store.mget(["c", "none"])
    stats = store.stats()
    assert (stats.hits, stats.misses) == (3, 2)
    clock.advance(1)
    store.get("a"), "a" in store, store.get_many(["a", "b", "c"])
    stats = store.stats()
    assert (stats.hits, stats.misses) == (4, 6)
    assert store.delete("a") is False
    store["b"] = ""
    stats = store.stats()
    assert (stats.entries, stats.expiring, stats.expirations) == (4, 1, 2)
    assert stats.expirations_lost == 0
    store.clear()
    stats = store.stats()
    assert (stats.entries, stats.expiring, stats.expirations) == (0, 0, 2)


# -- records of every shape ------------------------------------------------------------------------

# On both sides of a plain header's limits, of a record of 2 KiB with and without a deadline, and far beyond.
KEY_LENGTHS = [0, 1, 61, 62, 63, 64, 2_020, 65_536]
VALUE_LENGTHS = [0, 1, 126, 127, 128, *range(2_025, 2_050), 4_096, 70_000]


@pytest.mark.parametrize("key_length", KEY_LENGTHS)
def test_a_record_of_any_shape_takes_gives_up_and_keeps_a_ttl(key_length: int) -> None:
    clock = ManualClock()
    store = Store(values=bytes, clock=clock)
    key = "k" * key_length
    for length in VALUE_LENGTHS:
        value = bytes([length % 251]) * length
        # With a ttl from the start, later, no more, and again.
        store.set(key, value, ttl=5)
        for ttl in (5, 3, 9, None, None, 4, None, 2, 8):
            if ttl is None:
                expires = store.get_ttl(key) is not None
                assert store.persist(key) == expires
            else:
                assert store.touch(key, ttl)
            assert (store[key], store.get_ttl(key)) == (value, ttl)
            assert list(store.items_with_ttl()) == [(key, value, ttl)]
        store.compact()
        assert (store[key], store.get_ttl(key)) == (value, 8)
        assert store.append(key, b"tail") == length + 4
        assert (store[key], store.get_ttl(key)) == (value + b"tail", 8)
        store[key] = value
        assert (store[key], store.get_ttl(key)) == (value, None)
        store.set(key, value, ttl=1)
        clock.advance(1)
        assert key not in store
        store.expire()
        assert len(store) == 0
    assert store.stats().key_bytes == store.stats().value_bytes == 0
    assert store.stats().expirations == len(VALUE_LENGTHS)


def test_values_go_from_block_to_record_and_back_with_their_ttl(clock: ManualClock) -> None:
    store = Store(clock=clock)
    for round in range(3):
        for length in VALUE_LENGTHS:
            store.set("k", "x" * length, ttl=10 + round)
            assert store.get_ttl("k") == 10 + round
            assert store.compare_and_set("k", "x" * length, "y" * (3_000 - min(length, 3_000)))
            assert store.get_ttl("k") == 10 + round
    clock.advance(12)
    store.expire()
    assert (len(store), store.stats().expiring) == (0, 0)


# -- closed ----------------------------------------------------------------------------------------


def test_a_closed_store_refuses_everything_that_has_to_do_with_time(tmp_path: Path) -> None:
    store = Store({"k": "v"}, ttl=5, clock=ManualClock())
    iterator = store.items_with_ttl()
    store.close()
    for use in (
        lambda: store.get_ttl("k"),
        lambda: store.touch("k", 1),
        lambda: store.persist("k"),
        lambda: store.expire(),
        lambda: store.items_with_ttl(),
        lambda: next(iterator),
        lambda: store.set("k", "v", ttl=1),
        lambda: store.set_many({"k": "v"}, ttl=1),
        lambda: store.add("k", "v", ttl=1),
        lambda: store.incr("k", ttl=1),
        lambda: store.setdefault("k", "v", ttl=1),
        lambda: store == {},
        lambda: store.load(file_of(tmp_path, ("k", "v")), ttl=1),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


# -- the clock -------------------------------------------------------------------------------------


def test_a_manual_clock_moves_forward_only(clock: ManualClock) -> None:
    assert clock.now() == 0.0
    clock.advance(1.5)
    clock.advance(timedelta(milliseconds=250))
    clock.advance(0)
    clock.advance(0.25)
    assert clock.now() == 2.0
    for step in (-1, -1e-3, math.nan, math.inf, TEN_YEARS + 1, timedelta(-1)):
        with pytest.raises(ValueError, match="0 to 10 years"):
            clock.advance(step)
    for step in ("1", True, None):
        with pytest.raises(TypeError):
            clock.advance(step)  # type: ignore[arg-type]
    assert clock.now() == 2.0


def test_a_store_made_late_counts_from_then(clock: ManualClock) -> None:
    for _ in range(5):
        clock.advance(TEN_YEARS)
    store = Store(clock=clock)
    store.set("k", "", ttl=TEN_YEARS)
    clock.advance(TEN_YEARS - 1)
    assert store.get_ttl("k") == 1
    clock.advance(1)
    assert "k" not in store
    # Two stores on one clock.
    other = Store({"k": ""}, ttl=1, clock=clock)
    clock.advance(1)
    assert "k" not in other
