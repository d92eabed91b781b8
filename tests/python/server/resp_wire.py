"""The Redis protocol on a bare socket, and the servers that speak it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 60


class Wire:
    """A connection that returns replies as the bytes that they are."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = b""
        self.at = 0

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, *args: bytes | str | int) -> None:
        """Send one command."""
        self.socket.sendall(encode(*args))

    def call(self, *args: bytes | str | int) -> bytes:
        """Send one command and return the bytes of its reply."""
        self.send(*args)
        return self.reply()

    def _more(self) -> None:
        received = self.socket.recv(1 << 20)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self.bytes += received

    def _line(self) -> bytes:
        while (end := self.bytes.find(b"\r\n", self.at)) < 0:
            self._more()
        line = self.bytes[self.at : end]
        self.at = end + 2
        return line

    def _skip(self) -> None:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind in b"$=" and int(rest) >= 0:
            self.at += int(rest) + 2
            while len(self.bytes) < self.at:
                self._more()
        elif kind in b"*~>" and int(rest) >= 0:
            for _ in range(int(rest)):
                self._skip()
        elif kind == b"%":
            for _ in range(2 * int(rest)):
                self._skip()
        elif kind not in b"+-:_#,($=*~>":
            raise ValueError(f"no reply: {line!r}")

    def reply(self) -> bytes:
        """Return the bytes of one whole reply or push."""
        self.at = 0
        self._skip()
        reply, self.bytes = self.bytes[: self.at], self.bytes[self.at :]
        return reply

    def until(self, last: bytes) -> bytes:
        """Return the bytes of all replies up to one that contains `last`."""
        replies = b""
        while True:
            reply = self.reply()
            replies += reply
            if last in reply:
                return replies

    def ends(self) -> bytes:
        """Return what is sent until the server closes the connection."""
        rest = self.bytes
        self.bytes = b""
        try:
            while received := self.socket.recv(1 << 16):
                rest += received
        except ConnectionResetError:
            pass
        return rest


def encode(*args: bytes | str | int) -> bytes:
    """Return a command as an array of bulks."""
    parts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    head = b"*%d\r\n" % len(parts)
    return head + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def real_redis(folder: Path, *options: str) -> Iterator[int]:
    """Run a redis-server, and end it."""
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed: make engines"
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                with Wire(port) as wire:
                    assert wire.call("PING") == b"+PONG\r\n"
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait(SECONDS)
