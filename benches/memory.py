"""Anonymous memory of one structure full of rows: run as a process of its own, prints one number.

``python benches/memory.py store|dict FILE`` prints the bytes by which the process grew.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

ROLLUP = Path("/proc/self/smaps_rollup")
MEASURABLE = ROLLUP.exists()


def anonymous_bytes() -> int:
    """Return this process's resident anonymous memory: mapped files do not count."""
    for line in ROLLUP.read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/smaps_rollup has no line 'Anonymous:'; Linux 4.14 or newer has")


def fill_dict(path: Path) -> dict[str, bytes]:
    """Read a TSV file the way one does without a library."""
    rows: dict[str, bytes] = {}
    with path.open("rb") as file:
        for line in file:
            key, _, value = line.rstrip(b"\n").partition(b"\t")
            rows[key.decode()] = value
    return rows


def growth(kind: str, path: Path) -> int:
    """Return by how much this process grows when the rows of ``path`` are in."""
    import atbr

    before = anonymous_bytes()
    rows: object
    if kind == "store":
        store = atbr.Store(values=bytes)
        store.load(path)
        rows = store
    else:
        rows = fill_dict(path)
    gc.collect()
    after = anonymous_bytes()
    del rows
    return after - before


def in_own_process(kind: str, path: Path) -> int:
    """Return ``growth`` as a fresh process measures it."""
    command = [sys.executable, __file__, kind, str(path)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    print(growth(sys.argv[1], Path(sys.argv[2])))
