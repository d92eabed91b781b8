"""What an attacker would try over HTTP and WebSocket, in the order of trying."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import pytest
from http_door import RawSocket, client_of, connect, get, read_all, serving

from atbr import Store
from atbr.server import Server

BROWSER = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/130"
GUARDED = [
    "/get/key/a",
    "/put/key/a/value/2",
    "/load/a.tsv",
    "/save/a.tsv",
    "/v1/keys/a",
    "/v1/keys",
    "/v1/stats",
    "/v1/files",
    "/metrics",
    "/openapi.json",
]
SOCKETS = ["/v1/ws", "/getws/", "/putws/", "/loadws/", "/savews/"]
TOKEN = "correct horse"


@pytest.fixture
def served() -> Iterator[Server]:
    with serving(Store({b"a": b"1"}, keys=bytes, values=bytes)) as server:
        yield server
        assert server.db(0)[b"a"] == b"1"


@pytest.fixture
def locked() -> Iterator[Server]:
    with serving(Store({b"a": b"1"}, keys=bytes, values=bytes), token=TOKEN) as server:
        yield server
        assert server.db(0)[b"a"] == b"1"


def status_of_socket(server: Server, path: str, *headers: str) -> int:
    with RawSocket(server, path, *headers) as opened:
        return opened.status


# -- reaching the server ---------------------------------------------------------------------------


def test_an_address_that_others_reach_needs_a_secret() -> None:
    for host in ("0.0.0.0", "::"):
        with pytest.raises(ValueError, match="password"):
            Store().serve(host=host, resp=None)
    with Store().serve(host="0.0.0.0", resp=None, token=TOKEN) as server:
        assert get(server, "/v1/stats")[0] == 401


# -- DNS rebinding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8888", "127.0.0.1.evil.example", "localhost.evil", ""]
)
def test_a_name_that_is_not_the_servers_is_refused(served: Server, host: str) -> None:
    for path in [*GUARDED, "/", "/health"]:
        assert get(served, path, f"Host: {host}")[0] == 403, path
    # The page's own origin is the name that it was loaded under.
    same = (f"Origin: http://{host}", "Sec-Fetch-Site: same-origin")
    assert get(served, "/put/key/a/value/2", f"Host: {host}", *same)[0] == 403


def test_a_request_names_one_host(served: Server) -> None:
    for request in [
        b"GET /get/key/a HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /get/key/a HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ]:
        with connect(served) as connection:
            connection.sendall(request)
            assert b" 400 " in read_all(connection).split(b"\r\n")[0]
    absolute = "http://evil.example/put/key/a/value/2"
    assert get(served, absolute, "Host: localhost")[0] == 403


def test_other_names_can_be_allowed() -> None:
    with serving(allowed_hosts=["store.example"]) as server:
        assert get(server, "/get/key/a", "Host: store.example:1234")[0] == 200
        assert get(server, "/get/key/a", "Host: x.store.example")[0] == 403


# -- pages of other sites --------------------------------------------------------------------------


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_an_image_of_another_site_changes_and_reads_nothing(
    served: Server, path: str, site: str
) -> None:
    """<img src="http://localhost:8888/put/key/a/value/2">"""
    headers = (
        BROWSER,
        f"Sec-Fetch-Site: {site}",
        "Sec-Fetch-Mode: no-cors",
        "Sec-Fetch-Dest: image",
    )
    assert get(served, path, *headers)[0] == 403


@pytest.mark.parametrize("path", GUARDED)
def test_a_browser_that_says_nothing_is_refused(served: Server, path: str) -> None:
    assert get(served, path, BROWSER)[0] == 403


def test_a_form_of_another_origin_posts_nothing(served: Server) -> None:
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        status, head, _ = get(
            served,
            "/v1/set-many",
            f"Origin: {origin}",
            "Content-Type: text/plain",
            "Content-Length: 0",
            method="POST",
        )
        assert status == 403
        assert b"access-control" not in head


def test_a_page_of_the_servers_own_is_served(served: Server) -> None:
    own = (BROWSER, f"Host: localhost:{served.http_port}", "Sec-Fetch-Site: same-origin")
    assert get(served, "/v1/keys/a", *own)[0] == 200
    assert get(served, "/v1/keys/a", *own, f"Origin: http://localhost:{served.http_port}")[0] == 200
    assert get(served, "/get/key/a", BROWSER, "Sec-Fetch-Site: none")[0] == 200


@pytest.mark.parametrize("path", SOCKETS)
def test_a_socket_of_another_origin_is_refused(served: Server, path: str) -> None:
    for headers in [
        ("Origin: http://evil.example",),
        ("Origin: http://evil.example", "Sec-Fetch-Site: cross-site"),
        ("Origin: null",),
        ("Sec-Fetch-Site: same-site",),
        (BROWSER,),
    ]:
        assert status_of_socket(served, path, *headers) == 403, headers
    assert status_of_socket(served, path) == 101


def test_only_listed_origins_may_read() -> None:
    origin = "https://app.example"
    with serving(Store({b"a": b"1"}, keys=bytes, values=bytes), cors_origins=[origin]) as server:
        own = (BROWSER, "Sec-Fetch-Site: cross-site")
        status, head, body = get(server, "/v1/keys/a", f"Origin: {origin}", *own)
        assert (status, body) == (200, b"1")
        assert b"access-control-allow-origin: https://app.example\r\n" in head
        assert b"vary: origin" in head
        assert b"access-control-allow-credentials" not in head
        asked = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: if-match")
        status, head, _ = get(server, "/v1/keys/a", f"Origin: {origin}", *asked, method="OPTIONS")
        assert status == 204
        assert b"put" in head
        assert b"if-match" in head
        for other in ("https://app.example.evil", "http://app.example", "https://app.example:444"):
            for method in ("GET", "OPTIONS"):
                status, head, _ = get(
                    server, "/v1/keys/a", f"Origin: {other}", *asked, method=method
                )
                assert status == 403
                assert b"access-control-allow-origin" not in head
    with serving() as server:
        assert b"access-control" not in get(server, "/v1/stats")[1]


# -- the secret ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GUARDED)
def test_everything_that_tells_something_asks_for_the_token(locked: Server, path: str) -> None:
    status, head, body = get(locked, path)
    assert status == 401
    assert b"www-authenticate: bearer" in head
    for wrong in ("Bearer wrong", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN):
        status, head, body = get(locked, path, f"Authorization: {wrong}")
        assert status in (401, 429)
        assert TOKEN.encode() not in head + body
        time.sleep(0.11)


def test_the_token_opens_every_path(locked: Server) -> None:
    bearer = f"Authorization: Bearer {TOKEN}"
    assert get(locked, "/v1/keys/a", bearer)[2] == b"1"
    # What a browser of a page that knows the token sends, over plain HTTP.
    assert get(locked, "/v1/keys/a", bearer, BROWSER)[0] == 200
    assert get(locked, "/v1/keys/a", bearer, "Origin: http://evil.example")[0] == 403
    assert get(locked, "/health")[0] == 200


@pytest.mark.parametrize("path", SOCKETS)
def test_a_socket_shows_the_token_as_a_subprotocol(locked: Server, path: str) -> None:
    def offering(token: str) -> str:
        return "bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")

    assert status_of_socket(locked, path) == 401
    wrong = f"Sec-WebSocket-Protocol: atbr.v1, {offering('wrong')}"
    assert status_of_socket(locked, path, wrong) == 401
    with RawSocket(locked, path, f"Sec-WebSocket-Protocol: atbr.v1, {offering(TOKEN)}") as opened:
        assert opened.status == 101
        assert b"sec-websocket-protocol: atbr.v1\r\n" in opened.head.lower()
        assert offering(TOKEN).lower().encode() not in opened.head.lower()
    assert status_of_socket(locked, path, f"Authorization: Bearer {TOKEN}") == 101


def test_who_guesses_waits(locked: Server) -> None:
    statuses = [get(locked, "/v1/stats", f"Authorization: Bearer {i}")[0] for i in range(200)]
    assert set(statuses) == {401, 429}
    # Ten in any second: what is beyond is not even looked at.
    deadline = time.monotonic() + 60
    while True:
        before = time.monotonic()
        burst = [get(locked, "/v1/stats", "Authorization: Bearer x")[0] for _ in range(30)]
        if time.monotonic() - before < 0.9 or time.monotonic() > deadline:
            break
    assert burst.count(401) <= 20


def test_a_client_that_is_known_is_not_disturbed_by_one_that_guesses(locked: Server) -> None:
    with client_of(locked, authorization=f"Bearer {TOKEN}") as client:
        assert client.get("/v1/keys/a").status_code == 200
        statuses = {get(locked, "/v1/stats", f"Authorization: Bearer {i}")[0] for i in range(50)}
        assert 429 in statuses
        assert client.get("/v1/keys/a").status_code == 200
        assert client.get("/v1/stats").json()["failed_auth"] >= 10


# -- smuggling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /v1/get-many HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Content-Length: 6\r\n\r\n{}{}{}",
        b"POST /v1/get-many HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET /get/key/a HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /get/key/a\r\nHost: localhost\r\n\r\n",
        b"GET /get/key/a HTTP/1.1\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"*1\r\n$4\r\nPING\r\n",
        b"GET /get/key/a HTTP/9.9\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_server_serves_on(
    served: Server, request_bytes: bytes
) -> None:
    with connect(served) as connection:
        connection.sendall(request_bytes)
        connection.settimeout(30)
        answer = read_all(connection)
    assert answer == b"" or answer.split()[1] in (b"400", b"404", b"505", b"200")
    assert b"\r\n1" not in answer
    assert get(served, "/v1/keys/a")[2] == b"1"


def test_a_value_is_never_sent_as_a_header(served: Server) -> None:
    served.db(0)[b"header\r\nX-Injected: 1"] = b"a\r\nX-Injected: 1\r\n\r\n"
    for path in ("/get/key/header%0d%0aX-Injected:%201", "/v1/keys/header%0d%0aX-Injected:%201"):
        status, head, body = get(served, path)
        assert status == 200
        assert b"injected" not in head
        assert body == b"a\r\nX-Injected: 1\r\n\r\n"


def test_refusals_do_not_repeat_what_was_sent(served: Server) -> None:
    for path in ("/v1/keys/%3Cscript%3E%zz", "/<script>", "/v1/keys?cursor=<script>"):
        status, head, body = get(served, path)
        assert status in (400, 404)
        assert b"text/html" not in head
        assert b"<script>" not in body
        # What is no address at all is refused before there is anybody to say why.
        assert body == b"" or json.loads(body)["status"] == status
