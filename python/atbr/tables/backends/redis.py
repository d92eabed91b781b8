"""redis:// and redis+cluster://: redis-py; a table is a hash and a sorted set for each of its buckets."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import redis
from redis.crc import key_slot

from atbr._core import KeyCodec, PackedKeys, bucket_positions
from atbr.tables.backend import Backend, Pair, chunks, pages
from atbr.tables.backends import redis_scripts as scripts
from atbr.tables.backends.redis_client import connected, is_gone, never_sent
from atbr.tables.buckets import bucket_of, by_bucket, merged, pairs_by_bucket
from atbr.tables.config import Config
from atbr.tables.errors import ConfigurationError, TablesError
from atbr.tables.layouts import Layouts, StaleLayout, scanned
from atbr.tables.ranges import Interval
from atbr.tables.retry import Retry

T = TypeVar("T")
# On a cluster enough buckets for some ten masters; on one server one, which needs no merging.
CLUSTER_BUCKETS = 16
PAGE_ROWS = 4_000
AT_ONCE = 1_000
Command = tuple[Any, ...]
# The hash and the sorted set.
Bucket = tuple[str, str]


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
        self._layouts: Layouts[list[Bucket]] = Layouts(self._look_up)
        self._closed = False
        self._retry = Retry(config.shown, config.options["retry_for"], is_gone, never_sent)
        self._client: Any = self._retry.once(lambda: connected(config))
        self._retry.once(lambda: self._client.execute_command("HLEN", f"{self._space}:schemas"))

    # -- talking to the engine ---------------------------------------------------------------------

    def _run(self, work: Callable[[], T], *, safe: bool = True) -> T:
        if self._closed:
            raise ValueError(f"{self._shown} is closed")
        try:
            return self._retry.call(work, safe=safe)
        except redis.ResponseError as error:
            text = str(error)
            if text.endswith(scripts.GONE):
                raise StaleLayout(f"{self._shown}: {text}") from None
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

    def _script(self, text: str, bucket: Bucket, *values: Any, safe: bool) -> Any:
        return self._run(
            lambda: self._client.execute_command(*_eval(text, bucket, *values)), safe=safe
        )

    def _on_key(self, table: str, text: str, key: bytes, *values: Any) -> Any:
        """Run a script that is not safe to repeat on the bucket of a key."""

        def work(buckets: list[Bucket]) -> Any:
            bucket = buckets[bucket_of(key, len(buckets))]
            return self._script(text, bucket, key, *values, safe=False)

        return self._layouts.call(table, work)

    def _look_up(self, table: str) -> list[Bucket] | None:
        """Return the hash and the sorted set of each bucket, as the engine knows them."""
        place = f"{self._space}:buckets"
        stored = self._run(lambda: self._client.execute_command("HGET", place, table))
        return None if stored is None else self._buckets_of(table, stored)

    def _buckets_of(self, table: str, stored: bytes) -> list[Bucket]:
        count, _, generation = stored.decode().partition(":")
        tag = f"atbr:{{{self._tables}.{table}.{generation}"
        return [(f"{tag}:{number}}}:h", f"{tag}:{number}}}:z") for number in range(int(count))]

    # -- the contract ------------------------------------------------------------------------------

    def schemas(self) -> dict[str, str]:
        found = self._run(lambda: self._client.execute_command("HGETALL", f"{self._space}:schemas"))
        return {name.decode(): text.decode() for name, text in found.items()}

    def create(self, tables: dict[str, str]) -> None:
        registry, names = f"{self._space}:buckets", list(tables)
        count = self._wanted or (CLUSTER_BUCKETS if self._cluster else 1)
        # Buckets made anew have names of their own, so that nobody takes what was deleted for them.
        ours = f"{count}:{secrets.token_hex(4)}".encode()
        if not names:
            return
        [stored] = self._all([("HMGET", registry, *names)])
        # Tables that are there are marked again: a server that lost its data may have lost the marks.
        values = dict(zip(names, (known or ours for known in stored), strict=True))
        marked = {name: self._buckets_of(name, value) for name, value in values.items()}
        places = [place for buckets in marked.values() for place, _ in buckets]
        self._all([("HSET", place, scripts.MARK, b"") for place in places])
        self._all([("HSETNX", registry, name, value) for name, value in values.items()])
        self._all([("HSETNX", f"{self._space}:schemas", name, tables[name]) for name in names])
        [stored] = self._all([("HMGET", registry, *names)])
        self._layouts.forget()
        for name, known in zip(names, stored, strict=True):
            if known != values[name]:
                # Another program was first.
                self._all([("UNLINK", *bucket) for bucket in marked[name]])
            found = len(self._buckets_of(name, known)) if known else 0
            if self._wanted and found != self._wanted:
                raise ConfigurationError(f"buckets: table {name!r} has {found}, not {self._wanted}")

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._layouts.call(table, lambda buckets: self._get(buckets, list(keys)))

    def encoded(self, codec: KeyCodec, keys: list[Any]) -> list[bytes] | PackedKeys:
        # On one server the packed keys become a command without ever being objects.
        return codec.encode_many(keys) if self._cluster else codec.pack_many(keys)

    def values_of(self, table: str, encoded: list[bytes] | PackedKeys) -> list[bytes | None]:
        def work(buckets: list[Bucket]) -> list[bytes | None]:
            if not isinstance(encoded, PackedKeys):
                return self._get(buckets, encoded)
            if len(buckets) > 1:
                return self._get(buckets, encoded.to_list())
            [(place, _)] = buckets
            parts = encoded.cut(AT_ONCE)
            return self._values([("HMGET", place, part, scripts.MARK) for part in parts])

        return self._layouts.call(table, work)

    def _values(self, commands: list[Command]) -> list[bytes | None]:
        """Return what commands that end with the mark of a table find."""
        return list(chain.from_iterable(map(_marked, self._all(commands))))

    def _get(self, buckets: list[Bucket], keys: list[bytes]) -> list[bytes | None]:
        commands: list[Command] = []
        if len(buckets) == 1 or len(keys) == 1:
            place = buckets[bucket_of(keys[0], len(buckets))][0] if keys else ""
            for at in range(0, len(keys), AT_ONCE):
                commands.append(("HMGET", place, *keys[at : at + AT_ONCE], scripts.MARK))
            return self._values(commands)
        places: list[list[int]] = []
        for number, positions in enumerate(bucket_positions(keys, len(buckets))):
            for at in range(0, len(positions), AT_ONCE):
                part = positions[at : at + AT_ONCE]
                asked = [keys[position] for position in part]
                commands.append(("HMGET", buckets[number][0], *asked, scripts.MARK))
                places.append(part)
        values: list[bytes | None] = [None] * len(keys)
        for part, answer in zip(places, self._all(commands), strict=True):
            for position, value in zip(part, _marked(answer), strict=True):
                values[position] = value
        return values

    def put_many(self, table: str, pairs: list[Pair], ttl: float | None = None) -> None:
        self.refuse_ttl(ttl)
        self._layouts.call(table, lambda buckets: self._put(buckets, pairs))

    def _put(self, buckets: list[Bucket], pairs: list[Pair]) -> None:
        parts = [
            (buckets[number], part)
            for number, some in pairs_by_bucket(pairs, len(buckets)).items()
            for part in chunks(some)
        ]
        if not self._cluster:
            # One server: commands in a transaction are a fourth faster than a script.
            for bucket, part in parts:
                self._run(partial(self._put_part, bucket, part))
            return
        commands = [
            _eval(scripts.PUT, bucket, *chain.from_iterable(part)) for bucket, part in parts
        ]
        # Some megabytes at a time: a server holds all answers and requests of a pipeline.
        for at in range(0, len(commands), 32):
            self._all(commands[at : at + 32])

    def _put_part(self, bucket: Bucket, part: list[Pair]) -> None:
        order: list[Any] = [0] * (2 * len(part))
        order[1::2] = [key for key, _ in part]
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("HEXISTS", bucket[0], scripts.MARK)
            pipeline.execute_command("HSET", bucket[0], *chain.from_iterable(part))
            pipeline.execute_command("ZADD", bucket[1], *order)
            if not pipeline.execute()[0]:
                # These names are never used again, so nobody's data go.
                self._client.execute_command("UNLINK", *bucket)
                raise StaleLayout(f"{self._shown}: a table is gone")

    def delete_many(self, table: str, keys: list[bytes]) -> None:
        def work(buckets: list[Bucket]) -> None:
            commands = []
            for number, some in by_bucket(keys, keys, len(buckets)).items():
                for at in range(0, len(some), AT_ONCE):
                    part = some[at : at + AT_ONCE]
                    commands.append(_eval(scripts.DELETE, buckets[number], *part))
            self._all(commands)

        self._layouts.call(table, work)

    def scan(
        self, table: str, interval: Interval, *, reverse: bool, keys_only: bool, limit: int | None
    ) -> Iterator[list[Pair]]:
        def of_bucket(bucket: Bucket) -> Iterator[list[Pair]]:
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

        def begin(buckets: list[Bucket]) -> tuple[list[Pair] | None, Iterator[list[Pair]]]:
            found = merged([of_bucket(bucket) for bucket in buckets], reverse)
            return next(found, None), found

        return scanned(self._layouts, table, begin)

    def count(self, table: str, interval: Interval) -> int:
        ends = _ends(interval)

        def work(buckets: list[Bucket]) -> int:
            return sum(self._all([_eval(scripts.COUNT, bucket, *ends) for bucket in buckets]))

        return self._layouts.call(table, work)

    def delete_range(self, table: str, interval: Interval) -> int:
        def work(buckets: list[Bucket]) -> int:
            removed = 0
            for bucket in buckets:
                # Some thousand keys at a time, because nobody else is served meanwhile.
                ends = _ends(interval)
                while some := self._script(scripts.DELETE_RANGE, bucket, *ends, safe=True):
                    removed += some
            return removed

        return self._layouts.call(table, work)

    def clear(self, table: str) -> None:
        def work(buckets: list[Bucket]) -> None:
            self._all([_eval(scripts.CLEAR, bucket) for bucket in buckets])

        self._layouts.call(table, work)

    def pop(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._on_key(table, scripts.POP, key)
        return value

    def compare_and_set(
        self, table: str, key: bytes, expected: bytes | None, new: bytes | None
    ) -> bool:
        values = (int(expected is not None), expected or b"", int(new is not None), new or b"")
        return bool(self._on_key(table, scripts.COMPARE_AND_SET, key, *values))

    def increment(self, table: str, key: bytes, delta: int) -> int:
        return int(self._on_key(table, scripts.INCREMENT, key, delta))

    def drop_namespace(self) -> None:
        registry = f"{self._space}:buckets"
        stored = self._run(lambda: self._client.execute_command("HGETALL", registry))
        buckets = [
            bucket
            for name, known in stored.items()
            for bucket in self._buckets_of(name.decode(), known)
        ]
        # The list goes last: whoever is interrupted here can begin again.
        self._all([("UNLINK", *bucket) for bucket in buckets])
        self._all([("UNLINK", f"{self._space}:schemas", registry)])
        self._layouts.forget()

    def close(self) -> None:
        self._closed = True
        self._client.close()
        if not self._cluster:
            self._client.connection_pool.disconnect()


def _eval(text: str, bucket: Bucket, *values: Any) -> Command:
    return ("EVAL", text, 2, *bucket, *values)


def _marked(answer: list[Any]) -> list[Any]:
    """Return what HMGET found, without the mark of a table that is there, which it asked for last."""
    if answer.pop() is None:
        raise StaleLayout
    return answer


def _ends(interval: Interval) -> tuple[bytes, bytes]:
    low = b"[" + interval.low if interval.low else b"-"
    return low, b"+" if interval.high is None else b"(" + interval.high
