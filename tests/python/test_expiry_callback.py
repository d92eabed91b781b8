"""`on_expire`: who is told of what, once, and how its thread begins and ends."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from atbr import JSON, ManualClock, Store

PATIENCE = 60.0
THREAD = "atbr-on-expire"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    gc.collect()
    wait_until(lambda: not threads())


class Told:
    """A callback that keeps what it is told."""

    def __init__(self) -> None:
        self.queue: Queue[tuple[Any, Any]] = Queue()

    def __call__(self, key: Any, value: Any) -> None:
        self.queue.put((key, value))

    def next(self, count: int) -> list[tuple[Any, Any]]:
        return sorted(self.queue.get(timeout=PATIENCE) for _ in range(count))

    def nothing_more(self, store: Store[Any], clock: ManualClock) -> None:
        """Fail if anything is told before an entry that expires now."""
        store.set("the last", store.get("the last", "x"), ttl=1)
        clock.advance(1)
        store.expire()
        assert self.next(1)[0][0] == "the last"
        with pytest.raises(Empty):
            self.queue.get_nowait()


@pytest.fixture
def told() -> Told:
    return Told()


def test_each_entry_is_told_once_decoded(told: Told, clock: ManualClock, values: Any) -> None:
    def value(number: int) -> Any:
        return {str: f"ä{number}", bytes: b"\xff%d" % number}.get(values, {"n": [number]})

    with Store(values=values, clock=clock, on_expire=told) as store:
        store.set_many({f"k{i}": value(i) for i in range(5_000)}, ttl=1)
        store["stays"] = value(0)
        clock.advance(1)
        store.expire()
        found = [told.queue.get(timeout=PATIENCE) for _ in range(5_000)]
        assert {key: one for key, one in found} == {f"k{i}": value(i) for i in range(5_000)}  # noqa: C416
        assert told.queue.empty()
        assert store.stats().expirations == 5_000


def test_keys_are_told_in_the_type_of_the_store(told: Told, clock: ManualClock) -> None:
    with Store(keys=bytes, values=str, clock=clock, on_expire=told) as store:
        store.set("ä", "1", ttl=1)
        clock.advance(2)
        assert told.next(1) == [("ä".encode(), "1")]


ENDS: dict[str, Callable[[Store[Any], Path], object]] = {
    "assignment": lambda store, _: store.__setitem__("k", "new"),
    "set with a ttl": lambda store, _: store.set("k", "new", ttl=50),
    "delete": lambda store, _: store.delete("k"),
    "delete_many": lambda store, _: store.delete_many(["k", "k"]),
    "set_many": lambda store, _: store.set_many({"k": "new"}),
    "add": lambda store, _: store.add("k", "new"),
    "setdefault": lambda store, _: store.setdefault("k", "new"),
    "append": lambda store, _: store.append("k", "new"),
    "incr": lambda store, _: store.incr("k"),
    "compare_and_set": lambda store, _: store.compare_and_set("k", None, "new"),
    "load": lambda store, path: store.load(path),
    "load that keeps the first": lambda store, path: store.load(path, keep="first"),
    "expire": lambda store, _: store.expire(),
    "compact and expire": lambda store, _: (store.compact(), store.expire()),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("size", [3, 5_000], ids=["small", "block"])
def test_what_ends_after_its_deadline_is_told_once(
    told: Told, clock: ManualClock, tmp_path: Path, end: Any, size: int
) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("k\tnew\n")
    with Store(clock=clock, on_expire=told) as store:
        store.set("k", "old"[:1] * size, ttl=1)
        # Not so far that the sweeper is due.
        clock.advance(1)
        end(store, path)
        assert told.next(1) == [("k", "o" * size)]
        assert store.stats().expirations == 1
        told.nothing_more(store, clock)


@pytest.mark.parametrize("keep", ["first", "last"])
def test_what_is_loaded_over_in_bulk_after_its_deadline_is_told(
    told: Told, clock: ManualClock, tmp_path: Path, keep: Any
) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("".join(f"{i}\t{'x' * 30}\n" for i in range(150_000)))
    with Store(clock=clock, on_expire=told) as store:
        store.set_many({str(i): "old" for i in range(1_000)}, ttl=1)
        store.set_many({str(i): "old" for i in range(1_000, 2_000)}, ttl=100)
        clock.advance(1)
        store.load(path, keep=keep)
        assert told.next(1_000) == sorted((str(i), "old") for i in range(1_000))
        assert store.stats().expirations == 1_000
        told.nothing_more(store, clock)


BEFORE: dict[str, Callable[[Store[Any], Path], object]] = {
    **{name: end for name, end in ENDS.items() if "expire" not in name},
    "pop": lambda store, _: store.pop("k"),
    "popitem": lambda store, _: store.popitem(),
    "clear": lambda store, _: store.clear(),
    "persist": lambda store, _: store.persist("k"),
    "touch": lambda store, _: store.touch("k", 50),
}


@pytest.mark.parametrize("end", BEFORE.values(), ids=BEFORE)
def test_what_ends_or_is_prolonged_before_its_deadline_is_not_told(
    told: Told, clock: ManualClock, tmp_path: Path, end: Any
) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("k\t1\n")
    with Store(clock=clock, on_expire=told) as store:
        store.set("k", "1", ttl=5)
        clock.advance(1)
        end(store, path)
        if "k" in store and store.get_ttl("k") is not None and store.get_ttl("k") != 50:
            store.persist("k")
        clock.advance(10)
        told.nothing_more(store, clock)


def test_a_store_without_a_callback_has_no_thread(clock: ManualClock) -> None:
    store = Store(clock=clock, ttl=1)
    store["k"] = "v"
    clock.advance(2)
    store.expire()
    assert not threads()
    store.close()
    with pytest.raises(TypeError, match="on_expire= must be a function"):
        Store(on_expire=7)  # type: ignore[arg-type]


def test_an_exception_goes_to_the_hook_and_the_next_entry_comes(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Queue[Any] = Queue()
    hooked: Queue[Any] = Queue()

    def callback(key: str, _: str) -> None:
        seen.put(key)
        raise [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit][int(key) % 4](key)

    def hook(unraisable: Any) -> None:
        hooked.put((unraisable.exc_type, unraisable.exc_value.args, unraisable.object))
        assert unraisable.exc_traceback is not None
        if len(unraisable.exc_value.args[0]) > 1:
            raise RuntimeError("in the hook")

    monkeypatch.setattr(sys, "unraisablehook", hook)
    # What the hook itself raises is reported by the interpreter.
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)
    with Store(clock=clock, on_expire=callback) as store:
        store.set_many({str(i): "" for i in range(20)}, ttl=1)
        clock.advance(2)
        assert {seen.get(timeout=PATIENCE) for _ in range(20)} == {str(i) for i in range(20)}
        reports = [hooked.get(timeout=PATIENCE) for _ in range(20)]
        assert {arguments for _, arguments, _ in reports} == {(str(i),) for i in range(20)}
        assert {kind for kind, _, _ in reports} == {
            *(ValueError, SystemExit, KeyboardInterrupt, GeneratorExit)
        }
        assert {one for _, _, one in reports} == {callback}


@pytest.mark.parametrize("values", [str, JSON], ids=["str", "json"])
def test_what_cannot_be_decoded_is_reported_and_the_next_entry_comes(
    told: Told, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, values: Any
) -> None:
    hooked: Queue[Any] = Queue()
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: hooked.put(unraisable.exc_type))
    with Store(values=values, clock=clock, on_expire=told) as store:
        raw = store.view(values=bytes)
        raw.set("bad", b"\xff", ttl=1)
        raw.set("good", b'"x"', ttl=1)
        clock.advance(2)
        assert told.next(1)[0][0] == "good"
        assert issubclass(hooked.get(timeout=PATIENCE), ValueError)


def test_a_store_and_a_callback_that_knows_it_are_collected(clock: ManualClock) -> None:
    class Owner:
        def __init__(self) -> None:
            self.told: Queue[str] = Queue()
            self.store = Store(clock=clock, on_expire=self.on_expire)

        def on_expire(self, key: str, _: str) -> None:
            assert self.store is not None
            self.told.put(key)

    owner = Owner()
    queue = owner.told
    owner.store.set("k", "", ttl=1)
    clock.advance(2)
    assert queue.get(timeout=PATIENCE) == "k"
    assert len(threads()) == 1
    dead = weakref.ref(owner)
    del owner

    def is_dead() -> bool:
        gc.collect()
        return dead() is None

    # While the thread calls the callback it has to hold it.
    wait_until(is_dead)
    wait_until(lambda: not threads())


def test_close_ends_the_thread(told: Told, clock: ManualClock) -> None:
    store = Store(clock=clock, on_expire=told)
    assert len(threads()) == 1
    store.set("k", "", ttl=1)
    store.close()
    wait_until(lambda: not threads())
    clock.advance(2)
    assert told.queue.empty()
    # A view closes it as well.
    store = Store(clock=clock, on_expire=told)
    store.view(keys=bytes).close()
    wait_until(lambda: not threads())


def test_close_ends_a_batch_after_the_callback_that_is_being_called(clock: ManualClock) -> None:
    called, go_on, seen = threading.Event(), threading.Event(), []

    def callback(key: str, _value: str) -> None:
        seen.append(key)
        called.set()
        go_on.wait(PATIENCE)

    store = Store(clock=clock, on_expire=callback)
    store.set_many(dict.fromkeys("abcdef", ""), ttl=1)
    clock.advance(1)
    store.expire()
    assert called.wait(PATIENCE)
    store.close()
    go_on.set()
    wait_until(lambda: not threads())
    assert len(seen) == 1


def test_a_store_that_nobody_uses_ends_its_thread(told: Told, clock: ManualClock) -> None:
    store = Store(clock=clock, on_expire=told)
    store.set("k", "", ttl=1)
    dead = weakref.ref(store)
    del store
    gc.collect()
    assert dead() is None
    wait_until(lambda: not threads())


def test_the_callback_may_use_the_store(clock: ManualClock) -> None:
    told = Counter[str]()
    done = threading.Event()
    store: Store[str]

    def callback(key: str, value: str) -> None:
        told[key] += 1
        assert key not in store
        # A session that comes back twice.
        if told[key] < 3:
            store.set(key, value + "+", ttl=1)
        store.incr("count")
        assert dict(store.items())["count"] == store["count"]
        if store["count"] == "300":
            done.set()

    store = Store(clock=clock, on_expire=callback)
    store.set_many({f"k{i}": "" for i in range(100)}, ttl=1)
    for _ in range(10_000):
        clock.advance(1)
        if done.wait(0.01):
            break
    assert done.is_set()
    assert set(told.values()) == {3}
    store.close()


def test_the_callback_may_close_the_store(clock: ManualClock) -> None:
    closed = threading.Event()
    store: Store[str]

    def callback(key: str, _: str) -> None:
        store.close()
        closed.set()

    store = Store(clock=clock, on_expire=callback)
    store.set_many({"a": "", "b": ""}, ttl=1)
    clock.advance(2)
    assert closed.wait(PATIENCE)
    wait_until(lambda: not threads())
    with pytest.raises(ValueError, match="closed"):
        store["a"]


def test_the_callback_may_drop_the_last_reference_and_make_new_stores(clock: ManualClock) -> None:
    stores: list[Store[str]] = []
    generation: Queue[int] = Queue()

    def callback(key: str, value: str) -> None:
        stores.clear()
        gc.collect()
        if int(value) < 20:
            stores.append(Store(clock=clock, on_expire=callback))
            stores[0].set(key, str(int(value) + 1), ttl=1)
        generation.put(int(value))

    stores.append(Store(clock=clock, on_expire=callback))
    stores[0].set("k", "0", ttl=1)
    for expected in range(21):
        clock.advance(2)
        assert generation.get(timeout=PATIENCE) == expected
    wait_until(lambda: not threads())


def test_the_callback_runs_in_one_thread_without_a_lock(clock: ManualClock) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()
    at_once, most = [0], [0]

    def callback(key: str, _: str) -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        entered.release()
        leave.wait(PATIENCE)
        at_once[0] -= 1

    with Store(clock=clock, on_expire=callback) as store:
        store.set_many({str(i): "" for i in range(10)}, ttl=1)
        clock.advance(2)
        assert entered.acquire(timeout=PATIENCE)
        # While it is called everything else goes on.
        for i in range(1_000):
            store.set(str(i), str(i), ttl=1)
        assert store.get_many(map(str, range(1_000))) == {str(i): str(i) for i in range(1_000)}
        clock.advance(2)
        store.expire()
        assert len(store) == 0
        leave.set()
        for _ in range(1_009):
            assert entered.acquire(timeout=PATIENCE)
    assert most == [1]


def test_what_finds_no_room_is_counted(clock: ManualClock) -> None:
    first, go_on, count = threading.Event(), threading.Event(), [0]

    def callback(key: str, _: str) -> None:
        first.set()
        go_on.wait(PATIENCE)
        count[0] += 1

    with Store(clock=clock, on_expire=callback) as store:
        store.set("first", "", ttl=1)
        clock.advance(2)
        assert first.wait(PATIENCE)
        store.set_many({str(i): "" for i in range(70_000)}, ttl=1)
        clock.advance(2)
        store.expire()
        stats = store.stats()
        assert stats.expirations == 70_001
        assert stats.expirations_lost == 70_000 - 65_536
        assert stats.expiry_bytes > 65_536 * 10
        go_on.set()
        wait_until(lambda: count[0] == 65_537)
        assert store.stats().expirations_lost == 70_000 - 65_536
        # By bytes as well: 64 MiB wait at most.
        go_on.clear()
        first.clear()
        store.set("first", "", ttl=1)
        clock.advance(2)
        assert first.wait(PATIENCE)
        store.set_many({str(i): "x" * 2**20 for i in range(80)}, ttl=1)
        clock.advance(2)
        store.expire()
        assert store.stats().expirations_lost == 70_000 - 65_536 + 80 - 63
        go_on.set()
        wait_until(lambda: count[0] == 65_537 + 1 + 63)
        assert store.stats().expiry_bytes < 2**20


def test_many_stores_are_told_of_their_own(clock: ManualClock) -> None:
    queues: list[Queue[Any]] = [Queue() for _ in range(20)]
    stores = [Store(clock=clock, on_expire=lambda *e, q=queue: q.put(e)) for queue in queues]
    for number, store in enumerate(stores):
        store.set_many({f"{number} {i}": "" for i in range(50)}, ttl=1)
    clock.advance(2)
    for number, queue in enumerate(queues):
        found = {queue.get(timeout=PATIENCE)[0] for _ in range(50)}
        assert found == {f"{number} {i}" for i in range(50)}
        assert queue.empty()
    assert len(threads()) == 20
    for store in stores:
        store.close()


def test_entries_written_by_many_threads_expire_once_each(clock: ManualClock) -> None:
    told: list[str] = []
    store = Store(clock=clock, on_expire=lambda key, _: told.append(key))
    live = threading.Barrier(5)

    def write(own: int) -> None:
        live.wait()
        for i in range(3_000):
            store.set(f"{own} {i}", "", ttl=0.5 + i % 7)

    writers = [threading.Thread(target=write, args=(own,)) for own in range(4)]
    for writer in writers:
        writer.start()
    live.wait()
    while any(writer.is_alive() for writer in writers):
        clock.advance(0.2)
        store.expire()
    for writer in writers:
        writer.join()
    clock.advance(60)
    store.expire()
    wait_until(lambda: len(told) + store.stats().expirations_lost == 12_000)
    assert len(set(told)) == len(told)
    assert len(store) == 0
    store.close()


def test_a_view_keeps_the_callback_of_its_store(clock: ManualClock) -> None:
    seen: Queue[tuple[str, str]] = Queue()
    view = Store(clock=clock, on_expire=lambda *entry: seen.put(entry)).view(values=bytes)
    gc.collect()
    view.set("a", b"1", ttl=1)
    clock.advance(2)
    assert seen.get(timeout=60) == ("a", "1")
