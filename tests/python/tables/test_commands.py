"""`python -m atbr.tables`: load and copy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from atbr.tables import ConfigurationError, SchemaMismatch, connect
from atbr.tables.__main__ import main
from atbr.tables.copying import copy
from atbr.tables.loading import Part, State, load_parts, parts_of
from atbr.tables.rows import RowError


@pytest.fixture
def db(url: str) -> Any:
    with connect(url, namespace=f"n{uuid.uuid4().hex[:12]}") as opened:
        yield opened
        opened.delete_namespace()


def write_rows(path: Path, count: int, start: int = 0) -> None:
    path.write_bytes(b"".join(b"k%06d\t%d\tvalue\t%d\n" % (i, -i, i) for i in range(start, count)))


def test_a_load_puts_every_row_into_every_engine(db: Any, tmp_path: Path) -> None:
    db.setup_namespace({"t": (str, int)})
    write_rows(tmp_path / "a.tsv", 20_000)
    report = db["t"].load_tsv(tmp_path / "a.tsv", progress=lambda _progress: None)
    assert (report.rows, report.bytes) == (20_000, (tmp_path / "a.tsv").stat().st_size)
    assert list(db["t"].scan()) == [((f"k{i:06}", -i), b"value\t%d" % i) for i in range(20_000)]


def test_the_command_makes_the_table_loads_in_parallel_and_cleans_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "a.tsv", 3_000)
    write_rows(tmp_path / "b.tsv", 9_000, 3_000)
    url = f"sqlite:///{tmp_path}/t.db"
    files = [str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")]
    arguments = ["load", *files, "--to", url, "--table", "t", "--quiet"]
    assert main(arguments) == 1
    assert "no table 't'" in capsys.readouterr().err
    assert main([*arguments, "--schema", "str,int", "--namespace", "n", "--workers", "3"]) == 0
    assert "9,000 rows" in capsys.readouterr().out
    with connect(url, namespace="n") as db:
        assert len(db["t"]) == 9_000
    assert not list(tmp_path.glob("*.atbr-load"))


def test_every_type_is_read_from_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(
        b"t\xc3\xa4\t\xff\x01\t-7\t1e3\ttrue\t6ba7b810-9dad-11d1-80b4-00c04fd430c8\t"
        b"2024-02-29T12:00:00+02:00\t\tv\tw"
    )
    db = connect("local://")
    db.setup_namespace({"t": (str, bytes, int, float, bool, UUID, datetime, str | None)})
    assert db["t"].load_tsv(path).rows == 1
    moment = datetime(2024, 2, 29, 10, tzinfo=timezone.utc)
    identity = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    assert list(db["t"].items()) == [
        (("tä", b"\xff\x01", -7, 1000.0, True, identity, moment, None), b"v\tw")
    ]
    db.setup_namespace({"nested": (tuple,), "either": (int | str,)})
    for table in ("nested", "either"):
        with pytest.raises(ConfigurationError, match="no form in TSV"):
            db[table].load_tsv(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"k\tv", "2 fields, and needs 3"),
        (b"", "1 fields, and needs 3"),
        (b"k\tone\tv", "one"),
        (b"\xff\t1\tv", "utf-8"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_byte(tmp_path: Path, row: bytes, message: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_bytes(b"a\t1\tv\nb\t2\tv\n" + row + b"\nc\t3\tv\n")
    db = connect("local://")
    db.setup_namespace({"t": (str, int)})
    with pytest.raises(RowError, match=message) as caught:
        db["t"].load_tsv(path)
    assert (caught.value.line, caught.value.byte_offset) == (3, 12)
    assert len(db["t"]) == 0


def test_parts_are_all_of_a_file_cut_at_newlines(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    for text in (b"", b"\n", b"a", b"a\tb\n" * 100, b"x" * 50 + b"\n" + b"y" * 3):
        path.write_bytes(text)
        for size in (1, 3, 4, 1_000):
            parts = parts_of(str(path), size)
            assert b"".join(text[part.start : part.stop] for part in parts) == text
            assert all(text[part.start : part.stop].endswith(b"\n") for part in parts[:-1])


def test_a_load_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    path, state_path = tmp_path / "a.tsv", tmp_path / "state"
    write_rows(path, 4_000)
    db = connect("local://")
    db.setup_namespace({"t": (str, int)})
    parts = parts_of(str(path), 10_000)
    broken = [*parts[:3], Part(str(tmp_path / "none.tsv"), 0, 5), *parts[3:]]
    with pytest.raises(FileNotFoundError):
        load_parts(db["t"], broken, 1, state=State(state_path, {"load": 1}))
    with state_path.open("a") as file:
        file.write('["cut o')
    before = len(db["t"])
    assert 0 < before < 4_000
    db["t"].clear()
    state = State(state_path, {"load": 1})
    # Parts after the broken one may have begun before it was found to be.
    done = len(state.done)
    assert 3 <= done < len(parts)
    report = load_parts(db["t"], parts, 4, state=state)
    assert report.skipped_parts == done
    assert len(db["t"]) == 4_000 - before
    with pytest.raises(ConfigurationError, match="another load"):
        State(state_path, {"load": 2})


def test_ctrl_c_ends_a_load_and_the_same_command_finishes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    row = b"key%012d\t" + b"v" * 40 + b"\n"
    with path.open("wb") as file:
        for start in range(0, 1_200_000, 100_000):
            file.write(b"".join(row % i for i in range(start, start + 100_000)))
    url = f"sqlite:///{tmp_path}/t.db?synchronous=OFF"
    command = [sys.executable, "-m", "atbr.tables", "load", str(path), "--to", url]
    command += ["--table", "t", "--schema", "str", "--workers", "2", "--quiet"]
    state = Path(f"{path}.atbr-load")
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while child.poll() is None and (not state.exists() or len(state.read_text().splitlines()) < 2):
        os.sched_yield()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert "goes on where it was" in errors
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "done before" in done.stdout
    with connect(url) as db:
        assert len(db["t"]) == 1_200_000
    assert not state.exists()


def test_a_namespace_is_copied_to_every_engine(db: Any, tmp_path: Path) -> None:
    source = connect(f"sqlite:///{tmp_path}/source.db")
    source.setup_namespace({"users": (str, int), "ids": 1, "empty": (bytes,)})
    rows = [((f"k{i}\0", i), b"\0v%d" % i) for i in range(-25_000, 25_000)]
    source["users"].put_many(rows)
    source["ids"].put_many([((UUID(int=5),), b"\xff" * 5_000)])
    seen: list[Any] = []
    assert copy(source, db, tick=lambda *step: seen.append(step)) == {
        "empty": 0,
        "ids": 1,
        "users": 50_000,
    }
    assert ("users", 50_000) in seen
    assert sorted(db) == ["empty", "ids", "users"]
    assert dict(db["users"].items()) == dict(rows)
    assert dict(db["ids"].items()) == {(UUID(int=5),): b"\xff" * 5_000}
    db["users"].clear()
    assert copy(source, db, ["users"]) == {"users": 50_000}
    other = connect("local://")
    other.setup_namespace({"ids": (str,)})
    with pytest.raises(SchemaMismatch):
        copy(source, other)
    assert list(other) == ["ids"]
    with pytest.raises(KeyError, match="no table 'none'"):
        copy(source, other, ["none"])


def test_the_copy_command_counts_what_it_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two"))
    with connect(one, namespace="here") as db:
        db.setup_namespace({"t": (str,)})
        db["t"][("k",)] = b"v"
    arguments = ["copy", one, two, "--namespace", "here", "--to-namespace", "there"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "t\t1\n"
    with connect(two, namespace="there") as db:
        assert db["t"][("k",)] == b"v"
    assert main(["copy", "nothing://x", two]) == 1
    assert capsys.readouterr().err.startswith("atbr.tables: storage_type:")
    assert main(["load", str(tmp_path / "none"), "--to", two, "--table", "t"]) == 1


def test_a_key_that_the_target_does_not_take_is_said() -> None:
    from atbr.tables.backends.local import LocalBackend

    source, target = connect("local://"), connect("local://")
    source.setup_namespace({"t": (str,)})
    source["t"][("k" * 3_000,)] = b"v"
    assert isinstance(target._backend, LocalBackend)
    type(target._backend).max_key, before = 2_600, type(target._backend).max_key
    try:
        with pytest.raises(ValueError, match="3002 bytes is too long; local:// takes 2600"):
            copy(source, target)
    finally:
        type(target._backend).max_key = before
