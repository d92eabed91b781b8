"""The paths and the WebSockets of 2012."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from http_door import RawSocket, client_of, get, serving
from websockets.sync.client import connect as websocket

from atbr.server import Server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.tsv").write_bytes(b"key1\tvalue1\nkey2\tvalue2\n")
    with serving(data_dir=tmp_path / "data") as server:
        yield server


@pytest.fixture
def client(served: Server) -> Iterator[httpx.Client]:
    with client_of(served) as client:
        yield client


def ws(server: Server, path: str) -> str:
    return f"ws://127.0.0.1:{server.http_port}{path}"


def test_a_file_is_loaded_a_key_got_another_put_and_all_saved(
    client: httpx.Client, tmp_path: Path
) -> None:
    for path, body in [
        ("/load/a.tsv", ""),
        ("/get/key/key1", "value1"),
        ("/put/key/key3/value/value3", ""),
        ("/get/key/key3", "value3"),
        ("/save/b.tsv", ""),
        ("/get/key/none", ""),
        ("/get/key/", ""),
    ]:
        answer = client.get(path)
        assert (answer.status_code, answer.text) == (200, body), path
    rows = (tmp_path / "data" / "b.tsv").read_bytes().splitlines()
    assert sorted(rows) == [b"key1\tvalue1", b"key2\tvalue2", b"key3\tvalue3"]


def test_keys_keep_their_slashes_and_pluses(served: Server) -> None:
    for path, key, value in [
        ("/put/key/a/b/value/c", b"a/b", b"c"),
        ("/put/key/a%2Fb%2fvalue/value/x", b"a/b/value", b"x"),
        ("/put/key/x/value/y/value/z", b"x/value/y", b"z"),
        ("/put/key/p+q/value/1+1", b"p+q", b"1+1"),
        ("/put/key/%00%ff/value/%09", b"\x00\xff", b"\t"),
        ("/put/key/e/value/%C3%A9", b"e", "é".encode()),
    ]:
        status, _, body = get(served, path)
        assert (status, body) == (200, b""), path
        assert served.db(0)[key] == value
    assert get(served, "/get/key/a/b")[2] == b"c"
    assert get(served, "/get/key/a%2Fb")[2] == b"c"


def test_a_value_is_text_that_no_browser_runs(client: httpx.Client) -> None:
    client.get("/put/key/page/value/%3Cscript%3E")
    answer = client.get("/get/key/page")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/put/key/a", 404),
        ("/put/key/a/value/", 400),
        ("/put/key//value/v", 400),
        ("/put/key/%/value/v", 400),
        ("/get/key/%zz", 400),
        ("/load/none.tsv", 404),
        ("/save/no/such/folder.tsv", 404),
        ("/load/", 404),
        ("/get/other", 404),
        ("/get/key/a?db=16", 400),
    ],
)
def test_a_refusal_is_one_line(served: Server, path: str, status: int) -> None:
    code, head, body = get(served, path)
    assert code == status
    assert b"content-type: text/plain; charset=utf-8" in head
    assert body.count(b"\n") == 1
    assert body.endswith(b"\n")


def test_looking_changes_nothing(served: Server) -> None:
    for path in ("/put/key/a/value/1", "/load/a.tsv", "/save/c.tsv"):
        assert get(served, path, method="HEAD")[0] == 405
        assert get(served, path, method="POST")[0] == 405
    assert len(served.db(0)) == 0
    assert get(served, "/load/c.tsv")[0] == 404


def test_a_malformed_row_is_named(served: Server, tmp_path: Path) -> None:
    (tmp_path / "data" / "bad.tsv").write_bytes(b"a\t1\nno tab\n")
    status, _, body = get(served, "/load/bad.tsv")
    assert status == 422
    assert b"line 2" in body
    assert str(tmp_path).encode() not in body
    assert served.db(0)[b"a"] == b"1"


# -- WebSockets ------------------------------------------------------------------------------------


def test_the_sockets_of_2012(served: Server, tmp_path: Path) -> None:
    with websocket(ws(served, "/loadws/"), proxy=None) as load:
        load.send("a.tsv")
        # Nothing comes back; the next message is read when the load is done.
        load.ping().wait(60)
    with websocket(ws(served, "/putws/"), proxy=None) as put:
        put.send("key3\tvalue3")
        put.send("ignored")
        put.send("ignored\ttoo\tmany")
        put.send(b"\xff\t\x00")
        put.ping().wait(60)
    with websocket(ws(served, "/getws/"), proxy=None) as got:
        for key, value in [
            ("key1", "value1"),
            ("key3", "value3"),
            (b"key3", b"value3"),
            ("none", ""),
            (b"none", b""),
            (b"\xff", b"\x00"),
            ("ignored", ""),
        ]:
            got.send(key)
            assert got.recv(60) == value
    with websocket(ws(served, "/savews/"), proxy=None) as save:
        save.send("ws.tsv")
        save.ping().wait(60)
    assert (tmp_path / "data" / "ws.tsv").stat().st_size > 0
    assert len(served.db(0)) == 4


def test_what_is_no_text_comes_back_as_bytes(served: Server) -> None:
    served.db(0)[b"key"] = b"\xff"
    with websocket(ws(served, "/getws/"), proxy=None) as got:
        got.send("key")
        assert got.recv(60) == b"\xff"


def test_refused_files_leave_the_socket_open(served: Server) -> None:
    for path in ("/loadws/", "/savews/"):
        with websocket(ws(served, path), proxy=None) as socket:
            for name in ("../outside", "/etc/passwd", "none/none", ""):
                socket.send(name)
            assert socket.ping().wait(60)


def test_a_socket_of_another_database(served: Server) -> None:
    with websocket(ws(served, "/putws/?db=7"), proxy=None) as put:
        put.send("a\t1")
        put.ping().wait(60)
    assert served.db(7)[b"a"] == b"1"
    with RawSocket(served, "/getws/?db=16") as refused:
        assert refused.status == 400


def test_a_path_of_sockets_is_no_page(served: Server) -> None:
    status, head, _ = get(served, "/getws/")
    assert status == 426
    assert b"upgrade: websocket" in head
