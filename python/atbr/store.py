"""`atbr.Store`: the dict-like face of the compiled store.

The operations on single keys and the batches are inherited from `atbr._core.Store`, so that
`store[key]` runs no Python code. What a dict has beyond them is here.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from atbr import _core
from atbr.codecs import Codec, codec_of
from atbr.expiry import Watcher, stop_all
from atbr.progress import Show, shown
from atbr.stats import StoreStats
from atbr.views import StoreItems, StoreKeys, StoreValues, own_key

if TYPE_CHECKING:
    from datetime import timedelta
    from types import EllipsisType
    from typing import TypedDict

    from typing_extensions import Self, TypeVar, Unpack

    from atbr.server import ServeOptions, Server

    V = TypeVar("V", default=str)
    K = TypeVar("K", str, bytes, default=str)
    T = TypeVar("T")
    T_in = TypeVar("T_in")
    Source = Mapping[Any, T_in] | Iterable[tuple[str | bytes, T_in]]
    Errors = Literal["strict", "surrogateescape", "replace"]
    Hasher = Literal["fast", "siphash"]
    ReleaseGil = Literal["auto", "always", "never"]
    Ttl = float | timedelta | None

    class Options(TypedDict, total=False):
        """What a store is made with, whatever its types."""

        errors: Errors
        capacity: int
        hasher: Hasher
        seed: int | None
        release_gil: ReleaseGil
        ttl: Ttl
        on_expire: Callable[[Any, Any], object] | None
        clock: _core.ManualClock | None
        maxsize: int | None
        max_bytes: int | None
        on_full: Literal["evict", "error"]
else:
    from typing import TypeVar

    V = TypeVar("V")
    K = TypeVar("K")

CHUNK = 4_096


class Store(_core.Store[V, K], MutableMapping[K, V]):
    r"""A dict of str or bytes with a tenth of a dict's overhead; values may go through a codec.

    Args:
        entries: A mapping or an iterable of pairs to begin with.
        values: The type of the values: `str`, `bytes` (stored from any C-contiguous buffer),
            `atbr.JSON`, or a pair of functions (dumps, loads).
        keys: The type of the keys that come back, `str` or `bytes`. Either is accepted: "a" and
            b"a" are one key.
        errors: What happens to bytes that are not UTF-8 when str is read: "strict",
            "surrogateescape" (both ways) or "replace" (reading only), as in `open()`.
        capacity: Number of entries to make room for.
        hasher: "fast", or "siphash" where keys come from those who might choose them to collide.
        seed: Seed of the hash; random if left out.
        release_gil: Whether single look-ups of small values release the GIL: "auto" (as
            measured), "always" or "never".
        ttl: Time to live of entries that are written without one, in seconds or as a timedelta;
            None: they never expire.
        on_expire: Called with key and value of entries that have expired, in batches, by a thread
            of its own. At most 65,536 entries and 64 MiB wait for it; what comes beyond is
            counted in `stats()`. Its exceptions go to `sys.unraisablehook`.
        clock: A `ManualClock` in place of the system's, for tests.
        maxsize: Most entries that the store holds, never one more.
        max_bytes: Most bytes that the store allocates for all purposes, at least 1 MiB; passed by
            2 % at most, and for a moment.
        on_full: What a write does that finds no room: "evict" makes room, by expired entries first
            and then by those that are of least use; "error" raises `StoreFull`.

    Raises:
        TypeError: A key is neither str nor bytes, or a value is not of the store's type.
        ValueError: A key is longer than 64 KiB, a value than 4 GiB - 1, or the store is closed.
        UnicodeEncodeError: A str holds a lone surrogate.
        UnicodeDecodeError: Stored bytes are not UTF-8; the message names the key.
        MemoryError: The store is as it was before.
        StoreFull: A bounded store has no room (a MemoryError).

    Any method may be called from any thread. Iteration is weakly consistent: it yields exactly
    once each key that is there throughout, never complains of changes, and holds no lock while
    Python code runs.

    >>> from atbr import Store
    >>> store = Store({"alpha": "α", "beta": "β"})
    >>> store["gamma"] = "γ"
    >>> store["alpha"], b"alpha" in store, len(store), store.get("omega")
    ('α', True, 3, None)
    >>> Store({"key": b"\x00\xff"}, values=bytes)["key"]
    b'\x00\xff'

    """

    __slots__ = ("_on_expire", "_viewed")
    _on_expire: Any
    _viewed: Store[Any, Any]
    __hash__ = None  # type: ignore[assignment]

    def __new__(
        cls,
        entries: Any = None,
        /,
        *,
        values: Any = str,
        keys: Any = str,
        errors: str = "strict",
        capacity: int = 0,
        hasher: str = "fast",
        seed: int | None = None,
        release_gil: str = "auto",
        ttl: Any = None,
        on_expire: Any = None,
        clock: Any = None,
        maxsize: int | None = None,
        max_bytes: int | None = None,
        on_full: str = "evict",
    ) -> Self:
        """Make the handle; `__init__` stores the entries."""
        codec = codec_of(values)
        if keys is None:
            raise TypeError("keys= must be str or bytes, not None")
        store = _core.Store.__new__(
            cls if codec is None else _coded(cls),
            values=values if codec is None else bytes,
            keys=keys,
            errors=errors,
            capacity=capacity,
            hasher=hasher,
            seed=seed,
            release_gil=release_gil,
            ttl=ttl,
            clock=clock,
            maxsize=maxsize,
            max_bytes=max_bytes,
            on_full=on_full,
        )
        if codec is not None:
            cast("CodedStore[Any, Any]", store)._codec = codec
        return cast("Self", store)

    @overload
    def __init__(
        self: Store[str, str],
        entries: Source[str] | None = None,
        /,
        *,
        values: type[str] = ...,
        keys: type[str] = ...,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: Store[str, bytes],
        entries: Source[str] | None = None,
        /,
        *,
        values: type[str] = ...,
        keys: type[bytes],
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: Store[bytes, str],
        entries: Source[Any] | None = None,
        /,
        *,
        values: type[bytes],
        keys: type[str] = ...,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: Store[bytes, bytes],
        entries: Source[Any] | None = None,
        /,
        *,
        values: type[bytes],
        keys: type[bytes],
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: Store[T, str],
        entries: Source[T] | None = None,
        /,
        *,
        values: Codec[T] | tuple[Callable[[T], str | bytes], Callable[[bytes], T]],
        keys: type[str] = ...,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: Store[T, bytes],
        entries: Source[T] | None = None,
        /,
        *,
        values: Codec[T] | tuple[Callable[[T], str | bytes], Callable[[bytes], T]],
        keys: type[bytes],
        **options: Unpack[Options],
    ) -> None: ...
    def __init__(self, entries: Any = None, /, **options: Any) -> None:
        self._on_expire = options.get("on_expire")
        if self._on_expire is not None:
            if not callable(self._on_expire):
                raise TypeError(f"on_expire= must be a function, not {self._on_expire!r}")
            Watcher(self)
        if entries is not None:
            self.update(entries)

    # -- handles -----------------------------------------------------------------------------------

    def view(
        self,
        *,
        keys: type[str] | type[bytes] | None = None,
        values: Any = None,
        errors: Errors | None = None,
    ) -> Store[Any, Any]:
        r"""Return a second handle on the same data that reads it as other types. O(1).

        What is left out stays as it is here. Closing either handle closes both.

        >>> store = Store({"key": "ä"})
        >>> store.view(keys=bytes, values=bytes)["key"]
        b'\xc3\xa4'
        """
        codec = self._codec_of_values() if values is None else codec_of(values)
        plain_values = None if values is None or codec is not None else values
        if codec is not None:
            plain_values = bytes
        view = self._handle(self, codec, keys=keys, values=plain_values, errors=errors)
        view._viewed = self  # whose on_expire ends with it
        return view

    def copy(self) -> Self:
        """Return a store with a copy of the entries, of the same types. O(bytes of the store).

        >>> store = Store({"a": "1"})
        >>> copy = store.copy()
        >>> copy["a"] = "2"
        >>> store["a"]
        '1'
        """
        return cast("Self", self._handle(_core.clone(self), self._codec_of_values()))

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, _memo: object) -> Self:
        return self.copy()

    def _handle(
        self, share: _core.Store[Any, Any], codec: Codec[Any] | None, **types: Any
    ) -> Store[Any, Any]:
        cls = _plain(type(self))
        store = _core.Store.__new__(cls if codec is None else _coded(cls), share=share, **types)
        if codec is not None:
            cast("CodedStore[Any, Any]", store)._codec = codec
        return store

    def _raw(self) -> _core.Store[bytes, bytes]:
        """Return the same data as bytes, without codec or subclass."""
        return _core.Store.__new__(_core.Store, share=self, keys=bytes, values=bytes)

    def _codec_of_values(self) -> Codec[Any] | None:
        return None

    def _decoded(self, key: bytes, value: bytes) -> tuple[Any, Any]:
        """Return the bytes of an entry as this handle reads them."""
        keys, values, errors = _core.types_of(self)
        return (
            key.decode(errors=errors) if keys is str else key,
            value.decode(errors=errors) if values is str else value,
        )

    def _own_key(self, key: Any) -> Any:
        kind, _, errors = _core.types_of(self)
        return own_key(key, kind, errors)

    # -- a dict's manners --------------------------------------------------------------------------

    def keys(self) -> StoreKeys[K]:
        """Return a live view of the keys, with the operations of a set. O(1).

        >>> sorted(Store({"a": "1"}).keys() | {"b"})
        ['a', 'b']
        """
        return StoreKeys(self)

    def values(self) -> StoreValues[V]:
        """Return a live view of the values. O(1).

        >>> list(Store({"a": "1"}).values())
        ['1']
        """
        return StoreValues(self)

    def items(self) -> StoreItems[K, V]:
        """Return a live view of the (key, value) pairs, with the operations of a set. O(1).

        >>> list(Store({"a": "1"}).items())
        [('a', '1')]
        """
        return StoreItems(self)

    def _iter_values(self) -> Iterator[V]:
        return _core.iter_values(self)

    def _iter_items(self) -> Iterator[tuple[K, V]]:
        return _core.iter_items(self)

    def update(self, entries: Any = (), /, **more: Any) -> None:
        """Store every entry of a mapping or iterable of pairs, then the keyword arguments. O(n).

        Every key and value of a sized argument is checked before the first write. From an iterator,
        whole chunks before a bad item stay. The exception's `written` says how many pairs are in.

        >>> store = Store()
        >>> store.update({"a": "1"}, b="2")
        >>> len(store)
        2
        """
        if more:
            pairs: Any = entries.items() if isinstance(entries, Mapping) else entries
            entries = [*pairs, *more.items()]
        if isinstance(entries, Store) and entries._codec_of_values() == self._codec_of_values():
            self._raw().set_many(_core.iter_items(entries._raw()))
        else:
            self.set_many(entries)

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any, /, **options: Any) -> Self:
        """Return a new store with `value` under each of `keys`; options as for the class. O(n).

        >>> sorted(Store.fromkeys("ab", "0").items())
        [('a', '0'), ('b', '0')]
        """
        store = cls(**options)
        store.update((key, value) for key in keys)
        return store

    def __or__(self, other: Any) -> Self:
        if not isinstance(other, Mapping):
            return NotImplemented
        both = self.copy()
        both.update(other)
        return both

    def __ror__(self, other: Any) -> Self:
        if not isinstance(other, Mapping):
            return NotImplemented
        both = self.copy()
        both.clear()
        both.update(other)
        both.update(self)
        return both

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Store):
            if _core.share_data(self, other):
                return True
            other.expire()
            return _has_all(self._raw(), _core.iter_items(other._raw()), len(other))
        if isinstance(other, Mapping):
            return _has_all(self, iter(other.items()), len(other))
        return NotImplemented

    def __repr__(self) -> str:
        name = f"atbr.{_plain(type(self)).__name__}"
        if self.closed:
            return f"<{name} closed>"
        count = len(self)
        entries = "1 entry" if count == 1 else f"{count:,} entries"
        keys, values, _ = _core.types_of(self)
        codec = self._codec_of_values()
        text = f"<{name} {entries}"
        if keys is not str:
            text += f", keys={keys.__name__}"
        return f"{text}, values={values.__name__ if codec is None else _name(codec)}>"

    # -- figures and files -------------------------------------------------------------------------

    def stats(self) -> StoreStats:
        """Return entries, bytes, load and look-up counters. O(shards).

        >>> Store({"a": "1"}).stats().entries
        1
        """
        return StoreStats(**_core.stats(self))

    def load(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        keep: Literal["last", "first"] = "last",
        progress: bool | Show | None = None,
        check_memory: bool = True,
        ttl: Ttl | EllipsisType = ...,
        escape: Literal["backslash"] | None = None,
    ) -> _core.LoadReport:
        r"""Load a TSV file: rows of a key, a tab, a value, a newline. O(size of the file).

        Later tabs belong to the value; all bytes are kept as they are.

        Args:
            path: The file.
            threads: How many threads parse; all cores if left out. The result is the same.
            keep: Which of several rows with one key stays; "first" also leaves keys alone that were
                there before.
            progress: True shows a bar (tqdm or rich if installed, else a line on stderr); a
                function is called with a `Progress` about every 30 ms.
            check_memory: Refuse, with MemoryError, what by estimate does not fit into the
                available memory.
            ttl: Time to live of the rows, in seconds or as a timedelta, None for never; the store's
                default if left out.
            escape: "backslash" reads \t, \n and \\ as a tab, a newline and a backslash.

        Raises:
            LoadError: A row has no tab, is over the limits, or has a backslash that escapes nothing.
                Exactly the rows before it are in.
            OSError: The file cannot be read.
            KeyboardInterrupt: On Ctrl-C, within 100 ms; the first rows of the file are in.

        Every exception that comes after the start has a `report` of what is in.

        >>> with open("rows.tsv", "w") as file:
        ...     _ = file.write("a\t1\nb\t2\na\t3\n")
        >>> store = Store()
        >>> report = store.load("rows.tsv")
        >>> report.rows, report.new, report.replaced, store["a"]
        (3, 2, 1, '3')

        """
        with shown(progress, f"load {os.fspath(path)}") as tick:
            return _core.load(self, path, threads, keep, check_memory, tick, ttl, escape)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        progress: bool | Show | None = None,
        escape: Literal["backslash"] | None = None,
        skip_expiring: bool = False,
    ) -> _core.SaveReport:
        r"""Write all entries as a TSV file, in no particular order. O(bytes of the store).

        The file is replaced only when all of it is on disk, and not at all if something goes wrong.

        Args:
            path: The file.
            progress: As for `load`.
            escape: "backslash" writes tabs, newlines and backslashes as \t, \n and \\, so that any key
                and any value can be saved; `load` has to be told the same.
            skip_expiring: Leave out entries that expire; the report's `skipped` counts them.

        Raises:
            ValueError: A key holds a tab or a newline, or a value a newline, and escape= is None.
            OSError: The file cannot be written.

        >>> store = Store({"a": "1\n2"})
        >>> store.save("saved.tsv", escape="backslash").rows
        1
        >>> open("saved.tsv").read()
        'a\t1\\n2\n'
        >>> copy = Store()
        >>> copy.load("saved.tsv", escape="backslash").rows, copy == store
        (1, True)

        """
        with shown(progress, f"save {os.fspath(path)}") as tick:
            return _core.save(self, path, tick, escape, skip_expiring)

    def serve(self, **options: Unpack[ServeOptions]) -> Server:
        """Serve the store over HTTP, WebSocket and the Redis protocol, in the background; it stays usable here.

        Options and errors: `atbr.server.Server`, which this returns. O(1).

        >>> with Store({"a": "1"}).serve() as server:
        ...     server
        <atbr.server.Server at http://127.0.0.1:..., redis://127.0.0.1:...>
        """
        # Most programs do not serve.
        from atbr.server import Server

        return Server(self, **options)


def _has_all(
    store: _core.Store[Any, Any], pairs: Iterator[tuple[Any, Any]], len_pairs: int
) -> bool:
    """Whether as many pairs as the store has are all found in it."""
    store.expire()  # after which its length is exact
    if len(store) != len_pairs:
        return False
    missing = object()
    while chunk := list(islice(pairs, CHUNK)):
        if not all(isinstance(key, (str, bytes)) for key, _ in chunk):
            return False
        try:
            found = store.mget([key for key, _ in chunk], missing)
        except UnicodeEncodeError:
            # A lone surrogate is no key of any store that refuses it.
            return False
        if not all(a is b or a == b for a, (_, b) in zip(found, chunk, strict=True)):
            return False
    return True


def _name(codec: Codec[Any]) -> str:
    from atbr.codecs import JSON

    if codec is JSON:
        return "JSON"
    names = (getattr(f, "__name__", type(f).__name__) for f in (codec.dumps, codec.loads))
    return f"({', '.join(names)})"


atexit.register(_core.close_all)
atexit.register(stop_all)

from atbr.coded import CodedStore, _coded, _plain  # noqa: E402 (needs Store)
