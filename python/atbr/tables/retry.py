"""Repeating what is safe to repeat, for a bounded time, and one exception for an engine that is gone."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from atbr.tables.errors import BackendUnavailable

T = TypeVar("T")

FIRST_WAIT = 0.02
LONGEST_WAIT = 0.5


class Retry:
    """How an engine's calls are repeated.

    Args:
        shown: The URL for messages.
        seconds: For how long a call that is safe to repeat is repeated.
        is_gone: Whether an exception of the driver says that the engine did not answer.
        never_sent: Whether it says that nothing reached the engine, so that any call may be
            repeated.

    >>> retry = Retry("x://", 1, lambda error: isinstance(error, OSError), lambda error: False)
    >>> attempts = iter([OSError("gone"), None])
    >>> def work():
    ...     error = next(attempts)
    ...     if error:
    ...         raise error
    ...     return "done"
    >>> retry.call(work)
    'done'

    """

    def __init__(
        self,
        shown: str,
        seconds: float,
        is_gone: Callable[[Exception], bool],
        never_sent: Callable[[Exception], bool],
    ) -> None:
        self._shown = shown
        self._seconds = seconds
        self._is_gone = is_gone
        self._never_sent = never_sent
        # Nobody sets it: waiting for it is a sleep that does not outlive the interpreter's end.
        self._pause = threading.Event()

    def call(self, work: Callable[[], T], *, safe: bool = True) -> T:
        """Return what `work` returns.

        Raises:
            BackendUnavailable: The engine did not answer, and time is up or the call is not safe
                to repeat.
        """
        deadline = time.monotonic() + self._seconds
        wait = FIRST_WAIT
        while True:
            try:
                return work()
            except Exception as error:
                if not self._is_gone(error):
                    raise
                late = time.monotonic() + wait > deadline
                if late or not (safe or self._never_sent(error)):
                    raise self.unavailable(error) from error
            self._pause.wait(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, LONGEST_WAIT)

    def once(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, as `call` does, but repeat nothing: connecting to a wrong host is known at once.

        >>> Retry("x://", 1, lambda error: True, lambda error: False).once(lambda: "done")
        'done'
        """
        try:
            return work()
        except Exception as error:
            if self._is_gone(error):
                raise self.unavailable(error) from error
            raise

    def unavailable(self, error: Exception) -> BackendUnavailable:
        """Return the exception that stands for `error`.

        >>> retry = Retry("x://", 1, bool, bool)
        >>> str(retry.unavailable(OSError("gone")))
        'x://: gone'
        """
        words = " ".join(str(error).split()) or type(error).__name__
        return BackendUnavailable(f"{self._shown}: {words}")
