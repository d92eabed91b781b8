"""Ten million entries that expire at once, and who reads and writes meanwhile; a task of expiry.py."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import atbr
import dataset
import figures
import memory
from measuring import MEBIBYTE, MILLION, Result, Row, command, measure

WINDOW = 0.1
"""Seconds of which the longest operation is noted."""
OWN_KEYS = 50_000
"""Keys that the storm's own thread sets, and that do not expire."""


def task_clock(_: int) -> Result:
    """Read the clock until told to stop; return the longest gap of each window, by its number."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    gaps: dict[int, float] = {}
    last = time.monotonic()
    while not stop.is_set():
        for _turn in range(1_000):
            now = time.monotonic()
            window = int(now / WINDOW)
            gaps[window] = max(gaps.get(window, 0), now - last)
            last = now
    return {"gaps": gaps}


def task_storm(rows: int, filled: str, seconds: str) -> Result:
    """Fill a store with rows that are due at once, and use it while they expire.

    The process has one Python thread, so that none waits for another's GIL.
    """
    path, ttl = dataset.fixed(rows), float(seconds)
    values = figures.value_of(0)
    own = [f"own key {row:08}" for row in range(OWN_KEYS)]
    keys = figures.some_keys(rows, 100_000, seed=1)
    store: atbr.Store[bytes] = atbr.Store(values=bytes)
    for key in own:
        store[key] = values
    gc.collect()
    before = memory.anonymous_bytes()
    start = time.monotonic()
    if filled == "load":
        store.load(path, ttl=ttl)
    else:
        for chunk in figures.chunks(rows):
            store.set_many(chunk, ttl=max(start + ttl - time.monotonic(), 0.001))
        assert time.monotonic() < start + ttl, "filling took longer than the entries live"
    gc.collect()
    gc.disable()
    full = memory.anonymous_bytes() - before
    allocated = store.stats().bytes_allocated
    due = start + ttl
    clock, get, put = time.monotonic, store.get, store.set
    while clock() < due - 2:
        time.sleep(0.01)
    windows: list[list[float]] = []
    memories: list[list[float]] = []
    next_memory, settled, at = 0.0, 0, 0
    while clock() < due + 30 and settled < 3:
        window_ends = (math.floor(clock() / WINDOW) + 1) * WINDOW
        longest_get = longest_set = 0.0
        operations, delayed = 0, run_delay()
        while (begin := clock()) < window_ends:
            get(keys[at])
            middle = clock()
            put(own[at % len(own)], values)
            end = clock()
            longest_get = max(longest_get, middle - begin)
            longest_set = max(longest_set, end - middle)
            operations += 2
            at = (at + 1) % len(keys)
        delayed = run_delay() - delayed
        windows.append(
            [window_ends - WINDOW, longest_get, longest_set, operations, len(store), delayed]
        )
        if clock() >= next_memory:
            left = memory.anonymous_bytes() - before
            memories.append([clock(), left])
            next_memory = clock() + 0.5
            gone = len(store) <= OWN_KEYS and left <= 0.1 * full
            settled = settled + 1 if gone else 0
    return {
        "due": due,
        "full": full,
        "allocated": allocated,
        "left": store.stats().bytes_allocated,
        "windows": windows,
        "memories": memories,
    }


def run_delay() -> float:
    """Return the seconds that this thread was ready to run, and another one ran."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def storm_of(rows: int, filled: str, with_clock: bool) -> Result:
    """Run the storm, if asked to beside a process that only reads the clock; times are relative to the deadline."""
    dataset.fixed(rows)
    ttl = str(max(15.0, rows / 150_000 if filled == "sets" else 0))
    gaps: dict[str, float] = {}
    if with_clock:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        clock = subprocess.Popen(command("clock", 0), text=True, **pipes)  # type: ignore[call-overload]
        seen = measure("storm", rows, filled, ttl)
        gaps = json.loads(clock.communicate("")[0])["gaps"]
    else:
        seen = measure("storm", rows, filled, ttl)
    due = seen["due"]
    windows = [
        [begin - due, *rest, gaps.get(str(round(begin / WINDOW)), math.nan)]
        for begin, *rest in seen["windows"]
    ]
    memories = [[at - due, left] for at, left in seen["memories"]]
    return {**seen, "windows": windows, "memories": memories}


def storm(options: argparse.Namespace) -> list[Row]:
    rows = options.rows or 10 * MILLION
    lines: list[Row] = []
    for filled in ("load", "sets"):
        seen = storm_of(rows, filled, options.clock)
        if filled == "load":
            results_path().write_text(json.dumps(seen))
        windows, full = seen["windows"], seen["full"]
        show_storm(f"{rows:,} entries after {filled}", windows, seen["memories"])
        calm = [window for window in windows if window[0] < -WINDOW]
        begun = [window for window in windows if window[0] >= -WINDOW]
        first = next(window[0] for window in begun if window[4] < rows + OWN_KEYS)
        gone = (window[0] for window in begun if window[4] <= OWN_KEYS)
        last = next(gone, math.inf)
        back = next((at for at, left in seen["memories"] if at > 0 and left <= full / 10), math.inf)
        during = [window for window in begun if window[0] <= max(last, back) + 1]
        most = [max(window[column] for window in during) * 1e3 for column in (1, 2, 5, 6)]
        before = max(max(window[1:3]) for window in calm) * 1e3
        rate = rows / (last - first + WINDOW)
        left = seen["memories"][-1][1]
        name = f"{rows:,} entries due at once, after {'a load' if filled == 'load' else 'sets'}: "
        text = (
            f"get {most[0]:.1f} ms, set {most[1]:.1f} ms; before the storm {before:.1f} ms;"
            f" the thread stood ready for {most[2]:.1f} ms of a tenth of a second"
            + (f"; a loop that reads the clock {most[3]:.1f} ms" if options.clock else "")
        )
        lines.append((name + "longest operation", text, "<= 5 ms"))
        lines.append((name + "expiries a second", f"{rate / 1e6:.1f} M", ">= 1 M"))
        text = f"{full / MEBIBYTE:.0f} MiB, {left / MEBIBYTE:.0f} MiB; after {back:.1f} s"
        lines.append((name + "memory before and after; back to within 10 %", text, "<= 15 s"))
    return lines


def show_storm(what: str, windows: list[list[float]], memories: list[list[float]]) -> None:
    print(
        f"storm of {what}: s; longest get, set, gap of the clock, time ready; operations, entries"
    )
    for at, get, put, operations, left, delayed, gap in windows:
        times = "".join(f"{t * 1e3:8.2f}" for t in (get, put, gap, delayed)) + " ms"
        print(f"  {at:6.1f} {times} {operations:8,} {left:12,}")
    for at, left in memories:
        print(f"  {at:6.1f} s {left / MEBIBYTE:8.0f} MiB")


def results_path() -> Path:
    return dataset.CACHE / "storm.json"


def draw(folder: Path) -> None:
    """Draw memory and the longest operations over the seconds of the storm."""
    seen = json.loads(results_path().read_text())
    plot: Any = importlib.import_module("matplotlib.pyplot")
    plot.rcParams.update({"svg.hashsalt": "atbr", "font.size": 9, "svg.fonttype": "none"})
    figure, (above, below) = plot.subplots(2, 1, figsize=(8, 4.6), sharex=True)
    last = min(seen["memories"][-1][0], 15)
    above.step([m[0] for m in seen["memories"]], [m[1] / MEBIBYTE for m in seen["memories"]],
               where="post", color="#c4501b")  # fmt: skip
    above.set_title("anonymous memory, MiB", loc="left")
    above.set_ylim(0)
    lines = ((5, "ready, not running", "#b5bac2"), (2, "set", "#3b6ea5"), (1, "get", "#c4501b"))
    for column, name, color in lines:
        below.step([w[0] for w in seen["windows"]], [w[column] * 1e3 for w in seen["windows"]],
                   where="post", color=color, label=name, linewidth=1)  # fmt: skip
    below.set_yscale("log")
    below.axhline(5, color="#888", linewidth=0.7, linestyle=":")
    below.set_title("longest in a tenth of a second, ms", loc="left")
    below.set_xlabel("seconds after the first deadline")
    below.set_xlim(-2, last)
    below.legend(frameon=False, ncols=3, loc="upper right", fontsize=8)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(folder / "expiry-storm.svg", metadata={"Date": None})
