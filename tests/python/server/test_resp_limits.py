"""What one connection of the Redis protocol does to the others: cut, panicking, slow, greedy."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from resp_door import wait_until
from resp_wire import Wire, encode

from atbr import Store
from atbr.server import Server

Client = redis.Redis

STREAMS = {
    "inline": [b"SET a 1\r\n", b"MSET a 2 b 2\r\n", b'APPEND b "\\x33"\n'],
    "bulks": [encode("SET", "a", 1), encode("MSET", "a", 2, "b", 2), encode("APPEND", "b", 3)],
    "multi": [
        encode("MULTI"),
        b"SET a 1\r\n",
        encode("MSET", "a", 2, "b", 2),
        encode("APPEND", "b", 3),
        encode("EXEC"),
    ],
}
"""Commands, whole."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Store(values=bytes), http=None, _debug=True) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(port=server.resp_port) as client:
        yield client


def left_by(kind: str, commands: int) -> list[bytes | None]:
    """Return what the keys are after so many commands."""
    after: list[list[bytes | None]] = [[None, None], [b"1", None], [b"2", b"2"], [b"2", b"23"]]
    if kind != "multi":
        return after[commands]
    return after[3] if commands == len(STREAMS[kind]) else after[0]


@pytest.mark.parametrize("kind", STREAMS)
def test_a_connection_that_is_cut_in_a_frame_has_done_what_came_before_it(
    kind: str, server: Server, client: Client
) -> None:
    assert server.resp_port
    stream = b"".join(STREAMS[kind])
    ends = [len(b"".join(STREAMS[kind][: i + 1])) for i in range(len(STREAMS[kind]))]
    with Wire(server.resp_port) as witness:
        for cut in range(len(stream) + 1):
            client.flushdb()
            whole = sum(end <= cut for end in ends)
            with Wire(server.resp_port) as wire:
                wire.socket.sendall(stream[:cut])
                wire.socket.shutdown(socket.SHUT_WR)
                assert wire.ends().count(b"\r\n") >= whole
            assert client.mget("a", "b") == left_by(kind, whole), cut
            # Cut off without a farewell, and while others are in the midst of theirs.
            client.flushdb()
            witness.socket.sendall(encode("ECHO", "well")[: cut % 20 + 1])
            with Wire(server.resp_port) as wire:
                wire.socket.sendall(stream[:cut])
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            witness.socket.sendall(encode("ECHO", "well")[cut % 20 + 1 :])
            assert witness.reply() == b"$4\r\nwell\r\n"
            possible = [left_by(kind, commands) for commands in range(whole + 1)]
            assert client.mget("a", "b") in possible, cut
    wait_until(lambda: client.info("clients")["connected_clients"] == 1)
    assert client.info("clients")["client_buffers"] < 100_000


@pytest.mark.parametrize(
    "before", [[], [["MULTI"], ["SET", "a", 1], ["WATCH", "b"]], [["SUBSCRIBE", "c"]]]
)
def test_a_panic_ends_its_connection_alone(
    before: list[list[bytes | str | int]], server: Server, client: Client
) -> None:
    assert server.resp_port
    client.set("a", "0")
    with Wire(server.resp_port) as other, Wire(server.resp_port) as wire:
        assert other.call("MULTI") == b"+OK\r\n"
        assert other.call("INCR", "a") == b"+QUEUED\r\n"
        for args in before:
            wire.call(*args)
        if before[:1] == [["SUBSCRIBE", "c"]]:
            wire.call("UNSUBSCRIBE", "c")
        wire.send("DEBUG", "PANIC")
        if before[:1] == [["MULTI"]]:
            wire.reply()
            wire.send("DISCARD")
            wire.reply()
            wire.send("MULTI")
            wire.send("SET", "b", 1)
            wire.send("DEBUG", "PANIC")
            for _ in range(3):
                wire.reply()
            wire.send("EXEC")
        assert wire.ends() == b""
        # Also of a key that was locked then.
        assert other.call("EXEC") == b"*1\r\n:1\r\n"
        assert client.set("b", 2)
    wait_until(lambda: client.info("clients")["connected_clients"] == 1)
    assert client.publish("c", "nobody") == 0


def test_commands_that_take_long_leave_room_for_others(run_python: Callable[..., str]) -> None:
    program = """
import os, resource, select, sys
sys.path[:0] = sys.argv[1:]
from resp_wire import Wire
from atbr import Store
from atbr.server import Server
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
server = Server(Store(), http=None, _debug=True)
# More than the runtime has threads.
sleepers = [Wire(server.resp_port) for _ in range(600)]
for sleeper in sleepers:
    sleeper.send("DEBUG", "SLEEP", 50)
with Wire(server.resp_port) as wire:
    for _ in range(100):
        assert wire.call("PING") == b"+PONG\\r\\n"
    assert wire.call("SET", "a", 1) == b"+OK\\r\\n"
poll = select.poll()
for sleeper in sleepers:
    poll.register(sleeper.socket, select.POLLIN)
assert poll.poll(0) == []
print("answered before them", flush=True)
os._exit(0)
"""
    folder = __file__.rpartition("/")[0]
    assert run_python(program, folder) == "answered before them\n"


def test_those_that_wait_for_their_turn_get_it_in_the_end(server: Server, client: Client) -> None:
    assert server.resp_port
    client.set("large", bytes(2 << 20))
    client.mset({f"key {i}": i for i in range(5_000)})
    keys = [f"key {i}" for i in range(1_000)]
    wires = [Wire(server.resp_port) for _ in range(24)]
    try:
        for wire in wires:
            for args in (
                ["KEYS", "key 1*"],
                ["BITCOUNT", "large"],
                ["MGET", *keys],
                ["MULTI"],
                ["DBSIZE"],
                ["KEYS", "key 2*"],
                ["EXEC"],
                ["PING"],
            ):
                wire.send(*args)
        for wire in wires:
            assert wire.reply().startswith(b"*1111\r\n")
            assert wire.reply() == b":0\r\n"
            assert wire.reply().startswith(b"*1000\r\n$1\r\n0\r\n")
            assert [wire.reply() for _ in range(3)] == [b"+OK\r\n"] + [b"+QUEUED\r\n"] * 2
            assert wire.reply().startswith(b"*2\r\n:5001\r\n*1111\r\n")
            assert wire.reply() == b"+PONG\r\n"
    finally:
        for wire in wires:
            wire.close()


def test_a_reader_that_takes_nothing_holds_little(server: Server, client: Client) -> None:
    client.set("large", bytes(1 << 20))
    assert server.resp_port
    with Wire(server.resp_port) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        wire.socket.sendall(encode("GET", "large") * 1_000)

        def unsent() -> int:
            return max(int(other["omem"]) for other in client.client_list())

        wait_until(unsent)
        # More would not come for as long as this one reads nothing.
        assert unsent() < 8 << 20
        assert client.ping()
        for _ in range(1_000):
            assert len(wire.reply()) == (1 << 20) + 12
        assert unsent() < 8 << 20


def test_a_listener_that_takes_nothing_is_closed(server: Server, client: Client) -> None:
    assert server.resp_port
    with Wire(server.resp_port) as wire:
        wire.call("SUBSCRIBE", "flood")
        message = bytes(1 << 20)
        for _ in range(100):
            if client.publish("flood", message) == 0:
                break
        else:
            pytest.fail("100 MiB wait for one reader")


def test_messages_go_on_where_replies_are_left_out(server: Server, client: Client) -> None:
    assert server.resp_port
    with Wire(server.resp_port) as wire:
        assert wire.call("HELLO", 3).startswith(b"%")
        assert wire.call("SUBSCRIBE", "news").startswith(b">3")
        wire.send("CLIENT", "REPLY", "OFF")
        wire.send("SET", "a", 1)
        wait_until(lambda: client.get("a"))
        client.publish("news", "first")
        wire.send("SET", "a", 2)
        wait_until(lambda: client.get("a") == b"2")
        client.publish("news", "second")
        assert b"first" in wire.reply()
        assert b"second" in wire.reply()


def test_many_may_connect_at_once() -> None:
    """The queue of those who wait is as long as the system allows, up to 1,024."""
    allowed = int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))
    with Store().serve() as server:
        for port in (server.http_port, server.resp_port):
            assert backlog(port) == min(allowed, 1024)


def backlog(port: int | None) -> int:
    """Return how many may wait at a port that this process listens at."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            with socket.socket(fileno=os.dup(int(entry.name))) as own:
                listens = own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens and own.getsockname()[1] == port:
                    # Of a socket that listens, this is where the kernel says it.
                    info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
                    return int(struct.unpack("8x6I", info)[5])
        except OSError:
            continue
    raise AssertionError(f"nobody listens at {port}")
