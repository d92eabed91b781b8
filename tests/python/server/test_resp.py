"""The Redis protocol by redis-py, and by hand where a client would not do it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import redis
from resp_door import client, server, store, wait_until, wire
from resp_wire import Wire, encode, real_redis

from atbr import Store
from atbr.server import Server

Client = redis.Redis


def test_python_and_clients_see_each_others_writes(client: Client, store: Store[bytes]) -> None:
    client.set("from client", b"1")
    assert store["from client"] == b"1"
    store["from python"] = b"2"
    assert client.get("from python") == b"2"


def test_strings_do_what_their_names_say(client: Client) -> None:
    assert client.set("k", "v", ex=100, nx=True)
    assert not client.set("k", "w", nx=True)
    assert 0 < client.ttl("k") <= 100
    assert client.getex("k", persist=True) == b"v"
    assert client.ttl("k") == -1
    assert client.append("k", "w") == 2
    assert client.setrange("k", 4, "z") == 5
    assert client.get("k") == b"vw\0\0z"
    assert client.incrbyfloat("f", "10.5") == 10.5
    assert client.mset({"a": 1, "b": 2})
    assert client.mget("a", "b", "c") == [b"1", b"2", None]
    assert not client.msetnx({"b": 3, "c": 4})
    assert not client.exists("c")


def test_a_deadline_is_the_one_that_was_set(client: Client) -> None:
    client.set("k", "v")
    for deadline in (1_893_456_000_123, 9_000_000_000_000_000):
        assert client.pexpireat("k", deadline)
        assert client.execute_command("PEXPIRETIME", "k") == deadline
    assert client.pexpireat("k", 1)
    assert not client.exists("k")


def test_large_values_come_back_whole(client: Client) -> None:
    for size in (65_535, 65_536, 1 << 20, 20 << 20):
        value = bytes(size)
        client.set("large", value)
        assert client.get("large") == value
    pipeline = client.pipeline(transaction=False)
    client.set("small", "s")
    for key in ("large", "small", "large", "missing") * 2:
        pipeline.get(key)
    assert [len(value or b"") for value in pipeline.execute()] == [20 << 20, 1, 20 << 20, 0] * 2


def test_exec_runs_nothing_where_a_watched_key_has_changed(
    client: Client, store: Store[bytes]
) -> None:
    client.set("k", "1")
    for change in (lambda: store.set("k", b"2"), lambda: client.flushall()):
        with client.pipeline() as pipeline:
            pipeline.watch("k")
            change()
            pipeline.multi()
            pipeline.set("k", "3")
            with pytest.raises(redis.WatchError):
                pipeline.execute()
        client.set("k", "1")


def test_a_watched_key_that_lapses_ends_the_transaction(client: Client) -> None:
    client.set("k", "1", px=30)
    with client.pipeline() as pipeline:
        pipeline.watch("k")
        wait_until(lambda: not client.exists("k"))
        pipeline.multi()
        pipeline.set("k", "3")
        with pytest.raises(redis.WatchError):
            pipeline.execute()


def test_databases_are_apart_until_they_are_swapped(client: Client) -> None:
    client.set("k", "zero")
    client.execute_command("SELECT", 5)
    assert client.get("k") is None
    client.set("k", "five")
    client.execute_command("SWAPDB", 0, 5)
    assert client.get("k") == b"zero"
    client.execute_command("SELECT", 0)
    assert client.get("k") == b"five"
    client.execute_command("SWAPDB", 0, 5)


def test_invariants_hold_under_transactions_of_several_clients(
    server: Server, client: Client
) -> None:
    names = [f"account:{i}" for i in range(8)]
    client.mset(dict.fromkeys(names, 100))
    failures: list[object] = []

    def transfer(seed: int) -> None:
        with redis.Redis(port=server.resp_port) as mine:
            for i in range(300):
                a, b = names[(seed + i) % 8], names[(seed + i * 3 + 1) % 8]
                if a == b:
                    continue
                with mine.pipeline() as pipeline:
                    pipeline.decrby(a, 7).incrby(b, 7).mget(names)
                    total = sum(map(int, pipeline.execute()[-1]))
                if total != 800 or sum(map(int, mine.mget(names))) != 800:
                    failures.append(total)

    threads = [threading.Thread(target=transfer, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures


def test_messages_come_in_one_order_and_after_the_subscription(client: Client) -> None:
    listeners = [client.pubsub() for _ in range(3)]
    for listener in listeners:
        listener.subscribe("news")
        listener.psubscribe("n*")
        assert [listener.get_message(timeout=30)["type"] for _ in range(2)] == [
            "subscribe",
            "psubscribe",
        ]
    for i in range(200):
        assert client.publish("news", i) == 6
    heard = [
        [listener.get_message(timeout=30)["data"] for _ in range(400)] for listener in listeners
    ]
    assert heard[0] == heard[1] == heard[2]
    for listener in listeners:
        listener.close()


def test_events_of_keys_are_told_once(client: Client, store: Store[bytes]) -> None:
    client.config_set("notify-keyspace-events", "KEA")
    try:
        listener = client.pubsub()
        listener.psubscribe("__keyevent@0__:*")
        assert listener.get_message(timeout=30)["type"] == "psubscribe"
        client.set("k", "v", px=20)
        store["from python"] = b"v"
        told = [listener.get_message(timeout=30) for _ in range(4)]
        names = sorted((message["channel"].split(b":")[1], message["data"]) for message in told)
        assert names == [
            (b"expire", b"k"),
            (b"expired", b"k"),
            (b"set", b"from python"),
            (b"set", b"k"),
        ]
        assert listener.get_message(timeout=0.1) is None
        listener.close()
    finally:
        client.config_set("notify-keyspace-events", "")


def test_a_monitor_sees_commands_and_no_secret(server: Server, wire: Wire, client: Client) -> None:
    assert wire.call("MONITOR") == b"+OK\r\n"
    client.set("k\n", "v")
    with pytest.raises(redis.AuthenticationError):
        client.execute_command("AUTH", "user", "hunter2")
    assert b'"SET" "k\\n" "v"' in wire.until(b'"SET"')
    assert b"hunter2" not in wire.until(b'"AUTH"')


def test_slow_commands_are_logged_until_they_are_forgotten(client: Client) -> None:
    client.config_set("slowlog-log-slower-than", 0)
    try:
        client.slowlog_reset()
        client.mset({"a": 1, "b": 2})
        assert b"MSET a 1 b 2" in [entry["command"] for entry in client.slowlog_get()]
        client.slowlog_reset()
    finally:
        client.config_set("slowlog-log-slower-than", 10_000)
    assert client.slowlog_len() <= 1


def test_clients_are_listed_and_killed(server: Server, client: Client) -> None:
    with redis.Redis(port=server.resp_port, client_name="victim") as victim:
        victim.ping()
        found = [other for other in client.client_list() if other["name"] == "victim"]
        assert len(found) == 1
        assert client.client_kill_filter(_id=found[0]["id"]) == 1
        wait_until(lambda: all(other["name"] != "victim" for other in client.client_list()))


def test_a_pause_ends_by_itself_or_when_told(server: Server, client: Client, wire: Wire) -> None:
    client.client_pause(60_000, all=False)
    wire.send("SET", "k", "v")
    assert client.get("k") is None
    client.client_unpause()
    assert wire.reply() == b"+OK\r\n"
    client.client_pause(50)
    assert client.get("k") == b"v"


def test_replies_are_left_out_where_asked(wire: Wire) -> None:
    wire.send("CLIENT", "REPLY", "OFF")
    wire.send("SET", "k", "1")
    wire.send("CLIENT", "REPLY", "ON")
    assert wire.reply() == b"+OK\r\n"
    wire.send("CLIENT", "REPLY", "SKIP")
    wire.send("GET", "k")
    assert wire.call("ECHO", "here") == b"$4\r\nhere\r\n"


def test_locks_of_redis_py_work(client: Client) -> None:
    lock = client.lock("lock", timeout=10)
    assert lock.acquire()
    assert not client.lock("lock").acquire(blocking=False)
    assert lock.extend(5)
    assert lock.reacquire()
    lock.release()
    assert not client.exists("lock")
    with pytest.raises(redis.ResponseError, match="scripting is not supported"):
        client.eval("return 1", 0)


def test_dumps_go_to_a_real_server_and_back(client: Client, tmp_path: Path) -> None:
    values = [
        b"",
        b"x",
        b"12345",
        b"-7",
        b"2147483648",
        b"a" * 1000,
        bytes(range(256)) * 300,
        b"ab" * 5000,
    ]
    with real_redis(tmp_path) as port, redis.Redis(port=port) as real:
        for i, value in enumerate(values):
            client.set(f"k{i}", value)
            real.restore(f"k{i}", 0, client.dump(f"k{i}"))
            assert real.get(f"k{i}") == value
            client.restore(f"k{i}", 100_000, real.dump(f"k{i}"), replace=True)
            assert client.get(f"k{i}") == value
            assert 0 < client.pttl(f"k{i}") <= 100_000
    with pytest.raises(redis.ResponseError, match="checksum"):
        client.restore("bad", 0, b"\x00\x01x" + bytes(10))


def test_scan_finds_every_key_once(client: Client) -> None:
    client.mset({f"scan:{i}": i for i in range(3_000)})
    found = list(client.scan_iter(match="scan:*", count=100))
    assert len(found) == len(set(found)) == 3_000
    assert not list(client.scan_iter(match="scan:*", _type="list"))


def test_keys_are_found_in_a_command_line(client: Client) -> None:
    found = client.command_getkeys("BITOP", "AND", "to", "a", "b")
    # In version 2 redis-py returns texts.
    assert [key if isinstance(key, bytes) else key.encode() for key in found] == [b"to", b"a", b"b"]
    assert client.command_count() == len(client.command_list()) or client.command_count() > 100
    docs = client.execute_command("COMMAND DOCS", "get", "client")
    assert docs


def test_containers_help(wire: Wire) -> None:
    for container in (
        "CLIENT",
        "CONFIG",
        "COMMAND",
        "MEMORY",
        "SLOWLOG",
        "LATENCY",
        "OBJECT",
        "PUBSUB",
        "SCRIPT",
    ):
        reply = wire.call(container, "HELP")
        assert reply.startswith(b"*")
        assert container.encode() in reply


def test_info_names_what_monitoring_reads(client: Client) -> None:
    client.set("k", "v", ex=100)
    info = client.info("everything")
    assert info["redis_version"].startswith("7.0.")
    assert info["role"] == "master"
    assert info["loading"] == 0
    assert info["db0"]["keys"] == 1
    assert info["db0"]["expires"] == 1
    assert {
        "used_memory",
        "connected_clients",
        "keyspace_hits",
        "expired_keys",
        "cmdstat_set",
    } <= set(info)


def test_a_command_is_understood_wherever_its_bytes_are_cut(server: Server) -> None:
    assert server.resp_port
    commands = encode("SET", "cut", "a\r\nb") + b"GET cut\r\n" + encode("STRLEN", "cut")
    with Wire(server.resp_port) as wire:
        for cut in range(len(commands) + 1):
            wire.socket.sendall(commands[:cut])
            wire.socket.sendall(commands[cut:])
            replies = [wire.reply() for _ in range(3)]
            assert replies == [b"+OK\r\n", b"$4\r\na\r\nb\r\n", b":4\r\n"], cut


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\nSET a b\r\n",
        b"PING\r\nPOST /x\r\nSET crossed 1\r\n",
        b"PING\r\nHost: x\r\nSET crossed 1\r\n",
    ],
)
def test_requests_of_browsers_end_the_connection(
    server: Server, client: Client, request_: bytes
) -> None:
    assert server.resp_port
    with Wire(server.resp_port) as wire:
        wire.socket.sendall(request_)
        assert wire.ends() in (b"", b"+PONG\r\n")
    assert not client.exists("crossed")


def test_a_request_that_is_none_gets_an_error_and_the_end(server: Server) -> None:
    assert server.resp_port
    for request, error in [
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$600000000\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
    ]:
        with Wire(server.resp_port) as wire:
            wire.socket.sendall(request)
            assert wire.ends() == error


def test_strangers_may_do_nothing_but_authenticate() -> None:
    with Store().serve(http=None, password="right") as server:
        assert server.resp_port
        with Wire(server.resp_port) as wire:
            assert wire.call("GET", "k") == b"-NOAUTH Authentication required.\r\n"
            wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
            assert wire.call("AUTH", "wrong") == wire.call("AUTH", "nobody", "right") == wrong
            assert wire.call("AUTH", "default", "right") == b"+OK\r\n"
            assert wire.call("GET", "k") == b"$-1\r\n"
        for request in (b"*11\r\n", b"*2\r\n$4\r\nAUTH\r\n$20000\r\n"):
            with Wire(server.resp_port) as wire:
                wire.socket.sendall(request)
                assert b"unauthenticated" in wire.ends()
        with Wire(server.resp_port) as wire:
            # At once: the connection ends in the midst of them.
            wire.socket.sendall(encode("AUTH", "wrong") * 20)
            assert b"too many failed attempts" in wire.ends()


def test_clients_that_say_nothing_leave_when_it_ends() -> None:
    with Store().serve(http=None) as server:
        assert server.resp_port
        with Wire(server.resp_port) as idle, Wire(server.resp_port) as listener:
            assert idle.call("PING") == b"+PONG\r\n"
            assert listener.call("SUBSCRIBE", "news").startswith(b"*3")
            assert server.close(60)
            assert idle.ends() == listener.ends() == b""


def test_clients_tell_what_they_are(client: Client) -> None:
    assert client.execute_command("CLIENT", "SETINFO", "LIB-NAME", "atbr") == b"OK"
    assert client.execute_command("CLIENT", "NO-TOUCH", "ON") == b"OK"
    with pytest.raises(redis.ResponseError, match="syntax"):
        client.execute_command("CLIENT", "NO-TOUCH", "perhaps")
