"""Stores whose values go through a codec. A plain store pays nothing for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NoReturn, TypeVar, cast

from atbr import _core
from atbr.codecs import Codec
from atbr.store import Store

V = TypeVar("V")
K = TypeVar("K", str, bytes)
T = TypeVar("T")

_MISSING: Any = object()


class CodedStore(Store[V, K]):
    """What `Store(values=...)` returns for a codec: `dumps` on the way in, `loads` on the way out.

    Equality of `compare_and_set` and between stores is that of the encoded bytes. `None` as a
    stored value is told from a missing key by `in`.

    >>> from atbr import JSON, Store
    >>> store = Store({"point": {"x": 1}}, values=JSON)
    >>> store["point"]["x"], store.view(values=str)["point"]
    (1, '{"x":1}')
    """

    __slots__ = ("_codec",)
    _codec: Codec[Any]

    def _codec_of_values(self) -> Codec[Any] | None:
        return self._codec

    def _dump(self, value: Any) -> Any:
        encoded = self._codec.dumps(value)
        return encoded.encode() if isinstance(encoded, str) else encoded

    def __getitem__(self, key: Any) -> Any:
        raw: Any = super().__getitem__(key)
        return self._codec.loads(raw)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, self._dump(value))

    def set(self, key: Any, value: Any, ttl: Any = ...) -> None:
        """Store `value` under `key`, with a time to live. O(1)."""
        super().set(key, self._dump(value), ttl)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the decoded value of `key`, or `default`. O(1)."""
        raw: Any = super().get(key, _MISSING)
        return default if raw is _MISSING else self._codec.loads(raw)

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Remove `key` and return its decoded value, or `default`; what cannot be decoded stays. O(1)."""
        entry = _core.take(self, key)
        if entry is not None:
            return self._loaded(entry)
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[Any, Any]:
        """Remove some entry and return it, decoded; what cannot be stays. O(1) amortized until empty."""
        entry = _core.take(self)
        if entry is None:
            raise KeyError("popitem(): store is empty")
        return entry[0], self._loaded(entry)

    def _loaded(self, entry: tuple[Any, Any, float | None]) -> Any:
        """Decode the value of an entry that was removed, or put it back."""
        key, raw, ttl = entry
        try:
            return self._codec.loads(raw)
        except BaseException:
            super().add(key, raw, ttl)
            raise

    def setdefault(self, key: Any, default: Any = None, ttl: Any = ...) -> Any:
        """Return the decoded value of `key`; if missing store `default` first. Atomic, O(1)."""
        raw: Any = super().setdefault(key, self._dump(default), ttl)
        return self._codec.loads(raw)

    def add(self, key: Any, value: Any, ttl: Any = ...) -> bool:
        """Store `value` only if `key` is missing; return whether it was. Atomic, O(1)."""
        return super().add(key, self._dump(value), ttl)

    def append(self, key: Any, tail: Any) -> NoReturn:
        """Raise TypeError: an encoded value cannot be appended to."""
        raise TypeError("append() needs values=str or values=bytes; view(values=bytes) has it")

    def compare_and_set(self, key: Any, expected: Any, new: Any) -> bool:
        """Store `new` if the value of `key` encodes as `expected` does (None: missing). Atomic."""
        wanted = None if expected is None else self._dump(expected)
        return super().compare_and_set(key, wanted, self._dump(new))

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return a dict of the keys that are there, decoded. O(len(keys))."""
        loads = self._codec.loads
        found: dict[Any, Any] = super().get_many(keys)
        return {key: loads(raw) for key, raw in found.items()}

    def mget(self, keys: Iterable[Any], default: Any = None) -> list[Any]:
        """Return the decoded values in order, `default` for each missing key. O(len(keys))."""
        loads = self._codec.loads
        found: list[Any] = super().mget(keys, _MISSING)
        return [default if raw is _MISSING else loads(raw) for raw in found]

    def set_many(self, entries: Any, ttl: Any = ...) -> int:
        """Encode and store every entry, all of a sized argument before the first write. O(n)."""
        pairs = entries.items() if isinstance(entries, Mapping) else entries
        if not isinstance(entries, Mapping) and hasattr(entries, "keys"):
            pairs = [(key, entries[key]) for key in entries.keys()]  # noqa: SIM118 (no Mapping)
        encoded = ((key, self._dump(value)) for key, value in pairs)
        return super().set_many(list(encoded) if hasattr(pairs, "__len__") else encoded, ttl)

    def _iter_values(self) -> Iterator[Any]:
        raw: Iterator[Any] = super()._iter_values()
        return map(self._codec.loads, raw)

    def _iter_items(self) -> Iterator[tuple[Any, Any]]:
        loads = self._codec.loads
        entries: Iterator[tuple[Any, Any]] = super()._iter_items()
        return ((key, loads(raw)) for key, raw in entries)

    def items_with_ttl(self) -> Iterator[tuple[Any, Any, float | None]]:
        """Return an iterator over (key, decoded value, seconds left or None)."""
        loads = self._codec.loads
        entries: Iterator[tuple[Any, Any, float | None]] = super().items_with_ttl()
        return ((key, loads(raw), ttl) for key, raw, ttl in entries)

    def _decoded(self, key: bytes, value: bytes) -> tuple[Any, Any]:
        return super()._decoded(key, value)[0], self._codec.loads(value)


@cache
def _coded(cls: type[Store[Any, Any]]) -> type[Store[Any, Any]]:
    """Return the class that adds a codec to `cls`, whose own methods see decoded values."""
    if issubclass(cls, CodedStore):
        return cls
    if cls is Store:
        return CodedStore
    names = {"__slots__": (), "__module__": cls.__module__}
    return cast("type[Store[Any, Any]]", type(cls.__name__, (cls, CodedStore), names))


def _plain(cls: type[Store[Any, Any]]) -> type[Store[Any, Any]]:
    """Return the class that `_coded` started from."""
    if not issubclass(cls, CodedStore):
        return cls
    return next(c for c in cls.__mro__ if issubclass(c, Store) and not issubclass(c, CodedStore))
