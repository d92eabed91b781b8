"""load, save, progress and their errors, as Python sees them; the parsing itself is tested in Rust."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atbr import LoadError, Progress, Store
from atbr import progress as progress_module


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.tsv"
    path.write_bytes(b"".join(b"key%d\tvalue%d\n" % (i, i) for i in range(50_000)))
    return path


def test_load_stores_every_row(store: Store[str], rows: Path) -> None:
    store["key0"] = "old"
    report = store.load(rows)
    assert (report.rows, report.new, report.replaced) == (50_000, 49_999, 1)
    assert report.bytes == rows.stat().st_size
    assert report.seconds > 0
    assert report.pairs_per_second > 0
    assert report.mb_per_second > 0
    assert len(store) == 50_000
    assert store["key49999"] == "value49999"
    assert store["key0"] == "value0"


def test_the_report_prints_as_four_lines(store: Store[str], rows: Path) -> None:
    report = store.load(str(rows))
    assert len(str(report).splitlines()) == 4
    assert repr(report).startswith("LoadReport(rows=50000, new=50000, replaced=0, bytes=")


def test_keep_first_leaves_what_is_there(store: Store[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("a\t1\na\t2\nb\t3\n")
    store["b"] = "old"
    store.load(path, keep="first")
    assert dict(store) == {"a": "1", "b": "old"}
    store.load(path, keep="last")
    assert dict(store) == {"a": "2", "b": "3"}


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(threads: int, rows: Path) -> None:
    store, other = Store(), Store()
    store.load(rows)
    other.load(rows, threads=threads)
    assert store == other


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"keep": "middle"}, ValueError),
        ({"threads": 0}, ValueError),
        ({"threads": -1}, OverflowError),
        ({"progress": 5}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_a_wrong_option_is_refused(
    options: dict[str, Any], error: type, store: Store[str], rows: Path
) -> None:
    with pytest.raises(error):
        store.load(rows, **options)
    assert not store


def test_a_row_without_a_tab_is_told_with_its_place(store: Store[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.tsv"
    path.write_bytes(b"a\t1\nb\t2\nno tab here\nc\t3\n")
    with pytest.raises(LoadError, match=r"bad\.tsv: line 3") as caught:
        store.load(path)
    error = caught.value
    assert isinstance(error, ValueError)
    assert (error.file, error.line, error.byte_offset) == (str(path), 3, 8)
    assert error.report.rows == 2
    assert dict(store) == {"a": "1", "b": "2"}


def test_a_missing_file_is_told_with_errno_and_name(store: Store[str], tmp_path: Path) -> None:
    path = tmp_path / "none.tsv"
    with pytest.raises(FileNotFoundError) as caught:
        store.load(path)
    assert os.fspath(caught.value.filename) == str(path)
    with pytest.raises(IsADirectoryError):
        store.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        store.save(tmp_path / "none" / "x.tsv")


def test_what_is_saved_loads_again(tmp_path: Path) -> None:
    store = Store({"ä": "1\t2", "": "", "b": "\r"})
    report = store.save(tmp_path / "out.tsv")
    assert report.rows == 3
    assert report.bytes == (tmp_path / "out.tsv").stat().st_size
    again = Store()
    again.load(tmp_path / "out.tsv")
    assert again == store
    assert [file.name for file in tmp_path.iterdir()] == ["out.tsv"]


@pytest.mark.parametrize(("key", "value"), [("a\tb", "1"), ("a\nb", "1"), ("a", "1\n2")])
def test_what_tsv_cannot_hold_is_refused_before_the_file_is_replaced(
    key: str, value: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.tsv"
    path.write_text("old\tfile\n")
    with pytest.raises(ValueError, match="TSV"):
        Store({key: value}).save(path)
    assert path.read_text() == "old\tfile\n"
    assert [file.name for file in tmp_path.iterdir()] == ["out.tsv"]


def test_escaped_rows_hold_any_key_and_value(tmp_path: Path) -> None:
    path = tmp_path / "escaped.tsv"
    entries = {"a\tb": "1\n2", "\n": "\\t", "c\\": ""}
    store = Store(entries)
    assert store.save(path, escape="backslash").rows == 3
    assert path.read_bytes().count(b"\n") == 3
    assert Store(entries) == store
    copy: Store[str] = Store()
    assert copy.load(path, escape="backslash").new == 3
    assert dict(copy.items()) == entries


def test_a_backslash_that_escapes_nothing_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text("a\t1\nb\t\\x\n")
    store: Store[str] = Store()
    with pytest.raises(LoadError, match="backslash") as caught:
        store.load(path, escape="backslash")
    assert (caught.value.line, caught.value.report.rows) == (2, 1)
    assert store.load(path).rows == 2
    assert store["b"] == "\\x"


@pytest.mark.parametrize("call", ["load", "save"])
def test_another_escape_is_refused(call: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="escape="):
        getattr(Store(), call)(tmp_path / "file.tsv", escape="quotes")
    assert not any(tmp_path.iterdir())


def test_what_expires_is_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "lasting.tsv"
    store = Store({"lasts": "1"})
    store.set("expires", "2", ttl=1000)
    report = store.save(path, skip_expiring=True)
    assert (report.rows, report.skipped) == (1, 1)
    assert path.read_text() == "lasts\t1\n"
    assert store.save(path).skipped == 0


def test_a_progress_function_sees_the_end(store: Store[str], rows: Path) -> None:
    seen: list[Progress] = []
    store.load(rows, progress=seen.append)
    assert seen
    last = seen[-1]
    assert (last.rows, last.bytes, last.total_bytes) == (
        50_000,
        rows.stat().st_size,
        rows.stat().st_size,
    )
    assert [p.rows for p in seen] == sorted(p.rows for p in seen)


def test_a_progress_function_that_raises_ends_the_load(store: Store[str], rows: Path) -> None:
    class OwnError(Exception):
        pass

    def show(_: Progress) -> None:
        raise OwnError

    with pytest.raises(OwnError) as caught:
        store.load(rows, progress=show)
    assert caught.value.report.rows <= 50_000  # type: ignore[attr-defined]
    store.load(rows)
    assert len(store) == 50_000


def test_a_progress_function_may_use_the_store(store: Store[str], rows: Path) -> None:
    store.load(rows, progress=lambda p: store.__setitem__("seen", str(p.rows)))
    assert store["seen"] == "50000"


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in names:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_progress_without_libraries_is_a_line_on_stderr(
    store: Store[str],
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without(monkeypatch, "tqdm", "rich")
    store.load(rows, progress=True)
    line = capsys.readouterr().err
    assert "100%" in line
    assert "50,000 rows" in line
    assert line.endswith("\n")


@pytest.mark.parametrize("library", ["tqdm", "rich"])
def test_progress_uses_a_library_that_is_installed(
    store: Store[str], rows: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    pytest.importorskip(library)
    without(monkeypatch, *{"tqdm", "rich"} - {library})
    store.load(rows, progress=True)
    store.save(rows, progress=True)
    assert len(store) == 50_000


def test_the_time_left_follows_from_the_share_done() -> None:
    assert progress_module.describe(Progress(0, 0, 100, None, 0.0)) == "0 rows, 0.0 MB/s"
    line = progress_module.describe(Progress(10, 2**20, 2**22, None, 2.0))
    assert line == "10 rows, 0.5 MB/s, 6 s left"
    assert Progress(5, 1, None, 10, 1.0).fraction == 0.5
    assert Progress(20, 1, None, 10, 1.0).fraction == 1.0


def test_a_signal_ends_a_load_with_the_first_rows_in(
    run_python: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "many.tsv"
    with path.open("wb") as file:
        for start in range(0, 2_000_000, 10_000):
            file.writelines(b"%d\t%d\n" % (i, i) for i in range(start, start + 10_000))
    program = """
import os, signal, sys
import atbr
store = atbr.Store()
try:
    store.load(sys.argv[1], progress=lambda p: os.kill(os.getpid(), signal.SIGINT))
except KeyboardInterrupt as interrupt:
    rows = interrupt.report.rows
    assert len(store) == rows
    assert all(str(i) in store for i in range(rows))
    assert rows <= 2_000_000
    print("interrupted")
"""
    assert run_python(program, str(path)) == "interrupted\n"


def test_paths_of_any_kind_are_taken(store: Store[str], rows: Path) -> None:
    assert store.load(os.fspath(rows)).rows == store.load(rows).rows
    if sys.platform == "linux":
        odd = rows.with_name("ö\udcff.tsv")
        store.save(odd)
        assert store.load(odd).rows == 50_000
    with pytest.raises(TypeError):
        store.load(5)  # type: ignore[arg-type]
