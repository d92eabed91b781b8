"""Slow, large and broken requests: what they cost, and that they end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from http_door import TIMEOUT, RawSocket, client_of, connect, get, read_all, serving

from atbr import Store
from atbr.server import Server

MIB = 1 << 20


@pytest.fixture
def served() -> Iterator[Server]:
    with serving(Store({b"a": b"1"}, keys=bytes, values=bytes), max_value=MIB) as server:
        yield server


def resident() -> int:
    """Bytes of this process, the server's threads included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def peak() -> int:
    """Bytes that this process had at most, since that was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def wait_until_sending_stalls(client: httpx.Client) -> None:
    """Return when the server has sent all that its clients take: two looks find no more than they caused themselves."""
    deadline = time.monotonic() + TIMEOUT
    before, quiet = sent(client), 0
    while quiet < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        now = sent(client)
        # An answer of figures is shorter than anything that is waited for here.
        quiet = quiet + 1 if now - before < 8192 else 0
        before = now


def sent(client: httpx.Client) -> int:
    return int(client.get("/v1/stats").json()["bytes_out"])


def wait_until_alone(client: httpx.Client) -> None:
    """Return when there is no other connection."""
    deadline = time.monotonic() + TIMEOUT
    while client.get("/v1/stats").json()["connections"] > 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_head_that_does_not_end_ends_the_connection(served: Server) -> None:
    """Slowloris: a header line now and then."""
    started = time.monotonic()
    with connect(served) as connection:
        connection.sendall(b"GET /get/key/a HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for _ in range(100):
                connection.settimeout(1)
                try:
                    if not connection.recv(1024):
                        break
                except TimeoutError:
                    connection.sendall(b"X: y\r\n")
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert 5 < time.monotonic() - started < 60
    assert get(served, "/get/key/a")[2] == b"1"


def test_connections_beyond_the_limit_are_refused_and_the_others_stay() -> None:
    with serving(Store({b"a": b"1"}, keys=bytes, values=bytes), max_connections=5) as server:
        with client_of(server) as client:
            assert client.get("/get/key/a").text == "1"
            held = [connect(server) for _ in range(20)]
            try:
                closed = 0
                for connection in held:
                    connection.settimeout(2)
                    try:
                        closed += connection.recv(1) == b""
                    except ConnectionResetError:
                        closed += 1
                    except TimeoutError:
                        pass
                assert closed == 16
                assert client.get("/get/key/a").text == "1"
            finally:
                for connection in held:
                    connection.close()


def test_who_shows_no_token_is_cut_off_and_few_at_a_time() -> None:
    with serving(token="secret") as server:
        held = [connect(server) for _ in range(150)]
        try:
            started = time.monotonic()
            refused = 0
            for connection in held:
                connection.settimeout(0.05)
                try:
                    refused += connection.recv(1) == b""
                except (ConnectionResetError, TimeoutError) as error:
                    refused += isinstance(error, ConnectionResetError)
            assert 50 <= refused <= 150
            # A client that knows the token gets in again once the strangers' time is over.
            while True:
                try:
                    status = get(server, "/v1/stats", "Authorization: Bearer secret")[0]
                    break
                except (AssertionError, ConnectionResetError, BrokenPipeError):
                    assert time.monotonic() - started < 60
                    time.sleep(0.2)
            assert status == 200
        finally:
            for connection in held:
                connection.close()


@pytest.mark.parametrize("path", ["/get/key/a", "/health", "/v1/stats", "/nothing", "/v1/key?k=a"])
def test_an_idle_connection_is_closed_where_that_was_asked_for(path: str) -> None:
    with serving(Store({b"a": b"1"}, keys=bytes, values=bytes), idle_timeout=0.5) as server:
        with connect(server) as connection:
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
            connection.settimeout(30)
            assert read_all(connection).startswith(b"HTTP/1.1 ")


def test_a_load_that_takes_its_time_is_not_idle(tmp_path: Path) -> None:
    """A client that waits for the next line of a load says nothing, and is not cut off."""
    with (tmp_path / "rows.tsv").open("wb") as file:
        for start in range(0, 4_000_000, 100_000):
            file.write(b"".join(b"%d\t%d\n" % (i, i) for i in range(start, start + 100_000)))
    with serving(idle_timeout=0.01, data_dir=tmp_path) as server:
        with connect(server) as connection:
            connection.settimeout(60)
            connection.sendall(b"POST /v1/load?file=rows.tsv HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b'"done":true' in read_all(connection)


@pytest.mark.parametrize("length", [b"1048577", b"99999999999", b"18446744073709551615"])
def test_a_value_that_is_announced_too_large_is_refused_at_once(
    served: Server, length: bytes
) -> None:
    with connect(served) as connection:
        connection.sendall(
            b"PUT /v1/keys/big HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n" % length
        )
        connection.settimeout(30)
        answer = read_all(connection)
    assert answer.split()[1] in (b"413", b"431")
    assert b"big" not in served.db(0)


def test_a_value_that_grows_too_large_is_refused(served: Server) -> None:
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    with connect(served) as connection:
        connection.sendall(
            b"PUT /v1/keys/big HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        try:
            for _ in range(64):
                connection.sendall(chunk)
        except (ConnectionResetError, BrokenPipeError):
            pass
        connection.settimeout(30)
        answer = read_all(connection)
    assert not answer or b" 413 " in answer
    assert b"big" not in served.db(0)
    with client_of(served) as client:
        assert client.put("/v1/keys/fits", content=bytes(MIB)).status_code == 201


def test_an_announced_length_takes_no_memory() -> None:
    with serving(max_value=512 * MIB) as server:
        held = []
        before = resident()
        try:
            for i in range(40):
                connection = connect(server)
                held.append(connection)
                connection.sendall(
                    b"PUT /v1/keys/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\nx"
                    % (i, 500 * MIB)
                )
                announcing = RawSocket(server, "/v1/ws")
                held.append(announcing.connection)
                announcing.connection.sendall(
                    b"\x82\xff" + (500 * MIB).to_bytes(8, "big") + b"\x00" * 5
                )
            assert get(server, "/health")[0] == 200
            assert resident() - before < 64 * MIB
        finally:
            for connection in held:
                connection.close()


def test_items_beyond_the_limit_take_no_memory() -> None:
    """Two bytes of a body would be a hundred of the server's."""
    with serving(max_value=512 * MIB, max_buffers=512 * MIB) as server:
        with client_of(server) as client:
            body = b'{"items":[' + b"{}," * (8 * MIB) + b"{}]}"
            Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
            before = peak()
            for path in ("/v1/get-many", "/v1/set-many"):
                answer = client.post(path, content=body)
                assert (answer.status_code, answer.json()["code"]) == (413, "too_many_items")
            # Nine hundred MiB if all of them were kept.
            assert peak() - before < 200 * MIB


def test_beyond_the_bound_of_all_buffers_the_largest_goes() -> None:
    with serving(max_buffers=8 * MIB, max_value=512 * MIB) as server:
        held = []
        try:
            # At no moment, and however buffers grow, does another one hold more than the second.
            for i, size in enumerate([1, 16, 1]):
                connection = connect(server)
                held.append(connection)
                connection.sendall(
                    b"PUT /v1/keys/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                    % (i, size * MIB + 1)
                )
                try:
                    connection.sendall(bytes(size * MIB))
                except (ConnectionResetError, BrokenPipeError):
                    assert size == 16
            held[1].settimeout(30)
            assert b"HTTP/1.1 2" not in read_all(held[1])
            for i in (0, 2):
                held[i].sendall(b"x")
                assert held[i].recv(1024).split()[1] == b"201"
        finally:
            for connection in held:
                connection.close()


# Longer than it takes the server to give back what it holds for a connection that asks nothing.
REST_SECONDS = 0.3
GET_A = b"GET /get/key/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answers(connection: socket.socket, count: int) -> bytes:
    """Read so many answers of `a`."""
    got = b""
    while got.count(b"\r\n\r\n1") < count:
        part = connection.recv(1024)
        assert part, got
        got += part
    return got


@pytest.mark.parametrize(
    "parts",
    [
        [GET_A, GET_A],
        [GET_A, GET_A[:20], GET_A[20:]],
        [GET_A + GET_A[:1], GET_A[1:]],
        [GET_A + GET_A[:20], GET_A[20:] + GET_A + GET_A[:3], GET_A[3:]],
    ],
)
def test_a_connection_that_rests_goes_on(served: Server, parts: list[bytes]) -> None:
    with connect(served) as connection:
        sent = b""
        for part in parts:
            connection.sendall(part)
            sent += part
            answers(connection, part.count(b"\r\n\r\n"))
            time.sleep(REST_SECONDS)
        assert sent.count(b"\r\n\r\n") == len(sent) // len(GET_A)


def test_a_body_that_comes_late_is_no_request(served: Server) -> None:
    store = served.db(0)
    body = b"GET /put/key/smuggled/value/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    for request in (GET_A, b"PUT /v1/keys/late HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with connect(served) as connection:
            connection.sendall(request[:-2] + length)
            time.sleep(REST_SECONDS)
            try:
                connection.sendall(body)
                time.sleep(REST_SECONDS)
                connection.shutdown(socket.SHUT_WR)
                read_all(connection)
            except OSError:
                pass
    assert b"smuggled" not in store
    assert store[b"late"] == body


def test_long_request_lines_and_headers_are_refused(served: Server) -> None:
    for request in [
        b"GET /get/key/" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /get/key/a HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET /get/key/a HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ]:
        with connect(served) as connection:
            connection.settimeout(30)
            try:
                connection.sendall(request)
                answer = read_all(connection)
            except (ConnectionResetError, BrokenPipeError):
                continue
        assert not answer or answer.split()[1] in (b"414", b"431", b"400"), answer[:100]
    assert get(served, "/get/key/a")[2] == b"1"


def test_a_reader_that_takes_nothing_holds_little() -> None:
    """Pipelined requests for values are answered as fast as the answers are taken."""
    store = Store({b"big": bytes(MIB), b"mid": bytes(60_000)}, keys=bytes, values=bytes)
    with serving(store) as server:
        held = []
        before = resident()
        try:
            for i in range(100):
                connection = connect(server)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                key = (b"big", b"mid")[i % 2]
                request = b"GET /v1/keys/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % key
                connection.sendall(request * 100)
                held.append(connection)
            with client_of(server) as client:
                wait_until_sending_stalls(client)
            assert resident() - before < 64 * MIB
        finally:
            for connection in held:
                connection.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"PUT /v1/keys/cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nvalue",
        b"PUT /v1/keys/cut HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nvalue\r\n0\r\n\r\n",
        b"GET /put/key/cut/value/value HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_a_request_that_is_cut_at_any_byte_does_nothing(
    served: Server, request_bytes: bytes
) -> None:
    store = served.db(0)
    for cut in range(len(request_bytes)):
        with connect(served) as connection:
            connection.sendall(request_bytes[:cut])
    with client_of(served) as client:
        wait_until_alone(client)
    assert b"cut" not in store
    with connect(served) as connection:
        connection.sendall(request_bytes)
        assert connection.recv(1024).split()[1] in (b"200", b"201")
    assert store[b"cut"] == b"value"


def test_a_message_that_is_cut_at_any_byte_does_nothing(served: Server) -> None:
    store = served.db(0)
    whole = RawSocket.frame(0x01, b"cut\tva") + RawSocket.frame(0x80, b"lue")
    for cut in range(len(whole)):
        with RawSocket(served, "/putws/") as opened:
            opened.connection.sendall(whole[:cut])
    with client_of(served) as client:
        wait_until_alone(client)
    assert b"cut" not in store
    with RawSocket(served, "/putws/") as opened:
        opened.connection.sendall(whole)
        opened.send(b"", 0x89)
        assert opened.receive() == (0x8A, b"")
    assert store[b"cut"] == b"value"


@pytest.mark.parametrize(
    "whole",
    [
        b'{"id":1,"op":"set","key":"cut","value":"value"}',
        b"\x02\x00abcd" + bytes(8) + (3).to_bytes(4, "big") + b"cutvalue",
    ],
)
@pytest.mark.parametrize("masked_close", [False, True])
def test_a_request_on_a_socket_that_is_cut_at_any_byte_does_nothing(
    served: Server, whole: bytes, masked_close: bool
) -> None:
    store = served.db(0)
    frame = RawSocket.frame(0x81 if whole[:1] == b"{" else 0x82, whole)
    for cut in range(len(frame)):
        with RawSocket(served, "/v1/ws") as opened:
            opened.connection.sendall(frame[:cut])
            if masked_close:
                # Not the end of the connection, but something else in the middle of the frame.
                opened.connection.sendall(RawSocket.frame(0x88, b""))
    with client_of(served) as client:
        wait_until_alone(client)
    # A frame that is cut takes what follows for its rest; it may be whole then, and is not this entry.
    assert store.get(b"cut") != b"value"


def test_a_handshake_that_is_cut_at_any_byte_leaves_the_server_well(served: Server) -> None:
    handshake = (
        b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for cut in range(len(handshake) + 1):
        with connect(served) as connection:
            connection.sendall(handshake[:cut])
    with client_of(served) as client:
        wait_until_alone(client)
        assert client.get("/v1/keys/a").text == "1"


def test_an_answer_that_is_cut_at_any_byte_leaves_the_server_well() -> None:
    """The client goes in the middle of a large answer, and of many small ones."""
    store = Store({b"big": bytes(8 * MIB), b"a": b"1"}, keys=bytes, values=bytes)
    with serving(store) as server, client_of(server) as client:
        for taken in range(0, 400, 7):
            for key, count in ((b"big", 1), (b"a", 50)):
                with connect(server) as connection:
                    request = b"GET /v1/keys/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % key
                    connection.sendall(request * count)
                    if taken:
                        connection.recv(taken)
        wait_until_alone(client)
        assert client.get("/v1/keys/a").text == "1"


def test_what_was_answered_arrives_though_more_was_sent_after_the_end(served: Server) -> None:
    """Closing at once would reset the connection, and take back what the client has not read."""
    value = bytes(30_000)
    served.db(0)[b"mid"] = value
    with client_of(served) as client, RawSocket(served, "/getws/", receive_buffer=4096) as opened:
        too_long = b"\x82\xff" + (2 * MIB).to_bytes(8, "big") + b"mask"
        opened.connection.sendall(RawSocket.frame(0x82, b"mid") + too_long + bytes(200_000))
        wait_until_alone(client)
        assert opened.receive() == (0x82, value)
        first, payload = opened.receive()
        assert (first, payload[:2]) == (0x88, (1009).to_bytes(2, "big"))


def test_messages_beyond_the_limit_close_their_socket(served: Server) -> None:
    with RawSocket(served, "/putws/") as opened:
        opened.connection.sendall(b"\x81\xff" + (2 * MIB).to_bytes(8, "big") + b"mask")
        first, payload = opened.receive()
        assert (first, payload[:2]) == (0x88, (1009).to_bytes(2, "big"))
    with RawSocket(served, "/putws/") as opened:
        opened.send(bytes(MIB), 0x02)
        try:
            opened.send(bytes(MIB), 0x80)
            first, payload = opened.receive()
            assert (first, payload[:2]) == (0x88, (1009).to_bytes(2, "big"))
        except (ConnectionResetError, BrokenPipeError):
            pass


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x01a", 1002),
        (RawSocket.frame(0xC1, b"a"), 1002),
        (RawSocket.frame(0x83, b"a"), 1002),
        (RawSocket.frame(0x80, b"a"), 1002),
        (RawSocket.frame(0x81, b"\xff"), 1007),
        (RawSocket.frame(0x88, b"\x00"), 1002),
    ],
)
def test_what_breaks_the_protocol_closes_its_socket(
    served: Server, frame: bytes, code: int
) -> None:
    with RawSocket(served, "/getws/") as opened:
        opened.connection.sendall(frame)
        first, payload = opened.receive()
        assert (first, payload[:2]) == (0x88, code.to_bytes(2, "big"))
        assert opened.receive() == (0, b"")
    assert get(served, "/get/key/a")[2] == b"1"


def test_a_socket_that_takes_nothing_holds_little() -> None:
    store = Store({b"mid": bytes(60_000)}, keys=bytes, values=bytes)
    with serving(store) as server:
        with RawSocket(server, "/getws/") as opened:
            before = resident()
            opened.connection.settimeout(2)
            request = RawSocket.frame(0x82, b"mid")
            sent = 0
            try:
                while sent < 100_000:
                    opened.connection.sendall(request * 100)
                    sent += 100
            except TimeoutError:
                pass
            assert resident() - before < 32 * MIB
        assert get(server, "/health")[0] == 200


def test_work_that_takes_long_leaves_the_network_free() -> None:
    keys = {b"key:%d" % i: b"x" for i in range(300_000)}
    with serving(Store(keys, keys=bytes, values=bytes), threads=1) as server:
        items = json.dumps({"items": [{"key": f"key:{i}"} for i in range(100_000)]}).encode()
        busy = [connect(server) for _ in range(8)]
        try:
            for connection in busy:
                connection.sendall(
                    b"POST /v1/get-many HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                    % len(items)
                    + items
                )
            with client_of(server) as client:
                answered = 0
                while answered < 50:
                    assert client.get("/get/key/key:1").text == "x"
                    answered += 1
        finally:
            for connection in busy:
                connection.close()
