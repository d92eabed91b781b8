"""Engines that go away, stop answering or come back: an exception in bounded time, and nothing lost silently."""

from __future__ import annotations

import itertools
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tables_engines import STARTERS, need

from atbr.tables import BackendUnavailable, ConfigurationError, Database, connect
from atbr.tables.retry import Retry

REMOTE = ["postgresql", "redis"]


def every_call(db: Database) -> dict[str, Callable[[], object]]:
    table = db["t"]
    return {
        "get": lambda: table.get(("k", 1)),
        "get_many": lambda: list(table.get_many([("k", i) for i in range(3_000)])),
        "put": lambda: table.put(("k", 1), b"v"),
        "put_many": lambda: table.put_many([(("k", i), b"v") for i in range(3_000)]),
        "delete_many": lambda: table.delete_many([("k", 1), ("k", 2)]),
        "scan": lambda: list(table.scan()),
        "count": lambda: len(table),
        "delete_range": lambda: table.delete_range((("k",), ("k",))),
        "clear": lambda: table.clear(),
        "pop": lambda: table.pop(("k", 1), None),
        "increment": lambda: table.increment(("n", 1)),
        "compare_and_set": lambda: table.compare_and_set(("k", 1), None, b"v"),
        "batch": lambda: write_batch(table),
        "tables": lambda: list(db),
        "setup_namespace": lambda: db.setup_namespace({"other": (str,)}),
        "delete_namespace": lambda: db.delete_namespace(),
    }


def write_batch(table: Any) -> None:
    with table.batch() as batch:
        batch.put(("k", 1), b"v")
        batch.delete(("k", 2))


@pytest.fixture(params=REMOTE)
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An engine of the test's own, which it may end."""
    need(request.param)
    with STARTERS[request.param]() as started:
        yield started


def prepared(url: str, **options: Any) -> Database:
    db = connect(url, namespace="faults", **({"timeout": 1, "retry_for": 0.3} | options))
    db.setup_namespace({"t": (str, int)})
    db["t"].put_many([(("k", i), b"v") for i in range(100)])
    return db


def is_refused_within(seconds: float, name: str, call: Callable[[], object]) -> None:
    start = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1"):
        call()
    assert time.monotonic() - start < seconds, name


def test_every_call_to_an_engine_that_is_gone_says_so(engine: Any) -> None:
    with prepared(engine.url) as db:
        calls = every_call(db)
        engine.kill()
        for name, call in calls.items():
            is_refused_within(10, name, call)
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1"):
        connect(engine.url, timeout=1)


def test_an_engine_that_no_longer_answers_holds_nobody(engine: Any) -> None:
    with prepared(engine.url) as db:
        calls = every_call(db)
        engine.pause()
        try:
            for name in ("get", "put_many", "scan", "increment", "batch", "tables"):
                is_refused_within(10, name, calls[name])
        finally:
            engine.go_on()
        assert db["t"].get(("k", 1)) == b"v"


def test_a_cassandra_that_no_longer_answers_holds_nobody(urls: Any) -> None:
    url = urls["cassandra"]
    with prepared(url, timeout=30) as db:
        db.delete_namespace()
    with (
        prepared(url, timeout=30, retry_for=60) as patient,
        connect(url, namespace="faults", timeout=1, retry_for=0.3) as db,
    ):
        calls = every_call(db)
        calls["get"]()
        engine = urls.engine("cassandra")
        engine.pause()
        try:
            for name in ("get", "put_many", "scan", "increment"):
                is_refused_within(20, name, calls[name])
        finally:
            engine.go_on()
        # The handle that repeats for longer goes on by itself.
        assert patient["t"].get(("k", 2)) == b"v"
        patient.delete_namespace()


def test_what_has_a_ttl_on_cassandra_is_gone_after_it(urls: Any) -> None:
    with connect(urls["cassandra"], namespace="expiry") as db:
        db.setup_namespace({"t": (str, int)})
        table = db["t"]
        table.put(("long", 0), b"v", ttl=3_600)
        table.put_many([(("stays", i), b"v") for i in range(5)])
        table.put(("short", 0), b"v", ttl=1)
        table.put_many([(("short", i), b"v") for i in range(1, 40)], ttl=1)
        deadline = time.monotonic() + 60
        while len(table) > 6:
            assert time.monotonic() < deadline, "nothing expires"
        assert list(table) == [("long", 0), *(("stays", i) for i in range(5))]
        assert table.get(("short", 0)) is None
        assert table.compare_and_set(("short", 0), None, b"new")
        db.delete_namespace()


def test_calls_go_on_when_an_engine_comes_back(engine: Any) -> None:
    with prepared(engine.url, retry_for=60, timeout=5) as db:
        engine.kill()
        seen: list[list[str]] = []
        caller = threading.Thread(target=lambda: seen.append(list(db)))
        caller.start()
        # In this thread: an engine ends with the thread that started it.
        engine.start()
        caller.join(60)
        # Redis has lost its data, PostgreSQL has not: what counts here is that the call ends well.
        assert len(seen) == 1
        db.setup_namespace({"t": (str, int)})
        db["t"].put(("again", 1), b"v")
        assert db["t"][("again", 1)] == b"v"


def test_a_postgresql_that_crashes_in_the_middle_loses_nothing_acknowledged() -> None:
    need("postgresql")
    import engines

    with (
        engines.PostgreSQL(durable=True) as server,
        prepared(server.url, retry_for=60, timeout=5) as db,
    ):
        table, acknowledged, stop = db["t"], [], threading.Event()
        failed: list[BaseException] = []

        def write() -> None:
            try:
                for i in itertools.count():
                    table.put_many([(("w", i * 10 + j), b"%d" % i) for j in range(10)])
                    acknowledged.append(i)
                    if stop.is_set():
                        return
            except BaseException as error:
                failed.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(2):
            wait_for_more(acknowledged, failed)
            server.kill()
            server.start()
        wait_for_more(acknowledged, failed)
        stop.set()
        writer.join(60)
        assert not failed
        keys = [("w", i * 10 + j) for i in acknowledged for j in range(10)]
        assert all(value is not None for _, value in table.get_many(keys))


def wait_for_more(acknowledged: list[int], failed: list[BaseException]) -> None:
    deadline = time.monotonic() + 90
    wanted = len(acknowledged) + 30
    pause = threading.Event()
    while len(acknowledged) < wanted and not failed:
        assert time.monotonic() < deadline, "puts are no longer acknowledged"
        pause.wait(0.01)


def test_what_is_not_safe_to_repeat_is_not_repeated() -> None:
    attempts = []

    def work() -> None:
        attempts.append(1)
        raise OSError("gone")

    retry = Retry("x://", 0.2, lambda e: isinstance(e, OSError), lambda e: "refused" in str(e))
    with pytest.raises(BackendUnavailable, match="x://: gone"):
        retry.call(work, safe=False)
    assert len(attempts) == 1
    with pytest.raises(BackendUnavailable):
        retry.call(work)
    assert len(attempts) > 2

    def refused() -> None:
        attempts.append(1)
        raise OSError("refused")

    attempts.clear()
    with pytest.raises(BackendUnavailable):
        retry.call(refused, safe=False)
    assert len(attempts) > 1
    with pytest.raises(KeyError):
        retry.call(lambda: {}["bug"])


def test_an_unreachable_engine_is_known_at_once() -> None:
    for url in ("postgresql://postgres@127.0.0.1:1/x", "redis://127.0.0.1:1"):
        start = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1"):
            connect(url, timeout=2)
        assert time.monotonic() - start < 8
    for url in ("redis+cluster://127.0.0.1:1", "cassandra://127.0.0.1:1"):
        with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:1"):
            connect(url, timeout=2)


def test_a_locked_sqlite_file_is_waited_for_and_then_said_so(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with prepared(f"sqlite:///{path}", timeout=0.2, retry_for=0.2) as db:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailable, match="locked"):
            db["t"].put(("k", 1), b"new")
        with pytest.raises(BackendUnavailable, match="locked"):
            db["t"].increment(("n", 1))
        assert db["t"][("k", 1)] == b"v"
        other.execute("COMMIT")
        other.close()
        db["t"].put(("k", 1), b"new")
        assert db["t"][("k", 1)] == b"new"


def test_a_file_that_is_no_database_is_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_bytes(b"this is no database at all, and long enough to be looked at" * 40)
    with pytest.raises(BackendUnavailable, match="not a database"):
        connect(f"sqlite:///{path}", retry_for=0.1)
    with pytest.raises(BackendUnavailable, match="unable to open"):
        connect(f"sqlite:///{tmp_path}/none/t.db", retry_for=0.1)


def test_a_wrong_database_or_password_is_no_engine_that_is_gone() -> None:
    need("redis")
    import engines

    with engines.Redis(None, "--requirepass", "secret") as server:
        place = f"127.0.0.1:{server.port}"
        with pytest.raises(Exception, match=r"(?i)auth|password") as caught:
            connect(f"redis://:wrong@{place}", timeout=2)
        assert "wrong" not in str(caught.value)
        with connect(f"redis://:secret@{place}", timeout=2) as db:
            db.setup_namespace({"t": (str,)})
            assert "secret" not in repr(db)
        with pytest.raises(ConfigurationError, match="database"):
            connect(f"redis://:secret@{place}/x")


def _in_child(db: Database, number: int) -> None:
    db["t"].put(("child", number), b"v")


def test_a_forked_child_has_connections_of_its_own(urls: Any) -> None:
    context = multiprocessing.get_context("fork")
    for engine in ("local", "sqlite", "postgresql", "redis", "redis+cluster", "cassandra"):
        with connect(urls[engine], namespace="forks") as db:
            db.setup_namespace({"t": (str, int)})
            table = db["t"]
            table.clear()
            table.put(("parent", 0), b"v")
            children = [context.Process(target=_in_child, args=(db, n)) for n in range(3)]
            for child in children:
                child.start()
            for i in range(200):
                table.put(("parent", i), b"v")
                assert table[("parent", i)] == b"v"
            for child in children:
                child.join(60)
                assert child.exitcode == 0, engine
            expected = 200 if engine == "local" else 203
            assert len(table) == expected, engine
            db.delete_namespace()
