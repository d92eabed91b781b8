"""What each engine's bare driver does best with many rows in the same layout, and what it does row by row."""

from __future__ import annotations

from typing import Any, ClassVar
from zlib import crc32

Pairs = list[tuple[bytes, bytes]]
TAGS = 16


def by_tag(pairs: Pairs) -> dict[int, Pairs]:
    """Return the pairs of each of 16 parts, into which a table is cut to spread over nodes."""
    parts: dict[int, Pairs] = {}
    for pair in pairs:
        parts.setdefault(crc32(pair[0]) % TAGS, []).append(pair)
    return parts


class BareRedis:
    """A hash and a sorted set, filled by a transaction for each thousand; read by HMGET."""

    def __init__(self, url: str) -> None:
        import redis

        self.client: Any = redis.Redis.from_url(url)

    def put_many(self, pairs: Pairs) -> None:
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.hset("bare:h", mapping=dict(pairs))
            pipeline.zadd("bare:z", dict.fromkeys((key for key, _ in pairs), 0))
            pipeline.execute()

    def get_many(self, pairs: Pairs) -> dict[bytes, bytes]:
        keys = [key for key, _ in pairs]
        return dict(zip(keys, self.client.hmget("bare:h", keys), strict=True))

    def put(self, key: bytes, value: bytes) -> None:
        self.client.hset("bare:h", key, value)
        self.client.zadd("bare:z", {key: 0})

    def clear(self) -> None:
        self.client.delete("bare:h", "bare:z")

    def close(self) -> None:
        self.client.close()


class BareRedisCluster:
    """The same over 16 hash tags, so that every master has its part, in one pipeline."""

    def __init__(self, url: str) -> None:
        from redis.cluster import ClusterNode, RedisCluster

        node: Any = ClusterNode
        places = url.partition("://")[2].split(",")
        nodes = [node(place.partition(":")[0], int(place.partition(":")[2])) for place in places]
        self.client: Any = RedisCluster(startup_nodes=nodes)

    def put_many(self, pairs: Pairs) -> None:
        with self.client.pipeline() as pipeline:
            for tag, part in by_tag(pairs).items():
                pipeline.hset(f"bare:{{{tag}}}:h", mapping=dict(part))
                pipeline.zadd(f"bare:{{{tag}}}:z", dict.fromkeys((key for key, _ in part), 0))
            pipeline.execute()

    def get_many(self, pairs: Pairs) -> dict[bytes, bytes]:
        keys: list[bytes] = []
        with self.client.pipeline() as pipeline:
            for tag, part in by_tag(pairs).items():
                some = [key for key, _ in part]
                keys += some
                pipeline.hmget(f"bare:{{{tag}}}:h", some)
            values = [value for answer in pipeline.execute() for value in answer]
        return dict(zip(keys, values, strict=True))

    def put(self, key: bytes, value: bytes) -> None:
        [(tag, _)] = by_tag([(key, value)]).items()
        self.client.hset(f"bare:{{{tag}}}:h", key, value)
        self.client.zadd(f"bare:{{{tag}}}:z", {key: 0})

    def clear(self) -> None:
        for tag in range(TAGS):
            self.client.delete(f"bare:{{{tag}}}:h", f"bare:{{{tag}}}:z")

    def close(self) -> None:
        self.client.close()


class BarePostgresql:
    """Arrays of bytea through unnest, and COPY into the empty table for a load."""

    def __init__(self, url: str) -> None:
        import psycopg

        self.client: Any = psycopg.connect(url, autocommit=True, prepare_threshold=1)
        self.client.execute(
            "CREATE TABLE IF NOT EXISTS bare (k bytea PRIMARY KEY, v bytea NOT NULL)"
        )

    def put_many(self, pairs: Pairs) -> None:
        self.client.execute(
            "INSERT INTO bare SELECT * FROM unnest(%b::bytea[], %b::bytea[]) "
            "ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            ([key for key, _ in pairs], [value for _, value in pairs]),
            binary=True,
        )

    def get_many(self, pairs: Pairs) -> dict[bytes, bytes]:
        keys = [key for key, _ in pairs]
        found = self.client.execute(
            "SELECT k, v FROM bare WHERE k = ANY (%b)", (keys,), binary=True
        )
        return dict(found.fetchall())

    def load(self, pairs: Pairs) -> None:
        with (
            self.client.cursor() as cursor,
            cursor.copy("COPY bare FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["bytea", "bytea"])
            for pair in pairs:
                copy.write_row(pair)

    def put(self, key: bytes, value: bytes) -> None:
        self.client.execute(
            "INSERT INTO bare VALUES (%b, %b) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            (key, value),
            binary=True,
        )

    def clear(self) -> None:
        self.client.execute("TRUNCATE bare")

    def close(self) -> None:
        self.client.close()


class BareCassandra:
    """Batches and IN within a partition, a hundred rows each, 32 under way: many times what single statements do."""

    AT_ONCE: ClassVar[int] = 32
    ROWS: ClassVar[int] = 100

    def __init__(self, url: str) -> None:
        from cassandra.cluster import Cluster

        place = url.partition("://")[2].partition("/")[0].split(",")[0]
        host, _, port = place.partition(":")
        self.cluster: Any = Cluster([host], port=int(port))
        self.session = self.cluster.connect()
        self.session.execute(
            "CREATE KEYSPACE IF NOT EXISTS bare WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        self.session.execute(
            "CREATE TABLE IF NOT EXISTS bare.rows (b int, k blob, v blob, PRIMARY KEY ((b), k))"
        )
        self.insert = self.session.prepare("INSERT INTO bare.rows (b, k, v) VALUES (?, ?, ?)")
        self.select = self.session.prepare("SELECT k, v FROM bare.rows WHERE b = ? AND k IN ?")

    def _parts(self, pairs: Pairs) -> list[tuple[int, Pairs]]:
        return [
            (tag, part[at : at + self.ROWS])
            for tag, part in by_tag(pairs).items()
            for at in range(0, len(part), self.ROWS)
        ]

    def put_many(self, pairs: Pairs) -> None:
        from cassandra.concurrent import execute_concurrent
        from cassandra.query import BatchStatement, BatchType

        batches = []
        for tag, part in self._parts(pairs):
            batch = BatchStatement(BatchType.UNLOGGED)
            for key, value in part:
                batch.add(self.insert, (tag, key, value))
            batches.append((batch, ()))
        execute_concurrent(self.session, batches, concurrency=self.AT_ONCE)

    def get_many(self, pairs: Pairs) -> dict[bytes, bytes]:
        from cassandra.concurrent import execute_concurrent_with_args

        asked = [(tag, [key for key, _ in part]) for tag, part in self._parts(pairs)]
        answers = execute_concurrent_with_args(
            self.session, self.select, asked, concurrency=self.AT_ONCE
        )
        return {row[0]: row[1] for answer in answers for row in answer.result_or_exc}

    def put(self, key: bytes, value: bytes) -> None:
        [(tag, _)] = self._parts([(key, value)])
        self.session.execute(self.insert, (tag, key, value))

    def clear(self) -> None:
        self.session.execute("TRUNCATE bare.rows")

    def close(self) -> None:
        self.cluster.shutdown()


DRIVERS: dict[str, Any] = {
    "postgresql": BarePostgresql,
    "redis": BareRedis,
    "redis+cluster": BareRedisCluster,
    "cassandra": BareCassandra,
}
