"""Figures of expiry: latency beside writers, sets with a ttl, a storm of expiries, memory.

``python benches/expiry.py [TASK ...]`` runs these tasks, or all; each measurement has a process of its own. ``--write
docs/expiry.md`` puts the table between the marks there and draws the storm beside it. Needs the other caches
(``pip install --group caches``), 4 GB and 15 minutes.
"""

from __future__ import annotations

import argparse
import array
import datetime
import gc
import importlib
import json
import math
import os
import platform
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atbr
import dataset
import figures
import memory
import storm
from measuring import MEBIBYTE, MILLION, Result, Row, measure

BEGIN = "<!-- figures: begin (benches/expiry.py) -->"
END = "<!-- figures: end -->"
CHUNK = figures.CHUNK
HOUR = 3_600.0


def some_ttl(pick: random.Random) -> float:
    return 60 + HOUR * pick.random()


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run ``work`` in so many threads, each with its number."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Latency beside writers


def task_latency(rows: int, source: str) -> Result:
    """Get from a store, or a dict, while four threads set entries that expire in the store."""
    store = figures.loaded(rows)
    get = store.get if source == "store" else memory.fill_dict(dataset.fixed(rows)).get
    stop = threading.Event()

    def write(seed: int) -> None:
        keys, pick = figures.some_keys(rows, 50_000, seed), random.Random(seed)
        value = figures.value_of(seed)
        while not stop.is_set():
            for key in keys:
                store.set(key, value, ttl=1 + 4 * pick.random())

    keys = figures.some_keys(rows, 200_000, seed=9)
    times = array.array("d")
    clock = time.perf_counter
    writers = threading.Thread(target=in_threads, args=(4, write))
    writers.start()
    end = clock() + 30
    before = store.stats()
    while clock() < end:
        for key in keys[:1_000]:
            start = clock()
            get(key)
            times.append(clock() - start)
        keys = keys[1_000:] + keys[:1_000]
    after = store.stats()
    stop.set()
    writers.join()
    ordered = sorted(times)
    lookups = after.attached + after.detached - before.attached - before.detached
    return {
        "p50": ordered[len(ordered) // 2],
        "p95": ordered[len(ordered) * 95 // 100],
        "p99": ordered[len(ordered) * 99 // 100],
        "p99.9": ordered[len(ordered) * 999 // 1000],
        "longest": ordered[-1],
        "gets": len(ordered),
        "detached": (after.detached - before.detached) / max(lookups, 1),
        "expired": after.expirations,
        "switch interval": sys.getswitchinterval(),
        "histogram": histogram(times),
    }


def histogram(times: array.array[float]) -> list[list[float]]:
    """Return upper ends, powers of two of a microsecond, and how many durations are below each."""
    counts: dict[int, int] = {}
    for seconds in times:
        power = max(math.ceil(math.log2(seconds * 1e6)), -1) if seconds else -1
        counts[power] = counts.get(power, 0) + 1
    return [[2.0**power, counts[power]] for power in sorted(counts)]


def show_histogram(bars: list[list[float]]) -> None:
    everything = sum(count for _, count in bars)
    for end, count in bars:
        bar = "#" * (1 + round(5 * math.log10(count)))
        print(f"    < {end:>9,.1f} us {100 * count / everything:9.4f} % {bar}")


def latency(options: argparse.Namespace) -> list[Row]:
    lines: list[Row] = []
    for rows in options.latency_rows:
        seen = measure("latency", rows, "store")
        beside = measure("latency", rows, "dict")
        print(f"get of {rows:,} keys beside 4 writing threads, {seen['gets']:,} times:")
        show_histogram(seen["histogram"])
        print("  a dict's get beside the same threads:")
        show_histogram(beside["histogram"])
        here, there = (
            f"{r['p95'] * 1e6:.1f} / {r['p99'] * 1e6:.1f} us / {r['p99.9'] * 1e3:.1f} ms"
            for r in (seen, beside)
        )
        text = f"{here}; a dict's get {there}"
        what = (
            f"get beside 4 Python threads that set with a ttl, {rows:,} keys: p95 / p99 / p99.9"
            f" (switch interval {seen['switch interval'] * 1e3:.0f} ms, {seen['detached']:.0%} released the GIL)"
        )
        lines.append((what, text, "< 1 / < 5 ms"))
    return lines


# Sets with and without a ttl


Chunk = list[tuple[str, bytes, float]]


def task_set(rows: int) -> Result:
    """Set in turns, chunk by chunk; return the median processor seconds a set, growing and overwriting."""
    gc.disable()
    pick = random.Random(1)
    hour = datetime.timedelta(hours=1)
    ttls = [some_ttl(pick) for _ in range(CHUNK)]

    def with_set(ttl: Any) -> Callable[[Chunk], None]:
        put = atbr.Store(values=bytes).set

        def run(chunk: Chunk) -> None:
            for key, value, _ in chunk:
                put(key, value, ttl=ttl)

        return run

    plain, varied = atbr.Store(values=bytes).set, atbr.Store(values=bytes).set

    def run_plain(chunk: Chunk) -> None:
        put = plain
        for key, value, _ in chunk:
            put(key, value)

    def run_random(chunk: Chunk) -> None:
        put = varied
        for key, value, ttl in chunk:
            put(key, value, ttl=ttl)

    def with_item(store: Any) -> Callable[[Chunk], None]:
        def run(chunk: Chunk) -> None:
            for key, value, _ in chunk:
                store[key] = value

        return run

    ways: dict[str, Callable[[Chunk], None]] = {
        "set(key, value)": run_plain,
        "ttl=3600.0": with_set(HOUR),
        "ttl=random": run_random,
        "ttl=3600": with_set(3600),
        "ttl=timedelta(hours=1)": with_set(hour),
        "ttl=None": with_set(None),
        "store[key] = value": with_item(atbr.Store(values=bytes)),
        "Store(ttl=3600)": with_item(atbr.Store(values=bytes, ttl=HOUR)),
    }
    result: Result = {}
    for what in ("growing", "overwriting"):
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn, chunk in enumerate(figures.chunks(rows)):
            first = turn % len(ways)
            for name in [*list(ways)[first:], *list(ways)[:first]]:
                # Fresh objects: nobody has computed their hash, and none is in the cache for one way only.
                fresh = [(key[:8] + key[8:], value, ttl) for (key, value), ttl in zip(chunk, ttls)]  # noqa: B905
                start = time.thread_time()
                ways[name](fresh)
                times[name].append(time.thread_time() - start)
        result[what] = {name: statistics.median(s) / CHUNK for name, s in times.items()}
    return result


def sets(options: argparse.Namespace) -> list[Row]:
    lines: list[Row] = []
    seen = measure("set", options.rows or MILLION)
    for what, times in seen.items():
        for name, seconds in times.items():
            without = "store[key] = value" if name == "Store(ttl=3600)" else "set(key, value)"
            if name in ("set(key, value)", "store[key] = value"):
                continue
            here, there = seconds * 1e9, times[without] * 1e9
            reach = "<= 1.25 x" if name in ("ttl=3600.0", "ttl=random") else ""
            text = f"{here:.0f} ns, without {there:.0f} ns: {here / there:.2f} x"
            lines.append((f"{without} with {name}, {what}", text, reach))
    return lines


# Other caches

Cache = tuple[Callable[[str], object], Callable[..., object], bool]


def cache_of(kind: str, rows: int) -> Cache:
    """Return the get and the set of a cache with room for all rows, and whether its set takes a ttl."""
    if kind.startswith("atbr"):
        bound = {"maxsize": rows} if "maxsize" in kind else {}
        store: Any = atbr.Store(values=bytes, **bound)  # type: ignore[call-overload,unused-ignore]
        return store.get, store.set, True
    package: Any = importlib.import_module(kind.split()[0])
    if kind == "moka_py":
        cache = package.Moka(rows, ttl=HOUR)
        return cache.get, cache.set, False
    if kind == "cachebox VTTLCache":
        cache = package.VTTLCache(rows)
        return cache.get, cache.insert, True
    cache = package.TTLCache(rows, HOUR)
    return cache.get, cache.__setitem__, False


PEERS = ("cachetools TTLCache", "cachebox TTLCache", "cachebox VTTLCache", "moka_py")
OURS = ("atbr", "atbr, maxsize=")


def task_peer(rows: int, kind: str) -> Result:
    """Return the seconds a set, growing and overwriting, and a get of random keys."""
    gc.disable()
    get, put, takes_ttl = cache_of(kind, rows)

    def set_all() -> float:
        total = 0.0
        for chunk in figures.chunks(rows):
            start = time.perf_counter()
            if takes_ttl:
                for key, value in chunk:
                    put(key, value, HOUR)
            else:
                for key, value in chunk:
                    put(key, value)
            total += time.perf_counter() - start
        return total / rows

    growing, overwriting = set_all(), set_all()
    keys = figures.some_keys(rows, 300_000, seed=3)
    missing = sum(get(key) is None for key in keys)
    keys = figures.some_keys(rows, 300_000, seed=4)
    start = time.perf_counter()
    for key in keys:
        get(key)
    taken = (time.perf_counter() - start) / len(keys)
    return {
        "set, growing": growing,
        "set, overwriting": overwriting,
        "get": taken,
        "missing": missing,
    }


def peers(options: argparse.Namespace) -> list[Row]:
    rows = options.rows or MILLION
    runs: dict[str, list[Result]] = {kind: [] for kind in (*OURS, *PEERS)}
    for _ in range(5):
        for kind in runs:
            runs[kind].append(measure("peer", rows, kind))
    lines: list[Row] = []
    for what in ("set, growing", "set, overwriting", "get"):
        times = {kind: statistics.median(r[what] for r in seen) for kind, seen in runs.items()}
        for ours in OURS:
            cells = [
                f"{kind} {times[kind] * 1e9:.0f} ns, {times[kind] / times[ours]:.2f} x"
                for kind in PEERS
            ]
            line = f"{ours}: {what}, {rows:,} keys with a ttl"
            text = f"{times[ours] * 1e9:.0f} ns; " + "; ".join(cells)
            lines.append((line, text, "faster than all"))
    return lines


# Memory


def fill(store: atbr.Store[bytes], rows: int, way: str) -> None:
    """Fill by a load, or by sets from so many threads, of entries with a ttl."""
    if way == "load":
        store.load(dataset.fixed(rows), ttl=HOUR)
        return
    threads = int(way)

    def work(number: int) -> None:
        pick = random.Random(number)
        put = store.set
        for start in range(number * CHUNK, rows, threads * CHUNK):
            for row in range(start, min(start + CHUNK, rows)):
                put(dataset.fixed_key(row), figures.value_of(row), ttl=some_ttl(pick))

    in_threads(threads, work)


def task_memory(rows: int, way: str) -> Result:
    """Return the growth of anonymous memory, and what the store says that it has allocated."""
    warm: atbr.Store[bytes] = atbr.Store(values=bytes)
    fill(warm, 1_000, "load" if way == "load" else way)
    warm.close()
    gc.collect()
    before = memory.anonymous_bytes()
    store: atbr.Store[bytes] = atbr.Store(values=bytes)
    fill(store, rows, way)
    gc.collect()
    grown = memory.anonymous_bytes() - before
    stats = store.stats()
    return {
        "grown": grown,
        "allocated": stats.bytes_allocated,
        "expiry": stats.expiry_bytes,
        "index": stats.index_bytes,
    }


WAYS = {"load": "a load", "1": "sets", "4": "sets from 4 threads"}


def bytes_of(options: argparse.Namespace) -> list[Row]:
    lines: list[Row] = []
    most = options.rows or 10 * MILLION
    for rows in (most // 10, most * 3 // 10, most):
        dataset.fixed(rows)
        for way, name in WAYS.items():
            seen = measure("memory", rows, way)
            if rows == most:
                over = figures.overhead(seen["grown"], rows)
                reach = "<= 20 B" if way == "load" else "<= 21 B"
                what = f"memory an expiring entry beyond key and value, {rows:,}, after {name}"
                wheel, index = seen["expiry"] / rows, seen["index"] / rows
                text = f"{over:.1f} B: time wheel {wheel:.1f} B, index {index:.1f} B"
                lines.append((what, text, reach))
            share = seen["allocated"] / seen["grown"] - 1
            what = f"stats().bytes_allocated against anonymous memory, {rows:,} after {name}"
            lines.append((what, f"{share:+.1%}", "within 5 %"))
    return lines


def task_churn(most: int, threads: str) -> Result:
    """Write many times what fits into a bounded store; return the memory at each moment against the bound."""
    warm = atbr.Store(values=bytes)
    warm.close()
    body = os.urandom(4_096)
    stop = threading.Event()
    gc.collect()
    before = memory.anonymous_bytes()
    store: atbr.Store[bytes] = atbr.Store(values=bytes, max_bytes=most)  # type: ignore[call-overload,unused-ignore]
    written = [0] * int(threads)

    def work(number: int) -> None:
        pick = random.Random(number)
        while not stop.is_set():
            size = 10 + int(190 * pick.random())
            key = dataset.fixed_key(pick.randrange(most // 40))
            ttl = 1 + 4 * pick.random() if pick.random() < 0.33 else None
            store.set(key, body[:size], ttl=ttl)
            written[number] += size + 16

    crowd = threading.Thread(target=in_threads, args=(int(threads), work))
    crowd.start()
    grown: list[int] = []
    allocated: list[int] = []
    while sum(written) < 4 * most:
        time.sleep(0.1)
        grown.append(memory.anonymous_bytes() - before)
        allocated.append(store.stats().bytes_allocated)
    stop.set()
    crowd.join()
    gc.collect()
    stats = store.stats()
    return {
        "peak": max(grown),
        "end": memory.anonymous_bytes() - before,
        "allocated peak": max(allocated),
        "allocated": stats.bytes_allocated,
        "data": stats.key_bytes + stats.value_bytes,
        "evictions": stats.evictions,
        "expirations": stats.expirations,
    }


def churn(options: argparse.Namespace) -> list[Row]:
    lines: list[Row] = []
    for most in (64 * MEBIBYTE, 256 * MEBIBYTE):
        seen = measure("churn", most, "4")
        what = f"max_bytes={most // MEBIBYTE} MiB, 4 threads that set: anonymous memory against it, most / in the end"
        text = (
            f"{seen['peak'] / most:.3f} / {seen['end'] / most:.3f};"
            f" bytes_allocated {seen['allocated peak'] / most:.3f} / {seen['allocated'] / most:.3f};"
            f" {seen['data'] / most:.2f} are keys and values"
        )
        lines.append((what, text, "<= 1.02"))
    return lines


# All of it

TASKS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "latency": latency,
    "set": sets,
    "peers": peers,
    "storm": storm.storm,
    "memory": bytes_of,
    "churn": churn,
}


def main() -> None:
    """Measure and print, or run one task for the process that asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--rows", type=int, help="instead of each task's own number")
    parser.add_argument("--latency-rows", type=int, nargs="+", default=[MILLION])
    parser.add_argument(
        "--clock",
        action="store_true",
        help="run the storm beside a loop that reads the clock: needs a core more",
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table there")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        task, rows, *arguments = options.task
        run = {**vars(storm), **globals()}[f"task_{task}"]
        print(json.dumps(run(int(rows), *arguments)))
        return
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"`benches/expiry.py`, {datetime.date.today()}: keys of 16 bytes and values of 32; {cores} cores of"
        f" {figures.processor()}, CPython {platform.python_version()}.",
        "",
        "| what | seen | to be reached |",
        "|---|---|---|",
    ]
    for name in options.tasks or TASKS:
        for row in TASKS[name](options):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN, 1)
        tail = rest.split(END, 1)[1]
        text = "\n".join([head + BEGIN, *lines, END])
        options.write.write_text(text + tail, encoding="utf-8")
        storm.draw(options.write.parent)


if __name__ == "__main__":
    main()
