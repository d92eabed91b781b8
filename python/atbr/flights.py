"""One computation per key at a time, among the threads and event loops of this process.

The first caller of a key leads its flight: it computes, the others wait. When it has landed they
all get what it brought; if it failed, the one that waits longest leads next. A wait that could
never end, because the computation in the air needs the caller's own to end first, is not begun.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from contextvars import ContextVar, Token
from threading import Event, RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from typing_extensions import Self

LOOK_AGAIN = 1.0
"""Seconds after which a waiting task looks whether the loop that computes still runs."""


class Flight:
    """A computation that others may wait for."""

    __slots__ = ("leader", "waiters", "waits_for")

    def __init__(self, leader: Caller) -> None:
        self.leader: Caller | None = leader
        self.waiters: deque[Caller] = deque()
        self.waits_for: list[Flight] = []


class Table:
    """The flights of this process. The lock is held for a few steps, never while anybody waits."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.flights: dict[object, Flight] = {}


_table = Table()
_inside: ContextVar[tuple[Flight, ...]] = ContextVar("atbr_inside", default=())
"""The flights that the running code computes for, the outermost first; child tasks inherit it."""


def lock() -> RLock:
    """Return the lock of the table, for a few steps of others too: no fork leaves it locked."""
    return _table.lock


class Caller(ABC):
    """Who asks for a key: leads its flight, waits for it, or goes alone.

    A context manager; leaving it in any other way than by `land` passes the lead on.
    """

    def __init__(self) -> None:
        self.encoded: bytes | None = None
        """What the flight brought to one that waited."""
        self._table = _table
        self._key: object = None
        self._flight: Flight | None = None
        self._inside = tuple(flight for flight in _inside.get() if flight.leader)
        self._token: Token[tuple[Flight, ...]] | None = None

    def land(self, encoded: bytes) -> None:
        """End the flight with a value for all who wait."""
        if self._table is not _table or self._flight is None:
            return
        with self._table.lock:
            flight = self._flight
            self._end(flight)
            while flight.waiters:
                waiter = flight.waiters.popleft()
                waiter._unlink(flight)
                waiter.encoded = encoded
                # The task of a closed loop is no more.
                with suppress(RuntimeError):
                    waiter._wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._token is not None:
            # A coroutine may be closed in another context than it ran in.
            with suppress(ValueError):
                _inside.reset(self._token)
        # In the child of a fork nobody else is there.
        if self._table is not _table or self._flight is None:
            return
        with self._table.lock:
            flight = self._flight
            if flight.leader is self:
                self._pass_on(flight)
            elif self in flight.waiters:
                flight.waiters.remove(self)
                self._unlink(flight)

    @abstractmethod
    def _wake(self) -> None:
        """End the wait of this caller, from any thread."""

    def _stands_still(self) -> bool:
        """Whether what this caller computes may never go on."""
        return False

    def _board(self, key: object) -> bool:
        """Join the flight of `key` or begin it; return whether to wait."""
        with self._table.lock:
            self._key = key
            flight = self._table.flights.get(key)
            if flight is None:
                self._flight = flight = Flight(self)
                self._table.flights[key] = flight
                self._lead(flight)
                return False
            if _depends(flight, self._inside):
                return False
            self._flight = flight
            flight.waiters.append(self)
            for outer in self._inside:
                outer.waits_for.append(flight)
        return not self._took_over()

    def _took_over(self) -> bool:
        """Lead in place of one that stands still; return whether."""
        with self._table.lock:
            flight = self._flight
            if flight is None or flight.leader is None or self not in flight.waiters:
                return False
            if not flight.leader._stands_still():
                return False
            flight.waiters.remove(self)
            self._unlink(flight)
            flight.leader = self
        self._lead(flight)
        return True

    def _lead_if_next(self) -> None:
        """Lead if the lead was passed on to this caller, and nobody took over since."""
        if self._flight is not None and self._flight.leader is self:
            self._lead(self._flight)

    def _lead(self, flight: Flight) -> None:
        self._token = _inside.set((*self._inside, flight))

    def _pass_on(self, flight: Flight) -> None:
        """Let the one that waits longest lead."""
        while flight.waiters:
            waiter = flight.waiters.popleft()
            waiter._unlink(flight)
            flight.leader = waiter
            try:
                waiter._wake()
            except RuntimeError:
                continue
            return
        self._end(flight)

    def _end(self, flight: Flight) -> None:
        flight.leader = None
        if self._table.flights.get(self._key) is flight:
            del self._table.flights[self._key]

    def _unlink(self, flight: Flight) -> None:
        for outer in self._inside:
            outer.waits_for.remove(flight)


class ThreadCaller(Caller):
    """A thread."""

    def __init__(self) -> None:
        super().__init__()
        self._woken = Event()

    def board(self, key: object) -> bytes | None:
        """Return what another caller computes, once it has; None: compute it."""
        if self._board(key):
            self._woken.wait()
            self._lead_if_next()
        return self.encoded

    def _wake(self) -> None:
        self._woken.set()


class TaskCaller(Caller):
    """A task of an event loop. Each waits for a future of its own loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._woken = loop.create_future()

    async def board(self, key: object) -> bytes | None:
        """Return what another caller computes, once it has; None: compute it."""
        import asyncio

        if not self._board(key):
            return None
        while not self._woken.done():
            await asyncio.wait((self._woken,), timeout=LOOK_AGAIN)
            if self._took_over():
                return None
        self._lead_if_next()
        return self.encoded

    def _stands_still(self) -> bool:
        return not self._loop.is_running()

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._finish_wait)

    def _finish_wait(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


def _depends(flight: Flight, callers: tuple[Flight, ...]) -> bool:
    """Whether `flight` is one of `callers`, or waits for one of them, at whatever remove."""
    seen: set[Flight] = set()
    todo = [flight] if callers else []
    while todo:
        other = todo.pop()
        if other in callers:
            return True
        if other not in seen:
            seen.add(other)
            todo += other.waits_for
    return False


def _begin_anew() -> None:
    """In the child of a fork: those who led, waited or held the lock are in the parent."""
    global _table
    _table = Table()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
