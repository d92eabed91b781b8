"""Each guard that an option opens: with it closed the attack fails, with it open the same attack succeeds.

So it is the guard that stops it. What no option opens is taken out of the source by tools/mutants.py.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from http_door import RawSocket, connect, get, read_all

from atbr import Store
from atbr.server import Server

MIB = 1 << 20
EVIL = "http://evil.example"


class Guard(NamedTuple):
    """`closed` and `open` are options of the server; the attack says whether it succeeded."""

    closed: dict[str, Any]
    open: dict[str, Any]
    attack: Callable[[Server], bool]


def reads(*headers: str) -> Callable[[Server], bool]:
    return lambda server: get(server, "/v1/keys/a", *headers)[2] == b"1"


def handshake(*headers: str) -> Callable[[Server], bool]:
    def attack(server: Server) -> bool:
        with RawSocket(server, "/getws/", *headers) as opened:
            return opened.status == 101

    return attack


def command(*words: str) -> Callable[[Server], bool]:
    def attack(server: Server) -> bool:
        with redis.Redis(port=server.resp_port, protocol=2) as client:
            try:
                client.execute_command(*words)
            except redis.RedisError:
                return False
            return True

    return attack


def changes(path: str, method: str = "GET", body: bytes = b"") -> Callable[[Server], bool]:
    def attack(server: Server) -> bool:
        length = f"Content-Length: {len(body)}"
        with connect(server) as connection:
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}\r\n\r\n"
            connection.sendall(head.encode() + body)
            read_all(connection)
        return server.db(0).get(b"a") != b"1"

    return attack


def writes_on_a_socket(server: Server) -> bool:
    with RawSocket(server, "/putws/") as opened:
        opened.send(b"a\t2")
        opened.send(b"", 0x89)
        opened.receive()
    return server.db(0).get(b"a") != b"1"


def saves(server: Server) -> bool:
    return get(server, "/save/saved.tsv")[0] == 200


def connects_often(server: Server) -> bool:
    held = [connect(server) for _ in range(12)]
    try:
        return all(stays_open(connection, 0.3) for connection in held)
    finally:
        for connection in held:
            connection.close()


def stays(begun: bytes, door: str = "http") -> Callable[[Server], bool]:
    """Begin something, and go on holding the connection for it."""

    def attack(server: Server) -> bool:
        port = server.http_port if door == "http" else server.resp_port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(begun)
            return stays_open(connection, 4)

    return attack


def stays_open(connection: socket.socket, seconds: float) -> bool:
    """Whether the server leaves a connection open for so long."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            if not connection.recv(1 << 16):
                return False
        except TimeoutError:
            break
        except ConnectionResetError:
            return False
    return True


def fills_the_buffers(server: Server) -> bool:
    """Send a large value, and not its last byte."""
    size = 24 * MIB
    with connect(server) as connection:
        connection.sendall(
            b"PUT /v1/keys/held HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size
        )
        try:
            connection.sendall(bytes(size - 1))
            return stays_open(connection, 1)
        except (ConnectionResetError, BrokenPipeError):
            return False


BEGUN = b"PUT /v1/keys/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nslow"

GUARDS = {
    "a secret on HTTP": Guard({"token": "t"}, {}, reads()),
    "a secret on a socket": Guard({"token": "t"}, {}, handshake()),
    "a secret on the Redis port": Guard({"password": "p"}, {}, command("GET", "a")),
    "the Host of a name that was rebound": Guard(
        {}, {"allowed_hosts": ["evil.example"]}, reads("Host: evil.example")
    ),
    "the Origin of a page elsewhere": Guard(
        {}, {"cors_origins": [EVIL]}, reads(f"Origin: {EVIL}", "Sec-Fetch-Site: cross-site")
    ),
    "the Origin of a page elsewhere, on a socket": Guard(
        {}, {"cors_origins": [EVIL]}, handshake(f"Origin: {EVIL}", "Sec-Fetch-Site: cross-site")
    ),
    "no writes by the API": Guard({"readonly": True}, {}, changes("/v1/keys/a", "PUT", b"2")),
    "no deletions by the API": Guard({"readonly": True}, {}, changes("/v1/keys/a", "DELETE")),
    "no writes by an address of 2012": Guard({"readonly": True}, {}, changes("/put/key/a/value/2")),
    "no loading": Guard({"readonly": True}, {}, changes("/load/rows.tsv")),
    "no saving": Guard({"readonly": True}, {}, saves),
    "no writes on a socket": Guard({"readonly": True}, {}, writes_on_a_socket),
    "no writes on the Redis port": Guard({"readonly": True}, {}, command("SET", "a", "2")),
    "no files without a folder": Guard({"data_dir": None}, {}, changes("/load/rows.tsv")),
    "commands that are switched off": Guard(
        {"disabled_commands": ["FLUSHALL"]}, {}, command("FLUSHALL")
    ),
    "the longest value by the API": Guard(
        {"max_value": 1000}, {}, changes("/v1/keys/a", "PUT", bytes(1001))
    ),
    "the longest value on the Redis port": Guard(
        {"max_value": 1000}, {}, command("SET", "a", "v" * 1001)
    ),
    "the longest address": Guard(
        {"max_request_line": 1000}, {}, lambda server: get(server, f"/?{'q' * 1000}")[0] == 200
    ),
    "the longest headers": Guard(
        {"max_headers": 1000}, {}, lambda server: get(server, "/", f"X: {'x' * 1000}")[0] == 200
    ),
    "so many connections": Guard({"max_connections": 10}, {}, connects_often),
    "so many strangers": Guard(
        {"token": "t", "max_unauthenticated": 10}, {"token": "t"}, connects_often
    ),
    "time to show a secret": Guard(
        {"token": "t", "unauthenticated_timeout": 0.5}, {"token": "t"}, stays(b"")
    ),
    "time to show a secret on the Redis port": Guard(
        {"token": "t", "unauthenticated_timeout": 0.5}, {"token": "t"}, stays(b"", "resp")
    ),
    "slow senders": Guard({"stall_timeout": 0.5}, {}, stays(BEGUN)),
    "slow senders on the Redis port": Guard(
        {"stall_timeout": 0.5}, {}, stays(b"*2\r\n$3\r\nGET\r\n$4\r\na", "resp")
    ),
    "idle clients": Guard(
        {"idle_timeout": 0.5}, {}, stays(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    ),
    "idle clients on the Redis port": Guard({"idle_timeout": 1.0}, {}, stays(b"PING\r\n", "resp")),
    "the bound of all buffers": Guard({"max_buffers": 8 * MIB}, {}, fills_the_buffers),
}


@pytest.mark.parametrize("name", GUARDS)
def test_an_attack_fails_by_its_guard_alone(name: str, tmp_path: Path) -> None:
    guard = GUARDS[name]
    (tmp_path / "rows.tsv").write_bytes(b"a\t2\n")
    succeeded = []
    for options in (guard.closed, guard.open):
        store = Store({b"a": b"1"}, keys=bytes, values=bytes)
        with store.serve(**{"data_dir": tmp_path, **options}) as server:
            succeeded.append(guard.attack(server))
    assert succeeded == [False, True]


def test_every_attempt_that_the_documentation_lists_is_made() -> None:
    root = Path(__file__).parents[3]
    sources = [*root.glob("tests/**/*.py"), *root.glob("tests/**/*.rs"), *root.glob("src/**/*.rs")]
    made = set()
    for source in sources:
        made |= set(re.findall(r"^ *(?:async )?(?:def|fn) (\w+)", source.read_text(), re.MULTILINE))
    rows = re.findall(
        r"^\|[^|]+\|[^|]+\|([^|]+)\|$", (root / "docs" / "security.md").read_text(), re.MULTILINE
    )
    listed = [re.findall(r"`(\w+)`", row) for row in rows if "`" in row]
    assert len(listed) > 25
    assert {name for row in listed for name in row} <= made
