"""The few tests that say whether a build works at all."""

from __future__ import annotations

from pathlib import Path

import pytest

import atbr

pytestmark = pytest.mark.smoke


def test_a_store_holds_reads_iterates_and_forgets(types: tuple[type, type]) -> None:
    keys, values = types
    store = atbr.Store(keys=keys, values=values)
    for i in range(2_000):
        store[f"k{i}"] = values() if i % 2 else (b"x" * i if values is bytes else "ä" * i)
    assert len(store) == 2_000
    assert len(dict(store.items())) == 2_000
    assert store.delete_many(list(store)) == 2_000
    assert not store


def test_a_file_is_loaded_and_saved(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("a\t1\nb\t2\n")
    store = atbr.Store()
    assert store.load(tmp_path / "in.tsv").rows == 2
    store.save(tmp_path / "out.tsv")
    assert sorted((tmp_path / "out.tsv").read_text().splitlines()) == ["a\t1", "b\t2"]
