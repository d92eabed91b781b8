"""Hit ratios of a bounded store and of other caches, on the same traces.

``python benches/hit_ratio.py`` prints two tables: at equal entries, and at equal bytes. ``--write docs`` draws
the first there. An access is a get and, where it misses, a set; keys have 16 bytes, values 32. Every
measurement has a process of its own. Needs the other caches (``pip install --group caches``) and 20 minutes.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atbr
import dataset
import figures
import memory
import traces

OURS = "atbr"
# The package, the class, and what else it is called with.
PEERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "moka-py TinyLFU": ("moka_py", "Moka", {}),
    "moka-py LRU": ("moka_py", "Moka", {"policy": "lru"}),
    "cachetools LFU": ("cachetools", "LFUCache", {}),
    "cachetools LRU": ("cachetools", "LRUCache", {}),
    "cachebox LFU": ("cachebox", "LFUCache", {}),
    "cachebox LRU": ("cachebox", "LRUCache", {}),
}
# The LRU and LFU caches agree with each other to a hundredth; the figure shows one of each.
DRAWN = {
    OURS: "atbr",
    "moka-py TinyLFU": "TinyLFU (moka-py)",
    "cachebox LFU": "LFU (cachebox)",
    "cachebox LRU": "LRU (cachebox)",
}
DRAWN_SIZE = 10_000
TITLES = {
    "zipf-0.7": "Zipf 0.7",
    "zipf-0.9": "Zipf 0.9",
    "zipf-1.1": "Zipf 1.1",
    "scan-once": "Zipf 0.9, scans of new keys",
    "scan-again": "Zipf 0.9, scans of the same keys",
    "scan-twice": "Zipf 0.9, scans reading twice",
    "loop-1.2": "loop over 1.2 x the cache",
    "loop-2": "loop over 2 x the cache",
    "loop-10": "loop over 10 x the cache",
    "shift": "Zipf 0.9, popularity shifts",
    "latest": "the newest are popular",
    "bursts": "Zipf 0.9 and short bursts",
}
RESULTS = dataset.CACHE / "hit-ratio.json"
# Many, so that what a process grows by is the cache's.
ENTRIES_MEASURED = 500_000
SMALLEST_BOUND = 2**20

Cache = tuple[Callable[[str], object], Callable[[str, bytes], object]]


def bounded(**bound: int) -> Any:
    return atbr.Store(values=bytes, **bound)  # type: ignore[arg-type,call-overload,unused-ignore]


def has_bounds() -> bool:
    try:
        bounded(maxsize=1)
    except TypeError:
        return False
    return True


def opened(kind: str, bound: str, size: int) -> Cache:
    """Return the new cache's get and set."""
    if kind == OURS:
        store = bounded(**{bound: size})
        return store.get, store.__setitem__
    package, name, options = PEERS[kind]
    cache = getattr(importlib.import_module(package), name)(size, **options)
    return cache.get, getattr(cache, "set", None) or cache.__setitem__


def task_hits(kind: str, bound: str, size: int, trace: str) -> float:
    """Return the hits in percent of all accesses."""
    get, put = opened(kind, bound, size)
    numbers = traces.load(trace)
    keys = [dataset.fixed_key(number) for number in range(max(numbers) + 1)]
    value = figures.value_of(0)
    misses = 0
    for number in numbers:
        key = keys[number]
        if get(key) is None:
            misses += 1
            put(key, value)
    return 100 - 100 * misses / len(numbers)


def task_bytes(kind: str, bound: str, size: int, _: str) -> float:
    """Return the bytes an entry that a cache takes when it is full and has dropped as many again."""
    before = memory.anonymous_bytes()
    cache = opened(kind, bound, size)
    for number in range(2 * size):
        cache[1](dataset.fixed_key(number), figures.value_of(number))
    gc.collect()
    return (memory.anonymous_bytes() - before) / size


def measure(task: str, kind: str, bound: str, size: int, trace: str = "") -> float:
    print(f"{task}: {kind} {trace} {bound}={size:,}", file=sys.stderr)
    command = [sys.executable, __file__, "--task", task, kind, bound, str(size), trace]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def cases() -> list[tuple[str, int]]:
    return [(trace, size) for trace, sizes in traces.SIZES.items() for size in sizes]


def at_equal_entries(kinds: list[str]) -> dict[str, dict[str, float]]:
    """Return the hits by trace and size, and by cache."""
    return {
        f"{trace} {size}": {kind: measure("hits", kind, "maxsize", size, trace) for kind in kinds}
        for trace, size in cases()
    }


def entries_table(results: dict[str, dict[str, float]], kinds: list[str]) -> list[str]:
    lines = [
        "| trace | entries | " + " | ".join(kinds) + " | atbr - best other |",
        "|---" * (len(kinds) + 3) + "|",
    ]
    for (trace, size), hits in zip(cases(), results.values(), strict=True):
        cells = [f"{hits[kind]:.2f}" for kind in kinds]
        best = max(hits[kind] for kind in kinds if kind != OURS)
        difference = f"{hits[OURS] - best:+.2f}" if OURS in kinds else ""
        lines.append(f"| {trace} | {size:,} | {' | '.join(cells)} | {difference} |")
    return lines


def bytes_table(results: dict[str, dict[str, float]]) -> list[str]:
    """Measure bytes an entry, and a store bounded by the bytes that each of the others takes."""
    kinds = kinds_in(results)
    rates = {kind: measure("bytes", kind, "maxsize", ENTRIES_MEASURED) for kind in kinds}
    lines = [
        "| trace | entries | " + " | ".join(f"{k}, {rates[k]:.0f} B" for k in PEERS) + " |",
        "|---" * (len(PEERS) + 2) + "|",
    ]
    if OURS not in rates:
        return lines
    for (trace, size), hits in zip(cases(), results.values(), strict=True):
        if min(rates[kind] for kind in PEERS) * size < SMALLEST_BOUND:
            continue
        cells = []
        for kind in PEERS:
            ours = measure("hits", OURS, "max_bytes", round(rates[kind] * size), trace)
            cells.append(f"{hits[kind]:.2f}: {ours:.2f} ({ours - hits[kind]:+.2f})")
        lines.append(f"| {trace} | {size:,} | {' | '.join(cells)} |")
    return [f"atbr: {rates[OURS]:.0f} B an entry, if it is bounded by entries.", "", *lines]


def kinds_in(results: dict[str, dict[str, float]]) -> list[str]:
    return list(next(iter(results.values())))


def draw(results: dict[str, dict[str, float]], folder: Path) -> None:
    """Draw the hits of one size: a panel a trace, a bar a cache, the figure beside each bar."""
    plot: Any = importlib.import_module("matplotlib.pyplot")
    plot.rcParams.update({"svg.hashsalt": "atbr", "font.size": 9, "svg.fonttype": "none"})
    kinds = [kind for kind in reversed(DRAWN) if kind in kinds_in(results)]
    figure, grid = plot.subplots(4, 3, figsize=(9, 7), sharex=True, sharey=True)
    for axes, (trace, title) in zip(grid.flat, TITLES.items(), strict=True):
        hits = results[f"{trace} {DRAWN_SIZE}"]
        colors = ["#c4501b" if kind == OURS else "#b5bac2" for kind in kinds]
        axes.barh([DRAWN[kind] for kind in kinds], [hits[kind] for kind in kinds], color=colors)
        for row, kind in enumerate(kinds):
            weight = "bold" if kind == OURS else "normal"
            axes.text(hits[kind] + 1.5, row, f"{hits[kind]:.1f}", va="center", weight=weight)
        axes.set_title(title, loc="left", fontsize=9.5)
        axes.set_xlim(0, 100)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.suptitle(
        f"Hits in percent of all accesses, {DRAWN_SIZE:,} entries (benches/hit_ratio.py)",
        x=0.01, ha="left",
    )  # fmt: skip
    figure.tight_layout()
    figure.savefig(folder / "hit-ratio.svg", metadata={"Date": None})


def main() -> None:
    """Measure, print and draw, or run one task for the process that asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="draw hit-ratio.svg there")
    parser.add_argument(
        "--again", action="store_true", help="take the hits at equal entries from the last run"
    )
    parser.add_argument("--task", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        task, kind, bound, size, trace = options.task
        print(globals()[f"task_{task}"](kind, bound, int(size), trace))
        return
    traces.write()
    kinds = [OURS, *PEERS] if has_bounds() else list(PEERS)
    if options.again:
        results = json.loads(RESULTS.read_text())
    else:
        results = at_equal_entries(kinds)
        RESULTS.write_text(json.dumps(results))
    print("\n".join(entries_table(results, kinds_in(results))), end="\n\n", flush=True)
    if options.write:
        draw(results, options.write)
    print("\n".join(bytes_table(results)))


if __name__ == "__main__":
    main()
