"""`Table`: a MutableMapping of tuples to bytes, in the order of the tuples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar, overload

from atbr._core import KeyCodec
from atbr.tables.backend import Backend
from atbr.tables.batch import Batch
from atbr.tables.ordered import Key, OrderedTable, _users  # noqa: F401 (for the examples)
from atbr.tables.schema import TableSchema

if TYPE_CHECKING:
    from atbr.progress import Show
    from atbr.tables.loading import LoadReport

T = TypeVar("T")
_MISSING: Any = object()
# What `get_many` asks for at once: by number before it knows how large values are, and then by bytes.
FIRST_READ = 64
READ_BYTES = 4 * 2**20
SAMPLED = 16


class Table(OrderedTable):
    """One table of a database; `db["users"]` gives it.

    Every method may be called from any thread and raises BadKey for a key that does not fit the
    table, before anything of the call is written, UnknownTable after `delete_namespace`, and
    BackendUnavailable if the engine does not answer. Complexities are those of the engine's index:
    O(log n) a key unless said otherwise.

    >>> import atbr.tables
    >>> db = atbr.tables.connect("local://")
    >>> db.setup_namespace({"users": (str, int)})
    >>> users = db["users"]
    >>> users[("ada", 1)] = b"countess"
    >>> users.put_many([(("ada", 2), b""), (("grace", 1), b"admiral")])
    >>> users[("grace", 1)], ("ada", 3) in users, len(users)
    (b'admiral', False, 3)
    >>> list(users.scan((("ada",), ("ada",))))
    [(('ada', 1), b'countess'), (('ada', 2), b'')]
    """

    __slots__ = ("_schema", "_value_bytes")

    def __init__(self, name: str, schema: TableSchema, backend: Backend) -> None:
        self._name = name
        self._schema = schema
        self._backend = backend
        # How large values are, as far as `get_many` has seen. Threads may overwrite each other's guess.
        self._value_bytes: int | None = None
        self._codec = KeyCodec(list(schema.columns), backend.max_key, backend.max_value)

    @property
    def name(self) -> str:
        """The table's name.

        >>> _users().name
        'users'
        """
        return self._name

    @property
    def schema(self) -> TableSchema:
        """The types of its keys and values.

        >>> _users().schema.text
        '(str, int) -> bytes'
        """
        return self._schema

    @property
    def atomic(self) -> bool:
        """Whether `batch()` is one step: on local, SQLite and PostgreSQL.

        >>> _users().atomic
        True
        """
        return self._backend.atomic

    @property
    def has_ttl(self) -> bool:
        """Whether `put(ttl=)` works: on Cassandra.

        >>> _users().has_ttl
        False
        """
        return self._backend.has_ttl

    def __repr__(self) -> str:
        return f"<atbr.tables.Table {self._name!r} {self._schema.text} on {self._backend.scheme}>"

    # -- one key -----------------------------------------------------------------------------------

    def __getitem__(self, key: Key) -> bytes:
        [value] = self._backend.get_many(self._name, [self._codec.encode(key)])
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Key, value: bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: Key) -> None:
        if self._backend.pop(self._name, self._codec.encode(key)) is None:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        encoded = self._codec.encode(key)  # type: ignore[arg-type]
        return self._backend.get_many(self._name, [encoded])[0] is not None

    @overload
    def get(self, key: Key, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: Key, default: bytes) -> bytes: ...
    @overload
    def get(self, key: Key, default: T) -> bytes | T: ...
    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of `key`, or `default` if there is none.

        >>> _users().get(("nobody", 1), b"?")
        b'?'
        """
        value = self._backend.get_many(self._name, [self._codec.encode(key)])[0]
        return default if value is None else value

    def put(self, key: Key, value: bytes, ttl: float | None = None) -> None:
        """Store `value` under `key`, for `ttl` seconds if given.

        Raises:
            TypeError: The value is not bytes, bytearray or memoryview.
            ValueError: It is longer than the engine takes.
            NotSupported: `ttl` on an engine that has none.

        >>> users = _users()
        >>> users.put(("ada", 1), b"countess")
        >>> users[("ada", 1)]
        b'countess'

        """
        pair = (self._codec.encode(key), self._codec.value(value))
        self._backend.put_many(self._name, [pair], _seconds(ttl))

    @overload
    def pop(self, key: Key) -> bytes: ...
    @overload
    def pop(self, key: Key, default: bytes) -> bytes: ...
    @overload
    def pop(self, key: Key, default: T) -> bytes | T: ...
    def pop(self, key: Key, default: Any = _MISSING) -> Any:
        """Remove `key` and return its value, as one step; `default` or KeyError if it is missing.

        >>> _users({("ada", 1): b"x"}).pop(("ada", 1))
        b'x'
        """
        value = self._backend.pop(self._name, self._codec.encode(key))
        if value is not None:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[Key, bytes]:
        """Remove the first key and return it with its value; KeyError if the table is empty.

        >>> _users({("b", 1): b"2", ("a", 1): b"1"}).popitem()
        (('a', 1), b'1')
        """
        while True:
            for key in self.scan_keys(limit=1):
                value = self._backend.pop(self._name, self._codec.encode(key))
                if value is not None:
                    return key, value
                break
            else:
                raise KeyError("popitem(): table is empty")

    @overload
    def setdefault(self, key: Key, default: bytes) -> bytes: ...
    @overload
    def setdefault(self, key: Key, default: bytes = b"") -> bytes: ...
    def setdefault(self, key: Key, default: bytes = b"") -> bytes:
        """Return the value of `key`; store `default` first if it is missing, as one step.

        >>> _users().setdefault(("ada", 1), b"new")
        b'new'
        """
        encoded, new = self._codec.encode(key), self._codec.value(default)
        while True:
            [value] = self._backend.get_many(self._name, [encoded])
            if value is not None:
                return value
            if self._backend.compare_and_set(self._name, encoded, None, new):
                return new

    def increment(self, key: Key, delta: int = 1) -> int:
        """Add `delta` to the decimal integer under `key`, 0 if missing; return the sum. One step.

        Raises:
            ValueError: The value is no decimal 64-bit integer.
            OverflowError: The sum, or `delta`, is none.
            BackendUnavailable: It is not known whether the addition was made.

        >>> users = _users()
        >>> users.increment(("visits", 1)), users.increment(("visits", 1), 41)
        (1, 42)

        """
        if isinstance(delta, bool) or not isinstance(delta, int):
            raise TypeError(f"delta must be int, not {type(delta).__name__}")
        if not -(2**63) <= delta < 2**63:
            raise OverflowError(f"delta {delta} is beyond 64 bits")
        return self._backend.increment(self._name, self._codec.encode(key), delta)

    def compare_and_set(self, key: Key, expected: bytes | None, new: bytes | None) -> bool:
        """Store `new` only if the value is `expected`; return whether it was. One step.

        None stands for a missing key: as `expected` it must be missing, as `new` it is removed.

        >>> users = _users()
        >>> users.compare_and_set(("ada", 1), None, b"1"), users.compare_and_set(("ada", 1), b"", b"2")
        (True, False)
        """
        return self._backend.compare_and_set(
            self._name,
            self._codec.encode(key),
            None if expected is None else self._codec.value(expected),
            None if new is None else self._codec.value(new),
        )

    # -- many keys ---------------------------------------------------------------------------------

    def put_many(
        self, pairs: Mapping[Key, bytes] | Iterable[tuple[Key, bytes]], ttl: float | None = None
    ) -> None:
        """Store many pairs; of equal keys the last stays.

        An iterator is read to its end before the first write, because a bad pair is to be refused
        before anything is written; `load_tsv`, or `batch()` a piece, takes what does not fit into
        memory. On SQLite and PostgreSQL one transaction.

        >>> users = _users()
        >>> users.put_many({("a", 1): b"1", ("b", 1): b"2"})
        >>> len(users)
        2
        """
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        encoded = self._codec.encode_pairs(items)
        if encoded:
            self._backend.put_many(self._name, encoded, _seconds(ttl))

    def get_many(self, keys: Iterable[Key]) -> Iterator[tuple[Key, bytes | None]]:
        """Yield (key, value) for each of `keys`, in their order, with None for a missing one.

        Lazy: some thousand keys at a time are asked for, fewer where values are large. Those that
        a list or another sized collection begins with are checked at once, the others as they come.

        >>> list(_users({("a", 1): b"1"}).get_many([("a", 1), ("b", 1)]))
        [(('a', 1), b'1'), (('b', 1), None)]
        """
        if isinstance(keys, Sized):
            given = list(keys)
            first = self._backend.encoded(self._codec, given[: self._backend.read_rows])
            parts = self._parts_of_list(given, first)
        else:
            parts = self._parts_of_stream(iter(keys))
        # No frame of Python's runs for each pair.
        return chain.from_iterable(parts)

    def _parts_of_list(self, keys: list[Key], encoded: Any) -> Iterator[Iterable[Any]]:
        checked = min(len(keys), self._backend.read_rows)
        at = 0
        while at < len(keys):
            some = keys[at : at + self._rows_at_once()]
            if at or len(some) != checked:
                # What has just been encoded is still in the processor's cache when it is asked for.
                encoded = self._backend.encoded(self._codec, some)
            yield self._pairs_of(some, encoded)
            at += len(some)

    def _parts_of_stream(self, keys: Iterator[Key]) -> Iterator[Iterable[Any]]:
        while some := list(islice(keys, self._rows_at_once())):
            yield self._pairs_of(some, self._backend.encoded(self._codec, some))

    def _rows_at_once(self) -> int:
        if self._value_bytes is None:
            return FIRST_READ
        return max(1, min(self._backend.read_rows, READ_BYTES // (self._value_bytes + 1)))

    def _pairs_of(self, keys: list[Key], encoded: Any) -> Iterable[tuple[Key, bytes | None]]:
        values = self._backend.values_of(self._name, encoded)
        # Some values say enough of all: they decide how many are asked for next.
        sample = [len(each) for each in values[:: len(values) // SAMPLED + 1] if each is not None]
        if sample:
            self._value_bytes = sum(sample) // len(sample)
        return zip(keys, values, strict=True)

    def delete_many(self, keys: Iterable[Key]) -> None:
        """Remove many keys; a missing one is no error.

        >>> users = _users({("a", 1): b"1"})
        >>> users.delete_many([("a", 1), ("b", 1)])
        >>> len(users)
        0
        """
        encoded = self._codec.encode_many(keys)
        if encoded:
            self._backend.delete_many(self._name, encoded)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Store every pair of a mapping or an iterable, as `put_many`; no keyword arguments.

        >>> users = _users()
        >>> users.update({("a", 1): b"1"})
        """
        if kwargs:
            raise TypeError("update() takes no keyword arguments: a str is no key")
        if len(args) > 1:
            raise TypeError(f"update() takes one argument, not {len(args)}")
        for pairs in args:
            self.put_many(pairs)

    def batch(self) -> Batch:
        """Return a context manager that collects writes and makes them at its end.

        Where `atomic` holds, all of them are made as one step or none is; elsewhere they are sent
        in groups. If the block raises, nothing is written.

        >>> users = _users()
        >>> with users.batch() as batch:
        ...     batch.put(("a", 1), b"1")
        ...     batch.delete(("b", 1))
        >>> list(users)
        [('a', 1)]
        """
        return Batch(self._name, self._codec, self._backend)

    def clear(self) -> None:
        """Remove every key. O(n) on most engines.

        >>> users = _users({("a", 1): b"1"})
        >>> users.clear()
        >>> len(users)
        0
        """
        self._backend.clear(self._name)

    def load_tsv(
        self,
        path: str | os.PathLike[str],
        *,
        progress: bool | Show | None = None,
    ) -> LoadReport:
        r"""Load a TSV file: a column for each part of the key, then the value. O(rows).

        Later tabs belong to the value, and its bytes are kept as they are; UUID, datetime (ISO
        8601), bool (true, false) and numbers are read from text. `python -m atbr.tables load` does
        it in parallel and resumes.

        Raises:
            RowError: A row does not fit the table; the blocks of 1 MiB before its own are in.
            OSError: The file cannot be read.

        >>> with open("users.tsv", "wb") as file:
        ...     _ = file.write(b"ada\t1\tcountess\n")
        >>> users = _users()
        >>> users.load_tsv("users.tsv").rows, users[("ada", 1)]
        (1, b'countess')

        """
        from atbr.tables.loading import load_file

        return load_file(self, path, progress=progress)

    def _put_plain_rows(self, block: bytes) -> int | None:
        """Store the rows of a block of TSV; None if the compiled reader does not take them all."""
        pairs = self._codec.plain_rows(block)
        if pairs:
            self._backend.put_many(self._name, pairs)
        return None if pairs is None else len(pairs)


def _seconds(ttl: float | None) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl must be a number of seconds, not {type(ttl).__name__}")
    if not ttl > 0:
        raise ValueError(f"ttl must be above 0 seconds, and is {ttl}")
    return ttl
