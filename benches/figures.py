"""The figures of README.md, each beside a dict's in the same run.

``python benches/figures.py [--rows N] [--write README.md]`` prints a table; --write puts it between the marks
there. Every measurement has a process of its own; 10 M rows need 8 GB and some minutes.
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
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import atbr
import dataset
import memory

BEGIN = "<!-- figures: begin (benches/figures.py) -->"
END = "<!-- figures: end -->"
BATCH = 1_000
CHUNK = 10_000
DATA_BYTES = 16 + 32


def value_of(row: int) -> bytes:
    return b"value %026d" % row


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best(work: Callable[[], object], runs: int = 5) -> float:
    return min(seconds(work) for _ in range(runs))


def some_keys(rows: int, count: int, seed: int) -> list[str]:
    """Return keys that are there, as fresh objects whose hash nobody has computed."""
    pick = random.Random(seed)
    return [dataset.fixed_key(pick.randrange(rows)) for _ in range(count)]


def loaded(rows: int) -> atbr.Store[bytes]:
    store = atbr.Store(values=bytes)
    store.load(dataset.fixed(rows))
    return store


def chunks(rows: int) -> Iterator[list[tuple[str, bytes]]]:
    for start in range(0, rows, CHUNK):
        yield [
            (dataset.fixed_key(row), value_of(row))
            for row in range(start, min(start + CHUNK, rows))
        ]


def set_each(target: Any, rows: int) -> float:
    """Set every row in random order; return the seconds without the making of keys and values."""
    total = 0.0
    for chunk in chunks(rows):
        start = time.perf_counter()
        for key, value in chunk:
            target[key] = value
        total += time.perf_counter() - start
    return total


def longest_set(target: Any, rows: int) -> float:
    """Set every row in random order; return the seconds of the longest single set."""
    longest = 0.0
    clock = time.perf_counter
    for chunk in chunks(rows):
        for key, value in chunk:
            start = clock()
            target[key] = value
            took = clock() - start
            if took > longest:
                longest = took
    return longest


def overhead(grown: int, rows: int) -> float:
    return grown / rows - DATA_BYTES


def task_overhead_load(rows: int) -> dict[str, float]:
    path = dataset.fixed(rows)
    return {kind: overhead(memory.in_own_process(kind, path), rows) for kind in ("store", "dict")}


def task_overhead_sets(rows: int) -> dict[str, float]:
    before = memory.anonymous_bytes()
    store = atbr.Store(values=bytes)
    set_each(store, rows)
    return {"store": overhead(memory.anonymous_bytes() - before, rows)}


def task_load(rows: int) -> dict[str, float]:
    path = dataset.fixed(rows)
    path.read_bytes()
    times = []
    for _ in range(3):
        store = atbr.Store(values=bytes)
        times.append(store.load(path).seconds)
        store.close()
    gc.disable()
    return {"store": min(times), "dict": seconds(lambda: memory.fill_dict(path))}


def task_load_2012(_: int) -> dict[str, float]:
    path = dataset.medium()
    path.read_bytes()
    times = []
    for _run in range(5):
        store = atbr.Store()
        times.append(store.load(path).seconds)
        store.close()
    return {"store": min(times)}


def task_mget(rows: int) -> dict[str, float]:
    store, plain = loaded(rows), memory.fill_dict(dataset.fixed(rows))
    results: dict[str, list[float]] = {"mget": [], "get_many": [], "list": [], "dict": []}
    for run in range(3):
        for turn, name in enumerate(results):
            keys = some_keys(rows, 200 * BATCH, seed=10 * run + turn)
            batches = [keys[i : i + BATCH] for i in range(0, len(keys), BATCH)]
            calls: dict[str, Callable[[list[str]], object]] = {
                "mget": store.mget,
                "get_many": store.get_many,
                "list": lambda batch: [plain.get(key) for key in batch],
                "dict": lambda batch: {key: plain[key] for key in batch if key in plain},
            }
            results[name].append(seconds(lambda c=calls[name], b=batches: run_all(c, b)))  # type: ignore[misc]
    return {name: min(times) / (200 * BATCH) for name, times in results.items()}


def run_all(call: Callable[[list[str]], object], batches: Iterable[list[str]]) -> None:
    for batch in batches:
        call(batch)


def read_each(source: Any, keys: list[str]) -> None:
    for key in keys:
        source[key]


def task_get(rows: int) -> dict[str, float]:
    store, plain = loaded(rows), memory.fill_dict(dataset.fixed(rows))
    count = 300_000
    cold: dict[str, float] = {}
    for name, source in (("store", store), ("dict", plain)):
        runs = [some_keys(rows, count, seed) for seed in range(3)]
        cold[name] = min(seconds(lambda s=source, k=keys: read_each(s, k)) for keys in runs)  # type: ignore[misc]
    hot = some_keys(rows, 1_000, seed=1) * 300
    return {
        "store": cold["store"] / count,
        "dict": cold["dict"] / count,
        "hot store": best(lambda: read_each(store, hot)) / len(hot),
        "hot dict": best(lambda: read_each(plain, hot)) / len(hot),
    }


def task_set(rows: int) -> dict[str, float]:
    gc.disable()
    result: dict[str, float] = {}
    makers: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("store", lambda: atbr.Store(values=bytes)),
        ("dict", dict),
    )
    for name, make in makers:
        result[name] = set_each(make(), rows) / rows
        result[f"longest {name}"] = longest_set(make(), rows)
    return result


def task_shrink(rows: int) -> dict[str, float]:
    """Delete nine rows of ten and compact; the other process holds the tenth that is left."""
    before = memory.anonymous_bytes()
    store = loaded(rows)
    kept = rows // 10
    for start in range(kept, rows, CHUNK):
        store.delete_many([dataset.fixed_key(row) for row in range(start, start + CHUNK)])
    store.compact()
    gc.collect()
    shrunk = memory.anonymous_bytes() - before
    return {"shrunk": shrunk, "fresh": memory.in_own_process("store", dataset.fixed(kept))}


def task_empty(_: int) -> dict[str, float]:
    count = 2_000
    atbr.Store().close()
    before = memory.anonymous_bytes()
    start = time.perf_counter()
    stores = [atbr.Store() for _ in range(count)]
    took = time.perf_counter() - start
    return {
        "seconds": took / count,
        "bytes": (memory.anonymous_bytes() - before) / len(stores),
    }


def task_peak_child(rows: int) -> dict[str, float]:
    """Load a file of ``rows`` rows, over a tenth of the keys if the number is negative."""
    path = dataset.fixed(rows) if rows > 0 else dataset.repeated(-rows)
    store = atbr.Store(values=bytes)
    before = memory.anonymous_bytes()
    store.load(path)
    return {"before": before, "final": memory.anonymous_bytes() - before}


def peak_of(rows: int) -> float:
    """Return a load's highest anonymous memory over its final one."""
    (dataset.fixed if rows > 0 else lambda n: dataset.repeated(-n))(rows)
    child = subprocess.Popen(command("peak_child", rows), stdout=subprocess.PIPE, text=True)
    status = Path(f"/proc/{child.pid}/status")
    peak = 0
    while child.poll() is None:
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.001)
    assert child.stdout is not None
    measured = json.loads(child.stdout.read())
    return float((peak - measured["before"]) / measured["final"])


def command(task: str, rows: int) -> list[str]:
    return [sys.executable, __file__, "--task", task, "--rows", str(rows)]


def measure(task: str, rows: int) -> dict[str, float]:
    print(f"measuring {task} ...", file=sys.stderr)
    output = subprocess.run(command(task, rows), check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(output.stdout))


def table(rows: int) -> list[str]:
    """Measure everything; return the lines of a Markdown table."""
    lines = ["| what | atbr | dict | ratio |", "|---|---|---|---|"]

    def add(what: str, here: str, there: str = "", ratio: str = "") -> None:
        lines.append(f"| {what} | {here} | {there} | {ratio} |")

    over, sets = measure("overhead_load", rows), measure("overhead_sets", rows)
    add(
        "memory an entry beyond key and value, after a load",
        f"{over['store']:.1f} B",
        f"{over['dict']:.0f} B",
        f"{over['dict'] / over['store']:.1f} x less",
    )
    add("the same after single sets in random order", f"{sets['store']:.1f} B")

    load = measure("load", rows)
    add(
        "load of TSV rows of 50 B",
        f"{rows / load['store'] / 1e6:.1f} M rows/s",
        f"{rows / load['dict'] / 1e6:.2f} M rows/s",
        f"{load['dict'] / load['store']:.1f} x faster",
    )
    old = measure("load_2012", rows)["store"]
    add(
        "load of the 117 MB of 2012 (then: 0.100 GB/s)",
        f"{dataset.BYTES_2012 / old / 1e9:.2f} GB/s",
    )
    add("peak memory of a load over its final memory", f"{peak_of(rows):.2f}")
    add("the same, ten rows to each key", f"{peak_of(-rows):.2f}")

    shrink = measure("shrink", rows)
    add(
        "memory after nine of ten are deleted and compact(), over a store that never had them",
        f"{shrink['shrunk'] / shrink['fresh']:.2f}",
    )
    empty = measure("empty", 0)
    add("an empty store", f"{empty['seconds'] * 1e6:.1f} us, {empty['bytes'] / 1024:.0f} KiB")

    many = measure("mget", rows)
    for name, other in (("mget", "list"), ("get_many", "dict")):
        add(
            f"{name}({BATCH:,} keys), random, a key",
            f"{many[name] * 1e9:.0f} ns",
            f"{many[other] * 1e9:.0f} ns",
            f"{many[other] / many[name]:.1f} x faster",
        )
    get = measure("get", rows)
    for what, here, there in (
        ("store[key], random", "store", "dict"),
        ("store[key], the same 1,000 keys", "hot store", "hot dict"),
    ):
        add(
            what,
            f"{get[here] * 1e9:.0f} ns",
            f"{get[there] * 1e9:.0f} ns",
            f"{get[here] / get[there]:.2f} x its time",
        )
    put = measure("set", rows)
    add(
        "store[key] = value, growing",
        f"{put['store'] * 1e9:.0f} ns",
        f"{put['dict'] * 1e9:.0f} ns",
        f"{put['store'] / put['dict']:.2f} x its time",
    )
    add(
        "longest single set meanwhile",
        f"{put['longest store'] * 1e3:.1f} ms",
        f"{put['longest dict'] * 1e3:.0f} ms",
    )
    return lines


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main() -> None:
    """Measure and print, or run one task for the process that asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table between its marks"
    )
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(globals()[f"task_{options.task}"](options.rows)))
        return
    cores = len(os.sched_getaffinity(0))
    caption = (
        f"`benches/figures.py`, {datetime.date.today()}: {options.rows:,} entries, keys of 16 bytes and values of 32;"
        f" {cores} cores of {processor()}, CPython {platform.python_version()}."
    )
    text = "\n".join([caption, "", *table(options.rows)])
    print(text)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN, 1)
        tail = rest.split(END, 1)[1]
        options.write.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
