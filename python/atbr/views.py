"""Live views of a store: what `keys()`, `values()` and `items()` return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, ItemsView, Iterable, Iterator, KeysView, Set, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from atbr.store import Store

K = TypeVar("K")
V = TypeVar("V")


class _SetOperations(ABC):
    """The operators of a set; the other side's keys are brought to the store's key type first."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    @abstractmethod
    def _own(self, item: Any) -> Any:
        """Return an item of another collection as this view would yield it."""

    def _owned(self, other: Iterable[Any]) -> set[Any]:
        return {self._own(item) for item in other}

    def _both(self, other: Iterable[Any]) -> tuple[set[Any], set[Any]]:
        return set(self), self._owned(other)  # type: ignore[call-overload]

    def __and__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        return {item for item in self._owned(other) if item in self}  # type: ignore[operator]

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        own, others = self._both(other)
        return own | others

    def __sub__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        own, others = self._both(other)
        return own - others

    def __rsub__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        return {item for item in self._owned(other) if item not in self}  # type: ignore[operator]

    def __xor__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        own, others = self._both(other)
        return own ^ others

    __rand__ = __and__
    __ror__ = __or__
    __rxor__ = __xor__

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Return whether no item of `other` is here. O(len(other)).

        >>> import atbr
        >>> atbr.Store({"a": "1"}).keys().isdisjoint(["b", b"c"])
        True
        """
        return not any(self._own(item) in self for item in other)  # type: ignore[operator]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Set):
            return NotImplemented
        own, others = self._both(other)
        return own == others

    def __le__(self, other: Any) -> bool:
        if not isinstance(other, Set):
            return NotImplemented
        own, others = self._both(other)
        return own <= others

    def __lt__(self, other: Any) -> bool:
        if not isinstance(other, Set):
            return NotImplemented
        own, others = self._both(other)
        return own < others

    def __ge__(self, other: Any) -> bool:
        if not isinstance(other, Set):
            return NotImplemented
        own, others = self._both(other)
        return own >= others

    def __gt__(self, other: Any) -> bool:
        if not isinstance(other, Set):
            return NotImplemented
        own, others = self._both(other)
        return own > others


class StoreKeys(_SetOperations, KeysView[K]):
    """The keys, as a set; shows later changes of the store. `in` and `len` are O(1).

    >>> import atbr
    >>> keys = atbr.Store({"a": "1", "b": "2"}).keys()
    >>> sorted(keys & {b"a", "x"}), "b" in keys, len(keys)
    (['a'], True, 2)
    """

    __slots__ = ()
    _mapping: Store[Any, Any]

    def __init__(self, store: Store[Any, Any]) -> None:
        super().__init__(store)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, (str, bytes)) and key in self._mapping

    def __iter__(self) -> Iterator[K]:
        return iter(self._mapping)

    def _own(self, item: Any) -> Any:
        return self._mapping._own_key(item)

    def __repr__(self) -> str:
        return f"<keys of {self._mapping!r}>"


class StoreItems(_SetOperations, ItemsView[K, V]):
    """The (key, value) pairs, as a set; shows later changes of the store. `in` and `len` are O(1).

    >>> import atbr
    >>> items = atbr.Store({"a": "1", "b": "2"}).items()
    >>> items & {("a", "1"), ("b", "3")}, ("b", "2") in items
    ({('a', '1')}, True)
    """

    __slots__ = ()
    _mapping: Store[Any, Any]

    def __init__(self, store: Store[Any, Any]) -> None:
        super().__init__(cast("Any", store))

    def __contains__(self, item: object) -> bool:
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], (str, bytes))):
            return False
        missing = object()
        value = self._mapping.get(item[0], missing)
        return value is not missing and bool(value == item[1])

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._iter_items()

    def _own(self, item: Any) -> Any:
        if isinstance(item, tuple) and len(item) == 2:
            return (self._mapping._own_key(item[0]), item[1])
        return item

    def __repr__(self) -> str:
        return f"<items of {self._mapping!r}>"


class StoreValues(ValuesView[V]):
    """The values; shows later changes of the store. `len` is O(1), `in` is O(n).

    >>> import atbr
    >>> values = atbr.Store({"a": "1"}).values()
    >>> list(values), "1" in values
    (['1'], True)
    """

    __slots__ = ()
    _mapping: Store[Any, Any]

    def __init__(self, store: Store[Any, Any]) -> None:
        super().__init__(store)

    def __contains__(self, value: object) -> bool:
        return any(one is value or one == value for one in self)

    def __iter__(self) -> Iterator[V]:
        return self._mapping._iter_values()

    def __repr__(self) -> str:
        return f"<values of {self._mapping!r}>"


def own_key(key: Hashable, kind: type, errors: str) -> Hashable:
    """Return `key` as a store of that key type yields it; what is no key stays as it is.

    >>> own_key(b"a", str, "strict"), own_key("a", bytes, "strict"), own_key(1, str, "strict")
    ('a', b'a', 1)
    """
    if isinstance(key, bytes) and kind is str:
        try:
            return key.decode("utf-8", errors)
        except UnicodeDecodeError:
            return key
    if isinstance(key, str) and kind is bytes:
        try:
            return key.encode("utf-8", "strict" if errors == "replace" else errors)
        except UnicodeEncodeError:
            return key
    return key
