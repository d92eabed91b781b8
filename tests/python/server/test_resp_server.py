"""The Redis protocol's server: settings, figures, saves, events, bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from resp_door import client, server, store, wait_until, wire
from resp_wire import Wire

from atbr import Store
from atbr.server import Server

Client = redis.Redis


def test_nobody_replicates_from_here(wire: Wire) -> None:
    for args in (["PSYNC", "?", -1], ["SYNC"], ["REPLCONF", "listening-port", 1]):
        assert wire.call(*args) == b"-ERR replication is not supported\r\n"


def test_there_are_no_modules(wire: Wire) -> None:
    assert wire.call("MODULE", "LIST") == b"*0\r\n"
    for word in ("LOAD", "UNLOAD"):
        assert wire.call("MODULE", word, "x").startswith(b"-ERR MODULE command not allowed.")


def test_there_is_one_user(wire: Wire) -> None:
    assert wire.call("ACL", "USERS") == b"*1\r\n$7\r\ndefault\r\n"
    for args in (["LIST"], ["GETUSER", "a"], ["SETUSER", "a"], ["DELUSER", "a"]):
        assert wire.call("ACL", *args).startswith(b"-ERR users other than default")


def test_saves_go_to_the_data_folder(store: Store[bytes], tmp_path: Path) -> None:
    with (
        store.serve(http=None, data_dir=tmp_path) as server,
        Client(port=server.resp_port) as client,
    ):
        client.flushall()
        client.set("a", "1")
        client.set("b", "2", ex=1000)
        before = client.lastsave()
        assert client.save()
        saved = tmp_path / "dump.tsv"
        assert saved.read_bytes() == b"a\t1\n"
        saved.unlink()
        assert client.bgsave()
        wait_until(saved.exists)
        assert client.lastsave() >= before
        with Wire(server.resp_port or 0) as wire:
            assert wire.call("MULTI") == b"+OK\r\n"
            assert wire.call("SAVE") == b"-ERR Command not allowed inside a transaction\r\n"


def test_settings_change_together_or_not_at_all(client: Client) -> None:
    for pairs, why in [
        (["latency-monitor-threshold", 5, "notify-keyspace-events", "q"], "Invalid event class"),
        (["latency-monitor-threshold", 5, "timeout", -1], "between 0 and 2147483647"),
        (["latency-monitor-threshold", 5, "hz", 20], "nothing that it would change"),
        (["latency-monitor-threshold", 5, "lazyfree-lazy-expire", "yes"], "nothing that it would"),
        (["latency-monitor-threshold", 5, "maxclients", 1], "it stays '"),
        (["latency-monitor-threshold", 5, "databases", 16], "immutable"),
        (["latency-monitor-threshold", 5, "bogus", 16], "Unknown option"),
    ]:
        with pytest.raises(redis.ResponseError, match=why):
            client.execute_command("CONFIG", "SET", *pairs)
        assert client.config_get("latency-monitor-threshold").popitem()[1] == "0"
    # What holds already may be said again.
    assert client.execute_command("CONFIG", "SET", "save", "", "APPENDONLY", "NO")
    assert client.execute_command("CONFIG", "SET", "proto-max-bulk-len", "512mb")


def test_figures_are_told_in_a_transaction(client: Client, wire: Wire) -> None:
    client.set("a", "1")
    unheard_of = next(db for db in range(15, 0, -1) if f"db{db}" not in client.info("keyspace"))
    for args in (
        ["MULTI"],
        ["SELECT", unheard_of],
        ["SET", "b", "2"],
        ["INFO", "keyspace"],
        ["MEMORY", "STATS"],
        ["FLUSHALL"],
        ["INFO", "keyspace"],
    ):
        wire.call(*args)
    told = wire.call("EXEC")
    assert told.count(b":keys=1,") == 2
    assert b"db%d:keys=1" % unheard_of in told
    assert b"keys.count\r\n:2\r\n" in told
    assert told.endswith(b"+OK\r\n$12\r\n# Keyspace\r\n\r\n")
    assert client.dbsize() == 0


def test_the_average_of_deadlines_is_told(client: Client) -> None:
    client.set("never", 1)
    client.set("a", 1, ex=1_000)
    client.set("b", 1, ex=3_000)
    client.set("c", 1, ex=9_000)
    client.delete("c")
    told = client.info("keyspace")["db0"]
    assert (told["keys"], told["expires"]) == (3, 2)
    assert 1_900_000 < told["avg_ttl"] <= 2_000_000


def test_what_is_restored_over_a_key_is_told_as_new(client: Client, server: Server) -> None:
    client.set("a", 1)
    payload = client.dump("a")
    client.config_set("notify-keyspace-events", "EAn")
    assert server.resp_port
    try:
        with Wire(server.resp_port) as wire:
            wire.call("PSUBSCRIBE", "__keyevent*")
            client.restore("a", 0, payload, replace=True)
            client.set("end", 1)
            told = wire.until(b"end").split(b"\r\n")
    finally:
        client.config_set("notify-keyspace-events", "")
    events = [line.partition(b"__:")[2] for line in told if line.startswith(b"__keyevent@")]
    assert events == [b"new", b"restore", b"new"]


def test_scripts_are_not_debugged_in_a_pipeline(wire: Wire) -> None:
    assert wire.call("SCRIPT", "DEBUG", "NO") == b"+OK\r\n"
    wire.call("MULTI")
    wire.call("SCRIPT", "DEBUG", "NO")
    refused = b"*1\r\n-ERR SCRIPT DEBUG must be called outside a pipeline\r\n"
    assert wire.call("EXEC") == refused


def test_a_deadline_that_has_passed_is_told_as_it_is_written(
    client: Client, server: Server
) -> None:
    client.config_set("notify-keyspace-events", "EAn")
    assert server.resp_port
    try:
        with Wire(server.resp_port) as wire:
            wire.call("PSUBSCRIBE", "__keyevent*")
            client.set("past", 1)
            client.set("past", 2, pxat=1)
            client.set("past:new", 2, exat=1)
            client.set("end", 1)
            told = wire.until(b"end").split(b"\r\n")
    finally:
        client.config_set("notify-keyspace-events", "")
    events = [line.partition(b"__:")[2] for line in told if line.startswith(b"__keyevent@")]
    passes = [b"set", b"expire", b"expired"]
    assert events == [b"new", b"set", *passes, b"new", *passes, b"new"]
    assert client.exists("past", "past:new") == 0


def test_events_begin_and_end_in_a_transaction(client: Client, server: Server) -> None:
    assert server.resp_port
    with Wire(server.resp_port) as wire:
        wire.call("PSUBSCRIBE", "__keyevent*")
        with client.pipeline() as pipe:
            pipe.set("before", 1).config_set("notify-keyspace-events", "KEA").set("told", 1)
            pipe.execute()
        with client.pipeline() as pipe:
            pipe.set("again", 1).config_set("notify-keyspace-events", "").set("after", 1)
            pipe.execute()
        client.publish("__keyevent-ends", "end")
        told = wire.until(b"-ends")
    assert b"told" in told
    assert b"before" not in told
    assert b"after" not in told


def test_events_are_told_to_the_clients_of_each_server(store: Store[bytes]) -> None:
    def told(port: int | None) -> bytes:
        assert port
        with Wire(port) as wire, Client(port=port) as client:
            client.config_set("notify-keyspace-events", "KEA")
            wire.call("SUBSCRIBE", "__keyevent@0__:set")
            client.set("a", 1)
            return wire.until(b"message")

    with store.serve(http=None) as first:
        assert told(first.resp_port)
        with store.serve(http=None) as second:
            assert told(second.resp_port)
            assert told(first.resp_port)
        assert told(first.resp_port)
    with store.serve(http=None) as third:
        assert told(third.resp_port)


def test_writes_of_several_keys_evict_what_they_need() -> None:
    """Where the shards of their keys have too little to evict, others have."""
    store = Store(values=bytes, max_bytes=8 << 20, on_full="evict")
    with store.serve(http=None) as server, Client(port=server.resp_port) as client:
        small, value = bytes(100), bytes(1_000_000)
        for i in range(5):
            for _ in range(4):
                store.update({f"small {i} {number}": small for number in range(20_000)})
            assert client.mset({f"a{i}": value, f"b{i}": value})
            with client.pipeline() as pipe:
                pipe.set(f"c{i}", value).append(f"d{i}", value)
                assert pipe.execute() == [True, 1_000_000]
        assert store.stats().bytes_allocated <= 8 << 20


def test_bits_of_a_large_value_are_written_in_place(client: Client, store: Store[bytes]) -> None:
    model = bytearray((16 << 20) - 1) + b"x"
    client.set("large", bytes(model))
    before = store.stats().bytes_copied
    for i in range(100):
        client.setbit("large", i * 1_000_000, 1)
        model[i * 125_000] |= 0x80
        client.setrange("large", i * 100_000 + 50_000, b"part")
        model[i * 100_000 + 50_000 : i * 100_000 + 50_004] = b"part"
        client.bitfield("large").set("u16", f"#{i * 40_000 + 3}", 7).execute()
        model[i * 80_000 + 6 : i * 80_000 + 8] = b"\0\7"
    assert store.stats().bytes_copied - before < 10_000
    assert client.get("large") == model
