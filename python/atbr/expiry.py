"""The thread that calls a store's `on_expire`.

One thread a store waits, without the GIL, for entries that have expired. It holds the callback only
while it calls it, so that a store and a callback that refers to it are collected as other cycles
are. Before a fork it stops; in parent and child it starts again when the next entry expires.
"""

from __future__ import annotations

import os
import weakref
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any

from atbr import _core

if TYPE_CHECKING:
    from atbr.store import Store

MOST = 1_024
LONGEST_WAIT = 60.0
"""Seconds; a thread that waits is woken when something happens, so this is only a safety net."""
LONGEST_JOIN = 1.0
"""Seconds that a fork waits for callbacks that are being called."""


class Watcher:
    """Calls a store's callback for what expires, on a thread of its own."""

    def __init__(self, store: Store[Any, Any]) -> None:
        self._store = weakref.ref(store)
        self._raw = _core.Store.__new__(_core.Store, share=store, keys=bytes, values=bytes)
        self._stopped = False
        self._thread: Thread | None = None
        self._previous: Thread | None = None
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

    def suspend(self) -> None:
        """End the thread, and keep what expires until `resume`."""
        if self._thread is not None and self._thread is not current_thread():
            thread, self._thread = self._thread, None
            self._previous = thread
            _core.watch_expired(self._raw, False)
            # A callback may wait for what the forking thread holds; then the fork comes first.
            thread.join(LONGEST_JOIN)

    def ask_again(self) -> None:
        """After a fork: have `resume` called when the next entry expires, unless a thread is there."""
        # In a child, one that started while the parent forked is not.
        if self._thread is None or not self._thread.is_alive():
            self._thread = None
            if not self._stopped:
                _core.watch_expired(self._raw, False)

    def stop(self) -> None:
        """Let the thread end, and keep nothing any more."""
        self._stopped = True
        _core.ignore_expired(self._raw)

    def join(self) -> None:
        """Wait for a thread that was stopped."""
        if self._thread is not None and self._thread is not current_thread():
            self._thread.join()

    def _run(self, previous: Thread | None) -> None:
        thread = current_thread()
        if previous is not None:
            previous.join()
        del previous
        while self._thread is thread and not self._stopped and not self._raw.closed:
            self._tell(_core.take_expired(self._raw, MOST, LONGEST_WAIT))

    def _tell(self, batch: list[tuple[bytes, bytes]]) -> None:
        store = self._store()
        if store is None:
            return
        for key, value in batch:
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
    for watcher in list(_watchers):
        watcher.suspend()


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
    for watcher in list(_watchers):
        watcher.stop()
        watcher.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=suspend_all,
        after_in_parent=after_fork_in_parent,
        after_in_child=after_fork_in_child,
    )
_core.on_unwatched(resume_all)
