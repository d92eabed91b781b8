"""The Redis protocol beside a real redis-server, by redis-benchmark.

    python benches/resp.py [--rounds 7] [--requests 2000000] [--pipelines 16,1] [--program PATH]

Both servers hold the same million keys. redis-benchmark asks one after the other, command by command and round by
round; the medians and their ratios are printed. PING stands beside as the most that the generator can ask for: the
generator takes part of the same machine, so compare ratios within a run. `--program` measures a server that is built
from examples/serve.rs in place of the installed package.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

KEYS = 1_000_000
VALUE_BYTES = 16
CLIENTS = 50
BATCH = 1_000
COMMANDS = {"ping_mbulk": "PING", "get": "GET", "set": "SET"}
SECONDS = 60

SERVE = """
import sys
from atbr import Store
with Store(values=bytes).serve(http=None, resp=int(sys.argv[1])):
    sys.stdin.read()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)


def fill(port: int) -> None:
    """Set the keys that redis-benchmark asks for."""

    def bulk(text: bytes) -> bytes:
        return b"$%d\r\n%s\r\n" % (len(text), text)

    value = bulk(b"x" * VALUE_BYTES)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for first in range(0, KEYS, BATCH):
            pairs = (bulk(b"key:%012d" % i) + value for i in range(first, first + BATCH))
            command = b"*%d\r\n" % (1 + 2 * BATCH) + bulk(b"MSET") + b"".join(pairs)
            connection.sendall(command)
            reply = connection.recv(100)
            assert reply == b"+OK\r\n", reply


def benchmark(port: int, command: str, pipeline: int, requests: int) -> float:
    """Return requests a second."""
    words = ["redis-benchmark", "-p", str(port), "--csv", "-t", command]
    words += ["-n", str(requests), "-c", str(CLIENTS), "-P", str(pipeline)]
    words += ["-r", str(KEYS), "-d", str(VALUE_BYTES)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == 1, done.stdout
    return float(rows[0]["rps"])


def measure(own: list[str], pipelines: list[int], requests: int, rounds: int) -> None:
    for program in ("redis-server", "redis-benchmark"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is needed: apt-get install redis")
    rates: dict[tuple[int, str, str], list[float]] = {}
    ports = {"atbr": free_port(), "redis": free_port()}
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        redis = ["redis-server", "--port", str(ports["redis"]), "--bind", "127.0.0.1"]
        redis += ["--save", "", "--appendonly", "no", "--dir", folder]
        try:
            running.append(start([*own, str(ports["atbr"])], ports["atbr"]))
            running.append(start(redis, ports["redis"]))
            for port in ports.values():
                fill(port)
            for _ in range(rounds):
                for pipeline in pipelines:
                    # A request takes longer where it travels alone.
                    number = requests if pipeline > 1 else max(requests // 10, 1)
                    for command in COMMANDS:
                        for name, port in ports.items():
                            rate = benchmark(port, command, pipeline, number)
                            rates.setdefault((pipeline, command, name), []).append(rate)
        finally:
            for process in running:
                process.terminate()
                process.wait(SECONDS)
    print(f"{'':9} {'':5} {'atbr/s':>10} {'redis/s':>10} {'ratio':>6}  ratios by round")
    for pipeline in pipelines:
        for command, shown in COMMANDS.items():
            ours, theirs = (rates[pipeline, command, name] for name in ports)
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            medians = statistics.median(ours), statistics.median(theirs)
            print(
                f"-P {pipeline:<6} {shown:5} {medians[0]:10,.0f} {medians[1]:10,.0f}"
                f" {medians[0] / medians[1]:6.2f}  {min(ratios):.2f}-{max(ratios):.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2_000_000)
    parser.add_argument("--pipelines", default="16,1")
    parser.add_argument("--program")
    options = parser.parse_args()
    own = [sys.executable, "-c", SERVE]
    if options.program:
        own = [options.program, "--resp"]
    pipelines = [int(pipeline) for pipeline in options.pipelines.split(",")]
    measure(own, pipelines, options.requests, options.rounds)


if __name__ == "__main__":
    main()
