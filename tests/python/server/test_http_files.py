"""Loading and saving over HTTP: what is done, what is refused, and what an attacker would try."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from http_door import client_of, connect, get, read_all, serving

from atbr import Store
from atbr.server import Server

ROWS = 200_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "a.tsv").write_bytes(b"a\t1\nb\t2\n")
    (data / "sub" / "b.tsv").write_bytes(b"c\t3\n")
    (tmp_path / "outside.tsv").write_bytes(b"secret\t1\n")
    return data


@pytest.fixture
def served(folder: Path) -> Iterator[Server]:
    with serving(data_dir=folder) as server:
        yield server


@pytest.fixture
def client(served: Server) -> Iterator[httpx.Client]:
    with client_of(served) as client:
        yield client


def lines(answer: httpx.Response) -> list[dict[str, object]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_load_tells_how_it_goes(client: httpx.Client, folder: Path) -> None:
    (folder / "large.tsv").write_bytes(b"".join(b"%d\t%d\n" % (i, i) for i in range(ROWS)))
    answer = client.post("/v1/load", params={"file": "large.tsv"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    told = lines(answer)
    last = told[-1]
    assert (last["done"], last["rows"], last["new"], last["replaced"]) == (True, ROWS, ROWS, 0)
    assert [line["bytes"] for line in told] == sorted(line["bytes"] for line in told)  # type: ignore[type-var]
    size = (folder / "large.tsv").stat().st_size
    assert all(line["total_bytes"] == size for line in told[:-1])
    assert client.get("/v1/keys/77").content == b"77"


def test_a_load_goes_to_the_database_that_was_named(served: Server, client: httpx.Client) -> None:
    assert lines(client.post("/v1/load?file=sub/b.tsv&db=2"))[-1]["rows"] == 1
    assert served.db(2)[b"c"] == b"3"
    assert len(served.db(0)) == 0


def test_a_load_that_fails_says_where(client: httpx.Client, folder: Path) -> None:
    (folder / "bad.tsv").write_bytes(b"a\t1\nno tab\n")
    error = lines(client.post("/v1/load?file=bad.tsv"))[-1]["error"]
    assert isinstance(error, dict)
    assert (error["code"], "line 2" in error["detail"]) == ("malformed_row", True)
    assert client.get("/v1/keys/a").content == b"1"


def test_a_body_is_loaded(client: httpx.Client) -> None:
    body = b"".join(b"%d\t%d\n" % (i, i) for i in range(ROWS))
    answer = client.put("/v1/load", content=body)
    assert (answer.status_code, answer.json()["rows"]) == (200, ROWS)
    assert client.get("/v1/stats").json()["entries"] == ROWS
    answer = client.put("/v1/load", content=b"x\t1\nno tab\ny\t1\n")
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_row")
    assert client.get("/v1/keys/x").content == b"1"
    assert client.get("/v1/keys/y").status_code == 404


def test_a_client_that_leaves_ends_its_load_and_its_rows_stay(served: Server) -> None:
    with connect(served) as connection:
        connection.sendall(
            b"PUT /v1/load HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for i in range(200):
            row = b"%d\t%s\n" % (i, b"x" * 5000)
            connection.sendall(b"%x\r\n%s\r\n" % (len(row), row))
        store = served.db(0)
        while b"0" not in store:
            pass
    with client_of(served) as client:
        # The place for loads is free again once the first one has ended.
        while client.put("/v1/load", content=b"done\t1\n").status_code == 409:
            pass
    assert store[b"done"] == b"1"
    assert store[b"0"] == b"x" * 5000


def test_one_load_at_a_time(served: Server, client: httpx.Client) -> None:
    with ExitStack() as stack:
        connection = begin_load(served, stack)
        while (answer := client.post("/v1/load?file=a.tsv")).status_code != 409:
            # It may be this load that came first, and the other one that was refused.
            if select.select([connection], [], [], 0)[0]:
                assert b" 409 " in read_all(connection)
                connection = begin_load(served, stack)
        assert answer.json()["code"] == "busy"
        assert get(served, "/load/a.tsv")[0] == 409
        connection.sendall(b"0\r\n\r\n")
        assert b" 200 " in read_all(connection)
    assert client.post("/v1/load?file=a.tsv").status_code == 200


def begin_load(served: Server, stack: ExitStack) -> socket.socket:
    """Send rows, and not the end of them."""
    connection = stack.enter_context(connect(served))
    connection.sendall(
        b"PUT /v1/load HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n4\r\na\t1\n\r\n"
    )
    return connection


def test_all_databases_are_saved(served: Server, client: httpx.Client, folder: Path) -> None:
    served.db(0)[b"a"] = b"1"
    served.db(5)[b"b"] = b"2"
    answer = client.post("/v1/save?file=saved.tsv")
    assert (answer.status_code, answer.json()["rows"], answer.json()["databases"]) == (200, 2, 2)
    assert (folder / "saved.tsv").read_bytes() == b"a\t1\n"
    assert (folder / "saved.tsv.db5").read_bytes() == b"b\t2\n"


def test_tabs_and_newlines_go_there_and_back(served: Server, client: httpx.Client) -> None:
    rows = {b"a\tb\\": b"\n\r\\n", b"": b"", b"c": b"\t"}
    for key, value in rows.items():
        served.db(0)[key] = value
    assert client.post("/v1/save?file=saved.tsv").status_code == 200
    served.db(0).clear()
    assert lines(client.post("/v1/load?file=saved.tsv"))[-1]["rows"] == len(rows)
    assert served.db(0) == rows


def test_what_expires_is_not_saved_and_counted(
    served: Server, client: httpx.Client, folder: Path
) -> None:
    served.db(0)[b"a"] = b"1"
    served.db(0).set(b"b", b"2", ttl=3600)
    answer = client.post("/v1/save?file=saved.tsv").json()
    assert (answer["rows"], answer["expiring_left_out"]) == (1, 1)
    assert (folder / "saved.tsv").read_bytes() == b"a\t1\n"


def test_files_are_listed(client: httpx.Client) -> None:
    assert client.get("/v1/files").json() == {"files": [{"key": "a.tsv"}]}


def test_without_a_folder_nothing_is_loaded_or_saved() -> None:
    with serving() as server, client_of(server) as client:
        for answer in (
            client.post("/v1/load?file=a.tsv"),
            client.post("/v1/save?file=a.tsv"),
            client.get("/v1/files"),
            client.get("/load/a.tsv"),
            client.get("/save/a.tsv"),
        ):
            assert answer.status_code == 403


def test_a_folder_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="--data-dir"):
        Store().serve(data_dir=tmp_path / "none")


# -- attacks ---------------------------------------------------------------------------------------


def everywhere(server: Server, name: str) -> list[int]:
    """Try a name at every path that takes one; return what they answer."""
    encoded = quote(name, safe="")
    return [
        get(server, f"/load/{encoded}")[0],
        get(server, f"/save/{encoded}")[0],
        get(server, f"/v1/load?file={encoded}", "Content-Length: 0", method="POST")[0],
        get(server, f"/v1/save?file={encoded}", "Content-Length: 0", method="POST")[0],
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../outside.tsv",
        "..",
        ".",
        "sub/../../outside.tsv",
        "sub/../a.tsv",
        "./a.tsv",
        "sub//b.tsv",
        "sub/",
        "/etc/passwd",
        "//etc/passwd",
        "a.tsv\x00.txt",
        "a" * 1025,
    ],
)
def test_no_name_leads_out_of_the_folder(served: Server, tmp_path: Path, name: str) -> None:
    assert set(everywhere(served, name)) == {400}
    assert (tmp_path / "outside.tsv").read_bytes() == b"secret\t1\n"
    assert len(served.db(0)) == 0


def test_an_absolute_path_is_refused_where_it_exists(served: Server, tmp_path: Path) -> None:
    assert set(everywhere(served, str(tmp_path / "outside.tsv"))) == {400}
    assert set(everywhere(served, str(tmp_path / "data" / "a.tsv"))) == {400}


def test_dots_in_a_raw_path_lead_nowhere(served: Server) -> None:
    for path in ("/load/../outside.tsv", "/load/%2e%2e/outside.tsv", "/load/..%2foutside.tsv"):
        assert get(served, path)[0] == 400
    assert len(served.db(0)) == 0


def test_symbolic_links_are_not_followed(served: Server, folder: Path, tmp_path: Path) -> None:
    (folder / "link.tsv").symlink_to(tmp_path / "outside.tsv")
    (folder / "up").symlink_to("..")
    (folder / "dangling.tsv").symlink_to(tmp_path / "made.tsv")
    for name in ("link.tsv", "up/outside.tsv", "dangling.tsv"):
        assert set(everywhere(served, name)) <= {403}
    assert (tmp_path / "outside.tsv").read_bytes() == b"secret\t1\n"
    assert not (tmp_path / "made.tsv").exists()
    assert len(served.db(0)) == 0


def test_only_regular_files_count(served: Server, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        try:
            os.chdir(folder)
            listener.bind("socket")
        finally:
            os.chdir(here)
        for name in ("pipe", "sub", "socket"):
            assert set(everywhere(served, name)) == {403}
    assert (folder / "pipe").is_fifo()


def test_a_folder_that_becomes_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    """A name's folder is exchanged for a link again and again while it is loaded."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.tsv").write_bytes(b"secret\t1\n")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            (folder / "sub").rename(folder / "kept")
            (folder / "sub").symlink_to(tmp_path / "elsewhere")
            (folder / "sub").unlink()
            (folder / "kept").rename(folder / "sub")

    with serving(data_dir=folder) as server, client_of(server) as client:
        thread = threading.Thread(target=exchange)
        thread.start()
        try:
            statuses = {client.post("/v1/load?file=sub/b.tsv").status_code for _ in range(300)}
            statuses |= {client.post("/v1/save?file=sub/b.tsv").status_code for _ in range(50)}
        finally:
            stop.set()
            thread.join()
        assert statuses <= {200, 403, 404}
        assert b"secret" not in server.db(0)
    assert (tmp_path / "elsewhere" / "b.tsv").read_bytes() == b"secret\t1\n"


def test_secrets_in_the_folder_are_out_of_reach(folder: Path) -> None:
    token = folder / "token.txt"
    token.write_text("s3cret")
    os.link(token, folder / "innocent.tsv")
    with serving(data_dir=folder, token_file=token) as server:
        with client_of(server, authorization="Bearer s3cret") as client:
            for name in ("token.txt", "innocent.tsv"):
                for answer in (
                    client.post(f"/v1/load?file={name}"),
                    client.post(f"/v1/save?file={name}"),
                    client.get(f"/load/{name}"),
                    client.get(f"/save/{name}"),
                ):
                    assert answer.status_code == 403
            assert client.get("/v1/files").json() == {"files": [{"key": "a.tsv"}]}
    assert token.read_text() == "s3cret"


def test_a_save_that_cannot_be_leaves_the_old_file(folder: Path) -> None:
    with serving(data_dir=folder, tsv="plain") as server, client_of(server) as client:
        server.db(0)[b"a\tb"] = b"1"
        saved = client.post("/v1/save?file=a.tsv")
        assert (saved.status_code, saved.json()["code"]) == (409, "not_representable")
        assert get(server, "/save/a.tsv")[0] == 409
    assert (folder / "a.tsv").read_bytes() == b"a\t1\nb\t2\n"
    assert sorted(path.name for path in folder.iterdir()) == ["a.tsv", "sub"]
