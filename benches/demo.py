"""What ``make demo`` shows: the benchmark of 2012, look-ups, memory, a table to play with."""

from __future__ import annotations

import io
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import atbr
import dataset
import memory

# What the original printed on 25 April 2012: a Thinkpad X200 with an SSD, Ubuntu, Python 2.
SECONDS_2012 = 1.178468
FIGURES_2012 = ("1.178468", "212969", "180716.807959", "94.803214")

LOADS = 3
LOOKUPS = 200_000
BATCH = 1_000
SAMPLE = 1_000_000
SAMPLE_DATA = 16 + 32


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def best_of(runs: int, work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def load_2012() -> atbr.Store[str]:
    heading("1. The benchmark of 2012: 212,969 rows of JSON, 117,362,571 bytes")
    start = time.perf_counter()
    path = dataset.medium()
    if time.perf_counter() - start > 0.05:
        print(f"(wrote {os.path.relpath(path)}; the next run finds it there)")
    reports = []
    for _ in range(LOADS):
        store = atbr.Store()
        reports.append(store.load(path))
    report = min(reports, key=lambda one: one.seconds)
    print(f"{f'here, the fastest of {LOADS}':54}2012")
    for line, figure in zip(str(report).splitlines(), FIGURES_2012, strict=True):
        print(f"  {line.strip():52}{figure}")
    print(
        f"That is {SECONDS_2012 / report.seconds:.0f} times as fast; the first of {LOADS} loads took",
        end=" ",
    )
    print(
        f"{reports[0].seconds:.3f} s. A MB is 2^20 bytes and\nnewlines do not count, then as now."
    )
    return store


def look_up(store: atbr.Store[str]) -> None:
    heading("2. It is a dict")
    keys = list(store)
    pick = random.Random(1)
    key = pick.choice(keys)
    print(f"  len(store)         {len(store):,}")
    print(f"  key = {key}")
    print(f"  store[key]         {shortened(store[key], 58)}")
    print(f"  key in store       {key in store}")
    print(f"  store.get('none')  {store.get('none')}")

    wanted = [pick.choice(keys) for _ in range(LOOKUPS)]
    batches = [wanted[i : i + BATCH] for i in range(0, LOOKUPS, BATCH)]
    plain = dict(store.items())
    rates = {
        "store[key], one by one": best_of(3, lambda: [store[key] for key in wanted]),
        f"store.mget(keys), {BATCH:,} at a time": best_of(
            3, lambda: [store.mget(batch) for batch in batches]
        ),
        "the same from a dict, one by one": best_of(3, lambda: [plain[key] for key in wanted]),
    }
    for what, seconds in rates.items():
        print(f"  {what:36}{LOOKUPS / seconds:12,.0f} look-ups a second")


def compare_memory() -> None:
    heading(f"3. Memory: {SAMPLE:,} entries, keys of 16 bytes, values of 32")
    path = dataset.fixed(SAMPLE)
    figures = {kind: memory.in_own_process(kind, path) / SAMPLE for kind in ("store", "dict")}
    for name, kind in (("atbr.Store", "store"), ("dict", "dict")):
        grown = figures[kind]
        print(
            f"  {name:12}{grown:7.1f} bytes an entry,"
            f" of which {grown - SAMPLE_DATA:6.1f} beyond key and value"
        )
    print("Each was measured in a process of its own, by anonymous resident memory.")


def explore_unicode() -> None:
    heading("4. A table to play with: every named character of Unicode")
    store = atbr.Store()
    report = store.load(dataset.characters())
    print(f"  {report.rows:,} rows in {report.seconds * 1000:.1f} ms")
    for name in ("GREEK SMALL LETTER ALPHA", "SNOWMAN", "EURO SIGN", "CJK UNIFIED IDEOGRAPH-6F22"):
        quoted = f'store["{name}"]'
        print(f"  {quoted:38}{store[name]!r}")
    assert store["GREEK SMALL LETTER ALPHA"] == "α"
    arrows = len(list(store.scan(match="*ARROW*")))
    quoted = 'store.scan(match="*ARROW*")'
    print(f"  {quoted:38}{arrows} names")


def where_next() -> None:
    heading("Where to go next")
    print("  .venv/bin/python             then: import atbr; store = atbr.Store()")
    print('  store.load("your.tsv")       any file of key<TAB>value lines')
    print("  README.md                    ten lines of usage, then the whole tour")
    print("  docs/reference.md            what every call promises")
    print("  make test, make bench        the tests, the figures\n")


def main() -> None:
    """Run the demo from top to bottom."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    implementation = platform.python_implementation()
    print(f"atbr {version('atbr')}, {implementation} {platform.python_version()}, {cores} cores")
    store = load_2012()
    look_up(store)
    store.close()
    if memory.MEASURABLE:
        compare_memory()
    explore_unicode()
    where_next()


if __name__ == "__main__":
    main()
