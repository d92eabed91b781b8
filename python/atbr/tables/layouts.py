"""What a handle remembers of where its tables are, and that it looks again when one is no longer there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from atbr.tables.errors import TablesError, unknown_table

L = TypeVar("L")
T = TypeVar("T")


class StaleLayout(TablesError):  # noqa: N818
    """The engine has no such place any more: somebody has deleted the namespace, and perhaps made it anew.

    >>> issubclass(StaleLayout, TablesError)
    True
    """


class Layouts(Generic[L]):
    """The layout of each table, looked up when it is first asked for.

    Args:
        look_up: Returns a table's layout as the engine has it, or None if there is no such table.

    >>> places = {"users": "first"}
    >>> layouts = Layouts(places.get)
    >>> def work(place):
    ...     if place != places["users"]:
    ...         raise StaleLayout
    ...     return place
    >>> layouts.call("users", work)
    'first'
    >>> places["users"] = "second"
    >>> layouts.call("users", work)
    'second'

    """

    def __init__(self, look_up: Callable[[str], L | None]) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._known: dict[str, L] = {}

    def of(self, table: str) -> L:
        """Return the layout of a table.

        Raises:
            UnknownTable: There is no such table.

        >>> Layouts({"users": 16}.get).of("users")
        16
        """
        known = self._known.get(table)
        if known is None:
            known = self._look_up(table)
            if known is None:
                raise unknown_table(table)
            with self._lock:
                self._known[table] = known
        return known

    def call(self, table: str, work: Callable[[L], T]) -> T:
        """Return `work(layout)`; where that is stale, once more with what the engine has now.

        Raises:
            UnknownTable: The table is gone.

        >>> Layouts({"users": 16}.get).call("users", lambda buckets: buckets * 2)
        32
        """
        try:
            return work(self.of(table))
        except StaleLayout:
            self.forget()
        try:
            return work(self.of(table))
        except StaleLayout:
            raise unknown_table(table) from None

    def forget(self) -> None:
        """Look up every layout anew.

        >>> Layouts({}.get).forget()
        """
        with self._lock:
            self._known.clear()


def scanned(
    layouts: Layouts[L], table: str, begin: Callable[[L], tuple[T | None, Iterator[T]]]
) -> Iterator[T]:
    """Yield the pages of a scan, of which `begin` returns the first one and the others.

    Only the first page may find the layout stale and look again: another one would be of another
    table.

    >>> list(scanned(Layouts({"users": 2}.get), "users", lambda n: ("first", iter(["rest"] * n))))
    ['first', 'rest', 'rest']
    """
    first, rest = layouts.call(table, begin)
    if first is None:
        return
    yield first
    try:
        yield from rest
    except StaleLayout:
        raise unknown_table(table) from None
