"""Programs that speak the Redis protocol: django's cache, redis-cli and redis-benchmark."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from django.core.cache.backends.redis import RedisCache
from resp_wire import encode

from atbr import Store
from atbr.server import Server

SECONDS = 120


@pytest.fixture
def server() -> Iterator[Server]:
    with Store(values=bytes).serve(http=None) as server:
        yield server


@pytest.fixture
def cache(server: Server) -> Iterator[RedisCache]:
    cache = RedisCache(server.resp_url, {"KEY_PREFIX": "shop", "TIMEOUT": 300, "VERSION": 2})
    yield cache
    for pool in cache._cache._pools.values():
        pool.disconnect()


def run(program: str, server: Server, *words: str, stdin: bytes = b"", error: bytes = b"") -> str:
    """Run a program of Redis that ends with an error, or well; return what it said."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (tools/engines.sh)")
    command = [path, "-h", "127.0.0.1", "-p", str(server.resp_port), *words]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=SECONDS, check=False)
    assert done.stderr.strip() == error
    assert done.returncode == bool(error)
    return done.stdout.decode()


def test_django_keeps_values_of_any_kind(cache: RedisCache, server: Server) -> None:
    values = [None, True, 7, 2.5, "Zürich", b"\0\xff", [1, (2, {"a": {3}})]]
    for value in values:
        cache.set("k", value)
        assert cache.get("k") == value
    assert set(server.db(0)) == {"shop:2:k"}
    assert cache.get("none", "default") == "default"
    assert cache.get("k", version=1) is None


def test_django_counts(cache: RedisCache) -> None:
    cache.set("n", 10)
    assert cache.incr("n") == 11
    assert cache.incr("n", 5) == 16
    assert cache.decr("n", 20) == -4
    assert cache.get("n") == -4
    with pytest.raises(ValueError):
        cache.incr("absent")
    assert cache.incr_version("n") == 3
    assert cache.get("n", version=3) == -4
    assert cache.get("n") is None


def test_django_adds_only_what_is_absent(cache: RedisCache) -> None:
    assert cache.add("k", 1)
    assert not cache.add("k", 2)
    assert cache.get("k") == 1
    assert cache.get_or_set("k", 3) == 1
    assert cache.get_or_set("l", lambda: 4) == 4
    assert "l" in cache
    assert not cache.has_key("m")


def test_django_has_values_end(cache: RedisCache, server: Server) -> None:
    def seconds(key: str) -> float | None:
        return server.db(0).get_ttl(f"shop:2:{key}")

    cache.set("default", 1)
    cache.set("own", 1, timeout=50)
    cache.set("never", 1, timeout=None)
    cache.set("gone", 1, timeout=0)
    assert 250 < (seconds("default") or 0) <= 300
    assert 10 < (seconds("own") or 0) <= 50
    assert seconds("never") is None
    assert cache.get("gone") is None
    assert cache.touch("own", 100)
    assert 50 < (seconds("own") or 0) <= 100
    assert cache.touch("own", None)
    assert seconds("own") is None
    assert not cache.touch("gone", 10)
    assert not cache.add("own", 2, timeout=0)


def test_django_takes_many_at_once(cache: RedisCache) -> None:
    rows = {f"k{i}": i for i in range(1000)}
    assert cache.set_many(rows, timeout=60) == []
    assert cache.get_many([*rows, "absent"]) == rows
    cache.delete_many(list(rows)[:400])
    assert len(cache.get_many(rows)) == 600
    assert cache.delete("k999")
    assert not cache.delete("k999")
    cache.clear()
    assert cache.get_many(rows) == {}


def test_redis_cli_pipes(server: Server) -> None:
    rows = 100_000
    stream = b"".join(encode("SET", f"key {i}", b"\0\r\n%d" % i) for i in range(rows))
    assert f"errors: 0, replies: {rows}" in run("redis-cli", server, "--pipe", stdin=stream)
    assert len(server.db(0)) == rows
    assert server.db(0)["key 99999"] == b"\0\r\n99999"


def test_redis_cli_pipes_on_after_an_error(server: Server) -> None:
    stream = encode("SET", "k", "v") + encode("INCR", "k") + encode("SET", "l", "w")
    error = b"ERR value is not an integer or out of range"
    said = run("redis-cli", server, "--pipe", stdin=stream, error=error)
    assert "errors: 1, replies: 3" in said
    assert dict(server.db(0)) == {"k": b"v", "l": b"w"}


def test_redis_cli_scans_and_dumps(server: Server) -> None:
    server.db(0).update({f"k{i}": b"v" for i in range(100)})
    assert set(run("redis-cli", server, "--scan", "--pattern", "k1*").split()) == {
        f"k{i}" for i in (1, *range(10, 20))
    }
    assert (
        run("redis-cli", server, "-3", "--no-raw", "mget", "k1", "absent") == '1) "v"\n2) (nil)\n'
    )
    assert "100 keys" in run("redis-cli", server, "--bigkeys")


def test_redis_benchmark_runs(server: Server) -> None:
    tests = "ping_inline,ping_mbulk,set,get,incr,mset"
    words = ["--csv", "-n", "2000", "-c", "20", "-P", "4", "-r", "100", "-t", tests]
    said = run("redis-benchmark", server, *words)
    names = [line.split('"')[1].split(" ")[0] for line in said.splitlines()[1:]]
    assert names == ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"]
