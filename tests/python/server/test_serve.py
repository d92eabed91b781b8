"""`Store.serve` in this process, and `atbr serve` as one of its own."""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from command_line import Serve, fetch
from resp_wire import Wire

from atbr import Store
from atbr.server import Server

HERE = Path(__file__).parent


@pytest.fixture
def server(store: Store[str]) -> Iterator[Server]:
    with store.serve() as server:
        yield server


def refused(port: int | None) -> bool:
    assert port is not None
    try:
        socket.create_connection(("127.0.0.1", port), 30).close()
    except ConnectionRefusedError:
        return True
    return False


# -- in this process -------------------------------------------------------------------------------


def test_both_sides_see_each_others_writes(store: Store[str], server: Server) -> None:
    store["alpha"] = "α"
    assert fetch(f"{server.url}/v1/keys/alpha") == "α".encode()
    fetch(f"{server.url}/v1/keys/beta", "PUT", b"2")
    assert store["beta"] == "2"
    fetch(f"{server.url}/v1/keys/alpha", "DELETE")
    assert "alpha" not in store


def test_ports_are_free_ones_and_the_addresses_name_them(server: Server) -> None:
    assert server.http_port
    assert server.resp_port
    assert server.http_port != server.resp_port
    assert server.url == f"http://127.0.0.1:{server.http_port}"
    assert server.resp_url == f"redis://127.0.0.1:{server.resp_port}"
    assert repr(server) == f"<atbr.server.Server at {server.url}, {server.resp_url}>"


@pytest.mark.parametrize("door", ["http", "resp"])
def test_a_door_may_be_left_out(store: Store[str], door: str) -> None:
    with store.serve(**{door: None}) as server:  # type: ignore[arg-type]
        closed, open_ = ("http", "resp") if door == "http" else ("resp", "http")
        assert getattr(server, f"{closed}_port") is None
        assert not refused(getattr(server, f"{open_}_port"))
        assert (server.url is None) == (door == "http")


def test_a_closed_server_leaves_the_ports_and_the_store(store: Store[str]) -> None:
    server = store.serve()
    assert not server.closed
    assert server.close()
    assert server.closed
    assert refused(server.http_port)
    assert refused(server.resp_port)
    assert repr(server) == "<atbr.server.Server closed>"
    assert server.close()
    store["a"] = "1"
    with store.serve(http=server.http_port) as again:
        assert fetch(f"{again.url}/v1/keys/a") == b"1"


def test_a_server_that_nobody_holds_serves_on(store: Store[str]) -> None:
    store["a"] = "1"
    url = store.serve().url
    gc.collect()
    assert fetch(f"{url}/v1/keys/a") == b"1"


def test_the_interpreter_ends_with_servers_that_nobody_closed(
    run_python: Callable[..., str],
) -> None:
    program = "import atbr\nservers = [atbr.Store().serve() for _ in range(3)]\nprint(len(servers))"
    assert run_python(program) == "3\n"


def test_databases_are_stores_of_the_same_types(server: Server, store: Store[str]) -> None:
    server.db(3)["a"] = "drei"
    assert "a" not in store
    assert fetch(f"{server.url}/v1/keys/a?db=3") == b"drei"
    fetch(f"{server.url}/v1/keys/b?db=15", "PUT", b"15")
    assert server.db(15)["b"] == "15"
    assert server.db(0) is store
    for wrong in (16, -1, 256):
        with pytest.raises((ValueError, OverflowError)):
            server.db(wrong)


def test_databases_go_through_the_codec(json_store: Store[object]) -> None:
    with json_store.serve() as server:
        fetch(f"{server.url}/v1/keys/a?db=2", "PUT", b"[1, 2]")
        assert server.db(2)["a"] == [1, 2]
        assert server.db(2).view(values=bytes)["a"] == b"[1, 2]"


def test_a_busy_port_is_one_line_that_names_it(store: Store[str], server: Server) -> None:
    with pytest.raises(OSError, match=rf"port {server.http_port} \(--http\)") as caught:
        Store().serve(http=server.http_port)
    assert caught.value.errno == errno.EADDRINUSE
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_need_a_secret(store: Store[str], host: str) -> None:
    with pytest.raises(ValueError, match="--password-file"):
        store.serve(host=host)


def test_a_secret_opens_every_door(store: Store[str]) -> None:
    store["a"] = "1"
    with store.serve(host="0.0.0.0", password="päss", token=b"token") as server:
        address = f"{server.url}/v1/keys/a"
        assert address.startswith("http://127.0.0.1:")
        for secret in ("päss".encode().decode("latin-1"), "token"):
            assert fetch(address, Authorization=f"Bearer {secret}") == b"1"
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(HTTPError) as caught:
                fetch(address, **headers)
            assert caught.value.code == 401
            caught.value.close()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tsv": "csv"}, ValueError),
        ({"password": ""}, OSError),
        ({"password_file": "/nowhere/password"}, OSError),
        ({"cors_origins": "https://a.example"}, TypeError),
        ({"http": 70_000}, OverflowError),
        ({"idle_timeout": -1.0}, ValueError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_a_wrong_option_is_refused(
    store: Store[str], options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.serve(**options)  # type: ignore[arg-type]


def test_readonly_refuses_the_network_alone(store: Store[str]) -> None:
    with store.serve(readonly=True) as server:
        with pytest.raises(HTTPError) as caught:
            fetch(f"{server.url}/v1/keys/a", "PUT", b"1")
        assert caught.value.code == 403
        caught.value.close()
        store["a"] = "1"
        assert fetch(f"{server.url}/v1/keys/a") == b"1"


def test_secrets_are_read_again(store: Store[str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    store["a"] = "1"
    with store.serve(token_file=file) as server:
        address = f"{server.url}/v1/keys/a"
        assert fetch(address, Authorization="Bearer old") == b"1"
        file.write_text("new")
        server.reload_secrets()
        assert fetch(address, Authorization="Bearer new") == b"1"
        with pytest.raises(HTTPError) as caught:
            fetch(address, Authorization="Bearer old")
        caught.value.close()
        file.unlink()
        with pytest.raises(FileNotFoundError):
            server.reload_secrets()
        assert fetch(address, Authorization="Bearer new") == b"1"


def test_the_server_never_takes_the_gil(store: Store[str], server: Server) -> None:
    """This thread holds the GIL until another process has been answered a hundred times."""
    store["a"] = "1"
    program = (
        "import sys, urllib.request as u\n"
        "for _ in range(100):\n"
        f"    assert u.urlopen('{server.url}/v1/keys/a', timeout=60).read() == b'1'\n"
        "sys.stdout.write('answered'); sys.stdout.flush()\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        buffer = ctypes.create_string_buffer(8)
        # PyDLL calls without releasing the GIL; the child ends, and the read with it, if it is not answered.
        read = ctypes.PyDLL(None).read(child.stdout.fileno(), buffer, 8)
        assert buffer.raw[:read] == b"answered"[:read]
        assert read > 0
        child.communicate(timeout=60)


def test_a_fork_has_a_usable_store_and_a_closed_server(run_python: Callable[..., str]) -> None:
    program = """
import os, socket, urllib.request, warnings
import atbr
warnings.simplefilter("ignore", DeprecationWarning)  # the network's threads are meant
store = atbr.Store({"a": "1"})
server = store.serve()
waiting = socket.create_connection(("127.0.0.1", server.http_port))
assert urllib.request.urlopen(server.url + "/v1/keys/a").read() == b"1"
for _ in range(20):
    child = os.fork()
    if not child:
        store["a"] = "child"
        assert store["a"] == "child" and server.closed and server.close()
        again = store.serve()
        assert urllib.request.urlopen(again.url + "/v1/keys/a").read() == b"child"
        again.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    assert urllib.request.urlopen(server.url + "/v1/keys/a").read() == b"1"
assert not server.closed
for _ in range(50):
    port = server.http_port
    child = os.fork()
    if not child:
        os.read(0, 1)
        os._exit(0)
    server.close()
    # Also where the child has not run yet, and holds all that it was given.
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        held = False
    else:
        held = True
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert not held
    server = store.serve(resp=None)
print("no child holds a port")
"""
    assert run_python(program) == "no child holds a port\n"


def test_a_fork_amid_commands_and_events_has_usable_databases(
    run_python: Callable[..., str],
) -> None:
    program = """
import os, sys, threading, warnings
sys.path[:0] = sys.argv[1:]
from resp_wire import Wire, encode
import atbr
warnings.simplefilter("ignore", DeprecationWarning)  # the network's threads are meant
store = atbr.Store()
server = store.serve(http=None)
listener = Wire(server.resp_port)
listener.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
listener.send("PSUBSCRIBE", "*")
done = threading.Event()

def command(number):
    with Wire(server.resp_port) as wire:
        while not done.is_set():
            for db in range(16):
                wire.socket.sendall(encode("SELECT", db) + encode("SET", "a", number) + encode("SWAPDB", db, number))
                for _ in range(3):
                    assert wire.reply() == b"+OK\\r\\n"

def listen():
    while listener.socket.recv(1 << 16):
        pass

threads = [threading.Thread(target=command, args=(number,)) for number in range(3)]
threads.append(threading.Thread(target=listen))
for thread in threads:
    thread.start()
for _ in range(50):
    child = os.fork()
    if not child:
        for db in range(16):
            server.db(db)["child"] = "1"
            assert server.db(db).pop("child") == "1"
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
done.set()
server.close()
for thread in threads:
    thread.join()
print("all children ended")
"""
    folder = str(Path(__file__).parent)
    assert run_python(program, folder) == "all children ended\n"


def test_threads_close_and_start_servers_at_once(store: Store[str]) -> None:
    def work() -> None:
        for _ in range(5):
            with store.serve() as server:
                assert server.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


# -- as a process ----------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.tsv"
    file.write_bytes(b"alpha\t1\nbeta\ttwo\\tparts\\nlines\n")
    return file


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(number: int) -> None:
    with Serve() as serve:
        assert serve.end(number) == 0
        logged = [json.loads(line) for line in serve.lines]
        assert [line["message"] for line in logged[-2:]] == ["ending", "ended"]
        assert all({"timestamp", "level", "message"} <= line.keys() for line in logged)


def test_files_are_loaded_and_what_they_escape_is_read(rows: Path) -> None:
    with Serve(str(rows)) as serve:
        assert "2 rows" in serve.message("loaded")
        assert fetch(f"{serve.url}/v1/keys/beta") == b"two\tparts\nlines"
    with Serve("--tsv", "plain", str(rows)) as serve:
        assert fetch(f"{serve.url}/v1/keys/beta") == rb"two\tparts\nlines"


def test_shutdown_nosave_saves_nothing(tmp_path: Path) -> None:
    saved = tmp_path / "saved.tsv"
    for word, rows in [("NOSAVE", None), ("", b"a\t1\n"), ("NOSAVE", b"a\t1\n")]:
        with Serve("--save-on-exit", str(saved)) as serve:
            with Wire(serve.port("redis")) as wire:
                wire.call("SET", "a", 1)
                wire.call("SET", "b", 1, "EX", 1000)
                wire.send("SHUTDOWN", *[word] if word else [])
                assert wire.ends() == b""
            assert serve.wait() == 0
        assert (saved.read_bytes() if saved.exists() else None) == rows


def test_a_server_is_saved_at_its_end_and_starts_again_from_that(tmp_path: Path) -> None:
    saved = tmp_path / "saved.tsv"
    with Serve("--save-on-exit", str(saved)) as serve:
        fetch(f"{serve.url}/v1/keys/{quote('täb')}", "PUT", b"a\tb\nc\\")
        fetch(f"{serve.url}/v1/keys/other?db=7", "PUT", b"7")
        fetch(f"{serve.url}/v1/keys/brief", "PUT", b"x", **{"Atbr-TTL-Ms": "60000"})
        assert serve.end() == 0
        assert "saved 1 rows" in serve.message("saved.tsv in")
        assert "1 that expire left out" in serve.message("saved.tsv in")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved.tsv", "saved.tsv.db7"]
    assert saved.read_bytes() == "täb".encode() + b"\ta\\tb\\nc\\\\\n"
    with Serve(str(saved), "--save-on-exit", str(saved)) as serve:
        assert fetch(f"{serve.url}/v1/keys/{quote('täb')}") == b"a\tb\nc\\"
        assert fetch(f"{serve.url}/v1/keys/other?db=7") == b"7"
        fetch(f"{serve.url}/v1/keys/other?db=7", "DELETE")
        assert serve.end() == 0
    assert (tmp_path / "saved.tsv.db7").read_bytes() == b""


def test_a_save_that_fails_leaves_the_old_file_and_status_1(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    saved = folder / "saved.tsv"
    saved.write_text("old\t1\n")
    with Serve("--tsv", "plain", "--save-on-exit", str(saved)) as serve:
        # A newline cannot be written into a plain file.
        fetch(f"{serve.url}/v1/keys/a", "PUT", b"1\n2")
        assert serve.end() == 1
        said = [line for line in serve.lines if not line.startswith("{")]
        assert len(said) == 1
        assert said[0].startswith("atbr serve: ")
    assert [path.name for path in folder.iterdir()] == ["saved.tsv"]
    assert saved.read_text() == "old\t1\n"


def test_a_busy_port_is_one_line_before_anything_is_loaded(
    rows: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for door in ("http", "resp"):
            with Serve(f"--{door}", str(port), str(rows), ready=False) as serve:
                assert serve.wait() == 1
                assert len(serve.lines) == 1, serve.lines
                assert serve.lines[0].startswith("atbr serve: ")
                assert f"port {port} (--{door})" in serve.lines[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--password-file"),
        (["/nowhere/rows.tsv"], "/nowhere/rows.tsv: No such file"),
        (["--password-file", "/nowhere/pw"], "/nowhere/pw"),
        (["--data-dir", "/nowhere/data"], "/nowhere/data"),
        (["--host", "256.0.0.1"], "256.0.0.1"),
        (["--max-bytes", "1kB"], "max_bytes"),
    ],
)
def test_what_stops_a_start_is_one_line_and_status_1(words: list[str], said: str) -> None:
    with Serve(*words, ready=False) as serve:
        assert serve.wait() == 1
        assert [line for line in serve.lines if not line.startswith("{")] == serve.lines
        assert len(serve.lines) == 1
        assert said in serve.lines[0]


def test_a_row_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.tsv"
    file.write_text("a\t1\nno tab\n")
    with Serve(str(file), ready=False) as serve:
        assert serve.wait() == 1
        assert "line 2" in serve.lines[-1]


def test_hangup_reads_the_secrets_again(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    with Serve("--password-file", str(file)) as serve:
        address = f"{serve.url}/v1/stats"
        fetch(address, Authorization="Bearer old")
        file.write_text("new\n")
        serve.child.send_signal(signal.SIGHUP)
        serve.message("read again")
        fetch(address, Authorization="Bearer new")
        with pytest.raises(HTTPError) as caught:
            fetch(address, Authorization="Bearer old")
        caught.value.close()
        file.write_text("")
        serve.child.send_signal(signal.SIGHUP)
        serve.message("stay as they were")
        fetch(address, Authorization="Bearer new")
        assert serve.end() == 0


def test_a_signal_while_files_are_loaded_ends_at_once_and_saves_nothing(tmp_path: Path) -> None:
    pipe, saved = tmp_path / "endless.tsv", tmp_path / "saved.tsv"
    rows = tmp_path / "rows.tsv"
    with rows.open("wb") as file:
        for start in range(0, 3_000_000, 100_000):
            file.write(b"".join(b"%d\t%d\n" % (i, i) for i in range(start, start + 100_000)))
    assert not pipe.exists()
    # Loaded again and again, so that the signal comes in the midst of it.
    words = [str(rows)] * 200
    with Serve(*words, "--save-on-exit", str(saved), ready=False) as serve:
        serve.message("loaded")
        assert serve.end() == 0
        assert not any("serving at" in line for line in serve.lines)
    assert not saved.exists()


def test_requests_that_have_begun_are_answered_at_the_end() -> None:
    with Serve() as serve:
        body = b"x" * 100_000
        with socket.create_connection(("127.0.0.1", serve.port("http")), 60) as client:
            head = b"PUT /v1/keys/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
            client.sendall(head + body[:50_000])
            serve.child.send_signal(signal.SIGTERM)
            serve.message("ending")
            client.sendall(body[50_000:])
            assert client.recv(12) == b"HTTP/1.1 201"
        assert serve.wait() == 0


def test_a_request_that_came_before_the_end_is_answered_though_nobody_had_read_it() -> None:
    with Store(keys=bytes, values=bytes) as store:
        for i in range(100):
            with store.serve(resp=None) as server:
                with socket.create_connection(("127.0.0.1", server.http_port or 0), 60) as client:
                    client.sendall(
                        b"PUT /v1/keys/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1"
                        % i
                    )
                    # All of it is there, and perhaps not even the connection was accepted.
                    assert server.close()
                    assert client.recv(12) == b"HTTP/1.1 201"
        assert len(store) == 100


def test_redis_clients_that_say_nothing_leave_at_once() -> None:
    with Serve("--drain", "50") as serve:
        address = ("127.0.0.1", serve.port("redis"))
        with (
            socket.create_connection(address, 60) as idle,
            socket.create_connection(address) as half,
        ):
            idle.sendall(b"PING\r\n")
            assert idle.recv(100) == b"+PONG\r\n"
            half.sendall(b"PING\r\n*2\r\n$3\r\nGET\r\n")
            assert half.recv(100) == b"+PONG\r\n"
            since = time.monotonic()
            assert serve.end() == 0
            assert idle.recv(100) == half.recv(100) == b""
            # Far less than the drain: nobody had to be cut.
            assert time.monotonic() - since < 25


def test_a_client_that_lingers_is_cut_after_the_drain() -> None:
    with Serve("--drain", "0.2") as serve:
        with socket.create_connection(("127.0.0.1", serve.port("http")), 60) as client:
            client.sendall(
                b"PUT /v1/keys/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1"
            )
            # Answered, so the connection before it is known as well.
            fetch(f"{serve.url}/health")
            assert serve.end() == 0
            serve.message("were cut")


def test_shutdown_by_a_client_ends_the_process(tmp_path: Path) -> None:
    saved = tmp_path / "saved.tsv"
    with Serve("--save-on-exit", str(saved)) as serve:
        with socket.create_connection(("127.0.0.1", serve.port("redis")), 60) as client:
            client.sendall(b"SET a 1\r\n")
            assert client.recv(100) == b"+OK\r\n"
            client.sendall(b"SHUTDOWN\r\n")
            assert client.recv(100) == b""
        assert serve.wait() == 0
    assert saved.read_bytes() == b"a\t1\n"


def test_a_configuration_file_serves(tmp_path: Path, rows: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("TOML needs Python 3.11")
    config = tmp_path / "atbr.toml"
    config.write_text(
        'files = ["rows.tsv"]\nreadonly = true\ndata-dir = "."\nlog-level = "debug"\n'
    )
    with Serve("--config", str(config), cwd=Path("/")) as serve:
        assert fetch(f"{serve.url}/v1/keys/alpha") == b"1"
        with pytest.raises(HTTPError) as caught:
            fetch(f"{serve.url}/v1/keys/alpha", "PUT", b"2")
        assert caught.value.code == 403
        caught.value.close()
        assert serve.end() == 0


def test_the_log_has_levels_and_two_forms() -> None:
    with Serve("--log-format", "text") as serve:
        assert serve.end() == 0
        assert all(re.match(r"\S+Z +INFO \w+", line) for line in serve.lines), serve.lines
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Serve("--http", str(port), "--log-level", "warn", ready=False) as serve:
        while refused(port) and serve.child.poll() is None:
            time.sleep(0.02)
        # Bound ports are answered on when the signals are listened to.
        assert fetch(f"http://127.0.0.1:{port}/health") == b"ok\n"
        assert serve.end() == 0
        assert serve.lines == []


def test_no_secret_stands_in_the_log_or_the_process_list(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("very-secret")
    with Serve("--password-file", str(file), "--log-level", "trace") as serve:
        fetch(f"{serve.url}/v1/stats", Authorization="Bearer very-secret")
        command = Path(f"/proc/{serve.child.pid}/cmdline").read_bytes()
        assert serve.end() == 0
        assert "very-secret" not in "".join(serve.lines) + command.decode()


def test_an_idle_server_does_nothing() -> None:
    """Its main thread sleeps until a signal comes, and does not look around meanwhile."""
    with Serve() as serve:
        fetch(f"{serve.url}/health")
        status = Path(f"/proc/{serve.child.pid}/status")

        def switches() -> int:
            lines = status.read_text().splitlines()
            return int(next(x for x in lines if x.startswith("voluntary")).split()[1])

        def in_a_second() -> int:
            before = switches()
            time.sleep(1)
            return switches() - before

        # Who polls does it in every second; what start-up left to do, or the machine, may take some of the first.
        assert any(in_a_second() <= 2 for _ in range(8))


def test_a_unit_and_an_image_start_what_exists(tmp_path: Path) -> None:
    deploy = HERE.parents[2] / "deploy"
    unit = (deploy / "atbr.service").read_text()
    assert "ExecStart=/usr/local/bin/atbr serve --config" in unit
    if program := shutil.which("systemd-analyze"):
        # Its program is there, and nothing else is wrong with it.
        script = Path(sys.executable).with_name("atbr")
        installed = tmp_path / "atbr.service"
        installed.write_text(unit.replace("/usr/local/bin/atbr", str(script)))
        subprocess.run([program, "verify", str(installed)], check=True, timeout=60)
    image = (deploy / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["/opt/atbr/bin/atbr", "serve"]' in image
    with Serve("--config", str(deploy / "atbr.toml")) as serve:
        assert serve.end() == 0
