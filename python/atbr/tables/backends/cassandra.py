"""cassandra://h1,h2/keyspace: cassandra-driver, prepared and token-aware; one step by lightweight transactions.

The tables of a namespace are one table of Cassandra, PRIMARY KEY ((t, b), k): Cassandra wants few tables, and making
one takes it seconds. t is the table's name and b the bucket.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any, TypeVar

from cassandra import ConsistencyLevel, InvalidRequest, OperationTimedOut, RequestExecutionException
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    Session,
)
from cassandra.concurrent import execute_concurrent
from cassandra.connection import ConnectionException
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.query import BatchStatement, BatchType, tuple_factory

from atbr.tables.backend import Backend, Pair, Write, chunks, distinct, pages
from atbr.tables.backends.sqlite import added
from atbr.tables.buckets import bucket_of, by_bucket, merged
from atbr.tables.config import Config
from atbr.tables.errors import ConfigurationError, TablesError, unknown_table
from atbr.tables.ranges import Interval
from atbr.tables.retry import Retry

T = TypeVar("T")
BUCKETS = 16
SERIAL = "serial"
# A batch within one partition is one write for Cassandra; larger ones gain nothing.
BATCH_ROWS = 100
BATCH_BYTES = 256 * 1024
IN_ROWS = 100
AT_ONCE = 32
PAGE_ROWS = 4_000
LONGEST_TTL = 630_720_000
Statement = tuple[str, tuple[Any, ...]]

_GONE = (
    NoHostAvailable,
    OperationTimedOut,
    RequestExecutionException,
    ConnectionException,
)


class CassandraBackend(Backend):
    """Reads and writes at `consistency`; increment, compare_and_set and pop at SERIAL and `consistency`."""

    scheme = "cassandra"
    atomic = False
    has_ttl = True
    max_key = 65_535
    # Half a segment of the commit log is the most that one write may have, by default.
    max_value = 16 * 1024 * 1024 - 128 * 1024

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shown = config.shown
        name = str(config.options["consistency"]).upper()
        if name not in ("ONE", "QUORUM", "ALL", "LOCAL_QUORUM", "LOCAL_ONE"):
            raise ConfigurationError(f"consistency: {name!r} is none of ONE, QUORUM, ALL, LOCAL_*")
        self._consistency: int = ConsistencyLevel.name_to_value[name]
        self._keyspace = config.path.strip("/") or "atbr"
        if not self._keyspace.isidentifier() or len(self._keyspace) > 48:
            raise ConfigurationError(f"url: {self._keyspace!r} is no name of a keyspace")
        self._wanted: int | None = config.options["buckets"]
        self._space = f"{config.app_name}.{config.namespace}"
        # Names of tables have 48 letters, digits and _.
        digest = sha256(self._space.encode()).hexdigest()[:16]
        words = "".join(c if c.isalnum() else "_" for c in self._space.lower())[:29]
        self._table = f"{self._keyspace}.t_{digest}_{words}"
        self._schemas = f"{self._keyspace}.schemas"
        self._retry = Retry(config.shown, config.options["retry_for"], _is_gone, _never_sent)
        self._lock = threading.Lock()
        # Threads of one process take turns at a transaction: those of others are contention enough.
        self._turns = [threading.Lock() for _ in range(64)]
        self._closed = False
        self._process = 0
        try:
            self._connect()
        except Exception as error:
            raise self._retry.unavailable(error) if _is_gone(error) else error from error

    # -- talking to the engine ---------------------------------------------------------------------

    def _connect(self) -> None:
        options = self._config.options
        places = self._config.host_ports(9042)
        if len({port for _, port in places}) > 1:
            raise ConfigurationError("storage_addresses: nodes of Cassandra have one port")
        data_center = options["local_dc"]
        near = DCAwareRoundRobinPolicy(data_center) if data_center else RoundRobinPolicy()
        common = {
            "load_balancing_policy": TokenAwarePolicy(near),
            "consistency_level": self._consistency,
            "request_timeout": options["timeout"],
            "row_factory": tuple_factory,
        }
        login = {}
        if self._config.user is not None:
            from cassandra.auth import PlainTextAuthProvider

            login["auth_provider"] = PlainTextAuthProvider(
                self._config.user, self._config.password or ""
            )
        cluster = Cluster(
            [host for host, _ in places],
            port=places[0][1],
            execution_profiles={
                EXEC_PROFILE_DEFAULT: ExecutionProfile(**common),
                # The driver would send a transaction that got no answer to the next node.
                SERIAL: ExecutionProfile(
                    retry_policy=FallthroughRetryPolicy(),
                    serial_consistency_level=ConsistencyLevel.SERIAL,
                    **common,
                ),
            },
            connect_timeout=options["timeout"],
            **login,
        )
        try:
            session = cluster.connect()
            session.default_fetch_size = None
            replication = (
                f"{{'class': 'SimpleStrategy', 'replication_factor': {options['replication']}}}"
            )
            session.execute(
                f"CREATE KEYSPACE IF NOT EXISTS {self._keyspace} WITH replication = {replication}"
            )
            session.execute(
                f"CREATE TABLE IF NOT EXISTS {self._schemas} (space text, name text, types text, "
                "buckets int, PRIMARY KEY ((space), name))"
            )
        except BaseException:
            cluster.shutdown()
            raise
        self._cluster, self._session = cluster, session
        self._prepared: dict[str, Any] = {}
        self._buckets: dict[str, int] = {}
        self._process = os.getpid()

    def _live(self) -> Session:
        if self._closed:
            raise ValueError(f"{self._shown} is closed")
        if self._process != os.getpid():
            # The threads of the parent's session are not here.
            with self._lock:
                if self._process != os.getpid():
                    self._connect()
        return self._session

    def _statement(self, text: str) -> Any:
        session = self._live()
        prepared = self._prepared.get(text)
        if prepared is None:
            prepared = session.prepare(text)
            self._prepared[text] = prepared
        return prepared

    def _run(self, work: Callable[[], T], *, table: str = "", safe: bool = True) -> T:
        try:
            return self._retry.call(work, safe=safe)
        except InvalidRequest as error:
            if "unconfigured table" in str(error) or "does not exist" in str(error):
                with self._lock:
                    self._buckets.clear()
                    self._prepared.clear()
                raise unknown_table(table) from None
            raise TablesError(f"{self._shown}: {error}") from error

    def _rows(self, table: str, text: str, *values: Any) -> list[Any]:
        def work() -> list[Any]:
            return list(self._live().execute(self._statement(text), values))

        return self._run(work, table=table)

    def _all(self, table: str, statements: list[Statement]) -> list[list[Any]]:
        """Return the rows of statements that are safe to repeat, sent some at a time."""
        if len(statements) == 1:
            text, values = statements[0]
            return [self._rows(table, text, *values)]

        def work() -> list[list[Any]]:
            pairs = [(self._statement(text), values) for text, values in statements]
            answers = execute_concurrent(self._live(), pairs, concurrency=AT_ONCE)
            return [list(answer.result_or_exc) for answer in answers]

        return self._run(work, table=table) if statements else []

    def _transaction(self, table: str, key: bytes, text: str, *values: Any) -> bool:
        """Return whether a lightweight transaction has been applied."""

        def work() -> bool:
            statement = self._statement(text)
            rows = self._live().execute(statement, values, execution_profile=SERIAL)
            applied: bool = rows.one()[0]
            return applied

        with self._turns[bucket_of(key, len(self._turns))]:
            return self._run(work, table=table, safe=False)

    def _count(self, table: str) -> int:
        """Return how many buckets a table has."""
        known = self._buckets.get(table)
        if known is None:
            text = f"SELECT buckets FROM {self._schemas} WHERE space = ? AND name = ?"
            rows = self._rows(table, text, self._space, table)
            if not rows:
                raise unknown_table(table)
            known = int(rows[0][0])
            self._buckets[table] = known
        return known

    def _place(self, table: str, key: bytes) -> tuple[str, int, bytes]:
        return table, bucket_of(key, self._count(table)), key

    # -- the contract ------------------------------------------------------------------------------

    def schemas(self) -> dict[str, str]:
        text = f"SELECT name, types FROM {self._schemas} WHERE space = ?"
        return dict(self._rows("", text, self._space))

    def create(self, tables: dict[str, str]) -> None:
        missing = {name: text for name, text in tables.items() if name not in self.schemas()}
        buckets = self._wanted or BUCKETS

        def make() -> None:
            self._live().execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} "
                "(t text, b int, k blob, v blob, PRIMARY KEY ((t, b), k))"
            )

        if missing:
            self._run(make)
        insert = f"INSERT INTO {self._schemas} (space, name, types, buckets) VALUES (?, ?, ?, ?) "
        for name, text in missing.items():
            # Of two programs one is first; a second try after a lost answer changes nothing.
            values = (self._space, name, text, buckets)
            self._all("", [(insert + "IF NOT EXISTS", values)])
        for name in tables:
            if self._wanted and self._count(name) != self._wanted:
                raise ConfigurationError(
                    f"buckets: table {name!r} has {self._count(name)}, not {self._wanted}"
                )

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        buckets = self._count(table)
        if len(keys) == 1:
            text = f"SELECT v FROM {self._table} WHERE t = ? AND b = ? AND k = ?"
            rows = self._rows(table, text, *self._place(table, keys[0]))
            return [rows[0][0] if rows else None]
        text = f"SELECT k, v FROM {self._table} WHERE t = ? AND b = ? AND k IN ?"
        statements: list[Statement] = []
        for number, some in by_bucket(dict.fromkeys(keys), bytes, buckets).items():
            for at in range(0, len(some), IN_ROWS):
                statements.append((text, (table, number, some[at : at + IN_ROWS])))
        found = {row[0]: row[1] for rows in self._all(table, statements) for row in rows}
        return [found.get(key) for key in keys]

    def put_many(self, table: str, pairs: list[Pair], ttl: float | None = None) -> None:
        text = f"INSERT INTO {self._table} (t, b, k, v) VALUES (?, ?, ?, ?)"
        more: tuple[int, ...] = ()
        if ttl is not None:
            if ttl > LONGEST_TTL:
                raise ValueError(f"ttl must be at most {LONGEST_TTL} seconds, and is {ttl}")
            text, more = text + " USING TTL ?", (math.ceil(ttl),)
        buckets = self._count(table)
        if len(pairs) == 1:
            self._rows(table, text, *self._place(table, pairs[0][0]), pairs[0][1], *more)
            return
        parts = []
        for number, some in by_bucket(distinct(pairs), _first, buckets).items():
            parts += [(number, part) for part in chunks(some, BATCH_ROWS, BATCH_BYTES)]

        def batch(number: int, part: list[Pair], statement: Any) -> BatchStatement:
            batch = BatchStatement(BatchType.UNLOGGED, consistency_level=self._consistency)
            for key, value in part:
                batch.add(statement, (table, number, key, value, *more))
            return batch

        def work() -> None:
            statement = self._statement(text)
            batches = ((batch(number, part, statement), None) for number, part in parts)
            execute_concurrent(self._live(), batches, concurrency=AT_ONCE)

        self._run(work, table=table)

    def delete_many(self, table: str, keys: list[bytes]) -> None:
        text = f"DELETE FROM {self._table} WHERE t = ? AND b = ? AND k IN ?"
        statements: list[Statement] = []
        for number, some in by_bucket(dict.fromkeys(keys), bytes, self._count(table)).items():
            for at in range(0, len(some), IN_ROWS):
                statements.append((text, (table, number, some[at : at + IN_ROWS])))
        self._all(table, statements)

    def write(self, table: str, writes: list[Write]) -> None:
        puts = [(key, value) for key, value in writes if value is not None]
        deletes = [key for key, value in writes if value is None]
        if puts:
            self.put_many(table, puts)
        if deletes:
            self.delete_many(table, deletes)

    def scan(
        self, table: str, interval: Interval, *, reverse: bool, keys_only: bool, limit: int | None
    ) -> Iterator[list[Pair]]:
        columns = "k" if keys_only else "k, v"
        order = "DESC" if reverse else "ASC"
        head = f"SELECT {columns} FROM {self._table} WHERE t = ? AND b = ? AND k >= ?"
        tail = f" ORDER BY k {order} LIMIT ?"

        def of_bucket(number: int) -> Iterator[list[Pair]]:
            def fetch(rest: Interval, size: int) -> list[Pair]:
                high = () if rest.high is None else (rest.high,)
                text = head + (" AND k < ?" if high else "") + tail
                rows = self._rows(table, text, table, number, rest.low, *high, size)
                return [(row[0], b"") for row in rows] if keys_only else rows

            return pages(fetch, interval, reverse=reverse, limit=limit, largest=PAGE_ROWS)

        return merged([of_bucket(number) for number in range(self._count(table))], reverse)

    def count(self, table: str, interval: Interval) -> int:
        where, ends = _where(interval)
        text = f"SELECT count(*) FROM {self._table} WHERE t = ? AND b = ?{where}"
        numbers = range(self._count(table))
        answers = self._all(table, [(text, (table, number, *ends)) for number in numbers])
        return sum(int(rows[0][0]) for rows in answers)

    def delete_range(self, table: str, interval: Interval) -> int:
        removed = self.count(table, interval)
        if removed:
            where, ends = _where(interval)
            text = f"DELETE FROM {self._table} WHERE t = ? AND b = ?{where}"
            numbers = range(self._count(table))
            self._all(table, [(text, (table, number, *ends)) for number in numbers])
        return removed

    def clear(self, table: str) -> None:
        text = f"DELETE FROM {self._table} WHERE t = ? AND b = ?"
        self._all(table, [(text, (table, number)) for number in range(self._count(table))])

    def pop(self, table: str, key: bytes) -> bytes | None:
        while True:
            [value] = self.get_many(table, [key])
            if value is None or self.compare_and_set(table, key, value, None):
                return value

    def compare_and_set(
        self, table: str, key: bytes, expected: bytes | None, new: bytes | None
    ) -> bool:
        place = self._place(table, key)
        where = "WHERE t = ? AND b = ? AND k = ?"
        if expected is None:
            if new is None:
                return self.get_many(table, [key]) == [None]
            text = f"INSERT INTO {self._table} (t, b, k, v) VALUES (?, ?, ?, ?) IF NOT EXISTS"
            return self._transaction(table, key, text, *place, new)
        if new is None:
            text = f"DELETE FROM {self._table} {where} IF v = ?"
            return self._transaction(table, key, text, *place, expected)
        text = f"UPDATE {self._table} SET v = ? {where} IF v = ?"
        return self._transaction(table, key, text, new, *place, expected)

    def increment(self, table: str, key: bytes, delta: int) -> int:
        while True:
            [value] = self.get_many(table, [key])
            total = added(value, delta)
            if self.compare_and_set(table, key, value, b"%d" % total):
                return total

    def drop_namespace(self) -> None:
        def work() -> None:
            session = self._live()
            session.execute(f"DROP TABLE IF EXISTS {self._table}")
            session.execute(f"DELETE FROM {self._schemas} WHERE space = %s", (self._space,))

        self._run(work)
        with self._lock:
            self._buckets.clear()
            self._prepared.clear()

    def close(self) -> None:
        if not self._closed and self._process == os.getpid():
            self._cluster.shutdown()
        self._closed = True


def _first(pair: Pair) -> bytes:
    return pair[0]


def _where(interval: Interval) -> tuple[str, tuple[bytes, ...]]:
    if interval.high is None:
        return (" AND k >= ?", (interval.low,)) if interval.low else ("", ())
    return " AND k >= ? AND k < ?", (interval.low, interval.high)


def _is_gone(error: Exception) -> bool:
    return isinstance(error, _GONE) and not isinstance(error, InvalidRequest)


def _never_sent(_error: Exception) -> bool:
    # A transaction may be found unavailable in its second half, so no error is proof.
    return False
