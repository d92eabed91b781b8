"""Connections that threads take turns with."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

C = TypeVar("C")


class Pool(Generic[C]):
    """As many connections as calls are under way, up to a limit; idle ones are used again.

    Args:
        open_one: Makes a connection.
        close_one: Ends one.
        limit: How many there may be.
        patience: Seconds to wait for one of them; TimeoutError after that.
        keeps: Whether a connection can be used after this exception.
        closed: The message of the ValueError after `close`.

    >>> pool = Pool(list, lambda made: None, 2, 1.0, lambda error: True, "closed")
    >>> with pool.connection() as one:
    ...     one.append(1)
    >>> with pool.connection() as again:
    ...     again
    [1]

    """

    def __init__(
        self,
        open_one: Callable[[], C],
        close_one: Callable[[C], object],
        limit: int,
        patience: float,
        keeps: Callable[[BaseException], bool],
        closed: str,
    ) -> None:
        self._open_one = open_one
        self._close_one = close_one
        self._limit = limit
        self._patience = patience
        self._keeps = keeps
        self._closed_text = closed
        self._abandoned: list[C] = []
        self._idle: list[C] = []
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._idle = []
        self._free = threading.Semaphore(self._limit)
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[C]:
        """Lend a connection.

        Raises:
            TimeoutError: All of them are lent for too long.
            ValueError: The pool is closed.
        """
        if self._process != os.getpid():
            # A child's connections are its own: those of the parent are not even closed, for that
            # would say good-bye in the parent's name.
            self._abandoned += self._idle
            self._start()
        free = self._free
        if not free.acquire(timeout=self._patience):
            raise TimeoutError(f"all {self._limit} connections are in use")
        try:
            if self._closed:
                raise ValueError(self._closed_text)
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open_one()
            try:
                yield connection
            except BaseException as error:
                if not self._keeps(error):
                    self._close_one(connection)
                    raise
                self._put_back(connection)
                raise
            self._put_back(connection)
        finally:
            free.release()

    def _put_back(self, connection: C) -> None:
        if self._closed:
            self._close_one(connection)
        else:
            self._idle.append(connection)

    def drop_idle(self) -> None:
        """End the connections that nobody uses: the engine went away, so they are dead as well."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self._close_one(connection)

    def close(self) -> None:
        """End every connection; those in use when they come back."""
        self._closed = True
        self.drop_idle()
