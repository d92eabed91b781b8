"""Limits that can be told: of heads, of clients that stall, of clients that show no secret."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from http_door import RawSocket, client_of, connect, get, raw, read_all, serving

from atbr import Store
from atbr.server import Server

MIB = 1 << 20
HOST = b"Host: localhost\r\n"


def resp(server: Server) -> socket.socket:
    assert server.resp_port is not None
    return socket.create_connection(("127.0.0.1", server.resp_port), 60)


# -- heads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [100, 20_000])
def test_addresses_are_as_long_as_they_may_be(limit: int) -> None:
    with serving(max_request_line=limit) as server:
        longest = "/get/key/" + "k" * (limit - 9)
        assert get(server, longest)[0] == 200
        status, _, body = get(server, longest + "k")
        assert status in (414, 431)
        assert b"k" * 100 not in body
        assert get(server, f"/v1/key?k={'k' * limit}")[0] in (414, 431)
        assert get(server, "/health")[0] == 200


@pytest.mark.parametrize("limit", [200, 60_000])
def test_headers_are_as_long_as_they_may_be(limit: int) -> None:
    with serving(max_headers=limit) as server:
        # Name, colon, and the end of the line are three bytes more; so has Host, and so has Connection.
        others = len("host") + len("localhost") + 3 + len("connection") + len("close") + 3
        fits = "X: " + "y" * (limit - others - 4)
        assert get(server, "/health", fits)[0] == 200
        assert get(server, "/health", fits + "y")[0] == 431
        halves = [f"X{i}: {'y' * (limit // 4)}" for i in range(5)]
        assert get(server, "/health", *halves)[0] == 431


def test_inline_commands_are_as_long_as_they_may_be() -> None:
    with Store().serve(http=None, max_request_line=100) as server:
        for sent in (b"ECHO " + b"a" * 94 + b"\r\n", b"ECHO " + b"a" * 96):
            with resp(server) as connection:
                connection.sendall(sent)
                if sent.endswith(b"\n"):
                    assert connection.recv(1024).startswith(b"$94\r\n")
                else:
                    assert b"too big inline request" in read_all(connection)


# -- stalling --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient() -> Iterator[Server]:
    """A server that waits half a second for who stalls."""
    store = Store({b"a": b"1", b"big": bytes(64 * MIB)}, keys=bytes, values=bytes)
    with store.serve(stall_timeout=0.5, data_dir=None) as server:
        yield server


@contextmanager
def patience() -> Iterator[None]:
    """What stalls ends within a time that only a server without the guard needs."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "begun",
    [
        b"PUT /v1/keys/slow HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nvalue",
        b"PUT /v1/load HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nslow\t",
        b"POST /v1/set-many HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
def test_a_body_that_stalls_is_given_up(impatient: Server, begun: bytes) -> None:
    with patience():
        status, _, _ = raw(impatient, begun)
    assert status == 408
    assert b"slow" not in impatient.db(0)


def test_a_body_that_trickles_is_given_up(impatient: Server) -> None:
    """A byte now and then is no progress."""
    with patience(), connect(impatient) as connection:
        connection.sendall(
            b"PUT /v1/keys/slow HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n"
        )
        assert trickle(connection)
    assert b"slow" not in impatient.db(0)


def test_a_message_that_stalls_or_trickles_is_given_up(impatient: Server) -> None:
    frame = RawSocket.frame(0x82, b"slow\t" + bytes(1000))
    for begun in (frame[:1], frame[:10], RawSocket.frame(0x02, b"slow\t")):
        with patience(), RawSocket(impatient, "/putws/") as opened:
            opened.connection.sendall(begun)
            first, payload = opened.receive()
            assert (first, payload) == (0x88, (1008).to_bytes(2, "big"))
    with patience(), RawSocket(impatient, "/putws/") as opened:
        opened.connection.sendall(frame[:10])
        assert trickle(opened.connection)
    # A socket that says nothing between messages has begun none.
    with RawSocket(impatient, "/getws/") as opened:
        time.sleep(1.5)
        opened.send(b"a")
        assert opened.receive() == (0x81, b"1")


def test_a_message_that_comes_steadily_is_taken(impatient: Server) -> None:
    """Longer than the stall time-out as a whole, and fast enough all the time."""
    value = bytes(200_000)
    frame = RawSocket.frame(0x82, b"steady\t" + value)
    with RawSocket(impatient, "/putws/") as opened:
        for start in range(0, len(frame), 10_000):
            opened.connection.sendall(frame[start : start + 10_000])
            time.sleep(0.06)
        opened.send(b"", 0x89)
        assert opened.receive() == (0x8A, b"")
    assert impatient.db(0)[b"steady"] == value


def test_a_redis_command_that_stalls_is_given_up(impatient: Server) -> None:
    with patience(), resp(impatient) as connection:
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$10\r\nvalue")
        assert read_all(connection) == b""
    assert b"slow" not in impatient.db(0)


@pytest.mark.parametrize("door", ["http", "socket", "resp"])
def test_a_reader_that_takes_nothing_is_cut_off(impatient: Server, door: str) -> None:
    if door == "resp":
        connection = resp(impatient)
        request = b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n"
    elif door == "http":
        connection = connect(impatient)
        request = b"GET /v1/keys/big HTTP/1.1\r\n" + HOST + b"\r\n"
    else:
        connection = RawSocket(impatient, "/getws/").connection
        request = RawSocket.frame(0x82, b"big")
    with connection, client_of(impatient) as client:
        connection.sendall(request)
        deadline = time.monotonic() + 30
        while client.get("/v1/stats").json()["connections"] > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # What was on its way is all that ever comes.
        assert len(read_all(connection)) < 64 * MIB


def trickle(connection: socket.socket) -> bool:
    """Send a byte ten times a second; return whether the server ended that."""
    connection.settimeout(0.1)
    for _ in range(300):
        try:
            if not connection.recv(4096):
                return True
        except TimeoutError:
            pass
        except ConnectionResetError:
            return True
        try:
            connection.sendall(b"\0")
        except (ConnectionResetError, BrokenPipeError):
            return True
    return False


# -- strangers -------------------------------------------------------------------------------------


def test_who_shows_no_secret_in_time_is_cut_off() -> None:
    with Store().serve(token="secret", unauthenticated_timeout=0.5) as server:
        for door in (connect, resp):
            with patience(), door(server) as connection:
                assert read_all(connection) == b""
        with patience(), connect(server) as connection:
            # Neither does asking for what is open to all prolong it.
            ended, until = False, time.monotonic() + 30
            while not ended and time.monotonic() < until:
                try:
                    connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
                    ended = connection.recv(4096) == b""
                except (ConnectionResetError, BrokenPipeError):
                    ended = True
            assert ended
        bearer = base64.urlsafe_b64encode(b"secret").decode().rstrip("=")
        with RawSocket(server, "/v1/ws", f"Sec-WebSocket-Protocol: bearer.{bearer}") as opened:
            time.sleep(1.5)
            opened.send(b'{"op":"ping"}')
            assert opened.receive() == (0x81, b'{"ok":true}')


def test_strangers_are_as_many_as_they_may_be() -> None:
    with Store().serve(token="secret", max_unauthenticated=3) as server:
        with client_of(server, authorization="Bearer secret") as client:
            assert client.get("/v1/stats").status_code == 200
            held = [door(server) for door in (connect, resp) * 4]
            try:
                ended = 0
                for connection in held:
                    connection.settimeout(1)
                    try:
                        answer = connection.recv(64)
                        ended += answer == b"" or answer.startswith(b"-ERR max")
                    except ConnectionResetError:
                        ended += 1
                    except TimeoutError:
                        pass
                assert ended == 5
                # Who is known already is not in their way.
                assert client.get("/v1/stats").status_code == 200
            finally:
                for connection in held:
                    connection.close()


@pytest.mark.parametrize("name", ["idle_timeout", "stall_timeout", "unauthenticated_timeout"])
def test_times_that_are_none_are_refused(name: str) -> None:
    for seconds in (0.0, -1.0, float("nan"), float("inf"), 1e19):
        with pytest.raises(ValueError):
            Store().serve(**{name: seconds})  # type: ignore[arg-type]
