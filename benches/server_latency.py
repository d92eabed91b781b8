"""How long gets take while files are loaded.

    python benches/server_latency.py [--seconds 10] [--rounds 3]

50 clients get rows of the file of 2012 (117 MB) through one door of `atbr serve` while that very file is loaded again
and again through /v1/load, one load after the other; beside it the same gets before the loads. Clients and loads share
the machine with the server.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import dataset
import serving
from serving import Row

CLIENTS = 50


class Seen(NamedTuple):
    """Gets of one time, in microseconds; loads and the seconds of their median."""

    gets: int
    median: float
    p99: float
    p999: float
    longest: float
    loads: int
    load_seconds: float


def one_round(generator: Path, door: str, seconds: float) -> tuple[Seen, Seen]:
    """Return what was seen before the loads, and while they ran."""
    file = dataset.medium()
    with serving.atbr("--data-dir", str(file.parent), str(file)) as server:
        port = server.resp if door == "resp" else server.http
        places = [f"127.0.0.1:{port}", f"127.0.0.1:{server.http}"]
        words = [door, *places, file.name, str(CLIENTS), str(seconds), str(dataset.ROWS_2012)]
        done = subprocess.run([generator, *words], capture_output=True, text=True, check=True)
    calm, loading = (Seen(*map(float, line.split())) for line in done.stdout.splitlines())  # type: ignore[arg-type]
    return calm, loading


def rows(rounds: int = 3, seconds: float = 10) -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        generator = serving.compiled("getters", folder)
        for door, name in (("resp", "GETs of the Redis protocol"), ("http", "HTTP GETs")):
            seen = [one_round(generator, door, seconds) for _ in range(rounds)]
            for calm, loading in seen:
                print(f"{door}: before {calm}\n      while {loading}", flush=True)
            calm, loading = min(seen, key=lambda pair: abs(pair[1].p99 - middle(seen)))
            found.append(
                Row(
                    f"p99 of {name} by {CLIENTS} clients while {loading.loads:.0f} loads of 117 MB run within"
                    f" {seconds:g} s; before them",
                    f"{loading.p99 / 1e3:.2f} ms (median {loading.median / 1e3:.2f} ms,"
                    f" 99.9 % {loading.p999 / 1e3:.1f} ms)",
                    f"{calm.p99 / 1e3:.2f} ms",
                    f"{loading.p99 / calm.p99:.1f} x",
                    "< 10 ms",
                )
            )
    return found


def middle(seen: list[tuple[Seen, Seen]]) -> float:
    return statistics.median_low(loading.p99 for _, loading in seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for row in rows(options.rounds, options.seconds):
        print(*row, sep=" | ")


if __name__ == "__main__":
    main()
