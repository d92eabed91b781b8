"""A session with Cassandra: connecting, prepared statements, retries, and sessions of forked children."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
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

from atbr.tables.buckets import bucket_of
from atbr.tables.config import Config
from atbr.tables.errors import ConfigurationError, TablesError
from atbr.tables.layouts import StaleLayout
from atbr.tables.retry import Retry

T = TypeVar("T")
SERIAL = "serial"
AT_ONCE = 32
LEVELS = ("ONE", "QUORUM", "ALL", "LOCAL_QUORUM", "LOCAL_ONE")
Statement = tuple[str, tuple[Any, ...]]

_GONE = (
    NoHostAvailable,
    OperationTimedOut,
    RequestExecutionException,
    ConnectionException,
)


# What the driver thinks best on this platform.
_DRIVERS: Any = Cluster.connection_class


class _Connection(_DRIVERS):  # type: ignore[misc]
    """A connection that reads what is there at once, and looks at it.

    The driver reads on as long as its buffer is filled, and then copies all there is for each segment of 128 KiB. With
    its own 4 KiB, reading a hundred values of a megabyte at once took six times the processor's time.
    """

    in_buffer_size = 8 * 2**20


class CassandraSession:
    """What talks to a cluster; a keyspace with the list of tables is made if it is missing."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shown = config.shown
        name = str(config.options["consistency"]).upper()
        if name not in LEVELS:
            raise ConfigurationError(f"consistency: {name!r} is none of {', '.join(LEVELS)}")
        self.consistency: int = ConsistencyLevel.name_to_value[name]
        self.keyspace = config.path.strip("/") or "atbr"
        if not self.keyspace.isidentifier() or len(self.keyspace) > 48:
            raise ConfigurationError(f"url: {self.keyspace!r} is no name of a keyspace")
        self.schemas = f"{self.keyspace}.schemas"
        self._retry = Retry(config.shown, config.options["retry_for"], _is_gone, _never_sent)
        self._lock = threading.Lock()
        # Threads of one process take turns at a transaction: those of others are contention enough.
        self._turns = [threading.Lock() for _ in range(64)]
        self._prepared: dict[str, Any] = {}
        self._closed = False
        self._process = 0
        self._retry.once(self._connect)

    def _connect(self) -> None:
        options = self._config.options
        places = self._config.host_ports(9042)
        if len({port for _, port in places}) > 1:
            raise ConfigurationError("storage_addresses: nodes of Cassandra have one port")
        data_center = options["local_dc"]
        near = DCAwareRoundRobinPolicy(data_center) if data_center else RoundRobinPolicy()
        common = {
            "load_balancing_policy": TokenAwarePolicy(near),
            "consistency_level": self.consistency,
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
            connection_class=_Connection,
            **login,
        )
        try:
            session = cluster.connect()
            session.default_fetch_size = None
            replication = (
                f"{{'class': 'SimpleStrategy', 'replication_factor': {options['replication']}}}"
            )
            session.execute(
                f"CREATE KEYSPACE IF NOT EXISTS {self.keyspace} WITH replication = {replication}"
            )
            session.execute(
                f"CREATE TABLE IF NOT EXISTS {self.schemas} (space text, name text, types text, "
                "buckets int, PRIMARY KEY ((space), name))"
            )
        except BaseException:
            cluster.shutdown()
            raise
        self._cluster, self._session = cluster, session
        self._prepared = {}
        self._process = os.getpid()

    def live(self) -> Session:
        if self._closed:
            raise ValueError(f"{self._shown} is closed")
        if self._process != os.getpid():
            # The threads of the parent's session are not here.
            with self._lock:
                if self._process != os.getpid():
                    self._connect()
        return self._session

    def statement(self, text: str) -> Any:
        session = self.live()
        prepared = self._prepared.get(text)
        if prepared is None:
            prepared = session.prepare(text)
            self._prepared[text] = prepared
        return prepared

    def run(self, work: Callable[[], T], *, safe: bool = True) -> T:
        try:
            return self._retry.call(work, safe=safe)
        except InvalidRequest as error:
            if "unconfigured table" in str(error) or "does not exist" in str(error):
                with self._lock:
                    self._prepared.clear()
                raise StaleLayout(f"{self._shown}: {error}") from None
            raise TablesError(f"{self._shown}: {error}") from error

    def rows(self, text: str, *values: Any) -> list[Any]:
        def work() -> list[Any]:
            return list(self.live().execute(self.statement(text), values))

        return self.run(work)

    def all_rows(self, statements: list[Statement]) -> list[list[Any]]:
        """Return the rows of statements that are safe to repeat, sent some at a time."""
        if len(statements) == 1:
            text, values = statements[0]
            return [self.rows(text, *values)]

        def work() -> list[list[Any]]:
            pairs = [(self.statement(text), values) for text, values in statements]
            answers = execute_concurrent(self.live(), pairs, concurrency=AT_ONCE)
            return [list(answer.result_or_exc) for answer in answers]

        return self.run(work) if statements else []

    def transaction(self, key: bytes, text: str, *values: Any) -> bool:
        """Return whether a lightweight transaction has been applied."""

        def work() -> bool:
            statement = self.statement(text)
            rows = self.live().execute(statement, values, execution_profile=SERIAL)
            applied: bool = rows.one()[0]
            return applied

        with self._turns[bucket_of(key, len(self._turns))]:
            return self.run(work, safe=False)

    def transaction_of(self, text: str, rows: list[tuple[Any, ...]]) -> bool:
        """Return whether one transaction on several rows of a partition has been applied."""

        def work() -> bool:
            statement = self.statement(text)
            batch = BatchStatement(BatchType.UNLOGGED, consistency_level=self.consistency)
            for row in rows:
                batch.add(statement, row)
            applied: bool = self.live().execute(batch, execution_profile=SERIAL).one()[0]
            return applied

        return self.run(work)

    def close(self) -> None:
        """End the session; a child that was forked leaves its parent's alone."""
        if not self._closed and self._process == os.getpid():
            self._cluster.shutdown()
        self._closed = True


def _is_gone(error: Exception) -> bool:
    return isinstance(error, _GONE) and not isinstance(error, InvalidRequest)


def _never_sent(_error: Exception) -> bool:
    # A transaction may be found unavailable in its second half, so no error is proof.
    return False
