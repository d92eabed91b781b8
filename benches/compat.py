"""The experiments of a small time-to-live store of old, with today's store beside what it was.

``python benches/compat.py [--keys N]`` prints a table: milliseconds a set and a get, bytes a key, and how many gets
are quick when 5, 500 and 5,000 threads read. Each store has a process of its own; 10 M keys need 4 GB.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import atbr
import dataset
import figures
import memory

CHUNK = 10_000
GETS = 100_000
LEAST = 200
"""Gets of one thread: with fewer the first would be done before the last has begun."""
THREADS = (5, 500, 5_000)
QUICK = (0.001, 0.005)
STACK = 256 * 1024
KEY_AND_VALUE = 16 + 32
EXPIRES = 3_600


class OldStore:
    """What the original was: a dict of tuples and a lock."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Any, float]] = {}
        self.lock = threading.Lock()

    def set(self, key: str, value: Any, expires: float = EXPIRES) -> None:
        """Store a value with its deadline."""
        with self.lock:
            self.entries[key] = (value, time.time() + expires)

    def get(self, key: str) -> Any:
        """Return the value, or None; what has expired goes."""
        with self.lock:
            entry = self.entries.get(key)
            if entry is None:
                return None
            if entry[1] < time.time():
                del self.entries[key]
                return None
            return entry[0]


class PlainStore:
    """`atbr.Store` itself: no codec, no word of old."""

    def __init__(self) -> None:
        self.store = atbr.Store(ttl=EXPIRES)
        self.set = self.store.set
        self.get = self.store.get


KINDS = {"compat": atbr.compat.Store, "plain": PlainStore, "dict": OldStore}


def chunks(keys: int) -> Iterator[list[tuple[str, str]]]:
    """Keys of 16 characters and values of 32, made outside of what is timed."""
    for start in range(0, keys, CHUNK):
        yield [
            (dataset.fixed_key(row), f"value {row:026}")
            for row in range(start, min(start + CHUNK, keys))
        ]


def set_all(store: Any, keys: int) -> float:
    """Set every key; return the seconds a set."""
    total = 0.0
    for chunk in chunks(keys):
        start = time.perf_counter()
        for key, value in chunk:
            store.set(key, value)
        total += time.perf_counter() - start
    return total / keys


def get_some(store: Any, keys: int) -> float:
    """Get random keys; return the seconds a get."""
    wanted = figures.some_keys(keys, GETS, seed=1)
    start = time.perf_counter()
    for key in wanted:
        store.get(key)
    return (time.perf_counter() - start) / GETS


def get_from_threads(store: Any, keys: int, count: int) -> list[float]:
    """Get random keys in so many threads at once; return the seconds of each get."""
    threading.stack_size(STACK)
    start = threading.Barrier(count)
    times: list[list[float]] = [[] for _ in range(count)]

    def read(own: list[float], seed: int) -> None:
        pick = random.Random(seed)
        wanted = [dataset.fixed_key(pick.randrange(keys)) for _ in range(max(LEAST, GETS // count))]
        clock = time.perf_counter
        start.wait()
        for key in wanted:
            before = clock()
            store.get(key)
            own.append(clock() - before)

    threads = [threading.Thread(target=read, args=(own, seed)) for seed, own in enumerate(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [seconds for own in times for seconds in own]


def bytes_reported(store: Any) -> int:
    """Return what `sys.getsizeof` says: of a dict, its table; of a store, all that it allocated."""
    return sys.getsizeof(store.entries if isinstance(store, OldStore) else store.store)


def measure(kind: str, keys: int) -> dict[str, Any]:
    """Fill one store and read it, in the process that is made for it."""
    store = KINDS[kind]()
    store.set("warm", "up")
    before = memory.anonymous_bytes()
    result: dict[str, Any] = {"set": set_all(store, keys)}
    gc.collect()
    result["resident"] = (memory.anonymous_bytes() - before) / keys
    result["getsizeof"] = bytes_reported(store) / keys
    result["get"] = get_some(store, keys)
    for count in THREADS:
        times = get_from_threads(store, keys, count)
        result[str(count)] = [
            sum(seconds < limit for seconds in times) / len(times) for limit in QUICK
        ]
        result[f"longest {count}"] = max(times)
    return result


def measured(kind: str, keys: int) -> dict[str, Any]:
    print(f"measuring {kind} ...", file=sys.stderr)
    command = [sys.executable, __file__, "--kind", kind, "--keys", str(keys)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(output.stdout))


def table(keys: int) -> list[str]:
    """Measure everything; return the lines of a Markdown table."""
    results = [measured(kind, keys) for kind in KINDS]
    lines = [
        "| what | atbr.compat.Store (JSON) | atbr.Store (text) | dict of (value, deadline), a lock |",
        "|---|---|---|---|",
    ]

    def add(what: str, *cells: str) -> None:
        lines.append(f"| {what} | {' | '.join(cells)} |")

    add("a set", *(f"{result['set'] * 1e3:.5f} ms" for result in results))
    add("a get", *(f"{result['get'] * 1e3:.5f} ms" for result in results))
    add("resident memory a key, with key and value", *(f"{r['resident']:.1f} B" for r in results))
    beyond = (f"{result['resident'] - KEY_AND_VALUE:.1f} B" for result in results)
    add(f"the same beyond the {KEY_AND_VALUE} B of key and value", *beyond)
    add(
        "sys.getsizeof a key: of a store all of it, of a dict its table alone (then: 33.55 B)",
        *(f"{result['getsizeof']:.2f} B" for result in results),
    )
    for count in THREADS:
        for number, limit in enumerate(QUICK):
            add(
                f"gets under {limit * 1e3:.0f} ms from {count:,} threads",
                *(f"{result[str(count)][number]:.3%}" for result in results),
            )
        longest = (f"{result[f'longest {count}'] * 1e3:.1f} ms" for result in results)
        add(f"longest get from {count:,} threads", *longest)
    return lines


def main() -> None:
    """Measure and print, or measure one kind for the process that asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(measure(options.kind, options.keys)))
        return
    cores = len(os.sched_getaffinity(0))
    print(
        f"`benches/compat.py`, {datetime.date.today()}: {options.keys:,} keys of 16 and values of 32 characters "
        f"that expire; {cores} cores of {figures.processor()}, CPython {platform.python_version()}.\n"
    )
    print("\n".join(table(options.keys)))


if __name__ == "__main__":
    main()
