"""What the server holds in memory: empty, full, with idle connections, with readers that take their time.

    python benches/server_memory.py [empty,growth,idle,slow] [--connections 10000] [--readers 1000] [--rounds 3]

Resident memory of `atbr serve` as /proc says it, Python's included; beside it redis-server where it has the same.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import serving
from serving import Row, Serving, resident

MIB = 1 << 20
KEYS = 1_000_000
CONNECTIONS = 10_000
READERS = 1_000
GETS = 1_000
SLOW_SECONDS = 20
MAX_BUFFERS = 256 * MIB
# A reader takes so much, now and then.
SIP = 64 << 10
ASK = {"resp": b"PING\r\n", "http": b"GET /get/key/a HTTP/1.1\r\nHost: localhost\r\n\r\n"}
GET = {
    "resp": b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n",
    "http": b"GET /v1/keys/big HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# The door, what its connections have done, and how.
IDLE = [
    ("resp", "not used yet", b""),
    ("resp", "each used once", ASK["resp"]),
    ("http", "not used yet", b""),
    ("http", "each used once", ASK["http"]),
    ("http", "now WebSockets", HANDSHAKE),
]
DOORS = {"resp": "the Redis protocol", "http": "HTTP"}


def settled(pid: int) -> int:
    """Return resident bytes once they no longer change: after what is done a while later is done."""
    last, since = resident(pid), time.monotonic()
    while time.monotonic() - since < 3:
        time.sleep(0.5)
        now = resident(pid)
        if abs(now - last) > MIB // 8:
            last, since = now, time.monotonic()
    return resident(pid)


def port_of(server: Serving, door: str) -> int:
    return server.resp if door == "resp" else server.http


def mib(count: float) -> str:
    return f"{count / MIB:.1f} MiB"


# -- empty, and full -------------------------------------------------------------------------------


def empty(rounds: int) -> list[Row]:
    sizes = []
    for _ in range(rounds):
        with serving.atbr() as server:
            sizes.append(settled(server.pid))
    return [Row("empty server, resident", mib(statistics.median(sizes)), "", "", "<= 25 MiB")]


def pairs() -> Iterator[tuple[bytes, bytes]]:
    return ((b"key:%012d" % i, b"value:%026d" % i) for i in range(KEYS))


def growth(rounds: int) -> list[Row]:
    grown: list[list[int]] = [[], []]
    for _ in range(rounds):
        for sizes, start in zip(grown, (serving.atbr, serving.redis), strict=True):
            with start() as server:
                before = settled(server.pid)
                serving.set_all(server.resp, pairs())
                sizes.append(settled(server.pid) - before)
    ours, theirs = (statistics.median(sizes) for sizes in grown)
    what = f"growth by {KEYS:,} keys of 16 + 32 B, each by a SET; redis-server"
    per_key = f" ({ours / KEYS:.0f} B a key)", f" ({theirs / KEYS:.0f} B a key)"
    ratio = f"{ours / theirs:.2f} x"
    return [Row(what, mib(ours) + per_key[0], mib(theirs) + per_key[1], ratio, "<= 0.5 x")]


# -- idle connections ------------------------------------------------------------------------------


def open_idle(port: int, count: int, ask: bytes, stack: ExitStack) -> None:
    """Open connections, and use each once unless there is nothing to ask."""
    held = [
        stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)
    ]
    if ask:
        for connection in held:
            connection.sendall(ask)
        for connection in held:
            assert connection.recv(1 << 16)


def one_idle(server: Serving, port: int, count: int, ask: bytes) -> float:
    with ExitStack() as stack:
        # What the first connections make once is not theirs.
        open_idle(port, 10, ask, stack)
        before = settled(server.pid)
        open_idle(port, count, ask, stack)
        return (settled(server.pid) - before) / count


def idle(rounds: int, count: int = CONNECTIONS) -> list[Row]:
    serving.allow_descriptors()
    rows = []
    for door, what, ask in IDLE:
        ours, theirs = [], []
        for _ in range(rounds):
            with serving.atbr() as server:
                ours.append(one_idle(server, port_of(server, door), count, ask))
            if door == "resp":
                with serving.redis("--maxclients", str(2 * count)) as server:
                    theirs.append(one_idle(server, server.resp, count, ask))
        own = statistics.median(ours)
        other = statistics.median(theirs) if theirs else 0
        rows.append(
            Row(
                f"{count:,} idle connections of {DOORS[door]}, {what}"
                + ("; redis-server" if theirs else ""),
                f"{own / 1024:.1f} KiB each",
                f"{other / 1024:.1f} KiB each" if theirs else "",
                f"{own / other:.2f} x" if theirs else "",
                "<= 10 KiB each",
            )
        )
    return rows


# -- slow readers ----------------------------------------------------------------------------------


class Readers:
    """Connections that have asked for much and take a little at a time."""

    def __init__(self, port: int, door: str, count: int, stack: ExitStack) -> None:
        self.selector = stack.enter_context(selectors.DefaultSelector())
        self.unsent: dict[socket.socket, memoryview] = {}
        self.taken = self.ended = 0
        requests = memoryview(GET[door] * GETS)
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP)
            connection.connect(("127.0.0.1", port))
            connection.setblocking(False)
            self.unsent[connection] = requests
            self.selector.register(
                connection, selectors.EVENT_READ | selectors.EVENT_WRITE, connection
            )

    def step(self) -> None:
        """Let each one ask for what it has not asked for yet, and take a sip."""
        for key, events in self.selector.select(0.1):
            connection = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    self.ask(connection)
                if events & selectors.EVENT_READ:
                    got = len(connection.recv(SIP))
                    self.taken += got
                    if got == 0:
                        raise ConnectionResetError
            except BlockingIOError:
                pass
            except OSError:
                self.ended += 1
                self.selector.unregister(connection)

    def ask(self, connection: socket.socket) -> None:
        rest = self.unsent[connection]
        self.unsent[connection] = rest[connection.send(rest) :]
        if not self.unsent[connection]:
            self.selector.modify(connection, selectors.EVENT_READ, connection)


def one_slow(server: Serving, door: str, count: int, seconds: float) -> tuple[int, Readers]:
    """Return by how much memory grew at most."""
    serving.set_all(server.resp, iter([(b"big", bytes(MIB))]))
    before = settled(server.pid)
    most = before
    with ExitStack() as stack:
        readers = Readers(port_of(server, door), door, count, stack)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            readers.step()
            most = max(most, resident(server.pid))
            time.sleep(0.1)
    return most - before, readers


def slow(rounds: int, count: int = READERS, seconds: float = SLOW_SECONDS) -> list[Row]:
    serving.allow_descriptors()
    rows = []
    for door, name in DOORS.items():
        grown, taken, ended = [], [], []
        for _ in range(rounds):
            with serving.atbr("--max-buffers", str(MAX_BUFFERS)) as server:
                most, readers = one_slow(server, door, count, seconds)
            grown.append(most)
            taken.append(readers.taken)
            ended.append(readers.ended)
        rows.append(
            Row(
                f"{count:,} slow readers of {GETS:,} GETs of 1 MiB each by {name}, {seconds:g} s: most growth;"
                f" {statistics.median(taken) / MIB:,.0f} MiB taken, {statistics.median(ended):.0f} connections ended",
                mib(statistics.median(grown)),
                "",
                "",
                f"<= {mib(1.1 * MAX_BUFFERS)} (--max-buffers + 10 %)",
            )
        )
    return rows


PARTS: dict[str, Callable[[int], list[Row]]] = {
    "empty": empty,
    "growth": growth,
    "idle": idle,
    "slow": slow,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="?", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--readers", type=int, default=READERS)
    options = parser.parse_args()
    for part in options.parts.split(","):
        if part == "idle":
            rows = idle(options.rounds, options.connections)
        elif part == "slow":
            rows = slow(options.rounds, options.readers)
        else:
            rows = PARTS[part](options.rounds)
        for row in rows:
            print(*row, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
