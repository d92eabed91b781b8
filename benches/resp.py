"""The Redis protocol beside a real redis-server, by redis-benchmark.

    python benches/resp.py [--rounds 7] [--requests 2000000] [--pipelines 16,1] [--add FILE] [--program PATH]

Both servers hold the same million keys. redis-benchmark asks one after the other, command by command and round by
round; the medians and their ratios are printed. PING stands beside as the most that the generator can ask for: the
generator takes part of the same machine, so compare ratios within a run. `--add` takes rates of earlier rounds from a
file and leaves all there, so that the rounds can be spread; `--program` measures a server that is built from
examples/serve.rs in place of the installed package.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
from pathlib import Path

import serving
from serving import Row

KEYS = 1_000_000
VALUE_BYTES = 16
CLIENTS = 50
REQUESTS = 2_000_000
# PING is there to compare with; a tenth of the requests is enough for it.
COMMANDS = {"ping_mbulk": "PING", "get": "GET", "set": "SET"}
REACHES = {(16, "get"): 1.25, (16, "set"): 1.3, (1, "get"): 1.0, (1, "set"): 1.0}

Rates = dict[str, list[float]]


def fill(port: int) -> None:
    """Set the keys that redis-benchmark asks for."""
    value = b"x" * VALUE_BYTES
    serving.set_all(port, ((b"key:%012d" % i, value) for i in range(KEYS)))


def benchmark(port: int, command: str, pipeline: int, requests: int) -> float:
    """Return requests a second."""
    words = ["redis-benchmark", "-p", str(port), "--csv", "-t", command]
    words += ["-n", str(requests), "-c", str(CLIENTS), "-P", str(pipeline)]
    words += ["-r", str(KEYS), "-d", str(VALUE_BYTES)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == 1, done.stdout
    return float(rows[0]["rps"])


def name_of(pipeline: int, command: str, server: str) -> str:
    return f"{pipeline} {command} {server}"


def measure(
    rates: Rates, pipelines: list[int], requests: int, rounds: int, program: str | None = None
) -> None:
    """Add so many rounds to the rates."""
    serving.need("redis-server", "redis-benchmark")
    with serving.atbr(program=program) as own, serving.redis() as other:
        servers = {"atbr": own.resp, "redis": other.resp}
        for port in servers.values():
            fill(port)
        for turn in range(rounds):
            for pipeline in pipelines:
                for command in COMMANDS:
                    number = requests // 10 if COMMANDS[command] == "PING" else requests
                    # Who is asked first, is first every other round.
                    for server in sorted(servers, reverse=turn % 2 == 1):
                        rate = benchmark(servers[server], command, pipeline, number)
                        rates.setdefault(name_of(pipeline, command, server), []).append(rate)
                        print(f"-P {pipeline} {command} {server}: {rate:,.0f}/s", flush=True)


def rows_of(rates: Rates) -> list[Row]:
    rows = []
    for pipeline in (16, 1):
        ceiling = rates.get(name_of(pipeline, "ping_mbulk", "atbr"))
        for command, shown in COMMANDS.items():
            ours = rates.get(name_of(pipeline, command, "atbr"))
            theirs = rates.get(name_of(pipeline, command, "redis"))
            if not ours or not theirs or not ceiling:
                continue
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            own, other = statistics.median(ours), statistics.median(theirs)
            reach = REACHES.get((pipeline, command))
            what = f"redis-benchmark -P {pipeline} {shown}; redis-server"
            if reach is None:
                what += " (the generator's ceiling)"
            rows.append(
                Row(
                    what,
                    f"{own / 1e3:,.0f} k/s",
                    f"{other / 1e3:,.0f} k/s",
                    f"{own / other:.2f} x ({min(ratios):.2f}-{max(ratios):.2f})",
                    f">= {reach} x" if reach else "",
                )
            )
    return rows


def rows(rounds: int = 7, requests: int = REQUESTS) -> list[Row]:
    rates: Rates = {}
    measure(rates, [16, 1], requests, rounds)
    return rows_of(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--pipelines", default="16,1")
    parser.add_argument("--add", type=Path, metavar="FILE")
    parser.add_argument("--program")
    options = parser.parse_args()
    rates: Rates = {}
    if options.add and options.add.exists():
        rates = json.loads(options.add.read_text())
    pipelines = [int(pipeline) for pipeline in options.pipelines.split(",")]
    measure(rates, pipelines, options.requests, options.rounds, options.program)
    if options.add:
        options.add.write_text(json.dumps(rates))
    for row in rows_of(rates):
        print(*row, sep=" | ")


if __name__ == "__main__":
    main()
