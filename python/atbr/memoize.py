"""`atbr.cached`: results of functions, kept in a store."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Coroutine
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from atbr import flights
from atbr.arguments import Arguments
from atbr.codecs import Codec
from atbr.results import UnfitError, codec_of_results
from atbr.store import Store

if TYPE_CHECKING:
    from types import EllipsisType

    from atbr.store import Ttl

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
S = TypeVar("S")

BATCH = 1_024
"""Keys that `cache_clear` deletes at once."""

_MISSING: Any = object()


class CacheInfo(NamedTuple):
    """What `cache_info()` returns, as for `functools.lru_cache`.

    Attributes:
        hits: Calls that were answered without computing, those that waited for another included.
        misses: Computations begun.
        maxsize: None; the store has the bounds.
        currsize: Results of this function that are in the store.

    """

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class CachedMethod(Protocol[P, R_co]):
    """A cached method of an instance. `cache_key` is the class's, with the instance as argument."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the stored result of the call, or compute it."""
        ...

    def cache_info(self) -> CacheInfo:
        """Count hits, misses and results. O(entries of the store)."""
        ...

    def cache_clear(self) -> None:
        """Delete the results of this function, and no others. O(entries of the store)."""
        ...


class CachedFunction(Protocol[P, R_co]):
    """What `cached` makes of a function: to Python a function with these attributes."""

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function itself."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the stored result of the call, or compute it."""
        ...

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> CachedFunction[P, R_co]: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[S, Q], R_co], instance: S, owner: type | None = None
    ) -> CachedMethod[Q, R_co]: ...

    def cache_info(self) -> CacheInfo:
        """Count hits, misses and results. O(entries of the store)."""
        ...

    def cache_clear(self) -> None:
        """Delete the results of this function, and no others. O(entries of the store)."""
        ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str | bytes:
        """Return the key under which the result of a call is stored. O(size of the arguments)."""
        ...


def cached(
    store: Store[Any, Any],
    *,
    ttl: Ttl | EllipsisType = ...,
    key: Callable[..., str | bytes] | None = None,
    serializer: Codec[Any]
    | tuple[Callable[[Any], str | bytes], Callable[[bytes], Any]]
    | None = None,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Return a decorator that keeps the results of a function in `store`.

    Works for functions, methods and coroutine functions (of asyncio). O(size of the arguments and of
    the result) where the result is stored.

    Args:
        store: Where results are kept. They expire, are evicted and seen there as other entries are.
        ttl: Time to live of a result, as for `Store.set`; the store's default if left out.
        key: A function of the arguments, called as the function itself is, that returns str or bytes.
            By default arguments may be str, bytes, int, float, bool, None, and tuples and frozensets
            of them; 1, 1.0, True and "1" are different arguments, `f(1, b=2)` and `f(a=1, b=2)` the
            same. For a method `self` is one of the arguments, so that methods need `key=`.
        serializer: `atbr.JSON`, another `Codec` or a pair (dumps, loads). By default the store's own: a
            store of str keeps str, one with a codec what that takes; a store of bytes keeps bytes
            as they are and anything else as JSON.

    Raises:
        TypeError: An argument is none of those types; or a result is not of the store's type, or one that
            JSON would give back as another type, such as a tuple.
        ValueError: The store is closed, `ttl` out of range, or a key of `key=` longer than 64 KiB.

    One computation per key runs at a time, whatever number of threads, tasks and event loops ask for
    it. The others wait and get its result, decoded for each of them. If it raises, the exception goes
    to its own caller, nothing is stored, and one of those that wait computes next; so too if it is
    cancelled. A call that could only wait for itself, because it is made (in the same thread, task or
    a child task) while that very key is being computed, computes directly. When there is no memory or,
    in a bounded store, no room for a result (`MemoryError`, `StoreFull`), its callers get it all the same.

    Keys begin with module and name of the function. A lambda or a function within a function shares
    its name with others: its keys have a random number as well, and no other process finds them.

    >>> import atbr
    >>> store = atbr.Store(values=atbr.JSON)
    >>> @atbr.cached(store, ttl=60)
    ... def square(number: int) -> int:
    ...     print("computing")
    ...     return number * number
    >>> square(3), square(number=3)
    computing
    (9, 9)
    >>> square.cache_info()
    CacheInfo(hits=1, misses=1, maxsize=None, currsize=1)
    >>> square.cache_clear()
    >>> len(store)
    0

    """
    if not isinstance(store, Store):
        raise TypeError(f"cached() takes a store, as in @atbr.cached(store), not {store!r}")
    if key is not None and not callable(key):
        raise TypeError(f"key= must be a function of the arguments, not {key!r}")
    if ttl is not ...:
        # The one place that checks a time to live is a store.
        Store(ttl=ttl).close()
    codec = codec_of_results(store, serializer)

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        cache = _Cache(function, store, codec, ttl, key)
        return cast("CachedFunction[P, R]", cache.wrapped())

    return decorate


class _Cache:
    """The results of one function."""

    def __init__(
        self,
        function: Callable[..., Any],
        store: Store[Any, Any],
        codec: Codec[Any],
        ttl: Ttl | EllipsisType,
        key: Callable[..., str | bytes] | None,
    ) -> None:
        self._function = function
        self._name, self._prefix = _name_and_prefix(function)
        self._store: Store[bytes, bytes] = store.view(keys=bytes, values=bytes)
        self._codec = codec
        self._ttl = ttl
        self._own_key = key
        self._arguments = None if key is not None else Arguments(function, self._name)
        self._hits = self._misses = 0
        self._generation = 0

    def wrapped(self) -> Any:
        """Return the function that callers call."""
        wrapper = (
            self._for_tasks()
            if inspect.iscoroutinefunction(self._function)
            else self._for_threads()
        )
        functools.update_wrapper(wrapper, self._function)
        for method in (self.cache_info, self.cache_clear, self.cache_key):
            setattr(wrapper, method.__name__, method)
        return wrapper

    def cache_info(self) -> CacheInfo:
        """Count hits, misses and results. O(entries of the store)."""
        currsize = sum(1 for _ in self._store.scan(prefix=self._prefix))
        with flights.lock():
            return CacheInfo(self._hits, self._misses, None, currsize)

    def cache_clear(self) -> None:
        """Delete the results of this function, and no others. O(entries of the store)."""
        with flights.lock():
            # What is being computed now is not stored any more.
            self._generation += 1
            self._hits = self._misses = 0
        self._delete_all()

    def cache_key(self, /, *args: Any, **kwargs: Any) -> str | bytes:
        """Return the key under which the result of a call is stored. O(size of the arguments)."""
        if self._arguments is not None:
            return f"{self._prefix}{self._arguments.write(args, kwargs)})"
        assert self._own_key is not None
        own = self._own_key(*args, **kwargs)
        if isinstance(own, str):
            return f"{self._prefix}{own})"
        if isinstance(own, bytes):
            return b"%b%b)" % (self._prefix.encode(), own)
        raise TypeError(f"key= of {self._name} must return str or bytes, not {type(own).__name__}")

    def _for_threads(self) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            key = self.cache_key(*args, **kwargs)
            found = self._store.get(key, _MISSING)
            if found is not _MISSING:
                return self._hit(found)
            generation = self._generation
            with flights.ThreadCaller() as caller:
                brought = caller.board((self, generation, _identity(key)))
                if brought is not None:
                    return self._hit(brought)
                found = self._store.get(key, _MISSING)
                if found is not _MISSING:
                    caller.land(found)
                    return self._hit(found)
                self._miss()
                result = self._function(*args, **kwargs)
                caller.land(self._keep(key, result, generation))
                return result

        return call

    def _for_tasks(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        from asyncio import get_running_loop

        async def call(*args: Any, **kwargs: Any) -> Any:
            key = self.cache_key(*args, **kwargs)
            found = self._store.get(key, _MISSING)
            if found is not _MISSING:
                return self._hit(found)
            generation = self._generation
            with flights.TaskCaller(get_running_loop()) as caller:
                brought = await caller.board((self, generation, _identity(key)))
                if brought is not None:
                    return self._hit(brought)
                found = self._store.get(key, _MISSING)
                if found is not _MISSING:
                    caller.land(found)
                    return self._hit(found)
                self._miss()
                result = await self._function(*args, **kwargs)
                caller.land(self._keep(key, result, generation))
                return result

        return call

    def _hit(self, encoded: bytes) -> Any:
        with flights.lock():
            self._hits += 1
        return self._codec.loads(encoded)

    def _miss(self) -> None:
        with flights.lock():
            self._misses += 1

    def _keep(self, key: str | bytes, result: Any, generation: int) -> bytes:
        """Store a result; return it encoded."""
        try:
            encoded = self._codec.dumps(result)
        except UnfitError as unfit:
            raise TypeError(f"{self._name} returned {unfit}") from None
        if isinstance(encoded, str):
            encoded = encoded.encode()
        try:
            self._store.set(key, encoded, self._ttl)
        except MemoryError:  # StoreFull is one
            # A cache that is full is no reason to lose what was computed.
            return encoded
        if generation != self._generation:
            self._store.delete(key)
        return encoded

    def _delete_all(self) -> None:
        batch: list[bytes] = []
        for key in self._store.scan(prefix=self._prefix):
            batch.append(key)
            if len(batch) == BATCH:
                self._store.delete_many(batch)
                batch.clear()
        self._store.delete_many(batch)


def _name_and_prefix(function: Any) -> tuple[str, str]:
    """Return a function's name, and what its keys and no others begin with.

    >>> _name_and_prefix(inspect.signature)
    ('inspect.signature', 'inspect:signature(')
    """
    if isinstance(function, (classmethod, staticmethod)):
        raise TypeError(f"put @{type(function).__name__} above @cached, not below")
    module, name = (getattr(function, at, None) for at in ("__module__", "__qualname__"))
    if not callable(function) or not isinstance(module, str) or not isinstance(name, str):
        raise TypeError(f"cached() decorates functions that have a name, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{module}.{name} is a generator: what it yields cannot be cached")
    # Whatever the names are, no prefix begins another.
    prefix = ":".join(
        re.sub("[%:(]", lambda at: f"%{ord(at[0]):02x}", part) for part in (module, name)
    )
    if "<" in name:
        prefix += f":{os.urandom(8).hex()}"
    return f"{module}.{name}", f"{prefix}("


def _identity(key: str | bytes) -> bytes:
    """Return the bytes of a key: str and bytes with the same bytes are one key."""
    return key.encode(errors="surrogatepass") if isinstance(key, str) else key
