"""The class of 2012."""

from __future__ import annotations

from pathlib import Path

import pytest

from atbr import Atbr, LoadError


def test_load_prints_the_four_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.tsv"
    path.write_text("key1\tvalue1\nkey2\tvalue2\tand more\n")
    mystore = Atbr()
    mystore.load(str(path))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split(" in ")[0] for line in lines] == [
        "Loaded",
        "New keys",
        "Rate",
        "Throughput",
    ]
    assert lines[1] == "New keys: 2"
    assert mystore.size() == 2
    assert mystore.get("key2") == "value2\tand more"


def test_get_of_a_missing_key_is_the_empty_string() -> None:
    mystore = Atbr()
    assert mystore.get("none") == ""
    assert mystore.exists("none") is False
    mystore.put("a", "1")
    assert (mystore.get("a"), mystore.exists("a"), mystore.size()) == ("1", True, 1)


def test_any_bytes_survive_load_and_save(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_bytes(b"\xff\t\xfe\n")
    mystore = Atbr()
    mystore.load(tmp_path / "in.tsv")
    mystore.save(tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_bytes() == b"\xff\t\xfe\n"


def test_a_row_without_a_tab_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_bytes(b"a\t1\nb\n")
    mystore = Atbr()
    with pytest.raises(LoadError):
        mystore.load(tmp_path / "in.tsv")
    assert mystore.size() == 1
