"""TLS on every door: certificates of openssl, clients of the standard library, redis-py and websockets."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from certificates import Certificate, make_certificate
from command_line import Serve
from http_door import read_all
from websockets.sync.client import connect as connect_socket

from atbr import Store
from atbr.server import Server

MIB = 1 << 20


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "first")


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "second", kind="rsa")


@pytest.fixture
def served(certificate: Certificate) -> Iterator[Server]:
    store = Store({b"a": b"1", b"big": bytes(range(256)) * (MIB // 64)}, keys=bytes, values=bytes)
    with store.serve(tls_cert=certificate.cert, tls_key=certificate.key) as server:
        yield server


def encrypted(port: int | None, certificate: Certificate, **options: str) -> ssl.SSLSocket:
    assert port is not None
    context = certificate.trusting()
    if "alpn" in options:
        context.set_alpn_protocols([options["alpn"]])
    connection = socket.create_connection(("127.0.0.1", port), 60)
    return context.wrap_socket(connection, server_hostname="localhost")


def test_http_is_encrypted(served: Server, certificate: Certificate) -> None:
    assert served.url is not None
    assert served.url.startswith("https://127.0.0.1:")
    with httpx.Client(
        verify=certificate.trusting(), base_url=served.url, trust_env=False
    ) as client:
        assert client.get("/v1/keys/a").text == "1"
        assert client.get("/v1/keys/big").content == served.db(0)[b"big"]
        value = bytes(3 * MIB)
        assert client.put("/v1/keys/sent", content=value).status_code == 201
        assert served.db(0)[b"sent"] == value
        assert client.get("/").headers["content-type"].startswith("text/html")


def test_the_redis_protocol_is_encrypted(served: Server, certificate: Certificate) -> None:
    assert served.resp_url is not None
    assert served.resp_url.startswith("rediss://127.0.0.1:")
    for protocol in (2, 3):
        with redis.Redis.from_url(
            served.resp_url, ssl_ca_certs=str(certificate.cert), protocol=protocol
        ) as client:
            assert client.get("a") == b"1"
            assert client.get("big") == served.db(0)[b"big"]
            with client.pipeline(transaction=False) as pipeline:
                for i in range(2_000):
                    pipeline.set(f"key:{i}", bytes(1000)).get("big" if i % 400 == 0 else "a")
                replies = pipeline.execute()
            assert replies[1] == served.db(0)[b"big"]
            assert replies[3] == b"1"
            listener = client.pubsub(ignore_subscribe_messages=True)
            listener.subscribe("news")
            listener.get_message(timeout=1)
            client.publish("news", "x")
            message = listener.get_message(timeout=30)
            assert message is not None
            assert message["data"] == b"x"
            listener.close()


def test_sockets_are_encrypted(served: Server, certificate: Certificate) -> None:
    address = f"wss://127.0.0.1:{served.http_port}/getws/"
    with connect_socket(address, ssl=certificate.trusting(), max_size=None, proxy=None) as opened:
        opened.send("a")
        assert opened.recv() == "1"
        for _ in range(3):
            opened.send(b"big")
        for _ in range(3):
            assert opened.recv() == served.db(0)[b"big"]


def test_who_does_not_encrypt_gets_no_answer(served: Server) -> None:
    for port, request in [
        (served.http_port, b"GET /v1/keys/a HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (served.resp_port, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
    ]:
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(request)
            answer = read_all(connection)
            assert b"1\r\n" not in answer
            assert b"HTTP" not in answer


def test_old_versions_and_other_protocols_are_refused(
    served: Server, certificate: Certificate
) -> None:
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{served.http_port}"),
            *("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ],
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode != 0
    with pytest.raises(ssl.SSLError):
        encrypted(served.http_port, certificate, alpn="h2").close()
    with encrypted(served.http_port, certificate, alpn="http/1.1") as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert connection.version() == "TLSv1.3"


def test_a_connection_that_ends_says_so(served: Server, certificate: Certificate) -> None:
    """Without a last word a client could not tell the end from a cut."""
    with encrypted(served.http_port, certificate) as connection:
        connection.sendall(
            b"GET /v1/keys/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert read_all(connection).endswith(b"\r\n\r\n1")
    with encrypted(served.resp_port, certificate) as connection:
        connection.sendall(b"QUIT\r\n")
        assert read_all(connection) == b"+OK\r\n"


def test_a_handshake_that_does_not_end_ends_the_connection(certificate: Certificate) -> None:
    with Store().serve(
        tls_cert=certificate.cert, tls_key=certificate.key, unauthenticated_timeout=0.5
    ) as server:
        for port in (server.http_port, server.resp_port):
            assert port is not None
            for beginning in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"):
                with socket.create_connection(("127.0.0.1", port), 60) as connection:
                    connection.sendall(beginning)
                    read_all(connection)


def test_handshakes_count_among_strangers(certificate: Certificate) -> None:
    with Store().serve(
        tls_cert=certificate.cert, tls_key=certificate.key, token="secret", max_unauthenticated=3
    ) as server:
        assert server.http_port is not None
        held = [socket.create_connection(("127.0.0.1", server.http_port), 60) for _ in range(8)]
        try:
            refused = 0
            for connection in held:
                connection.settimeout(2)
                try:
                    refused += connection.recv(1) == b""
                except ConnectionResetError:
                    refused += 1
                except TimeoutError:
                    pass
            assert refused == 5
        finally:
            for connection in held:
                connection.close()


def test_a_handshake_that_is_cut_at_any_byte_leaves_the_server_well(
    served: Server, certificate: Certificate
) -> None:
    context = certificate.trusting()
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(inward, outward, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outward.read()
    for port in (served.http_port, served.resp_port):
        assert port is not None
        for cut in range(0, len(hello), 3):
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                connection.sendall(hello[:cut])
    with encrypted(served.resp_port, certificate) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"


def test_a_reader_that_takes_nothing_is_cut_off(certificate: Certificate) -> None:
    store = Store({b"big": bytes(32 * MIB)}, keys=bytes, values=bytes)
    with store.serve(
        tls_cert=certificate.cert, tls_key=certificate.key, stall_timeout=0.5
    ) as server:
        for port, request in [
            (server.http_port, b"GET /v1/keys/big HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (server.resp_port, b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n"),
        ]:
            with encrypted(port, certificate) as connection:
                connection.sendall(request)
                deadline = time.monotonic() + 60
                while open_connections(server, certificate) > 1:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)


def open_connections(server: Server, certificate: Certificate) -> int:
    """Count the connections, the one that asks included."""
    assert server.url is not None
    with httpx.Client(
        verify=certificate.trusting(), base_url=server.url, trust_env=False
    ) as client:
        return int(client.get("/v1/stats").json()["connections"])


# -- files -----------------------------------------------------------------------------------------


def test_the_certificate_is_read_again(
    tmp_path: Path, certificate: Certificate, another: Certificate
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def use(made: Certificate) -> None:
        cert.write_bytes(made.cert.read_bytes())
        key.write_bytes(made.key.read_bytes())

    use(certificate)
    with Store({"a": "1"}).serve(tls_cert=cert, tls_key=key) as server:
        with encrypted(server.resp_port, certificate) as connection:
            use(another)
            server.reload_secrets()
            for port in (server.http_port, server.resp_port):
                encrypted(port, another).close()
                with pytest.raises(ssl.SSLCertVerificationError):
                    encrypted(port, certificate).close()
            # What was open stays open.
            connection.sendall(b"PING\r\n")
            assert connection.recv(16) == b"+PONG\r\n"
        # One without the other is refused, and changes nothing.
        cert.write_bytes(certificate.cert.read_bytes())
        with pytest.raises(OSError, match="it is not the key of"):
            server.reload_secrets()
        encrypted(server.http_port, another).close()


def test_hangup_reads_the_certificate_again(
    tmp_path: Path, certificate: Certificate, another: Certificate
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(certificate.cert.read_bytes())
    key.write_bytes(certificate.key.read_bytes())
    with Serve("--tls-cert", str(cert), "--tls-key", str(key)) as serve:
        port = serve.port("https")
        encrypted(port, certificate).close()
        cert.write_bytes(another.cert.read_bytes())
        serve.child.send_signal(signal.SIGHUP)
        assert "it is not the key of" in serve.message("stay as they were")
        encrypted(port, certificate).close()
        key.write_bytes(another.key.read_bytes())
        serve.child.send_signal(signal.SIGHUP)
        serve.message("and the certificate")
        encrypted(port, another).close()
        encrypted(serve.port("rediss"), another).close()
        assert serve.end() == 0


def test_files_that_cannot_be_used_are_one_line(
    tmp_path: Path, certificate: Certificate, another: Certificate
) -> None:
    empty, garbage, broken = (tmp_path / name for name in ("empty", "garbage", "broken"))
    empty.write_bytes(b"")
    garbage.write_bytes(bytes(range(256)))
    lines = certificate.cert.read_bytes().splitlines()
    broken.write_bytes(b"\n".join([lines[0], b"!!!!", *lines[2:]]))
    for cert, key, said in [
        (tmp_path / "no", certificate.key, r"no \(--tls-cert\): No such file"),
        (certificate.cert, tmp_path / "no", r"no \(--tls-key\): No such file"),
        (empty, certificate.key, r"empty \(--tls-cert\): it holds no certificate"),
        (garbage, certificate.key, r"garbage \(--tls-cert\): it holds no certificate"),
        (broken, certificate.key, r"broken \(--tls-cert\): it is no PEM file"),
        (certificate.key, certificate.key, r"\(--tls-cert\): it holds no certificate"),
        (certificate.cert, certificate.cert, r"\(--tls-key\): it holds no private key"),
        (certificate.cert, another.key, r"\(--tls-key\): it is not the key of .*first.cert.pem"),
    ]:
        with pytest.raises(OSError, match=said) as caught:
            Store().serve(tls_cert=cert, tls_key=key)
        assert "\n" not in str(caught.value)
    for options in ({"tls_cert": certificate.cert}, {"tls_key": certificate.key}):
        with pytest.raises(ValueError, match="need each other"):
            Store().serve(**options)  # type: ignore[arg-type]
    words = ["--tls-cert", str(certificate.cert), "--tls-key", str(another.key)]
    with Serve(*words, ready=False) as serve:
        assert serve.wait() == 1
        assert len(serve.lines) == 1
        assert "it is not the key of" in serve.lines[0]


def test_the_key_is_out_of_reach(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, "served")
    (tmp_path / "rows.tsv").write_text("a\t1\n")
    with Store().serve(tls_cert=made.cert, tls_key=made.key, data_dir=tmp_path) as server:
        with httpx.Client(verify=made.trusting(), base_url=server.url, trust_env=False) as client:
            assert client.get("/load/rows.tsv").status_code == 200
            for path in (f"/load/{made.key.name}", f"/save/{made.key.name}"):
                assert client.get(path).status_code == 403
            assert made.key.name not in client.get("/v1/files").text
    assert made.key.read_text().startswith("-----BEGIN")


def test_a_fork_leaves_the_parents_connections_alone(certificate: Certificate) -> None:
    """The child must not write into the parent's encrypted connections."""
    program = (
        "import os, sys, ssl, socket, atbr\n"
        "store = atbr.Store({'a': '1'})\n"
        "with store.serve(tls_cert=sys.argv[1], tls_key=sys.argv[2]) as server:\n"
        "    context = ssl.create_default_context(cafile=sys.argv[1])\n"
        "    raw = socket.create_connection(('127.0.0.1', server.resp_port), 60)\n"
        "    client = context.wrap_socket(raw, server_hostname='localhost')\n"
        "    client.sendall(b'PING\\r\\n')\n"
        "    assert client.recv(16) == b'+PONG\\r\\n'\n"
        "    if (child := os.fork()) == 0:\n"
        "        os._exit(0 if store['a'] == '1' and server.closed else 1)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    client.sendall(b'PING\\r\\n')\n"
        "    assert client.recv(16) == b'+PONG\\r\\n'\n"
        "    client.close()\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(certificate.cert), str(certificate.key)],
        check=True,
        timeout=120,
    )
