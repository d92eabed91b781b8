"""The words of a small time-to-live store of old, on today's store."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, cast

from atbr import flights
from atbr.codecs import JSON, Codec, codec_of
from atbr.store import Store as Entries

if TYPE_CHECKING:
    from datetime import timedelta

    from typing_extensions import Self

    from atbr._core import ManualClock

    AnyCodec = Codec[Any] | tuple[Callable[[Any], str | bytes], Callable[[bytes], Any]]

P = ParamSpec("P")
R = TypeVar("R")

HOUR = 3_600


class _Both(Generic[P, R]):
    """A method of an instance; called on the class, of the instance that the class shares."""

    def __init__(self, method: Callable[Concatenate[Any, P], R]) -> None:
        self._method = method
        update_wrapper(cast("Callable[..., Any]", self), method)

    def __get__(self, instance: Store | None, owner: type[Store]) -> Callable[P, R]:
        return MethodType(self._method, owner._of_class() if instance is None else instance)


class Store:
    """Values that expire after an hour unless told otherwise, in a store of one's own or the class's.

    Each method may be called on an instance, or on the class: then it works on one store that all
    such calls share. A subclass has one of its own.

    Args:
        codec: How values are kept: `atbr.JSON`, another `Codec` or a pair (dumps, loads); the class's
            `codec` if left out, which is JSON: a tuple comes back as a list.
        clock: A `ManualClock` in place of the system's, for tests.

    Attributes:
        store: The `atbr.Store` underneath, for all that has no word here.

    Raises:
        TypeError: A key is neither str nor bytes, or the codec does not take a value.
        ValueError: A key is longer than 64 KiB, a value than 4 GiB - 1, or the store is closed.
        MemoryError: The store is as it was before.

    Any method may be called from any thread. The child of a fork has a copy of all that is stored.
    The interpreter's exit closes the store, and `store.close()` does.

    >>> from atbr.compat import Store
    >>> Store.set("name", "John")
    >>> Store.get("name")
    'John'
    >>> sessions = Store()
    >>> sessions.get("name") is None
    True

    """

    codec: ClassVar[AnyCodec] = JSON
    _shared: ClassVar[dict[type[Store], Store]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Of its own, so that a class that goes takes its store along.
        cls._shared = {}

    def __init__(self, *, codec: AnyCodec | None = None, clock: ManualClock | None = None) -> None:
        chosen = type(self).codec if codec is None else codec
        self.store: Entries[Any, str] = Entries(values=_checked(chosen), clock=clock)
        self._dropped = 0

    @classmethod
    def _of_class(cls) -> Self:
        shared = cls._shared.get(cls)
        if shared is None:
            # Of two threads that make one at once, both get the first.
            shared = cls._shared.setdefault(cls, cls())
        return cast("Self", shared)

    @_Both
    def set(self, key: str | bytes, value: Any, expires: float | timedelta | None = HOUR) -> None:
        """Store `value` under `key` for so many seconds or a timedelta; None: for ever. O(1).

        Raises:
            ValueError: `expires` is not more than 0 and at most 10 years.
            TypeError: `expires` is none of those.

        >>> Store.set("name", "John", expires=60)
        """
        try:
            self.store.set(key, value, expires)
        except (TypeError, ValueError) as error:
            text = str(error)
            if text.startswith("ttl= "):
                raise type(error)(f"expires={text[len('ttl=') :]}") from None
            raise

    @_Both
    def get(self, key: str | bytes) -> Any:
        """Return the value of `key`, or None if it is missing or has expired. O(1).

        >>> Store.get("nobody") is None
        True
        """
        return self.store.get(key)

    @_Both
    def delete(self, key: str | bytes) -> bool:
        """Remove `key`; return whether it was there. O(1).

        >>> Store.delete("nobody")
        False
        """
        return self.store.delete(key)

    @_Both
    def clean(self) -> int:
        """Drop what has expired; return how many entries since the last `clean()`. O(what has expired).

        Nobody needs to call it: the store drops them by itself, within a second or so. They count too.

        >>> import atbr
        >>> clock = atbr.ManualClock()
        >>> sessions = Store(clock=clock)
        >>> sessions.set("name", "John", expires=60)
        >>> clock.advance(61)
        >>> sessions.clean()
        1
        """
        self.store.expire()
        with flights.lock():
            before, self._dropped = self._dropped, self.store.stats().expirations
            return self._dropped - before

    @_Both
    def purge(self) -> None:
        """Remove everything. O(n).

        >>> Store.purge()
        """
        self.store.clear()


def _checked(codec: Any) -> Codec[Any]:
    try:
        found = codec_of(codec)
    except TypeError:
        found = None
    if found is None:
        raise TypeError(f"codec= must be atbr.JSON, a Codec or two functions, not {codec!r}")
    return found
