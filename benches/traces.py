"""The traces of ``benches/traces.rs``: written by it once, kept under build/."""

from __future__ import annotations

import array
import subprocess
import sys
from pathlib import Path

import dataset

SOURCE = Path(__file__).with_name("traces.rs")
FOLDER = dataset.CACHE / "traces"
# Of each trace: what it is, and the sizes of the caches that are run with it.
SIZES = {
    "zipf-0.7": (10_000, 100_000),
    "zipf-0.9": (1_000, 10_000, 100_000),
    "zipf-1.1": (10_000, 100_000),
    "scan-once": (10_000, 100_000),
    "scan-again": (10_000, 100_000),
    "scan-twice": (10_000, 100_000),
    "loop-1.2": (10_000,),
    "loop-2": (10_000,),
    "loop-10": (10_000,),
    "shift": (10_000, 100_000),
    "latest": (10_000, 100_000),
    "bursts": (10_000, 100_000),
}


def write() -> None:
    """Write the files unless they are there and newer than what writes them."""
    paths = [FOLDER / f"{name}.trace" for name in SIZES]
    written = SOURCE.stat().st_mtime
    if all(path.exists() and path.stat().st_mtime > written for path in paths):
        return
    command = ["cargo", "bench", "--quiet", "--bench", "policies", "--", "--traces", str(FOLDER)]
    subprocess.run(command, check=True, cwd=SOURCE.parent)


def load(name: str) -> array.array[int]:
    """Return the numbers of a trace's keys."""
    keys = array.array("I")
    keys.frombytes((FOLDER / f"{name}.trace").read_bytes())
    if sys.byteorder == "big":
        keys.byteswap()
    return keys
