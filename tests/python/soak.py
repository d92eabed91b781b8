"""``soak.py SECONDS``: use a bounded store in every way; print resident memory and figures as time goes by, as JSON."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import atbr

MOST = 100_000
LONGEST = 20.0
"""Seconds of the longest ttl."""
THREADS = 3
SAMPLES = 120


def resident() -> int:
    """Return bytes of this process's memory that no file backs."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def work(store: atbr.Store[bytes], number: int, stop: threading.Event) -> None:
    """Write and read random keys until stopped."""
    pick, body = random.Random(number), os.urandom(200)
    while not stop.is_set():
        key, deed = f"key{pick.randrange(2 * MOST)}", pick.random()
        ttl = 1 + (LONGEST - 1) * pick.random()
        if deed < 0.5:
            store.set(key, body[: int(200 * pick.random())], ttl=ttl)
        elif deed < 0.6:
            store[key] = body[:64]
        elif deed < 0.75:
            store.get(key)
        elif deed < 0.85:
            store.touch(key, ttl)
        elif deed < 0.9:
            store.persist(key)
        elif deed < 0.95:
            store.append(key, b"tail")
        else:
            store.delete(key)


def main() -> None:
    """Run and report."""
    seconds, told = float(sys.argv[1]), 0

    def count(_key: str, _value: bytes) -> None:
        nonlocal told
        told += 1

    store: atbr.Store[bytes] = atbr.Store(values=bytes, maxsize=MOST, ttl=LONGEST, on_expire=count)
    stop = threading.Event()
    crowd = [threading.Thread(target=work, args=(store, n, stop)) for n in range(THREADS)]
    for thread in crowd:
        thread.start()
    start, memory, entries = time.monotonic(), [], []
    while time.monotonic() - start < seconds:
        time.sleep(seconds / SAMPLES)
        memory.append(resident())
        entries.append(len(store))
    stop.set()
    for thread in crowd:
        thread.join()
    told_by_now = told
    stats = store.stats()
    store.close()
    report = {
        "memory": memory,
        "entries": entries,
        "expirations": stats.expirations,
        "evictions": stats.evictions,
        "lost": stats.expirations_lost,
        "told": told_by_now,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
