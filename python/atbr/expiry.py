"""The thread that calls a store's `on_expire`.

One thread a store waits, without the GIL, for entries that have expired. It holds the callback only
while it calls it, so that a store and a callback that refers to it are collected as other cycles
are. Before a fork it stops; in parent and child it starts again at the next write by Python, or
when the next entry expires.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any

from atbr import _core

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atbr.store import Store

MOST = 1_024
LONGEST_WAIT = 60.0
"""Seconds; a thread that waits is woken when something happens, so this is only a safety net."""
LONGEST_JOIN = 1.0
"""Seconds that a fork, or the interpreter's exit, waits for callbacks that are being called."""


class Watcher:
    """Calls a store's callback for what expires, on a thread of its own."""

    def __init__(self, store: Store[Any, Any]) -> None:
        self._store = weakref.ref(store)
        self._raw = _core.Store.__new__(_core.Store, share=store, keys=bytes, values=bytes)
        self._stopped = False
        self._thread: Thread | None = None
        self._previous: Thread | None = None
        self._batch: deque[tuple[bytes, bytes]] = deque()
        self.resume()
        _watchers.add(self)
        weakref.finalize(store, self.stop).atexit = False

    def resume(self) -> None:
        """Start the thread unless it runs."""
        if not self._stopped and self._thread is None:
            _core.watch_expired(self._raw, True)
            self._thread = Thread(
                target=self._run, args=(self._previous,), name="atbr-on-expire", daemon=True
            )
            self._thread.start()

    def suspend(self) -> Thread | None:
        """Let the thread end after the callback that it is in, and keep what expires until `resume`."""
        if self._thread is None or self._thread is current_thread():
            return None
        thread, self._thread = self._thread, None
        self._previous = thread
        _core.watch_expired(self._raw, False)
        return thread

    def ask_again(self) -> None:
        """After a fork: have `resume` called when it is needed, unless a thread is there."""
        # In a child, one that started while the parent forked is not.
        if self._thread is None or not self._thread.is_alive():
            self._thread = None
            if not self._stopped:
                _core.watch_expired(self._raw, False)
                if self._batch:
                    _core.ask_to_resume()

    def stop(self) -> Thread | None:
        """Let the thread end after the callback that it is in, and keep nothing any more."""
        self._stopped = True
        _core.ignore_expired(self._raw)
        return None if self._thread is current_thread() else self._thread

    def _ends(self) -> bool:
        return self._thread is not current_thread() or self._stopped or self._raw.closed

    def _run(self, previous: Thread | None) -> None:
        if previous is not None:
            previous.join()
        del previous
        while not self._ends():
            if not self._batch:
                self._batch.extend(_core.take_expired(self._raw, MOST, LONGEST_WAIT))
            self._tell()

    def _tell(self) -> None:
        store = self._store()
        if store is None:
            return
        while self._batch and not self._ends():
            key, value = self._batch.popleft()
            try:
                store._on_expire(*store._decoded(key, value))
            except BaseException as error:  # nobody above could handle it
                _core.report_unraisable(error, store._on_expire)


_watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()


_forking = 0


def suspend_all() -> None:
    """Stop all threads before a fork."""
    global _forking
    _forking += 1
    _join(watcher.suspend() for watcher in list(_watchers))


def resume_all() -> None:
    """Start threads for which something has come, but not just before a fork."""
    if not _forking:
        for watcher in list(_watchers):
            watcher.resume()


def after_fork_in_parent() -> None:
    """Let threads start again."""
    global _forking
    _forking -= 1
    for watcher in list(_watchers):
        watcher.ask_again()


def after_fork_in_child() -> None:
    """Let threads start again, whoever else was forking."""
    global _forking
    _forking = 1
    after_fork_in_parent()


def stop_all() -> None:
    """End all threads at the interpreter's exit."""
    _join(watcher.stop() for watcher in list(_watchers))


def _join(ending: Iterable[Thread | None]) -> None:
    """Wait for threads that were told to end; not for long: a callback may wait for this thread."""
    threads = [thread for thread in ending if thread is not None]
    until = time.monotonic() + LONGEST_JOIN
    for thread in threads:
        thread.join(max(0, until - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=suspend_all,
        after_in_parent=after_fork_in_parent,
        after_in_child=after_fork_in_child,
    )
_core.on_unwatched(resume_all)
