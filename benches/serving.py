"""Servers for the benchmarks, each a process of its own: `atbr serve` as users start it, and redis-server."""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

SECONDS = 60
BATCH = 1_000


class Serving(NamedTuple):
    """A server that answers."""

    pid: int
    resp: int
    http: int = 0


class Row(NamedTuple):
    """A line of the table in docs/server.md."""

    what: str
    ours: str
    theirs: str
    ratio: str
    reach: str


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            sys.exit(f"{program} is needed: apt-get install redis wrk")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def allow_descriptors() -> None:
    """Let this process, and those that it starts, open as many descriptors as the system lets them."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def running(command: list[str], *ports: int) -> Iterator[int]:
    """Start a program, wait until it takes connections, yield its process id, and end it."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with process:
        try:
            for port in ports:
                wait_for(process, port)
            yield process.pid
        finally:
            process.terminate()
            process.wait(SECONDS)


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)


@contextmanager
def atbr(*options: str, program: str | None = None) -> Iterator[Serving]:
    """`atbr serve` on both ports; `program` is examples/serve.rs, built, in its place."""
    http, resp = free_port(), free_port()
    command = [sys.executable, "-m", "atbr", "serve", "--log-level", "error"]
    if program:
        command = [program]
    command += ["--http", str(http), "--resp", str(resp), *options]
    with running(command, http, resp) as pid:
        # The ports are taken before the server answers.
        urllib.request.urlopen(f"http://127.0.0.1:{http}/health").close()
        yield Serving(pid, resp, http)


@contextmanager
def redis(*options: str) -> Iterator[Serving]:
    """redis-server as a cache: no snapshots, no log, one thread for the network."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        command += ["--save", "", "--appendonly", "no", "--io-threads", "1", *options]
        with running(command, port) as pid:
            yield Serving(pid, port)


def resident(pid: int) -> int:
    """Return the bytes of a process that are in memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no line 'Rss:'")


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


def set_all(port: int, pairs: Iterator[tuple[bytes, bytes]]) -> None:
    """Set each pair by a SET of its own, many sent at once."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        answers = connection.makefile("rb")
        while True:
            head = b"*3\r\n" + bulk(b"SET")
            parts = [head + bulk(key) + bulk(value) for key, value in islice(pairs, BATCH)]
            if not parts:
                return
            connection.sendall(b"".join(parts))
            for _ in parts:
                answer = answers.readline()
                assert answer == b"+OK\r\n", answer


def compiled(name: str, folder: str) -> Path:
    """Compile a generator of load that needs the standard library alone."""
    source, program = Path(__file__).parent / f"{name}.rs", Path(folder) / name
    subprocess.run(["rustc", "--edition", "2024", "-O", source, "-o", program], check=True)
    return program
