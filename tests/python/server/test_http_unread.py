"""Requests that are answered without a look at their body: the next one on the connection has its answer, too."""

from __future__ import annotations

import socket
import time
from http.client import HTTPResponse
from typing import Any

import pytest
from tests.python.server.http_door import connect, serving

from atbr import Store

HEAD = "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n\r\n"


def head(method: str, path: str, *more: str) -> bytes:
    return HEAD.format(method=method, path=path, more="\r\n".join(more)).encode()


def answer(connection: socket.socket, method: str = "GET") -> HTTPResponse:
    response = HTTPResponse(connection, method=method)
    response.begin()
    response.read()
    return response


def is_alive(connection: socket.socket) -> bool:
    connection.sendall(head("GET", "/health", "Accept: */*"))
    return answer(connection).status == 200


REFUSED: dict[str, tuple[int, dict[str, Any], str, str, str]] = {
    "only read": (403, {"readonly": True}, "PUT", "/v1/keys/a", "Accept: */*"),
    "no secret": (401, {"token": "s" * 32}, "PUT", "/v1/keys/a", "Accept: */*"),
    "another host": (400, {}, "PUT", "/v1/keys/a", "Host: localhost"),
    "no path": (404, {}, "POST", "/nothing", "Accept: */*"),
    "no method": (405, {}, "POST", "/v1/keys/a", "Accept: */*"),
    "not needed": (404, {}, "GET", "/v1/keys/a", "Accept: */*"),
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("refused", REFUSED)
def test_a_body_that_nobody_wants_does_not_end_the_connection(refused: str, chunked: bool) -> None:
    status, options, method, path, more = REFUSED[refused]
    body = b"5\r\nvalue\r\n0\r\n\r\n" if chunked else b"value"
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 5"
    with (
        serving(Store(keys=bytes, values=bytes), **options) as server,
        connect(server) as connection,
    ):
        for pause in (0, 0.05, 0.05):
            connection.sendall(head(method, path, length, more))
            # The head is read before the body is there, as of clients that send them apart.
            time.sleep(pause)
            connection.sendall(body)
            response = answer(connection, method)
            assert response.status == status
            assert response.getheader("connection") is None
        assert is_alive(connection)


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        pytest.param("Content-Length: 1000000", b"", id="much"),
        pytest.param("Content-Length: 5\r\nExpect: 100-continue", b"", id="waits to be asked"),
        pytest.param("Content-Length: 5", b"va", id="stops in the middle"),
        pytest.param("Transfer-Encoding: chunked", b"5\r\nvalue\r\n", id="chunks without an end"),
        pytest.param("Transfer-Encoding: chunked", b"no chunk\r\n", id="no chunk"),
        pytest.param(
            "Transfer-Encoding: chunked",
            b"4000\r\n" + b"v" * 0x4000 + b"\r\n",
            id="one chunk of many",
        ),
    ],
)
def test_an_answer_says_that_its_connection_ends(more: str, sent: bytes) -> None:
    with (
        serving(Store(keys=bytes, values=bytes), readonly=True) as server,
        connect(server) as connection,
    ):
        connection.sendall(head("PUT", "/v1/keys/a", more) + sent)
        response = answer(connection, "PUT")
        assert response.status == 403
        assert response.getheader("connection") == "close"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_a_body_that_is_read_leaves_the_connection_as_it_was() -> None:
    with serving(Store(keys=bytes, values=bytes)) as server, connect(server) as connection:
        for size in (0, 1, 100_000, 1_000_000):
            connection.sendall(head("PUT", "/v1/keys/a", f"Content-Length: {size}") + b"v" * size)
            response = answer(connection, "PUT")
            assert (response.status in (201, 204), response.getheader("connection")) == (True, None)
        assert is_alive(connection)


@pytest.mark.parametrize("sent", [b"no chunk\r\n", b"5\r\nvalueXX\r\n0\r\n\r\n"])
def test_a_body_that_breaks_off_ends_its_connection_and_says_so(sent: bytes) -> None:
    with serving(Store(keys=bytes, values=bytes)) as server, connect(server) as connection:
        connection.sendall(head("PUT", "/v1/keys/a", "Transfer-Encoding: chunked") + sent)
        response = answer(connection, "PUT")
        assert (response.status, response.getheader("connection")) == (400, "close")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
