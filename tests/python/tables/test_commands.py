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

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from atbr.tables import ConfigurationError, NotSupported, SchemaMismatch, connect
from atbr.tables.__main__ import main
from atbr.tables.copying import copy
from atbr.tables.loading import Part, State, load_parts, parts_of
from atbr.tables.rows import RowError, parse, readers_of


@pytest.fixture
def db(any_url: str) -> Any:
    with connect(any_url, namespace=f"n{uuid.uuid4().hex[:12]}") as opened:
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
    # What was done after the line that was cut off is remembered, too.
    assert len(State(state_path, {"load": 1}).done) == len(parts)
    with pytest.raises(ConfigurationError, match="something else"):
        State(state_path, {"load": 2})
    # A crash before the first line leaves an empty file.
    state_path.write_text("")
    State(state_path, {"load": 2}).add(parts[0])
    assert State(state_path, {"load": 2}).done == {parts[0]}


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
    source.close()


def test_an_interrupted_copy_goes_on_beyond_the_last_copied_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from atbr.tables.backends.sqlite import SqliteBackend

    monkeypatch.chdir(tmp_path)
    one, two = (f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two"))
    rows = [((f"k{i:06}",), b"%d" % i) for i in range(50_000)]
    with connect(one) as db:
        db.setup_namespace({"t": (str,), "u": (str,)})
        db["t"].put_many(rows)
        db["u"].put_many(rows[:10])
    whole, written = SqliteBackend.put_many, []

    def failing(self: Any, table: str, pairs: Any, ttl: Any = None) -> None:
        if len(written) == 1:
            raise OSError("the disk went away")
        written.append(len(pairs))
        whole(self, table, pairs, ttl)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteBackend, "put_many", failing)
        assert main(["copy", one, two, "--quiet"]) == 1
    assert "the disk went away" in capsys.readouterr().err
    assert (tmp_path / "atbr.default.atbr-copy").exists()
    # Another copy does not go on with this one's state.
    assert main(["copy", one, two, "--quiet", "--to-namespace", "other"]) == 1
    assert "is of something else" in capsys.readouterr().err
    with connect(two) as db:
        first = len(db["t"])
        assert first == written[0] < len(rows)
        # What is copied already is not read again.
        del db["t"][("k000000",)]
    assert main(["copy", one, two, "--quiet"]) == 0
    assert capsys.readouterr().out == "t\t50000\nu\t10\n"
    with connect(two) as db:
        assert list(db["t"].items()) == rows[1:]
        assert len(db["u"]) == 10
    assert not (tmp_path / "atbr.default.atbr-copy").exists()


def test_what_expires_expires_in_the_copy_or_is_refused(urls: Any) -> None:
    names = [f"n{uuid.uuid4().hex[:12]}" for _ in range(2)]
    with (
        connect(urls["cassandra"], namespace=names[0]) as source,
        connect(urls["cassandra"], namespace=names[1]) as target,
    ):
        source.setup_namespace({"t": (str, int)})
        source["t"].put_many([(("stays", i), b"v") for i in range(300)])
        source["t"].put_many([(("goes", i), b"v") for i in range(300)], ttl=3_600)
        source["t"].put(("soon", 1), b"v", ttl=7_200)
        assert copy(source, target) == {"t": 601}
        assert list(target["t"].items()) == list(source["t"].items())
        keys = [target["t"]._codec.encode(key) for key in [("stays", 1), ("goes", 1), ("soon", 1)]]
        stays, goes, soon = target._backend.lifetimes("t", keys)
        assert stays is None
        assert 0 < goes <= 3_600 < soon <= 7_200
        assert target._backend.lifetimes("t", [b"none"]) == [0]
        local = connect("local://")
        with pytest.raises(NotSupported, match="rows that expire"):
            copy(source, local)
        assert copy(source, local, drop_ttl=True) == {"t": 601}
        assert len(local["t"]) == 601
        for db in (source, target):
            db.delete_namespace()


FIELDS = {
    "str": st.text(st.characters(exclude_characters="\t\n", exclude_categories=["Cs"]), max_size=6),
    "int": st.one_of(
        st.integers().map(str),
        st.sampled_from(["", "-", "+1", "1_0", " 7", "\u0663", "-0", "9" * 19]),
    ),
    "float": st.one_of(
        st.floats(allow_nan=False).map(str),
        st.sampled_from(["1e400", "-.5", "5.", "nan", "1e", "inf"]),
    ),
    "bool": st.sampled_from(["true", "false", "True", "1", ""]),
    "UUID": st.one_of(
        st.uuids().map(str), st.uuids().map(lambda u: u.hex), st.just("{" + str(UUID(int=7)) + "}")
    ),
}
KINDS: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "UUID": UUID}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_compiled_reader_of_rows_takes_what_the_slow_one_takes(data: Any) -> None:
    columns = data.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3))
    optional = data.draw(st.booleans())
    row = st.tuples(*(FIELDS[name] for name in columns), st.sampled_from(["", "v", "v\tw"]))
    rows = data.draw(st.lists(row, max_size=4))
    block = "".join("\t".join(fields) + "\n" for fields in rows).encode()
    db = connect("local://")
    db.setup_namespace({"t": tuple((KINDS[n] | None) if optional else KINDS[n] for n in columns)})
    table = db["t"]
    plain = table._codec.plain_rows(block)
    if plain is None:
        return
    slow = parse(block, readers_of("t", table.schema), "f.tsv", 0)
    assert plain == table._codec.encode_pairs(slow)


def test_plain_rows_are_read_by_the_compiled_reader() -> None:
    db = connect("local://")
    db.setup_namespace({"t": (str, int, float, bool, UUID, bytes, str | None)})
    row = "tä\t-7\t1.5e3\ttrue\t6ba7b810-9dad-11d1-80b4-00c04fd430c8\t\\x\t\tv\tw\n".encode()
    identity = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    key = ("tä", -7, 1500.0, True, identity, b"\\x", None)
    assert db["t"]._codec.plain_rows(row * 2) == [(db["t"]._codec.encode(key), b"v\tw")] * 2


def test_the_copy_command_counts_what_it_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
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
