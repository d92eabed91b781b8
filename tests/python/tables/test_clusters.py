"""Clusters of which a node is killed, or gives its data away: nothing acknowledged is lost, and the client recovers."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from tables_engines import need

from atbr.tables import BackendUnavailable, connect

pytestmark = pytest.mark.deep


class Writer:
    """Puts one key after another from a thread; knows which were acknowledged."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.acknowledged: list[int] = []
        self.refused = 0
        self.longest = 0.0
        self.failed: list[BaseException] = []
        self._stop = threading.Event()
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            start = time.monotonic()
            try:
                self.table.put_many([(("w", number * 4 + j), b"%d" % number) for j in range(4)])
            except BackendUnavailable:
                self.refused += 1
            except BaseException as error:
                self.failed.append(error)
                return
            else:
                with self._more:
                    self.acknowledged.append(number)
                    self._more.notify_all()
            self.longest = max(self.longest, time.monotonic() - start)

    def wait_for(self, more: int, seconds: float = 90) -> None:
        """Wait until so many more have been acknowledged."""
        wanted = len(self.acknowledged) + more
        with self._more:
            assert self._more.wait_for(lambda: len(self.acknowledged) >= wanted, seconds), (
                f"no {more} puts were acknowledged in {seconds} s: {self.failed or self.refused}"
            )

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "a put hangs"

    def lost(self) -> list[Any]:
        keys = [("w", number * 4 + j) for number in self.acknowledged for j in range(4)]
        return [key for key, value in self.table.get_many(keys) if value is None]


def test_three_nodes_of_cassandra_lose_nothing_acknowledged_when_one_is_killed() -> None:
    need("cassandra")
    import engines

    with engines.Cassandra(nodes=3) as cluster:
        with connect(cluster.url, namespace="kill", consistency="QUORUM", retry_for=30) as db:
            db.setup_namespace({"t": (str, int)})
            table = db["t"]
            with Writer(table) as writer:
                writer.wait_for(100)
                cluster.nodes[2].kill()
                writer.wait_for(200)
            assert writer.failed == []
            assert writer.lost() == []
            assert table.increment(("n", 0), 5) == 5
            assert table.compare_and_set(("c", 0), None, b"1")
            assert len(list(table.scan((("w",), ("w",))))) >= 4 * len(writer.acknowledged)
            with (
                pytest.raises(BackendUnavailable),
                connect(cluster.url, namespace="kill", consistency="ALL", retry_for=1) as all_of,
            ):
                all_of["t"].put(("x", 1), b"")
            # A second one gone is no quorum any more: that is said, and soon.
            cluster.nodes[1].kill()
            with connect_or_none(cluster.url) as two_gone:
                start = time.monotonic()
                with pytest.raises(BackendUnavailable):
                    (two_gone or db)["t"].put(("x", 2), b"")
                assert time.monotonic() - start < 60


def connect_or_none(url: str) -> Any:
    """A fresh handle where one comes about without a quorum, else a stand-in."""
    from contextlib import nullcontext

    try:
        return connect(url, namespace="kill", retry_for=1, timeout=12)
    except BackendUnavailable:
        return nullcontext()


def test_a_redis_cluster_goes_on_when_a_master_is_killed() -> None:
    need("redis+cluster")
    import engines

    with engines.RedisCluster(masters=3, replicas=1) as cluster:
        with connect(cluster.url, namespace="kill", retry_for=60, timeout=2) as db:
            db.setup_namespace({"t": (str, int)})
            table = db["t"]
            with Writer(table) as writer:
                writer.wait_for(200)
                cluster.master().kill()
                # Every bucket is written again: the slots of the dead master have a new one.
                writer.wait_for(400)
            assert writer.failed == []
            assert writer.refused == 0
            # Redis acknowledges before its replica has a write: the last ones before the kill may be
            # gone, and nothing else.
            assert len(writer.lost()) <= 8
            assert table.increment(("n", 0), 5) == 5
            assert len(list(table.scan((("w",), ("w",))))) >= 4 * len(writer.acknowledged) - 8


def test_a_redis_cluster_goes_on_while_slots_move() -> None:
    need("redis+cluster")
    import engines

    with engines.RedisCluster(masters=3) as cluster:
        with connect(cluster.url, namespace="move", retry_for=60, timeout=5) as db:
            db.setup_namespace({"t": (str, int)})
            table = db["t"]
            table.put_many([(("k", i), b"%d" % i) for i in range(5_000)])
            with Writer(table) as writer:
                writer.wait_for(100)
                cluster.move_slots(cluster.nodes[0], cluster.nodes[1])
                writer.wait_for(100)
            assert writer.failed == []
            assert writer.refused == 0
            assert writer.lost() == []
            assert [value for _, value in table.scan((("k",), ("k",)))] == [
                b"%d" % i for i in range(5_000)
            ]
            assert all(value for _, value in table.get_many([("k", i) for i in range(5_000)]))
            assert [table.increment(("n", i), 5) for i in range(50)] == [5] * 50
            assert table.delete_range((("k",), ("k",))) == 5_000
