"""cassandra://h1,h2/keyspace: cassandra-driver, prepared and token-aware; one step by lightweight transactions.

The tables of a namespace are one table of Cassandra, PRIMARY KEY ((t, b), k): Cassandra wants few tables, and making
one takes it seconds. t is the name of the table and b the bucket. The name of their common table changes when the
namespace is deleted and made anew, so that other handles notice.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from struct import Struct
from typing import Any, NamedTuple

from cassandra.concurrent import execute_concurrent
from cassandra.query import BatchStatement, BatchType, BoundStatement

from atbr.tables.backend import Backend, Pair, chunks, distinct, pages
from atbr.tables.backends.cassandra_session import AT_ONCE, CassandraSession, Statement
from atbr.tables.backends.sqlite import added
from atbr.tables.buckets import bucket_of, by_bucket, merged, pairs_by_bucket
from atbr.tables.config import Config
from atbr.tables.errors import ConfigurationError
from atbr.tables.layouts import Layouts, scanned
from atbr.tables.ranges import Interval

BUCKETS = 16
# A batch within one partition is one write for Cassandra; larger ones gain nothing.
BATCH_ROWS = 100
BATCH_BYTES = 256 * 1024
IN_ROWS = 100
PAGE_ROWS = 4_000
LONGEST_TTL = 630_720_000
_INT = Struct(">i").pack
# The row of a namespace among those of its tables, which all have names.
NAMESPACE = ""


class Layout(NamedTuple):
    """Where a table is."""

    place: str
    name: str
    buckets: int

    def of(self, key: bytes) -> tuple[str, int, bytes]:
        """Return the primary key."""
        return self.name, bucket_of(key, self.buckets), key


class CassandraBackend(Backend):
    """Reads and writes at `consistency`; increment, compare_and_set and pop at SERIAL and `consistency`."""

    scheme = "cassandra"
    atomic = False
    has_ttl = True
    max_key = 65_535
    # Half a segment of the commit log is the most that one write may have, by default.
    max_value = 16 * 1024 * 1024 - 128 * 1024

    def __init__(self, config: Config) -> None:
        self._wanted: int | None = config.options["buckets"]
        self._space = f"{config.app_name}.{config.namespace}"
        self._engine = CassandraSession(config)
        self._layouts: Layouts[Layout] = Layouts(self._look_up)

    def _look_up(self, table: str) -> Layout | None:
        schemas = self._engine.schemas
        text = f"SELECT name, types, buckets FROM {schemas} WHERE space = ? AND name IN (?, ?)"
        rows = self._engine.rows(text, self._space, NAMESPACE, table)
        found = {name: (types, buckets) for name, types, buckets in rows}
        if table not in found or NAMESPACE not in found:
            return None
        return Layout(found[NAMESPACE][0], table, int(found[table][1]))

    def _new_place(self) -> str:
        # Names of tables have 48 letters, digits and _.
        digest = sha256(self._space.encode()).hexdigest()[:16]
        words = "".join(c if c.isalnum() else "_" for c in self._space.lower())[:20]
        return f"{self._engine.keyspace}.t_{digest}_{secrets.token_hex(4)}_{words}"

    # -- the contract ------------------------------------------------------------------------------

    def schemas(self) -> dict[str, str]:
        text = f"SELECT name, types FROM {self._engine.schemas} WHERE space = ?"
        return {name: types for name, types in self._engine.rows(text, self._space) if name}

    def create(self, tables: dict[str, str]) -> None:
        stored = self.schemas()
        missing = {name: text for name, text in tables.items() if name not in stored}
        insert = f"INSERT INTO {self._engine.schemas} (space, name, types, buckets) "
        insert += "VALUES (?, ?, ?, ?) IF NOT EXISTS"
        if missing:
            self._engine.rows(insert, self._space, NAMESPACE, self._new_place(), 0)
            text = f"SELECT types FROM {self._engine.schemas} WHERE space = ? AND name = ?"
            [[place]] = self._engine.rows(text, self._space, NAMESPACE)
            columns = "(t text, b int, k blob, v blob, PRIMARY KEY ((t, b), k))"
            # A replica that died is asked until the others notice; another one is asked after this.
            patience = "WITH speculative_retry = '250ms'"
            make = f"CREATE TABLE IF NOT EXISTS {place} {columns} {patience}"
            self._engine.run(lambda: self._engine.live().execute(make))
            buckets = self._wanted or BUCKETS
            rows = [(self._space, name, types, buckets) for name, types in missing.items()]
            # Of two programs one is first; a second try after a lost answer changes nothing.
            for at in range(0, len(rows), BATCH_ROWS):
                some = rows[at : at + BATCH_ROWS]
                if not self._engine.transaction_of(insert, some):
                    for row in some:
                        self._engine.rows(insert, *row)
        self._layouts.forget()
        for name in tables:
            if self._wanted and self._layouts.of(name).buckets != self._wanted:
                found = self._layouts.of(name).buckets
                raise ConfigurationError(f"buckets: table {name!r} has {found}, not {self._wanted}")

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._layouts.call(table, lambda layout: self._get(layout, list(keys)))

    def _get(self, layout: Layout, keys: list[bytes]) -> list[bytes | None]:
        head = f"SELECT k, v FROM {layout.place} WHERE t = ? AND b = ? AND k"
        if len(keys) == 1:
            rows = self._engine.rows(f"{head} = ?", *layout.of(keys[0]))
            return [rows[0][1] if rows else None]
        answers = self._engine.all_rows(_of_keys(layout, f"{head} IN ?", keys))
        found = {key: value for rows in answers for key, value in rows}
        return [found.get(key) for key in keys]

    def put_many(self, table: str, pairs: list[Pair], ttl: float | None = None) -> None:
        if ttl is not None and ttl > LONGEST_TTL:
            raise ValueError(f"ttl must be at most {LONGEST_TTL} seconds, and is {ttl}")
        more = () if ttl is None else (math.ceil(ttl),)
        self._layouts.call(table, lambda layout: self._put(layout, pairs, more))

    def _put(self, layout: Layout, pairs: list[Pair], more: tuple[int, ...]) -> None:
        text = f"INSERT INTO {layout.place} (t, b, k, v) VALUES (?, ?, ?, ?)"
        text += " USING TTL ?" if more else ""
        if len(pairs) == 1:
            self._engine.rows(text, *layout.of(pairs[0][0]), pairs[0][1], *more)
            return
        parts = []
        for number, some in pairs_by_bucket(distinct(pairs), layout.buckets).items():
            parts += [(number, part) for part in chunks(some, BATCH_ROWS, BATCH_BYTES)]

        def batch(number: int, part: list[Pair], statement: Any) -> BatchStatement:
            level = self._engine.consistency
            batch = BatchStatement(BatchType.UNLOGGED, consistency_level=level)
            # Values as Cassandra has them: the driver would look at the type of each.
            first, last = [layout.name.encode(), _INT(number)], [_INT(seconds) for seconds in more]
            row = BoundStatement(statement)
            for key, value in part:
                row.values = [*first, key, value, *last]
                batch.add(row)
            return batch

        def work() -> None:
            statement = self._engine.statement(text)
            batches = ((batch(number, part, statement), None) for number, part in parts)
            execute_concurrent(self._engine.live(), batches, concurrency=AT_ONCE)

        self._engine.run(work)

    def delete_many(self, table: str, keys: list[bytes]) -> None:
        def work(layout: Layout) -> None:
            text = f"DELETE FROM {layout.place} WHERE t = ? AND b = ? AND k IN ?"
            self._engine.all_rows(_of_keys(layout, text, keys))

        self._layouts.call(table, work)

    def scan(
        self, table: str, interval: Interval, *, reverse: bool, keys_only: bool, limit: int | None
    ) -> Iterator[list[Pair]]:
        def fetch(layout: Layout, number: int, rest: Interval, size: int) -> list[Pair]:
            text, values = _select(
                layout, "k" if keys_only else "k, v", number, rest, reverse, size
            )
            rows = self._engine.rows(text, *values)
            return [(row[0], b"") for row in rows] if keys_only else rows

        def begin(layout: Layout) -> tuple[list[Pair] | None, Iterator[list[Pair]]]:
            scans = [
                pages(
                    partial(fetch, layout, number),
                    interval,
                    reverse=reverse,
                    limit=limit,
                    largest=PAGE_ROWS,
                )
                for number in range(layout.buckets)
            ]
            found = merged(scans, reverse)
            return next(found, None), found

        return scanned(self._layouts, table, begin)

    def lifetimes(self, table: str, keys: list[bytes]) -> list[int | None]:
        def work(layout: Layout) -> list[int | None]:
            text = f"SELECT k, TTL(v) FROM {layout.place} WHERE t = ? AND b = ? AND k IN ?"
            answers = self._engine.all_rows(_of_keys(layout, text, keys))
            found = {key: seconds for rows in answers for key, seconds in rows}
            return [found.get(key, 0) for key in keys]

        return self._layouts.call(table, work)

    def count(self, table: str, interval: Interval) -> int:
        return self._layouts.call(table, lambda layout: self._count(layout, interval))

    def _count(self, layout: Layout, interval: Interval) -> int:
        head = f"SELECT count(*) FROM {layout.place}"
        answers = self._engine.all_rows(_of_buckets(layout, head, interval))
        return sum(int(rows[0][0]) for rows in answers)

    def delete_range(self, table: str, interval: Interval) -> int:
        def work(layout: Layout) -> int:
            removed = self._count(layout, interval)
            if removed:
                self._engine.all_rows(_of_buckets(layout, f"DELETE FROM {layout.place}", interval))
            return removed

        return self._layouts.call(table, work)

    def clear(self, table: str) -> None:
        def work(layout: Layout) -> None:
            self._engine.all_rows(_of_buckets(layout, f"DELETE FROM {layout.place}", Interval()))

        self._layouts.call(table, work)

    def pop(self, table: str, key: bytes) -> bytes | None:
        while True:
            [value] = self.get_many(table, [key])
            if value is None or self.compare_and_set(table, key, value, None):
                return value

    def compare_and_set(
        self, table: str, key: bytes, expected: bytes | None, new: bytes | None
    ) -> bool:
        if expected is None and new is None:
            return self.get_many(table, [key]) == [None]

        def work(layout: Layout) -> bool:
            where, place = "WHERE t = ? AND b = ? AND k = ?", layout.of(key)
            if expected is None:
                text = f"INSERT INTO {layout.place} (t, b, k, v) VALUES (?, ?, ?, ?) IF NOT EXISTS"
                return self._engine.transaction(key, text, *place, new)
            if new is None:
                text = f"DELETE FROM {layout.place} {where} IF v = ?"
                return self._engine.transaction(key, text, *place, expected)
            text = f"UPDATE {layout.place} SET v = ? {where} IF v = ?"
            return self._engine.transaction(key, text, new, *place, expected)

        return self._layouts.call(table, work)

    def increment(self, table: str, key: bytes, delta: int) -> int:
        while True:
            [value] = self.get_many(table, [key])
            total = added(value, delta)
            if self.compare_and_set(table, key, value, b"%d" % total):
                return total

    def drop_namespace(self) -> None:
        schemas = self._engine.schemas
        text = f"SELECT types FROM {schemas} WHERE space = ? AND name = ?"
        places = [place for [place] in self._engine.rows(text, self._space, NAMESPACE)]

        def work() -> None:
            session = self._engine.live()
            # The list goes last: whoever is interrupted here can begin again.
            for place in places:
                session.execute(f"DROP TABLE IF EXISTS {place}")
            session.execute(f"DELETE FROM {schemas} WHERE space = %s", (self._space,))

        self._engine.run(work)
        self._layouts.forget()

    def close(self) -> None:
        self._engine.close()


def _of_keys(layout: Layout, text: str, keys: list[bytes]) -> list[Statement]:
    """Return statements on a hundred keys of a bucket each."""
    wanted = list(dict.fromkeys(keys))
    return [
        (text, (layout.name, number, some[at : at + IN_ROWS]))
        for number, some in by_bucket(wanted, wanted, layout.buckets).items()
        for at in range(0, len(some), IN_ROWS)
    ]


def _of_buckets(layout: Layout, head: str, interval: Interval) -> list[Statement]:
    """Return a statement on each bucket's part of an interval."""
    where, ends = interval.where("AND", "?")
    text = f"{head} WHERE t = ? AND b = ?{where}"
    return [(text, (layout.name, number, *ends)) for number in range(layout.buckets)]


def _select(
    layout: Layout, columns: str, number: int, rest: Interval, reverse: bool, size: int
) -> Statement:
    where, ends = rest.where("AND", "?")
    order = "DESC" if reverse else "ASC"
    text = f"SELECT {columns} FROM {layout.place} WHERE t = ? AND b = ?{where}"
    return f"{text} ORDER BY k {order} LIMIT ?", (layout.name, number, *ends, size)
