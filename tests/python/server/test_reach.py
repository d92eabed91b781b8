"""What the server may hold in memory, of `atbr serve` as a process of its own: empty, idle connections, slow readers.

`benches/server_memory.py` measures the same more closely.
"""

from __future__ import annotations

import resource
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from command_line import Serve, fetch

MIB = 1 << 20
CONNECTIONS = 10_000
READERS = 1_000
GETS = 1_000
MAX_BUFFERS = 64 * MIB
ROLLUP = Path("/proc/self/smaps_rollup")

pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(not ROLLUP.exists(), reason="/proc/self/smaps_rollup is Linux's"),
]
DOORS = pytest.mark.parametrize("door", ["redis", "http"])
ASK = {"redis": b"PING\r\n", "http": b"GET /get/key/a HTTP/1.1\r\nHost: localhost\r\n\r\n"}
GET = {
    "redis": b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n",
    "http": b"GET /v1/keys/big HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.fixture
def most_descriptors() -> Iterator[int]:
    """As many descriptors as the system allows, for this process and those that it starts."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))


def resident(serve: Serve) -> int:
    rollup = Path(f"/proc/{serve.child.pid}/smaps_rollup").read_text()
    (line,) = (line for line in rollup.splitlines() if line.startswith("Rss:"))
    return int(line.split()[1]) * 1024


def open_connections(port: int, count: int, ask: bytes, stack: ExitStack) -> list[socket.socket]:
    held = []
    for _ in range(count):
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
        if ask:
            connection.sendall(ask)
            assert connection.recv(1 << 16)
        held.append(connection)
    return held


def test_an_empty_server_holds_little() -> None:
    with Serve() as serve:
        assert fetch(f"{serve.url}/health")
        assert resident(serve) < 30 * MIB


@DOORS
@pytest.mark.parametrize("used", [False, True])
def test_idle_connections_hold_little(door: str, used: bool, most_descriptors: int) -> None:
    count = min(CONNECTIONS, most_descriptors - 500)
    ask = ASK[door] if used else b""
    with Serve() as serve, ExitStack() as stack:
        port = serve.port(door)
        open_connections(port, 10, ask, stack)
        before = resident(serve)
        held = open_connections(port, count, ask, stack)
        # The last of them has been accepted.
        held[-1].sendall(ASK[door])
        assert held[-1].recv(1 << 16)
        assert (resident(serve) - before) / count < 12 * 1024


@DOORS
def test_slow_readers_of_large_values_hold_no_more_than_the_bound(
    door: str, most_descriptors: int
) -> None:
    assert most_descriptors > READERS + 500
    with Serve("--max-buffers", str(MAX_BUFFERS)) as serve, ExitStack() as stack:
        fetch(f"{serve.url}/v1/keys/big", "PUT", bytes(MIB))
        before = most = resident(serve)
        selector = stack.enter_context(selectors.DefaultSelector())
        unsent: dict[socket.socket, memoryview] = {}
        for _ in range(READERS):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            connection.connect(("127.0.0.1", serve.port(door)))
            connection.setblocking(False)
            unsent[connection] = memoryview(GET[door] * GETS)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        taken = ended = 0
        for _ in range(100):
            for key, events in selector.select(0.1):
                connection = key.fileobj
                try:
                    if events & selectors.EVENT_WRITE:
                        unsent[connection] = unsent[connection][
                            connection.send(unsent[connection]) :
                        ]
                        if not unsent[connection]:
                            selector.modify(connection, selectors.EVENT_READ)
                    if events & selectors.EVENT_READ:
                        part = len(connection.recv(1 << 16))
                        taken += part
                        if not part:
                            raise ConnectionResetError
                except BlockingIOError:
                    pass
                except OSError:
                    ended += 1
                    selector.unregister(connection)
            most = max(most, resident(serve))
            time.sleep(0.05)
        # They were answered, and none of them had to go.
        assert taken > READERS * MIB // 16
        assert ended == 0
        assert most - before < 1.1 * MAX_BUFFERS
        assert fetch(f"{serve.url}/health")
