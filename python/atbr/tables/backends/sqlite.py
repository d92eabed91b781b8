"""sqlite:///file: the durable default, on the standard library. Write-ahead log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from atbr.tables.backend import Backend, Pair, Write, pages
from atbr.tables.config import Config
from atbr.tables.errors import BackendUnavailable, ConfigurationError, unknown_table
from atbr.tables.pool import Pool
from atbr.tables.ranges import Interval
from atbr.tables.retry import Retry

T = TypeVar("T")
CONNECTIONS = 64
# Keys a statement asks for at once; older SQLite takes 999 parameters.
MANY = 500
PLACES = ",".join("?" * MANY)
SCHEMAS = '"atbr.schemas"'


class SqliteBackend(Backend):
    """(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID, one table a table, in one file.

    Writers take turns; readers see the last commit and wait for nobody. With synchronous=NORMAL
    (the default) a crash of the machine may undo the last commits but never tears one;
    synchronous=FULL keeps them.
    """

    scheme = "sqlite"
    atomic = True
    max_value = 1_000_000_000 - 70_000

    def __init__(self, config: Config) -> None:
        # sqlite:///a/b is a/b, sqlite:////a/b is /a/b.
        path = config.path[1:]
        if not path or config.addresses:
            raise ConfigurationError(f"url: {config.shown} names no file; sqlite:///file does")
        if path.startswith(":memory:"):
            raise ConfigurationError("url: tables in memory are local://")
        self._path = path
        self._prefix = f"{config.app_name}.{config.namespace}."
        self._timeout: float = config.options["timeout"]
        self._synchronous = str(config.options["synchronous"]).upper()
        if self._synchronous not in ("OFF", "NORMAL", "FULL", "EXTRA"):
            raise ConfigurationError(f"synchronous: {self._synchronous!r} is none of OFF to EXTRA")
        self._retry = Retry(config.shown, config.options["retry_for"], _is_gone, _is_busy)
        self._pool: Pool[sqlite3.Connection] = Pool(
            self._open,
            sqlite3.Connection.close,
            CONNECTIONS,
            self._timeout,
            lambda error: not isinstance(error, sqlite3.Error),
            f"{config.shown} is closed",
        )
        self._shown = config.shown
        self._run(lambda db: db.execute("SELECT 1"))

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {SCHEMAS} (name TEXT PRIMARY KEY, schema TEXT NOT NULL)"
        )
        return connection

    def _run(self, work: Callable[[sqlite3.Connection], T], *, safe: bool = True) -> T:
        return self._retry.call(lambda: self._translated(work), safe=safe)

    def _translated(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._pool.connection() as connection:
                return work(connection)
        except sqlite3.OperationalError as error:
            text = str(error)
            if text.startswith("no such table: "):
                name = text.removeprefix("no such table: ").removeprefix(self._prefix)
                raise unknown_table(name.partition(".")[0]) from None
            raise
        except sqlite3.DatabaseError as error:
            raise BackendUnavailable(f"{self._shown}: {error}") from error

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                # Nothing of a transaction stays; some errors have ended it already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return result

        return self._run(run)

    def _name(self, table: str) -> str:
        # SQLite's names know no case, ours do.
        marks = "".join("1" if c.isupper() else "0" for c in self._prefix + table)
        suffix = f".{int(marks, 2):x}" if "1" in marks else ""
        return f'"{self._prefix}{table}{suffix}"'

    # -- the contract ------------------------------------------------------------------------------

    def schemas(self) -> dict[str, str]:
        prefix = self._prefix
        rows = self._run(lambda db: db.execute(f"SELECT name, schema FROM {SCHEMAS}").fetchall())
        return {name[len(prefix) :]: text for name, text in rows if name.startswith(prefix)}

    def create(self, tables: dict[str, str]) -> None:
        def work(db: sqlite3.Connection) -> None:
            for table, text in tables.items():
                db.execute(
                    f"INSERT OR IGNORE INTO {SCHEMAS} VALUES (?, ?)", (self._prefix + table, text)
                )
                db.execute(
                    f"CREATE TABLE IF NOT EXISTS {self._name(table)} "
                    "(k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"
                )

        self._transaction(work)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        name = self._name(table)
        if len(keys) == 1:
            row = self._run(
                lambda db: db.execute(f"SELECT v FROM {name} WHERE k = ?", keys).fetchone()
            )
            return [row and row[0]]

        def work(db: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for at in range(0, len(keys), MANY):
                some = keys[at : at + MANY]
                places = PLACES if len(some) == MANY else ",".join("?" * len(some))
                found.update(db.execute(f"SELECT k, v FROM {name} WHERE k IN ({places})", some))
            return found

        found = self._run(work)
        return [found.get(key) for key in keys]

    def put_many(self, table: str, pairs: list[Pair], ttl: float | None = None) -> None:
        self.refuse_ttl(ttl)
        sql = (
            f"INSERT INTO {self._name(table)} VALUES (?, ?) "
            "ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        )
        if len(pairs) == 1:
            self._run(lambda db: db.execute(sql, pairs[0]))
        else:
            self._transaction(lambda db: db.executemany(sql, pairs))

    def delete_many(self, table: str, keys: list[bytes]) -> None:
        sql = f"DELETE FROM {self._name(table)} WHERE k = ?"
        self._transaction(lambda db: db.executemany(sql, [(key,) for key in keys]))

    def write(self, table: str, writes: list[Write]) -> None:
        name = self._name(table)
        puts = [(key, value) for key, value in writes if value is not None]
        deletes = [(key,) for key, value in writes if value is None]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?, ?)", puts)
            db.executemany(f"DELETE FROM {name} WHERE k = ?", deletes)

        self._transaction(work)

    def scan(
        self, table: str, interval: Interval, *, reverse: bool, keys_only: bool, limit: int | None
    ) -> Iterator[list[Pair]]:
        columns = "k, x''" if keys_only else "k, v"
        order = "DESC" if reverse else "ASC"
        head = f"SELECT {columns} FROM {self._name(table)}"

        def fetch(rest: Interval, size: int) -> list[Pair]:
            where, values = rest.where("WHERE", "?")
            sql = f"{head}{where} ORDER BY k {order} LIMIT ?"
            return self._run(lambda db: db.execute(sql, (*values, size)).fetchall())

        return pages(fetch, interval, reverse=reverse, limit=limit)

    def count(self, table: str, interval: Interval) -> int:
        where, values = interval.where("WHERE", "?")
        sql = f"SELECT count(*) FROM {self._name(table)}{where}"
        count: int = self._run(lambda db: db.execute(sql, values).fetchone()[0])
        return count

    def delete_range(self, table: str, interval: Interval) -> int:
        where, values = interval.where("WHERE", "?")
        sql = f"DELETE FROM {self._name(table)}{where}"
        return self._run(lambda db: db.execute(sql, values).rowcount)

    def clear(self, table: str) -> None:
        # Without a WHERE, SQLite drops the pages instead of the rows.
        self._run(lambda db: db.execute(f"DELETE FROM {self._name(table)}"))

    def pop(self, table: str, key: bytes) -> bytes | None:
        name = self._name(table)

        def work(db: sqlite3.Connection) -> bytes | None:
            row = db.execute(f"SELECT v FROM {name} WHERE k = ?", (key,)).fetchone()
            if row is None:
                return None
            db.execute(f"DELETE FROM {name} WHERE k = ?", (key,))
            value: bytes = row[0]
            return value

        return self._transaction(work)

    def compare_and_set(
        self, table: str, key: bytes, expected: bytes | None, new: bytes | None
    ) -> bool:
        name = self._name(table)

        def work(db: sqlite3.Connection) -> bool:
            row = db.execute(f"SELECT v FROM {name} WHERE k = ?", (key,)).fetchone()
            if (row and row[0]) != expected:
                return False
            if new is None:
                db.execute(f"DELETE FROM {name} WHERE k = ?", (key,))
            else:
                db.execute(f"INSERT OR REPLACE INTO {name} VALUES (?, ?)", (key, new))
            return True

        return self._transaction(work)

    def increment(self, table: str, key: bytes, delta: int) -> int:
        name = self._name(table)

        def work(db: sqlite3.Connection) -> int:
            row = db.execute(f"SELECT v FROM {name} WHERE k = ?", (key,)).fetchone()
            total = added(row and row[0], delta)
            db.execute(f"INSERT OR REPLACE INTO {name} VALUES (?, ?)", (key, b"%d" % total))
            return total

        return self._transaction(work)

    def drop_namespace(self) -> None:
        tables = self.schemas()

        def work(db: sqlite3.Connection) -> None:
            for table in tables:
                db.execute(f"DELETE FROM {SCHEMAS} WHERE name = ?", (self._prefix + table,))
                db.execute(f"DROP TABLE IF EXISTS {self._name(table)}")

        self._transaction(work)

    def close(self) -> None:
        self._pool.close()


def added(value: bytes | None, delta: int) -> int:
    """Return the sum that `increment` makes of a value.

    Raises:
        ValueError: The value is no decimal 64-bit integer.
        OverflowError: The sum is none.

    >>> added(None, 1), added(b"41", 1)
    (1, 42)
    """
    try:
        # int() takes spaces, underscores and digits of other scripts as well.
        before = 0 if value is None else int(value)
        if value is not None and not value.lstrip(b"+-").isdigit():
            raise ValueError
        if not -(2**63) <= before < 2**63:
            raise ValueError
    except ValueError:
        raise ValueError("value is not a decimal 64-bit integer") from None
    total = before + delta
    if not -(2**63) <= total < 2**63:
        raise OverflowError("increment would overflow a signed 64-bit integer")
    return total


def _is_gone(error: Exception) -> bool:
    return isinstance(error, (sqlite3.OperationalError, TimeoutError))


def _is_busy(error: Exception) -> bool:
    return "locked" in str(error) or "busy" in str(error)
