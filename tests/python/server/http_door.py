"""What the tests of HTTP and WebSocket share: a server, a client, raw requests, and a client of WebSocket by hand."""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from atbr import Store
from atbr.server import Server

TIMEOUT = 60.0


@contextmanager
def serving(store: Store[Any, Any] | None = None, **options: Any) -> Iterator[Server]:
    """Serve a store of bytes over HTTP alone."""
    with Store(keys=bytes, values=bytes) if store is None else store as store:
        with store.serve(resp=None, **options) as server:
            yield server


@contextmanager
def client_of(server: Server, **headers: str) -> Iterator[httpx.Client]:
    assert server.url is not None
    # Proxies of the environment are none of the tests' business. The connection stays, however long a test
    # takes: where few are allowed a second one may be refused.
    limits = httpx.Limits(keepalive_expiry=None)
    with httpx.Client(
        base_url=server.url, headers=headers, timeout=TIMEOUT, trust_env=False, limits=limits
    ) as client:
        yield client


def connect(server: Server, receive_buffer: int | None = None) -> socket.socket:
    assert server.http_port is not None
    connection = socket.socket()
    if receive_buffer is not None:
        # Only before it connects does that bound what the server may send ahead.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(TIMEOUT)
    connection.connect(("127.0.0.1", server.http_port))
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes, or resets, the connection."""
    got = bytearray()
    while True:
        try:
            part = connection.recv(1 << 16)
        except ConnectionResetError:
            return bytes(got)
        if not part:
            return bytes(got)
        got += part


def raw(server: Server, request: bytes) -> tuple[int, bytes, bytes]:
    """Send bytes as they are; return the status, the head and the body of the answer."""
    with connect(server) as connection:
        connection.sendall(request)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head, "no answer"
    return int(head.split()[1]), head.lower(), body


def get(server: Server, path: str, *headers: str, method: str = "GET") -> tuple[int, bytes, bytes]:
    """Ask for a path that no client library has normalised."""
    names = {header.partition(":")[0].lower() for header in headers}
    host = () if "host" in names else ("Host: localhost",)
    lines = (f"{method} {path} HTTP/1.1", *host, "Connection: close", *headers, "", "")
    return raw(server, "\r\n".join(lines).encode("latin-1"))


class RawSocket:
    """A WebSocket, frame by frame."""

    def __init__(
        self, server: Server, path: str, *headers: str, receive_buffer: int | None = None
    ) -> None:
        self.connection = connect(server, receive_buffer)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *headers,
            "",
            "",
        )
        self.connection.sendall("\r\n".join(lines).encode())
        self.file = self.connection.makefile("rb")
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            if not line:
                break
            self.head += line
        self.status = int(self.head.split()[1])

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(self, *_error: object) -> None:
        self.file.close()
        self.connection.close()

    @staticmethod
    def frame(first: int, payload: bytes) -> bytes:
        mask = b"\x01\x02\x03\x04"
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        if len(payload) < 126:
            length = struct.pack("!B", 0x80 | len(payload))
        elif len(payload) < 1 << 16:
            length = struct.pack("!BH", 0x80 | 126, len(payload))
        else:
            length = struct.pack("!BQ", 0x80 | 127, len(payload))
        return bytes([first]) + length + mask + masked

    def send(self, payload: bytes, first: int = 0x81) -> None:
        self.connection.sendall(self.frame(first, payload))

    def receive(self) -> tuple[int, bytes]:
        """Return the first byte and the payload of the next frame; (0, b"") at the end."""
        head = self.file.read(2)
        if len(head) < 2:
            return 0, b""
        length = head[1]
        if length == 126:
            (length,) = struct.unpack("!H", self.file.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.file.read(8))
        return head[0], self.file.read(length)
