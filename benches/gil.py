"""What releasing the GIL costs a look-up: alone, beside an idle thread, beside CPU-bound threads.

Prints nanoseconds a look-up and the share that released, for each ``release_gil``. Each figure comes from a process of
its own, because the verdict of "auto" is the process's.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import atbr

NEIGHBOURS = {"alone": 0, "beside 1 idle": 1, "beside 1 busy": 1, "beside 3 busy": 3}
SECONDS = 2.0
BURST = 1_000


def measure(neighbours: str, release: str) -> None:
    """Look one hot key up for some seconds and print the mean."""
    store = atbr.Store({"key": "v" * 32}, release_gil=release)  # type: ignore[call-overload]
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            pass

    target = busy if "busy" in neighbours else stop.wait
    threads = [threading.Thread(target=target) for _ in range(NEIGHBOURS[neighbours])]
    for thread in threads:
        thread.start()
    lookups = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        for _ in range(BURST):
            store["key"]
        lookups += BURST
    stop.set()
    for thread in threads:
        thread.join()
    stats = store.stats()
    share = stats.detached / (stats.attached + stats.detached)
    print(
        f"{neighbours:14} {release:7} {elapsed / lookups * 1e9:8.0f} ns, {share:7.2%} released",
        flush=True,
    )


def main() -> None:
    """Measure every combination, or the one that the arguments name."""
    if len(sys.argv) == 3:
        measure(*sys.argv[1:])
        return
    for neighbours in NEIGHBOURS:
        for release in ("auto", "always", "never"):
            subprocess.run([sys.executable, __file__, neighbours, release], check=True)


if __name__ == "__main__":
    main()
