"""local://: ordered maps in this process's memory. local://NAME is shared by all that name it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from atbr._core import KeyCodec, LocalMap, PackedKeys
from atbr.tables.backend import Backend, Page, Pair, Write, paged, pages
from atbr.tables.config import Config
from atbr.tables.errors import unknown_table
from atbr.tables.ranges import Interval

# A page's objects stay in the processor's cache until they are used: larger ones take twice as long.
PAGE_ROWS = 512


class _Space:
    """The tables of one app_name and namespace."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.maps: dict[str, LocalMap] = {}
        self.texts: dict[str, str] = {}


_SHARED: dict[tuple[str, str, str], _Space] = {}
_SHARED_LOCK = threading.Lock()


class LocalBackend(Backend):
    """Maps of the compiled part; every call is one step or a few."""

    scheme = "local"
    atomic = True
    shared = False
    read_rows = 1_000
    max_value = 2**32 - 2

    def __init__(self, config: Config) -> None:
        name = ",".join(config.addresses) + config.path
        self._space = _Space()
        if name:
            with _SHARED_LOCK:
                place = (name, config.app_name, config.namespace)
                self._space = _SHARED.setdefault(place, self._space)

    def schemas(self) -> dict[str, str]:
        with self._space.lock:
            return dict(self._space.texts)

    def create(self, tables: dict[str, str]) -> None:
        with self._space.lock:
            for name, text in tables.items():
                if name not in self._space.maps:
                    self._space.maps[name] = LocalMap()
                    self._space.texts[name] = text

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._map(table).get_many(list(keys))

    def encoded(self, codec: KeyCodec, keys: list[Any]) -> PackedKeys:
        return codec.pack_many(keys)

    def values_of(self, table: str, encoded: PackedKeys) -> list[bytes | None]:
        return self._map(table).get_packed(encoded)

    def put_many(self, table: str, pairs: list[Pair], ttl: float | None = None) -> None:
        self.refuse_ttl(ttl)
        self._map(table).put_many(pairs)

    def delete_many(self, table: str, keys: list[bytes]) -> None:
        self._map(table).delete_many(keys)

    def write(self, table: str, writes: list[Write]) -> None:
        self._map(table).write(writes)

    def scan(
        self, table: str, interval: Interval, *, reverse: bool, keys_only: bool, limit: int | None
    ) -> Iterator[list[Pair]]:
        entries = self._map(table)

        def fetch(rest: Interval, size: int) -> list[Pair]:
            return entries.page(rest.low, rest.high, size, reverse, keys_only)

        return pages(fetch, interval, reverse=reverse, limit=limit)

    def rows(
        self,
        table: str,
        codec: KeyCodec,
        interval: Interval,
        *,
        reverse: bool,
        keys_only: bool,
        limit: int | None,
    ) -> Iterator[list[Any]]:
        entries = self._map(table)

        def fetch(rest: Interval, size: int) -> Page[Any]:
            return entries.rows(codec, rest.low, rest.high, size, reverse, keys_only)

        return paged(fetch, interval, reverse=reverse, limit=limit, largest=PAGE_ROWS)

    def count(self, table: str, interval: Interval) -> int:
        return self._map(table).count(interval.low, interval.high)

    def delete_range(self, table: str, interval: Interval) -> int:
        return self._map(table).delete_range(interval.low, interval.high)

    def clear(self, table: str) -> None:
        self._map(table).clear()

    def pop(self, table: str, key: bytes) -> bytes | None:
        return self._map(table).pop(key)

    def compare_and_set(
        self, table: str, key: bytes, expected: bytes | None, new: bytes | None
    ) -> bool:
        return self._map(table).compare_and_set(key, expected, new)

    def increment(self, table: str, key: bytes, delta: int) -> int:
        return self._map(table).increment(key, delta)

    def drop_namespace(self) -> None:
        with self._space.lock:
            for entries in self._space.maps.values():
                entries.clear()
            self._space.maps.clear()
            self._space.texts.clear()

    def close(self) -> None:
        """Nothing is held: a named map lives as long as the process, another as its handles."""

    def _map(self, table: str) -> LocalMap:
        try:
            return self._space.maps[table]
        except KeyError:
            raise unknown_table(table) from None
