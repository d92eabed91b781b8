"""URLs, files and mappings: what is read, and the field that is named where something is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atbr.tables import ConfigurationError, KVLayerClient, connect
from atbr.tables.config import read_config


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ("", "url"),
        ("users.db", "url"),
        (5, "url"),
        ("mongodb://h", "storage_type"),
        ("://h", "storage_type"),
        ({}, "storage_type"),
        ({"storage_type": "accumulo"}, "storage_type"),
        ({"storage_type": 5}, "storage_type"),
        ({"url": "nothing"}, "url"),
        ({"storage_type": "redis", "storage_addresses": 5}, "storage_addresses"),
        ({"storage_type": "redis"}, "storage_addresses"),
        ("redis://h:port", "storage_addresses"),
        ("redis://h:0", "storage_addresses"),
        ("redis://h:70000", "storage_addresses"),
        ("cassandra://:9042", "storage_addresses"),
        ("local://?timeout=soon", "timeout"),
        ("local://?timeout=0", "timeout"),
        ("local://?timeout=nan", "timeout"),
        ("local://?colour=red", "colour"),
        ("redis://h?buckets=0", "buckets"),
        ({"storage_type": "local", "app_name": "a b"}, "app_name"),
        ({"storage_type": "local", "namespace": ""}, "namespace"),
        ({"storage_type": "local", "namespace": 5}, "namespace"),
        ({"storage_type": "local", "app_name": "x" * 41}, "app_name"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(source: Any, field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_config(source)
    message = str(caught.value)
    assert message.startswith(f"{field}:")
    assert "\n" not in message


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://host/x", "sqlite:///:memory:"]
)
def test_sqlite_needs_a_file(url: str) -> None:
    with pytest.raises(ConfigurationError, match="url:"):
        connect(url)


def test_sqlite_paths_are_relative_or_absolute(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    connect("sqlite:///relative%20file.db").close()
    connect(f"sqlite:///{tmp_path}/absolute.db").close()
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} == {
        "relative file",
        "absolute",
    }


def test_kvlayers_fields_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    fields = "storage_type: {}\nstorage_addresses: [{}]\napp_name: app\nnamespace: name\n"
    (tmp_path / "plain.yaml").write_text(fields.format("redis", "'h1:7000'"))
    inner = fields.format("redis", "'h1:7000'").replace("\n", "\n  ")
    (tmp_path / "kvlayer.yml").write_text(f"other: 1\nkvlayer:\n  {inner}")
    names = ["plain.yaml", "kvlayer.yml"]
    if sys.version_info >= (3, 11):
        names.append("tables.toml")
        (tmp_path / "tables.toml").write_text(
            '[tables]\nstorage_type = "redis"\nstorage_addresses = ["h1:7000"]\n'
            'app_name = "app"\nnamespace = "name"\ntimeout = 2\n'
        )
    for name in names:
        config = read_config(tmp_path / name)
        assert (config.shown, config.app_name, config.namespace) == (
            "redis://h1:7000",
            "app",
            "name",
        )
        assert config.host_ports(6379) == [("h1", 7_000)]
    assert read_config(tmp_path / "plain.yaml", namespace="other").namespace == "other"


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yaml", "a: [1"), ("a.yaml", "- 1"), ("b.toml", "x ="), ("c.ini", "")],
)
def test_a_broken_file_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    if name.endswith("toml") and sys.version_info < (3, 11):
        pytest.skip("TOML needs Python 3.11")
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_config(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_addresses_are_joined_as_their_engine_takes_them() -> None:
    def shown(storage_type: str, *addresses: str) -> str:
        fields = {"storage_type": storage_type, "storage_addresses": list(addresses)}
        return read_config(fields).shown

    assert shown("cassandra", "h1", "h2:9042") == "cassandra://h1,h2:9042"
    assert shown("redis+cluster", "h1:7000", "h2:7000") == "redis+cluster://h1:7000,h2:7000"
    assert shown("postgres", "postgres://u:p@h/db") == "postgresql://h/db"
    assert shown("postgres", "h:5432/db") == "postgresql://h:5432/db"
    assert shown("sqlite", "/tmp/a b.db") == "sqlite:////tmp/a b.db"
    assert shown("local") == "local://"


def test_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATBR_TABLES_URL", raising=False)
    with pytest.raises(ConfigurationError, match="ATBR_TABLES_URL"):
        connect()
    monkeypatch.setenv("ATBR_TABLES_URL", "local://environment?app_name=env")
    with connect() as db:
        assert (db.url, db.app_name) == ("local://environment", "env")
    client = KVLayerClient()
    client.setup_namespace({"t": (str,)})
    client.shutdown()


def test_a_password_is_shown_nowhere() -> None:
    config = read_config("postgresql://user:s%40cret@h/db")
    assert config.password == "s@cret"
    assert "s%40cret" in config.driver_url
    assert "cret" not in repr(config)
    assert "cret" not in config.shown


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("redis://h", "redis", "redis"),
        ("redis+cluster://h", "redis", "redis"),
        ("postgresql://h", "psycopg", "postgresql"),
        ("cassandra://h", "cassandra", "cassandra"),
    ],
)
def test_a_missing_driver_says_which_extra_has_it(url: str, driver: str, extra: str) -> None:
    program = (
        "import sys\n"
        f"sys.modules[{driver!r}] = None\n"
        "import atbr.tables\n"
        f"try: atbr.tables.connect({url!r})\n"
        "except atbr.tables.MissingDriver as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"pip install 'atbr[{extra}]'" in done.stdout


def test_importing_tables_imports_no_driver() -> None:
    program = (
        "import sys, atbr.tables\n"
        "db = atbr.tables.connect('local://')\n"
        "print({'redis', 'psycopg', 'cassandra', 'yaml'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


def test_unnamed_local_databases_are_apart_and_named_ones_are_not() -> None:
    one, other = connect("local://"), connect("local://")
    for db in (one, other):
        db.setup_namespace({"t": (str,)})
    one["t"][("k",)] = b"v"
    assert len(other["t"]) == 0
    first, second = connect("local://shared"), connect("local://shared")
    first.setup_namespace({"t": (str,)})
    first["t"][("k",)] = b"v"
    assert second["t"][("k",)] == b"v"
    first.delete_namespace()
