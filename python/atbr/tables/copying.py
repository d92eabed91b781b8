"""A namespace from one engine to another, as bytes: nothing is decoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from atbr.tables.backend import Backend, Pair
from atbr.tables.database import Database
from atbr.tables.errors import BadKey, NotSupported, unknown_table
from atbr.tables.loading import State
from atbr.tables.ranges import ALL
from atbr.tables.schema import TableSchema

ROWS = 20_000
BYTES = 16 * 2**20


def copy(
    source: Database,
    target: Database,
    tables: Sequence[str] | None = None,
    tick: Callable[[str, int], object] | None = None,
    *,
    drop_ttl: bool = False,
    state: State | None = None,
) -> dict[str, int]:
    """Copy tables, all of them by default; return how many rows each has had.

    Tables are made where they are missing; of a key that is in both, the source's value stays. What
    expires (ttl=) does so in the target, too. May be repeated after a failure.

    Args:
        source: Where the rows are.
        target: Where they go.
        tables: The names of those to copy.
        tick: Called with a table's name and its rows so far, ten times a second at most.
        drop_ttl: Whether a target without ttl= keeps for ever what expires in the source.
        state: What an interrupted copy has done; each table goes on beyond its last copied key.

    Raises:
        SchemaMismatch: A table is in the target with other types.
        NotSupported: A row has a ttl, which the target has not.
        BadKey: A key is longer than the target's engine takes.
        ValueError: A value is.

    >>> from atbr.tables import connect
    >>> source, target = connect("local://"), connect("local://")
    >>> source.setup_namespace({"users": (str,)})
    >>> source["users"][("ada",)] = b"countess"
    >>> copy(source, target), target["users"][("ada",)]
    ({'users': 1}, b'countess')
    """
    texts = source._backend.schemas()
    names = sorted(texts) if tables is None else list(tables)
    for name in names:
        if name not in texts:
            raise unknown_table(name)
    stored = target._backend.schemas()
    for name in names:
        if name in stored:
            TableSchema.parse(stored[name]).check_same(name, TableSchema.parse(texts[name]))
    target._backend.create({name: texts[name] for name in names})
    copies = {
        name: _Copy(source._backend, target._backend, name, drop_ttl, state) for name in names
    }
    return {name: each.run(tick) for name, each in copies.items()}


class _Copy:
    """One table on its way."""

    def __init__(
        self, source: Backend, target: Backend, name: str, drop_ttl: bool, state: State | None
    ) -> None:
        self._source = source
        self._target = target
        self._name = name
        self._keeps_ttl = source.has_ttl and not (drop_ttl and not target.has_ttl)
        self._state = state
        self._copied = 0
        self._rest = ALL
        done = [entry for entry in state.done if entry[0] == name] if state else []
        if done:
            _, last, self._copied = max(done, key=lambda entry: entry[2])
            self._rest = ALL.beyond(bytes.fromhex(last), reverse=False)

    def run(self, tick: Callable[[str, int], object] | None) -> int:
        held: list[Pair] = []
        size = 0
        told = time.monotonic()
        pages = self._source.scan(
            self._name, self._rest, reverse=False, keys_only=False, limit=None
        )
        for page in pages:
            _check(self._target, page)
            held += page
            size += sum(len(key) + len(value) for key, value in page)
            if len(held) >= ROWS or size >= BYTES:
                self._put(held)
                held, size = [], 0
                if tick is not None and time.monotonic() - told > 0.1:
                    tick(self._name, self._copied)
                    told = time.monotonic()
        if held:
            self._put(held)
        if tick is not None:
            tick(self._name, self._copied)
        return self._copied

    def _put(self, rows: list[Pair]) -> None:
        by_ttl: dict[int | None, list[Pair]] = {None: rows}
        if self._keeps_ttl:
            by_ttl = {}
            lifetimes = self._source.lifetimes(self._name, [key for key, _ in rows])
            for row, left in zip(rows, lifetimes, strict=True):
                by_ttl.setdefault(left, []).append(row)
            # These have expired since they were read.
            by_ttl.pop(0, None)
        for left, some in by_ttl.items():
            if left is not None and not self._target.has_ttl:
                raise NotSupported(
                    f"ttl: table {self._name!r} has rows that expire, and "
                    f"{self._target.scheme}:// has no ttl; --drop-ttl (drop_ttl=True) keeps them"
                )
            self._target.put_many(self._name, some, left)
        self._copied += len(rows)
        if self._state is not None:
            self._state.add((self._name, rows[-1][0].hex(), self._copied))


def _check(target: Backend, page: list[Pair]) -> None:
    for key, value in page:
        if len(key) > target.max_key:
            raise BadKey(
                f"a key of {len(key)} bytes is too long; {target.scheme}:// takes {target.max_key}"
            )
        if len(value) > target.max_value:
            raise ValueError(
                f"a value of {len(value)} bytes is too long; "
                f"{target.scheme}:// takes {target.max_value}"
            )
