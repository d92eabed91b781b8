"""What `atbr serve` is told: flags, units, the configuration file, and what it says of mistakes."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atbr.cli import main
from atbr.cli.options import ALL, FLAGS, OptionsError, add_flags, read_options
from atbr.cli.units import port, size, switch

# A value of each flag as it is written on the command line, as in TOML, and what it means.
VALUES: dict[str, tuple[str, str, Any]] = {
    "host": ("::1", '"::1"', "::1"),
    "http": ("8080", "8080", 8080),
    "resp": ("off", '"off"', None),
    "password-file": ("pw", '"pw"', "pw"),
    "token-file": ("token", '"token"', "token"),
    "tls-cert": ("cert.pem", '"cert.pem"', "cert.pem"),
    "tls-key": ("key.pem", '"key.pem"', "key.pem"),
    "allowed-host": ("a.example", '["a.example"]', ["a.example"]),
    "cors-origin": ("https://a.example", '["https://a.example"]', ["https://a.example"]),
    "readonly": ("", "true", True),
    "disable-command": ("KEYS", '["KEYS"]', ["KEYS"]),
    "data-dir": ("data", '"data"', "data"),
    "save-on-exit": ("saved.tsv", '"saved.tsv"', "saved.tsv"),
    "tsv": ("plain", '"plain"', "plain"),
    "max-bytes": ("2GiB", '"2GiB"', 2**31),
    "on-full": ("error", '"error"', "error"),
    "capacity": ("1000", "1000", 1000),
    "ttl": ("1.5", "1.5", 1.5),
    "max-connections": ("50", "50", 50),
    "max-value": ("1MB", '"1MB"', 10**6),
    "max-buffers": ("1048576", "1048576", 2**20),
    "max-unauthenticated": ("7", "7", 7),
    "max-request-line": ("4KiB", '"4KiB"', 4096),
    "max-headers": ("2000", "2000", 2000),
    "idle-timeout": ("60", "60", 60.0),
    "stall-timeout": ("30", "30", 30.0),
    "unauthenticated-timeout": ("2.5", "2.5", 2.5),
    "threads": ("3", "3", 3),
    "drain": ("0.5", "0.5", 0.5),
    "log-level": ("debug", '"debug"', "debug"),
    "log-format": ("json", '"json"', "json"),
    "quiet": ("", "true", True),
}
PATHS = ("password-file", "token-file", "tls-cert", "tls-key", "data-dir", "save-on-exit")

# What is refused alone, and what it needs.
TOGETHER = {"tls-cert": "tls-key", "tls-key": "tls-cert"}

needs_toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML needs Python 3.11")


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return read_options(parser.parse_args(list(words)))


def flag_words(name: str, value: str) -> list[str]:
    words = [f"--{name}", value] if value else [f"--{name}"]
    if name in TOGETHER:
        words += [f"--{TOGETHER[name]}", "other"]
    return words


def test_every_flag_is_tried_here() -> None:
    assert set(VALUES) | {"config"} == set(FLAGS)


@pytest.mark.parametrize("name", VALUES)
def test_a_flag_is_read(name: str) -> None:
    value, _, meant = VALUES[name]
    options = parsed(*flag_words(name, value))
    assert getattr(options, FLAGS[name].key) == meant


@needs_toml
@pytest.mark.parametrize("name", VALUES)
def test_a_line_of_the_configuration_means_what_the_flag_means(name: str, tmp_path: Path) -> None:
    _, value, meant = VALUES[name]
    file = tmp_path / "atbr.toml"
    other = f'{TOGETHER[name]} = "other"\n' if name in TOGETHER else ""
    file.write_text(f"{name} = {value}\n{other}")
    options = parsed("--config", str(file))
    expected = str(tmp_path / meant) if name in PATHS else meant
    assert getattr(options, FLAGS[name].key) == expected


@needs_toml
def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "atbr.toml"
    file.write_text('http = 1\nresp = 2\nreadonly = true\nfiles = ["a.tsv"]\n')
    options = parsed("--config", str(file), "--http", "3", "--no-readonly")
    assert (options.http, options.resp, options.readonly) == (3, 2, False)
    assert options.files == [str(tmp_path / "a.tsv")]
    assert options.host == "127.0.0.1"
    assert parsed("--config", str(file), "b.tsv").files == ["b.tsv"]


def test_the_defaults_are_the_ports_of_old() -> None:
    options = parsed()
    assert (options.http, options.resp, options.host) == (8888, 6379, "127.0.0.1")
    assert (options.tsv, options.files, options.data_dir) == ("backslash", [], None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--http", "70000"], "--http must be a port"),
        (["--http", "x"], "--http must be a port"),
        (["--http", "-1"], "--http must be a port"),
        (["--max-bytes", "4 apples"], "--max-bytes must be a number of bytes"),
        (["--max-bytes", "-4"], "--max-bytes must be a number of bytes"),
        (["--drain", "0"], "--drain must be a number of seconds"),
        (["--drain", "nan"], "--drain must be a number of seconds"),
        (["--idle-timeout", "1e19"], "--idle-timeout must be a number of seconds"),
        (["--stall-timeout", "-1"], "--stall-timeout must be a number of seconds"),
        (["--max-headers", "many"], "--max-headers must be a number of bytes"),
        (["--max-unauthenticated", "0"], "--max-unauthenticated must be a whole number"),
        (["--tls-cert", "cert.pem"], "--tls-cert and --tls-key need each other"),
        (["--tls-key", "key.pem"], "--tls-cert and --tls-key need each other"),
        (["--capacity", "0"], "--capacity must be a whole number"),
        (["--log-level", "loud"], "--log-level must be one of error, warn"),
        (["--log-format", "xml"], "--log-format must be one of text, json"),
        (["--host", ""], "--host must be a text"),
        (["--http", "off", "--resp", "off"], "both off"),
        (["--http", "7000", "--resp", "7000"], "both 7000"),
        (["--config", "/nowhere/atbr.toml"], "/nowhere/atbr.toml: No such file"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("atbr serve: ")
    assert said in error
    assert error.count("\n") == 1


@needs_toml
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http = true", "http must be a port"),
        ('https = "x"', "no option 'https'"),
        ('max_bytes = "1GB"', "no option 'max_bytes'"),
        ('config = "other.toml"', "no option 'config'"),
        ('readonly = "yes"', "readonly must be true or false"),
        ('cors-origin = "https://a.example"', "cors-origin must be a list"),
        ("cors-origin = [1]", "cors-origin must be a text"),
        ("http = ", "Invalid value"),
        ("[server]\nhttp = 1", "no option 'server'"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_file_and_option(
    text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "atbr.toml"
    file.write_text(text)
    with pytest.raises(OptionsError) as caught:
        parsed("--config", str(file))
    message = str(caught.value)
    assert message.startswith(f"--config {file}: ")
    assert said in message
    assert "\n" not in message


def test_an_abbreviated_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--pass", "x"])
    assert caught.value.code == 2
    assert "--pass" in capsys.readouterr().err


def test_the_help_names_every_flag_and_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in ALL.values():
        assert (f"--{flag.name}" if flag.name != "files" else "[TSV ...]") in text
        assert flag.help.split(";")[0] in text
        if flag.default not in (None, False):
            assert f"({flag.default})".replace(".0)", ")") in text


def test_the_documentation_names_every_flag() -> None:
    text = (Path(__file__).parents[3] / "docs" / "server.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `--([a-z-]+)", text, re.MULTILINE))
    assert documented == set(FLAGS)


def test_the_module_runs_what_the_script_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "atbr", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"atbr \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("0", 0), ("1k", 1000), ("1KiB", 1024), ("1.5 GiB", 3 * 2**29), ("2TB", 2 * 10**12)],
)
def test_sizes_have_decimal_and_binary_units(text: str, meant: int) -> None:
    assert size(text) == meant


@pytest.mark.parametrize("wrong", ["", "GiB", "1 XB", "1e3", True, 1.5, None])
def test_what_is_no_size_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="bytes"):
        size(wrong)


@pytest.mark.parametrize("wrong", [True, 65_536, "٣", "", None, 1.0])
def test_what_is_no_port_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="port"):
        port(wrong)


def test_a_text_is_no_switch() -> None:
    with pytest.raises(ValueError, match="true or false"):
        switch("true")
