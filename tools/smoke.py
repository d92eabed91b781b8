"""Does this installation work? Standard library only, for virtualenvs that hold nothing else."""

from __future__ import annotations

import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import atbr
import atbr.tables
from atbr import compat


def main() -> None:
    """Touch each part of the package once."""
    store = atbr.Store({"a": "1", "ä": "2"})
    store["empty"] = ""
    assert store["a"] == "1"
    assert store.get("ä") == "2"
    assert "none" not in store
    assert len(store) == 3
    assert store.mget(["a", "none"]) == ["1", None]
    assert store.incr("a", 41) == 42
    del store["empty"]
    assert sorted(store) == ["a", "ä"]
    try:
        store["none"]
    except KeyError:
        pass
    else:
        raise AssertionError("a missing key was found")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.tsv"
        path.write_bytes(b"".join(b"key%d\tvalue%d\n" % (i, i) for i in range(100_000)))
        report = store.load(path)
        assert report.rows == 100_000
        assert store["key99999"] == "value99999"
        store.save(path)
        again = atbr.Store()
        again.load(path)
        assert again == store

    clock, told = atbr.ManualClock(), threading.Event()
    with atbr.Store(
        ttl=60, maxsize=1_000, clock=clock, on_expire=lambda _key, _value: told.set()
    ) as cache:
        for i in range(2_000):
            cache[f"key{i}"] = "value"
        assert len(cache) <= 1_000
        clock.advance(61)
        cache.expire()
        assert not cache
        assert told.wait(60)

    compat.Store.set("name", {"first": "John"})
    assert compat.Store.get("name") == {"first": "John"}

    calls = []

    @atbr.cached(atbr.Store(values=atbr.JSON))
    def square(number: int) -> int:
        calls.append(number)
        return number * number

    assert [square(3), square(3)] == [9, 9]
    assert calls == [3]

    with atbr.tables.connect("local://", app_name="smoke", namespace="smoke") as db:
        db.setup_namespace({"users": (str, int)})
        users = db["users"]
        users.put_many([(("john", 2), b"b"), (("john", 1), b"a")])
        assert [value for _, value in users.scan((("john",), ("john",)))] == [b"a", b"b"]

    with store.serve(http=0, resp=None) as server:
        url = f"http://127.0.0.1:{server.http_port}/v1/keys/a"
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert reply.read() == b"42"
    print(f"smoke: ok, {atbr.__file__}, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
