"""Signals of the command line: waited for, one after the other, by its main thread."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

ENDS = (signal.SIGTERM, signal.SIGINT)
HEARD = (*ENDS, signal.SIGHUP)
NOTHING = 0


class Ended(BaseException):
    """A signal asked for the end while something else was done."""


class Signals:
    """Takes the signals over from `with` on, and gives them back after it."""

    def __init__(self) -> None:
        self._interrupts = False
        self._before: dict[Any, Any] = {}
        # A handler cannot be missed between a look and a wait: each signal is a byte in here.
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in HEARD:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._read.close()
        self._write.close()

    def _handle(self, number: int, _frame: object) -> None:
        if self._interrupts and number in ENDS:
            raise Ended

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """What is done inside is ended by `Ended`."""
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def wait(self) -> int:
        """Wait for the next signal, or for `wake`: then 0."""
        return self._read.recv(1)[0]

    def wake(self) -> None:
        """End a wait, from any thread."""
        with suppress(OSError):  # nobody waits any more
            self._write.send(bytes([NOTHING]))
