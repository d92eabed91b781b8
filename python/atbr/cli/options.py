"""What `atbr serve` can be told: one table, from which the flags, the configuration file and the help come."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from atbr.cli.units import count, path, port, seconds, size, switch, text


class OptionsError(ValueError):
    """A flag or a line of the configuration file is wrong; the message is one line that names it."""


class Flag(NamedTuple):
    """One thing that can be told.

    `read` makes its value of text or of a TOML value. `many` flags may be repeated.
    """

    name: str
    metavar: str
    read: Callable[[Any], Any]
    help: str
    default: Any = None
    many: bool = False

    @property
    def key(self) -> str:
        """Its name as an attribute."""
        return self.name.replace("-", "_")


def one_of(*words: str) -> Callable[[Any], str]:
    """Make the reader of one of some words.

    >>> one_of("text", "json")("json")
    'json'
    """

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return read


ESCAPES = ("backslash", "plain")
LEVELS = ("error", "warn", "info", "debug", "trace")

GROUPS: dict[str, tuple[Flag, ...]] = {
    "doors": (
        Flag("host", "ADDRESS", text, "address to listen on", "127.0.0.1"),
        Flag("http", "PORT", port, "HTTP, WebSocket and the console; off: not at all", 8888),
        Flag("resp", "PORT", port, "the Redis protocol; off: not at all", 6379),
    ),
    "who may": (
        Flag("password-file", "FILE", path, "holds a password, asked for on every door"),
        Flag("token-file", "FILE", path, "holds a token, asked for on every door"),
        Flag("tls-cert", "FILE", path, "certificate in PEM: every door speaks TLS"),
        Flag("tls-key", "FILE", path, "the certificate's private key in PEM"),
        Flag("allowed-host", "NAME", text, "name of this machine in Host headers", many=True),
        Flag("cors-origin", "ORIGIN", text, "whose pages may read: https://a.example", many=True),
        Flag("readonly", "", switch, "refuse every change that comes over the network", False),
        Flag("disable-command", "NAME", text, "Redis command to refuse", many=True),
    ),
    "files": (
        Flag("data-dir", "FOLDER", path, "the only folder that clients may load from and save to"),
        Flag("save-on-exit", "FILE", path, "write the store here at exit; database n to FILE.dbN"),
        Flag(
            "tsv", "ESCAPE", one_of(*ESCAPES), "tabs and newlines: backslash or plain", "backslash"
        ),
        Flag("config", "FILE", path, "TOML file of these options, named as here without dashes"),
    ),
    "the store": (
        Flag("max-bytes", "SIZE", size, "bound of all databases together, such as 4GiB"),
        Flag("on-full", "WHAT", one_of("evict", "error"), "at that bound: evict or error", "evict"),
        Flag("capacity", "N", count, "number of entries to make room for"),
        Flag("ttl", "SECONDS", seconds, "time to live of entries that are written without one"),
    ),
    "limits": (
        Flag("max-connections", "N", count, "connections at once, over all doors"),
        Flag("max-unauthenticated", "N", count, "of them without the secret that is asked for"),
        Flag("max-value", "SIZE", size, "longest value"),
        Flag("max-request-line", "SIZE", size, "longest address, and inline command"),
        Flag("max-headers", "SIZE", size, "longest headers of a request, all together"),
        Flag("max-buffers", "SIZE", size, "bytes that wait for all clients together"),
        Flag("idle-timeout", "SECONDS", seconds, "close connections that say nothing for so long"),
        Flag("stall-timeout", "SECONDS", seconds, "cut off who takes or sends too slowly"),
        Flag("unauthenticated-timeout", "SECONDS", seconds, "time to show the secret asked for"),
        Flag(
            "threads", "N", count, "threads of the network; one fewer than processors if left out"
        ),
        Flag("drain", "SECONDS", seconds, "time that requests have to end at exit", 10.0),
    ),
    "logs": (
        Flag("log-level", "LEVEL", one_of(*LEVELS), ", ".join(LEVELS), "info"),
        Flag("log-format", "FORMAT", one_of("text", "json"), "text or json, on stderr", "text"),
        Flag("quiet", "", switch, "no progress bars while files are loaded", False),
    ),
}
FLAGS = {flag.name: flag for group in GROUPS.values() for flag in group}
FILES = Flag(
    "files", "TSV", path, "files to load first, and FILE.dbN beside them into database N", many=True
)
ALL = {**FLAGS, FILES.name: FILES}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Give a parser every flag; what is left out is left out of its result, too."""
    parser.add_argument(FILES.name, metavar=FILES.metavar, nargs="*", help=FILES.help)
    for title, flags in GROUPS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            _add(group, flag)


def _add(group: Any, flag: Flag) -> None:
    words: dict[str, Any] = {"dest": flag.key, "default": argparse.SUPPRESS, "help": flag.help}
    if flag.read is switch:
        words["action"] = argparse.BooleanOptionalAction
    else:
        words["metavar"] = flag.metavar
    if flag.many:
        words["action"] = "append"
        words["help"] += "; may be repeated"
    if flag.default not in (None, False):
        words["help"] += (
            f" ({flag.default:g})" if isinstance(flag.default, float) else f" ({flag.default})"
        )
    group.add_argument(f"--{flag.name}", **words)


def read_options(given: argparse.Namespace) -> argparse.Namespace:
    """Put together the command line, over the configuration file, over the defaults.

    Raises:
        OptionsError: Something given is wrong.

    """
    told = {name: value for name, value in vars(given).items() if name != "files" or value}
    config = told.get("config")
    settled: dict[str, Any] = {flag.key: [] if flag.many else flag.default for flag in ALL.values()}
    if config is not None:
        settled |= _of_file(Path(config))
    for flag in ALL.values():
        if flag.key in told:
            source = flag.metavar if flag is FILES else f"--{flag.name}"
            settled[flag.key] = _read(flag, told[flag.key], source)
    options = argparse.Namespace(**settled)
    _check(options)
    return options


def _of_file(file: Path) -> dict[str, Any]:
    try:
        fields = _toml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionsError(f"--config {file}: {error.strerror}") from None
    except ValueError as error:
        raise OptionsError(f"--config {file}: {' '.join(str(error).split())}") from None
    settled = {}
    for name, value in fields.items():
        flag = ALL.get(name)
        if flag is None or flag.name == "config":
            raise OptionsError(f"--config {file}: there is no option {name!r}")
        if flag.many and not isinstance(value, list):
            raise OptionsError(f"--config {file}: {name} must be a list, not {value!r}")
        value = _read(flag, value, f"--config {file}: {name}")
        settled[flag.key] = _placed(flag, value, file.parent)
    return settled


def _read(flag: Flag, value: Any, source: str) -> Any:
    try:
        return [flag.read(each) for each in value] if flag.many else flag.read(value)
    except ValueError as error:
        raise OptionsError(f"{source} must be {error}, not {value!r}") from None


def _placed(flag: Flag, value: Any, folder: Path) -> Any:
    """Paths of a configuration file are relative to its folder."""
    if flag.read is not path:
        return value
    return [str(folder / each) for each in value] if flag.many else str(folder / value)


def _toml(content: str) -> Mapping[str, Any]:
    try:
        tomllib = importlib.import_module("tomllib")
    except ImportError:
        raise OptionsError("--config needs Python 3.11 or newer") from None
    fields: Mapping[str, Any] = tomllib.loads(content)
    return fields


def _check(options: argparse.Namespace) -> None:
    if options.http is None and options.resp is None:
        raise OptionsError("--http and --resp are both off: there is nothing to serve")
    if options.http and options.http == options.resp:
        raise OptionsError(
            f"--http and --resp are both {options.http}: each needs a port of its own"
        )
    if (options.tls_cert is None) != (options.tls_key is None):
        raise OptionsError("--tls-cert and --tls-key need each other")
