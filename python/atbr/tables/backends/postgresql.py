"""postgresql://: psycopg 3, everything binary; arrays and COPY for many rows, made by the compiled part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Dumper

from atbr._core import postgresql_array, postgresql_copy, sorted_pairs
from atbr.tables.backend import Backend, Pair, Write, chunks, pages
from atbr.tables.backends.sqlite import added
from atbr.tables.config import Config
from atbr.tables.errors import TablesError, unknown_table
from atbr.tables.pool import Pool
from atbr.tables.ranges import Interval
from atbr.tables.retry import Retry

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]
# From so many rows on it pays to ask whether COPY, which cannot replace a row, will do: it is twice as
# fast as an array.
COPY_ROWS = 4_000
# Larger arrays and replies gain nothing and hold memory.
ARRAY_ROWS = 4_000
ARRAY_BYTES = 8 * 1024 * 1024
ARRAY_OF_BYTEA = 1001
# What one statement writes or removes at most, so that its answer comes within any sensible time-out.
STATEMENT_ROWS = 100_000
STATEMENT_BYTES = 64 * 1024 * 1024
# The signature of PostgreSQL's binary COPY, no flags, no extension; and what says that rows end.
COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL = b"\xff\xff"


class _Array:
    """A binary array that is there already."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _ArrayDumper(Dumper):
    format = pq.Format.BINARY
    oid = ARRAY_OF_BYTEA

    def dump(self, obj: _Array) -> bytes:
        return obj.data


class _Patient(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for an answer for a bounded time."""

    answer_timeout = 10.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        return super().wait(gen, interval, self.answer_timeout if timeout is None else timeout)


class _Unsent(Exception):  # noqa: N818
    """No connection came about; the cause says why."""


class PostgresqlBackend(Backend):
    """(k bytea PRIMARY KEY, v bytea), one table a table, in the schema "app_name.namespace"."""

    scheme = "postgresql"
    atomic = True
    # A third of an index page, less the row's head.
    max_key = 2_600
    max_value = 1_000_000_000

    def __init__(self, config: Config) -> None:
        self._url = config.driver_url
        self._timeout: float = config.options["timeout"]
        self._space = f'"{config.app_name}.{config.namespace}"'
        self._shown = config.shown
        self._retry = Retry(config.shown, config.options["retry_for"], _is_gone, _never_sent)
        self._pool: Pool[Connection] = Pool(
            self._open,
            psycopg.Connection.close,
            config.options["connections"],
            self._timeout,
            _keeps_connection,
            f"{config.shown} is closed",
        )
        self._retry.once(lambda: self._once(lambda db: db.execute("SELECT 1")))

    def _open(self) -> Connection:
        try:
            connection = _Patient.connect(
                self._url,
                autocommit=True,
                # libpq takes no less than 2 seconds.
                connect_timeout=max(2, round(self._timeout)),
                application_name="atbr.tables",
                keepalives_idle=10,
            )
        except psycopg.ProgrammingError:
            raise
        except psycopg.Error as error:
            raise _Unsent(str(error).strip().splitlines()[-1]) from error
        connection.answer_timeout = self._timeout
        connection.adapters.register_dumper(_Array, _ArrayDumper)
        # psycopg prepares what comes again; text parameters are what it would do by default.
        connection.prepare_threshold = 1
        return connection

    def _once(self, work: Callable[[Connection], T]) -> T:
        with self._pool.connection() as connection:
            return work(connection)

    def _run(
        self, table: str, work: Callable[[Connection], T], *, safe: bool = True, raw: bool = False
    ) -> T:
        def run() -> T:
            try:
                return self._once(work)
            except psycopg.Error as error:
                if _is_gone(error):
                    self._pool.drop_idle()
                raise

        try:
            return self._retry.call(run, safe=safe)
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            raise unknown_table(table) from None
        except psycopg.Error as error:
            if raw:
                raise
            raise TablesError(f"{self._shown}: {error}") from error

    def _name(self, table: str) -> str:
        return f'{self._space}."{table}"'

    # -- the contract ------------------------------------------------------------------------------

    def schemas(self) -> dict[str, str]:
        def work(db: Connection) -> dict[str, str]:
            try:
                return dict(_rows(db, f'SELECT name, schema FROM {self._space}."."'))
            except (errors.UndefinedTable, errors.InvalidSchemaName):
                return {}

        return self._run("", work)

    def create(self, tables: dict[str, str]) -> None:
        def work(db: Connection) -> None:
            with db.transaction():
                # CREATE ... IF NOT EXISTS of two at once is an error for one of them.
                db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (self._space,))
                _do(db, f"CREATE SCHEMA IF NOT EXISTS {self._space}")
                _do(
                    db,
                    f'CREATE TABLE IF NOT EXISTS {self._space}."." '
                    "(name text PRIMARY KEY, schema text NOT NULL)",
                )
                for table, text in tables.items():
                    _do(
                        db,
                        f'INSERT INTO {self._space}."." VALUES (%s, %s) ON CONFLICT DO NOTHING',
                        (table, text),
                    )
                    _do(
                        db,
                        f"CREATE TABLE IF NOT EXISTS {self._name(table)} "
                        "(k bytea PRIMARY KEY, v bytea NOT NULL)",
                    )

        self._run("", work)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        name = self._name(table)
        if len(keys) == 1:
            sql = f"SELECT v FROM {name} WHERE k = %b"
            rows = self._run(table, lambda db: _rows(db, sql, (keys[0],)))
            return [rows[0][0] if rows else None]
        sql = f"SELECT k, v FROM {name} WHERE k = ANY (%b)"
        found: dict[bytes, bytes] = {}
        for at in range(0, len(keys), ARRAY_ROWS):
            array = _Array(postgresql_array(list(keys[at : at + ARRAY_ROWS])))
            found.update(self._run(table, partial(_rows, sql=sql, values=(array,))))
        return [found.get(key) for key in keys]

    def put_many(self, table: str, pairs: list[Pair], ttl: float | None = None) -> None:
        self.refuse_ttl(ttl)
        name = self._name(table)
        if len(pairs) == 1:
            self._run(
                table, lambda db: _do(db, f"INSERT INTO {name} VALUES (%b, %b) {UPSERT}", pairs[0])
            )
            return
        # One key may come once in a statement, and in one order two of them cannot deadlock; an index
        # is also filled faster in its order.
        rows = sorted_pairs(pairs)
        if len(rows) >= COPY_ROWS and self._copied(table, rows):
            return
        parts = chunks(rows, ARRAY_ROWS, ARRAY_BYTES)
        if len(parts) == 1:
            self._run(table, lambda db: _upsert(db, name, rows))
            return

        def work(db: Connection) -> None:
            with db.transaction(), db.pipeline():
                for part in parts:
                    _upsert(db, name, part)

        self._run(table, work)

    def _copied(self, table: str, rows: list[Pair]) -> bool:
        """Copy rows to where the table has none yet; false if a key is there."""
        name = self._name(table)
        between = f"SELECT EXISTS (SELECT 1 FROM {name} WHERE k >= %b AND k <= %b)"
        ends = (rows[0][0], rows[-1][0])

        def work(db: Connection) -> bool:
            if _rows(db, between, ends)[0][0]:
                return False
            try:
                with db.transaction():
                    at = 0
                    while at < len(rows):
                        at = _copy_some(db, name, rows, at)
            except errors.UniqueViolation:
                # Somebody was first; nothing of this is written.
                return False
            return True

        return self._run(table, work)

    def delete_many(self, table: str, keys: list[bytes]) -> None:
        sql = f"DELETE FROM {self._name(table)} WHERE k = ANY (%b)"
        array = _Array(postgresql_array(sorted(set(keys))))
        self._run(table, lambda db: _do(db, sql, (array,)))

    def write(self, table: str, writes: list[Write]) -> None:
        name = self._name(table)
        puts = sorted((key, value) for key, value in writes if value is not None)
        deletes = sorted(key for key, value in writes if value is None)
        parts = chunks(puts, ARRAY_ROWS, ARRAY_BYTES)

        def work(db: Connection) -> None:
            with db.transaction(), db.pipeline():
                for part in parts:
                    _upsert(db, name, part)
                if deletes:
                    array = _Array(postgresql_array(deletes))
                    _do(db, f"DELETE FROM {name} WHERE k = ANY (%b)", (array,))

        self._run(table, work)

    def scan(
        self, table: str, interval: Interval, *, reverse: bool, keys_only: bool, limit: int | None
    ) -> Iterator[list[Pair]]:
        columns = "k, ''::bytea" if keys_only else "k, v"
        order = "DESC" if reverse else "ASC"
        head = f"SELECT {columns} FROM {self._name(table)}"

        def fetch(rest: Interval, size: int) -> list[Pair]:
            where, values = rest.where("WHERE", "%b")
            sql = f"{head}{where} ORDER BY k {order} LIMIT %b"
            return self._run(table, lambda db: _rows(db, sql, (*values, size)))

        return pages(fetch, interval, reverse=reverse, limit=limit)

    def count(self, table: str, interval: Interval) -> int:
        where, values = interval.where("WHERE", "%b")
        sql = f"SELECT count(*) FROM {self._name(table)}{where}"
        count: int = self._run(table, lambda db: _rows(db, sql, values)[0][0])
        return count

    def delete_range(self, table: str, interval: Interval) -> int:
        where, values = interval.where("WHERE", "%b")
        name = self._name(table)
        some = f"SELECT k FROM {name}{where} ORDER BY k LIMIT {STATEMENT_ROWS}"
        sql = f"DELETE FROM {name} WHERE k = ANY (ARRAY({some}))"
        removed = 0
        while found := self._run(table, lambda db: _do(db, sql, values)):
            removed += found
            if found < STATEMENT_ROWS:
                break
        return removed

    def clear(self, table: str) -> None:
        self._run(table, lambda db: _do(db, f"TRUNCATE {self._name(table)}"))

    def pop(self, table: str, key: bytes) -> bytes | None:
        sql = f"DELETE FROM {self._name(table)} WHERE k = %b RETURNING v"
        rows = self._run(table, lambda db: _rows(db, sql, (key,)), safe=False)
        return rows[0][0] if rows else None

    def compare_and_set(
        self, table: str, key: bytes, expected: bytes | None, new: bytes | None
    ) -> bool:
        name = self._name(table)
        values: tuple[bytes, ...]
        if expected is None and new is None:
            return self.get_many(table, [key]) == [None]
        if expected is None:
            sql, values = (
                f"INSERT INTO {name} VALUES (%b, %b) ON CONFLICT DO NOTHING",
                (key, new or b""),
            )
        elif new is None:
            sql, values = f"DELETE FROM {name} WHERE k = %b AND v = %b", (key, expected)
        else:
            sql = f"UPDATE {name} SET v = %b WHERE k = %b AND v = %b"
            values = (new, key, expected)
        return self._run(table, lambda db: _do(db, sql, values), safe=False) == 1

    def increment(self, table: str, key: bytes, delta: int) -> int:
        # encode() gives text for any bytes, so that what is no number is seen and not an error.
        sql = (
            f"INSERT INTO {self._name(table)} AS t VALUES (%b, %b) ON CONFLICT (k) DO UPDATE "
            "SET v = convert_to((encode(t.v, 'escape')::bigint + %b::bigint)::text, 'UTF8') "
            "WHERE encode(t.v, 'escape') ~ '^[+-]?[0-9]+$' RETURNING v"
        )
        values = (key, b"%d" % delta, delta)
        try:
            rows = self._run(table, lambda db: _rows(db, sql, values), safe=False, raw=True)
        except errors.NumericValueOutOfRange:
            rows = []
        if rows:
            return int(rows[0][0])
        added(self.get_many(table, [key])[0], delta)
        # Somebody has mended the value meanwhile.
        return self.increment(table, key, delta)

    def drop_namespace(self) -> None:
        self._run("", lambda db: _do(db, f"DROP SCHEMA IF EXISTS {self._space} CASCADE"))

    def close(self) -> None:
        self._pool.close()


UPSERT = "ON CONFLICT (k) DO UPDATE SET v = excluded.v"


def _do(db: Connection, sql: str, values: Sequence[Any] = ()) -> int:
    return db.execute(sql, values, binary=True).rowcount


def _rows(db: Connection, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    return db.execute(sql, values, binary=True).fetchall()


def _upsert(db: Connection, name: str, rows: list[Pair]) -> None:
    sql = f"INSERT INTO {name} SELECT * FROM unnest(%b::bytea[], %b::bytea[]) {UPSERT}"
    _do(db, sql, (_Array(postgresql_array(rows, 0)), _Array(postgresql_array(rows, 1))))


def _copy_some(db: Connection, name: str, rows: list[Pair], at: int) -> int:
    """Copy rows from `at` on by one statement, so many that it is answered in bounded time; return where it ended."""
    end, sent = min(len(rows), at + STATEMENT_ROWS), 0
    with db.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(COPY_HEAD)
        while at < end and sent < STATEMENT_BYTES:
            data, at = postgresql_copy(rows, at, min(ARRAY_ROWS, end - at), ARRAY_BYTES)
            copy.write(data)
            sent += len(data)
        copy.write(COPY_TAIL)
    return at


def _is_gone(error: BaseException) -> bool:
    return isinstance(
        error, (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError, _Unsent)
    )


def _never_sent(error: Exception) -> bool:
    # A deadlock's victim has been rolled back.
    return isinstance(error, (_Unsent, errors.DeadlockDetected, errors.SerializationFailure))


def _keeps_connection(error: BaseException) -> bool:
    # After Ctrl-C or a time-out an answer may still come: such a connection is of no use.
    return isinstance(error, psycopg.Error) and not _is_gone(error)
