"""redis:// and redis+cluster://: redis-py; a table is a hash and a sorted set for each of its buckets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.retry import Retry as DriversRetry

from atbr.tables.backend import Backend, Pair, Write, chunks, pages
from atbr.tables.backends import redis_scripts as scripts
from atbr.tables.buckets import bucket_of, by_bucket, merged
from atbr.tables.config import Config
from atbr.tables.errors import ConfigurationError, TablesError, unknown_table
from atbr.tables.ranges import Interval
from atbr.tables.retry import Retry

T = TypeVar("T")
# On a cluster enough buckets for some ten masters; on one server one, which needs no merging.
CLUSTER_BUCKETS = 16
PAGE_ROWS = 4_000
Command = tuple[Any, ...]

# The driver has no types for these two.
_NODE: Any = ClusterNode
_POOL: Any = redis.BlockingConnectionPool

# What says that the server did not carry the command out.
_REFUSED = (
    redis.exceptions.ClusterDownError,
    redis.exceptions.SlotNotCoveredError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.BusyLoadingError,
)
_GONE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,
    *_REFUSED,
)


class RedisBackend(Backend):
    """One hash tag a bucket, so that its two keys are on one node and a script can change both."""

    scheme = "redis"
    atomic = False
    max_value = 512 * 1024 * 1024 - 1

    def __init__(self, config: Config) -> None:
        self._shown = config.shown
        self._cluster = config.storage_type == "redis+cluster"
        self._wanted: int | None = config.options["buckets"]
        self._space = f"atbr:{{{config.app_name}.{config.namespace}}}"
        self._tables = f"{config.app_name}.{config.namespace}"
        self._buckets: dict[str, list[tuple[str, str]]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._retry = Retry(config.shown, config.options["retry_for"], _is_gone, _never_sent)
        try:
            self._client = self._connected(config)
            self._client.execute_command("HLEN", f"{self._space}:schemas")
        except Exception as error:
            raise self._retry.unavailable(error) if _is_gone(error) else error from error

    def _connected(self, config: Config) -> Any:
        timeout: float = config.options["timeout"]
        common: dict[str, Any] = {
            "username": config.user,
            "password": config.password,
            "ssl": config.secure,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
            # Repeating is ours: the driver would repeat an increment, too.
            "retry": DriversRetry(NoBackoff(), 0),
        }
        places = config.host_ports(6379)
        if self._cluster:
            if config.path.strip("/") not in ("", "0"):
                raise ConfigurationError(f"url: a cluster has no database {config.path!r}")
            return RedisCluster(
                startup_nodes=[_NODE(host, port) for host, port in places],
                max_connections=config.options["connections"],
                **common,
            )
        if len(places) > 1:
            raise ConfigurationError("storage_addresses: redis takes one; redis+cluster more")
        database = config.path.strip("/") or "0"
        if not database.isdecimal():
            raise ConfigurationError(f"url: {database!r} is no number of a database")
        ssl = common.pop("ssl")
        pool = _POOL(
            host=places[0][0],
            port=places[0][1],
            db=int(database),
            max_connections=config.options["connections"],
            timeout=timeout,
            **({"connection_class": redis.SSLConnection} if ssl else {}),
            **common,
        )
        return redis.Redis(connection_pool=pool)

    # -- talking to the engine ---------------------------------------------------------------------

    def _run(self, work: Callable[[], T], *, safe: bool = True) -> T:
        if self._closed:
            raise ValueError(f"{self._shown} is closed")
        try:
            return self._retry.call(work, safe=safe)
        except redis.ResponseError as error:
            text = str(error)
            if "not an integer" in text:
                raise ValueError("value is not a decimal 64-bit integer") from None
            if "overflow" in text:
                raise OverflowError("increment would overflow a signed 64-bit integer") from None
            raise TablesError(f"{self._shown}: {text}") from error

    def _all(self, commands: list[Command]) -> list[Any]:
        """Return the answers to commands that are safe to repeat, sent together."""
        if len(commands) == 1:
            return [self._run(lambda: self._client.execute_command(*commands[0]))]

        def work() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command, **self._target(command))
            answers: list[Any] = pipeline.execute()
            return answers

        return self._run(work) if commands else []

    def _target(self, command: Command) -> dict[str, Any]:
        """Name the node of a command: for EVAL in a pipeline the driver would ask a node for it."""
        if not self._cluster:
            return {}
        slot = key_slot(str(command[3] if command[0] == "EVAL" else command[1]).encode())
        return {"target_nodes": self._client.nodes_manager.get_node_from_slot(slot)}

    def _script(self, text: str, bucket: tuple[str, str], *values: Any, safe: bool) -> Any:
        return self._run(
            lambda: self._client.execute_command(*_eval(text, bucket, *values)), safe=safe
        )

    def _keys(self, table: str) -> list[tuple[str, str]]:
        """Return the hash and the sorted set of each bucket."""
        known = self._buckets.get(table)
        if known is None:
            count = self._run(
                lambda: self._client.execute_command("HGET", f"{self._space}:buckets", table)
            )
            if count is None:
                raise unknown_table(table)
            tags = [f"atbr:{{{self._tables}.{table}:{number}}}" for number in range(int(count))]
            known = [(f"{tag}:h", f"{tag}:z") for tag in tags]
            with self._lock:
                self._buckets[table] = known
        return known

    def _bucket(self, table: str, key: bytes) -> tuple[str, str]:
        keys = self._keys(table)
        return keys[bucket_of(key, len(keys))]

    # -- the contract ------------------------------------------------------------------------------

    def schemas(self) -> dict[str, str]:
        found = self._run(lambda: self._client.execute_command("HGETALL", f"{self._space}:schemas"))
        return {name.decode(): text.decode() for name, text in found.items()}

    def create(self, tables: dict[str, str]) -> None:
        buckets = self._wanted or (CLUSTER_BUCKETS if self._cluster else 1)
        names = list(tables)
        commands: list[Command] = [
            ("HSETNX", f"{self._space}:buckets", name, buckets) for name in names
        ]
        commands += [("HSETNX", f"{self._space}:schemas", name, tables[name]) for name in names]
        commands += [("HGET", f"{self._space}:buckets", name) for name in names]
        stored = self._all(commands)[2 * len(names) :]
        for name, count in zip(names, stored, strict=True):
            if self._wanted and int(count) != self._wanted:
                raise ConfigurationError(
                    f"buckets: table {name!r} has {int(count)}, not {self._wanted}"
                )

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        buckets = self._keys(table)
        if len(keys) == 1:
            place = buckets[bucket_of(keys[0], len(buckets))][0]
            return [self._run(lambda: self._client.execute_command("HGET", place, keys[0]))]
        if len(buckets) == 1 and len(keys) <= 1_000:
            values: list[bytes | None] = self._all([("HMGET", buckets[0][0], *keys)])[0]
            return values
        commands: list[Command] = []
        asked: list[bytes] = []
        for number, some in by_bucket(keys, bytes, len(buckets)).items():
            for at in range(0, len(some), 1_000):
                part = some[at : at + 1_000]
                commands.append(("HMGET", buckets[number][0], *part))
                asked += part
        values = [value for answer in self._all(commands) for value in answer]
        if len(buckets) == 1:
            return values
        found = dict(zip(asked, values, strict=True))
        return [found[key] for key in keys]

    def put_many(self, table: str, pairs: list[Pair], ttl: float | None = None) -> None:
        self.refuse_ttl(ttl)
        buckets = self._keys(table)
        parts = [
            (buckets[number], part)
            for number, some in by_bucket(pairs, _first, len(buckets)).items()
            for part in chunks(some)
        ]
        if not self._cluster:
            # One server: two commands in a transaction are a fourth faster than a script.
            for bucket, part in parts:
                self._run(partial(self._put_part, bucket, part))
            return
        commands = [
            _eval(scripts.PUT, bucket, *chain.from_iterable(part)) for bucket, part in parts
        ]
        # Some megabytes at a time: a server holds all answers and requests of a pipeline.
        for at in range(0, len(commands), 32):
            self._all(commands[at : at + 32])

    def _put_part(self, bucket: tuple[str, str], part: list[Pair]) -> None:
        order: list[Any] = [0] * (2 * len(part))
        order[1::2] = [key for key, _ in part]
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("HSET", bucket[0], *chain.from_iterable(part))
            pipeline.execute_command("ZADD", bucket[1], *order)
            pipeline.execute()

    def delete_many(self, table: str, keys: list[bytes]) -> None:
        buckets = self._keys(table)
        commands = []
        for number, some in by_bucket(keys, bytes, len(buckets)).items():
            for at in range(0, len(some), 1_000):
                commands.append(_eval(scripts.DELETE, buckets[number], *some[at : at + 1_000]))
        self._all(commands)

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
        def of_bucket(bucket: tuple[str, str]) -> Iterator[list[Pair]]:
            def fetch(rest: Interval, size: int) -> list[Pair]:
                size = min(size, PAGE_ROWS)
                low, high = _ends(rest)
                command, ends = (
                    ("ZREVRANGEBYLEX", (high, low)) if reverse else ("ZRANGEBYLEX", (low, high))
                )
                keys, values = self._script(
                    scripts.PAGE, bucket, command, *ends, size, int(not keys_only), safe=True
                )
                if keys_only:
                    return [(key, b"") for key in keys]
                return list(zip(keys, values, strict=True))

            return pages(fetch, interval, reverse=reverse, limit=limit, largest=PAGE_ROWS)

        return merged([of_bucket(bucket) for bucket in self._keys(table)], reverse)

    def count(self, table: str, interval: Interval) -> int:
        ends = _ends(interval)
        return sum(self._all([("ZLEXCOUNT", order, *ends) for _, order in self._keys(table)]))

    def delete_range(self, table: str, interval: Interval) -> int:
        removed = 0
        for bucket in self._keys(table):
            # Some thousand keys at a time, because nobody else is served meanwhile.
            while some := self._script(scripts.DELETE_RANGE, bucket, *_ends(interval), safe=True):
                removed += some
        return removed

    def clear(self, table: str) -> None:
        self._all([("UNLINK", *bucket) for bucket in self._keys(table)])

    def pop(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._script(scripts.POP, self._bucket(table, key), key, safe=False)
        return value

    def compare_and_set(
        self, table: str, key: bytes, expected: bytes | None, new: bytes | None
    ) -> bool:
        values = (int(expected is not None), expected or b"", int(new is not None), new or b"")
        bucket = self._bucket(table, key)
        answer = self._script(scripts.COMPARE_AND_SET, bucket, key, *values, safe=False)
        return bool(answer)

    def increment(self, table: str, key: bytes, delta: int) -> int:
        bucket = self._bucket(table, key)
        return int(self._script(scripts.INCREMENT, bucket, key, delta, safe=False))

    def drop_namespace(self) -> None:
        for table in self.schemas():
            try:
                self.clear(table)
            except TablesError as error:
                if not isinstance(error, KeyError):
                    raise
        self._all([("UNLINK", f"{self._space}:schemas", f"{self._space}:buckets")])
        with self._lock:
            self._buckets.clear()

    def close(self) -> None:
        self._closed = True
        self._client.close()
        if not self._cluster:
            self._client.connection_pool.disconnect()


def _eval(text: str, bucket: tuple[str, str], *values: Any) -> Command:
    return ("EVAL", text, 2, *bucket, *values)


def _first(pair: Pair) -> bytes:
    return pair[0]


def _ends(interval: Interval) -> tuple[bytes, bytes]:
    low = b"[" + interval.low if interval.low else b"-"
    return low, b"+" if interval.high is None else b"(" + interval.high


def _is_gone(error: Exception) -> bool:
    # A wrong password is no engine that went away.
    return isinstance(error, _GONE) and not isinstance(error, redis.AuthenticationError)


def _never_sent(error: Exception) -> bool:
    return isinstance(error, _REFUSED) or " connecting to " in str(error)
