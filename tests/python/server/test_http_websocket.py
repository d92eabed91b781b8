"""/v1/ws: requests with ids, many on their way at once, live statistics."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from http_door import RawSocket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as websocket

from atbr import Store
from atbr.server import Server

GET, SET, DELETE = 1, 2, 3
DONE, MISSING, REFUSED = 0, 1, 2


@pytest.fixture
def socket(http_server: Server) -> Iterator[ClientConnection]:
    with websocket(f"ws://127.0.0.1:{http_server.http_port}/v1/ws", proxy=None) as opened:
        yield opened


def ask(socket: ClientConnection, **request: Any) -> dict[str, Any]:
    socket.send(json.dumps(request))
    answer = json.loads(socket.recv(60))
    assert isinstance(answer, dict)
    return answer


def binary(op: int, number: int, rest: bytes, db: int = 0) -> bytes:
    return struct.pack("!BBI", op, db, number) + rest


def new_entry(key: bytes, value: bytes, ttl: int = 0) -> bytes:
    return struct.pack("!qI", ttl, len(key)) + key + value


def test_requests_in_json(socket: ClientConnection) -> None:
    assert ask(socket, id=1, op="get", key="a") == {"id": 1, "ok": True, "value": None}
    assert ask(socket, id="x", op="set", key="a", value="ä") == {
        "id": "x",
        "ok": True,
        "created": True,
    }
    assert ask(socket, op="set", key="a", value="ö", ttl_ms=60_000) == {
        "ok": True,
        "created": False,
    }
    answer = ask(socket, id=[1, {"a": None}], op="get", key="a")
    assert 0 < answer.pop("ttl_ms") <= 60_000
    assert answer == {"id": [1, {"a": None}], "ok": True, "value": "ö"}
    assert ask(socket, id=2, op="delete", key="a") == {"id": 2, "ok": True, "deleted": True}
    assert ask(socket, id=3, op="delete", key="a") == {"id": 3, "ok": True, "deleted": False}
    assert ask(socket, id=4, op="ping") == {"id": 4, "ok": True}


def test_bytes_in_json(socket: ClientConnection) -> None:
    word = base64.urlsafe_b64encode(b"\xff\x00").decode().rstrip("=")
    ask(socket, op="set", key64=word, value64=word)
    assert ask(socket, op="get", key64=word)["value64"] == word
    page = ask(socket, id=5, op="keys", prefix="", count=10)
    assert page == {"id": 5, "ok": True, "page": {"keys": [{"key64": word}], "cursor": 0}}


def test_databases_are_named_by_message_or_by_socket(http_server: Server) -> None:
    http_server.db(4)[b"a"] = b"4"
    with websocket(f"ws://127.0.0.1:{http_server.http_port}/v1/ws?db=4", proxy=None) as socket:
        assert ask(socket, op="get", key="a")["value"] == "4"
        assert ask(socket, op="get", key="a", db=5)["value"] is None
        assert ask(socket, op="get", key="a", db=16)["error"]["code"] == "invalid_body"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "invalid_body"),
        ("nonsense", "invalid_body"),
        ("[]", "invalid_body"),
        ('{"op":"get"}', "invalid_body"),
        ('{"op":"get","key":"a","key64":"YQ"}', "invalid_body"),
        ('{"op":"set","key":"a"}', "invalid_body"),
        ('{"op":"set","key":"a","value":"1","ttl_ms":-1}', "invalid_ttl"),
        ('{"op":"other"}', "unknown_op"),
        ('{"op":"keys","count":0}', "invalid_parameter"),
        ('{"op":"watch","interval_ms":1}', "invalid_body"),
        ('{"op":"get","key":"' + "a" * 70_000 + '","x":1}', "invalid_body"),
        ('{"op":"set","key":"' + "a" * 70_000 + '","value":"1"}', "key_too_long"),
    ],
)
def test_a_refused_message_leaves_the_socket_open(
    socket: ClientConnection, message: str, code: str
) -> None:
    socket.send(message)
    answer = json.loads(socket.recv(60))
    assert (answer["ok"], answer["error"]["code"]) == (False, code)
    assert ask(socket, op="ping") == {"ok": True}


def test_requests_in_binary(socket: ClientConnection) -> None:
    def answer(request: bytes) -> tuple[int, int, int, bytes]:
        socket.send(request)
        got = socket.recv(60)
        assert isinstance(got, bytes)
        status, op, number = struct.unpack("!BBI", got[:6])
        return status, op, number, got[6:]

    assert answer(binary(GET, 7, b"a")) == (MISSING, GET, 7, b"")
    assert answer(binary(SET, 8, new_entry(b"a", b"1"))) == (DONE, SET, 8, b"\1")
    assert answer(binary(SET, 9, new_entry(b"a", b"2", 60_000))) == (DONE, SET, 9, b"\0")
    assert answer(binary(GET, 2**32 - 1, b"a")) == (DONE, GET, 2**32 - 1, b"2")
    assert answer(binary(GET, 1, b"a", db=1)) == (MISSING, GET, 1, b"")
    assert answer(binary(DELETE, 10, b"a")) == (DONE, DELETE, 10, b"")
    assert answer(binary(DELETE, 11, b"a")) == (MISSING, DELETE, 11, b"")
    for bad in [
        binary(9, 1, b""),
        binary(GET, 1, b"a", db=16),
        binary(SET, 1, b"short"),
        binary(SET, 1, new_entry(b"a", b"1")[:12] + b""),
        binary(SET, 1, new_entry(b"a", b"1", -1)),
    ]:
        status, _, number, problem = answer(bad)
        if status == REFUSED:
            assert number == 1
            assert json.loads(problem)["status"] == 400
        else:
            assert bad[:1] == bytes([SET])
    socket.send(b"short")
    with pytest.raises(ConnectionClosed):
        socket.recv(60)


@pytest.mark.parametrize("size", [0, 65_535, 65_536, 1 << 20, 3_000_000])
def test_values_of_any_size(http_server: Server, socket: ClientConnection, size: int) -> None:
    value = bytes(range(256)) * (size // 256 + 1)
    value = value[:size]
    with websocket(
        f"ws://127.0.0.1:{http_server.http_port}/v1/ws", proxy=None, max_size=None
    ) as large:
        large.send(binary(SET, 1, new_entry(b"a", value)))
        assert large.recv(60) == struct.pack("!BBIB", DONE, SET, 1, 1)
        large.send(binary(GET, 2, b"a"))
        assert large.recv(60) == struct.pack("!BBI", DONE, GET, 2) + value
        large.send(json.dumps({"id": 3, "op": "get", "key": "a"}))
        answer = json.loads(large.recv(60))
    got = answer["value"] if "value" in answer else answer["value64"]
    expected = base64.urlsafe_b64encode(value).decode().rstrip("=")
    assert got == (expected if "value64" in answer else value.decode())


def test_many_requests_on_their_way_are_answered_in_order(http_server: Server) -> None:
    store = http_server.db(0)
    for i in range(100):
        store[b"%d" % i] = b"v%d" % i
    count = 20_000
    with RawSocket(http_server, "/v1/ws") as opened:
        frames = [RawSocket.frame(0x82, binary(GET, i, b"%d" % (i % 100))) for i in range(count)]
        text = RawSocket.frame(0x81, b'{"id":1,"op":"stats"}')
        sent = b"".join(frames[: count // 2]) + text + b"".join(frames[count // 2 :])
        for start in range(0, len(sent), 50_000):
            opened.connection.sendall(sent[start : start + 50_000])
        for i in range(count):
            if i == count // 2:
                first, payload = opened.receive()
                assert (first, json.loads(payload)["id"]) == (0x81, 1)
            first, payload = opened.receive()
            assert (first, payload) == (
                0x82,
                struct.pack("!BBI", DONE, GET, i) + b"v%d" % (i % 100),
            )


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(entries=st.dictionaries(st.binary(max_size=30), st.binary(max_size=30), max_size=10))
def test_what_is_written_by_one_door_is_read_by_another(
    http_server: Server, socket: ClientConnection, entries: dict[bytes, bytes]
) -> None:
    for key, value in entries.items():
        socket.send(binary(SET, 1, new_entry(key, value)))
    for _ in entries:
        socket.recv(60)
    store = http_server.db(0)
    assert all(store[key] == value for key, value in entries.items())


def test_statistics_come_as_often_as_was_asked(socket: ClientConnection) -> None:
    assert ask(socket, id=1, op="watch", interval_ms=100) == {"id": 1, "ok": True}
    seen = [json.loads(socket.recv(60)) for _ in range(3)]
    assert {message["event"] for message in seen} == {"stats"}
    uptimes = [message["stats"]["uptime_seconds"] for message in seen]
    assert uptimes == sorted(uptimes)
    assert ask_while_watching(socket, id=2, op="watch", interval_ms=0) == {"id": 2, "ok": True}
    assert ask_while_watching(socket, id=3, op="ping") == {"id": 3, "ok": True}


def ask_while_watching(socket: ClientConnection, **request: Any) -> Any:
    socket.send(json.dumps(request))
    while "event" in (answer := json.loads(socket.recv(60))):
        pass
    return answer


def test_pings_are_answered_between_the_parts_of_a_message(http_server: Server) -> None:
    with RawSocket(http_server, "/v1/ws") as opened:
        opened.send(b'{"op":', 0x01)
        opened.send(b"hello", 0x89)
        assert opened.receive() == (0x8A, b"hello")
        opened.send(b'"ping"}', 0x80)
        assert opened.receive() == (0x81, b'{"ok":true}')
        opened.send((1000).to_bytes(2, "big"), 0x88)
        assert opened.receive() == (0x88, (1000).to_bytes(2, "big"))
        assert opened.receive() == (0, b"")


def test_a_server_that_ends_says_so() -> None:
    with Store().serve(resp=None) as server:
        opened = websocket(f"ws://127.0.0.1:{server.http_port}/v1/ws", proxy=None)
        with opened:
            assert ask(opened, op="ping") == {"ok": True}
            assert server.close()
            with pytest.raises(ConnectionClosed) as ended:
                opened.recv(60)
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1001


def test_handshakes_that_are_none(http_server: Server) -> None:
    for headers, status in [
        (("Sec-WebSocket-Version: 8",), 426),
        (("Sec-WebSocket-Key: short",), 400),
    ]:
        with RawSocketWith(http_server, headers) as opened:
            assert opened.status == status


class RawSocketWith(RawSocket):
    """A handshake in which a header takes another's place."""

    def __init__(self, server: Server, headers: tuple[str, ...]) -> None:
        self.replaced = headers
        super().__init__(server, "/v1/ws")

    @property
    def connection(self) -> Any:
        return self._connection

    @connection.setter
    def connection(self, connection: Any) -> None:
        replaced = self.replaced

        class Replacing:
            def sendall(self, data: bytes) -> None:
                lines = data.decode().split("\r\n")
                for header in replaced:
                    name = header.partition(":")[0]
                    lines = [header if line.startswith(name + ":") else line for line in lines]
                connection.sendall("\r\n".join(lines).encode())

            def __getattr__(self, name: str) -> Any:
                return getattr(connection, name)

        self._connection = Replacing()
