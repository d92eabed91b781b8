"""Does this installation work? Standard library only, for virtualenvs that hold nothing else."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atbr


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
    print(f"smoke: ok, {atbr.__file__}, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
