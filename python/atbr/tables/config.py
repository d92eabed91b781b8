"""Where the tables are: a URL, a YAML or TOML file, or a dict with kvlayer's field names."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from atbr.tables.errors import ConfigurationError, MissingDriver
from atbr.tables.schema import check_name

ENVIRONMENT = "ATBR_TABLES_URL"
TYPES = ("cassandra", "local", "postgresql", "redis", "redis+cluster", "sqlite")
ALIASES = {"postgres": "postgresql", "rediss": "redis", "rediss+cluster": "redis+cluster"}
# Sections of a file that may hold the configuration, kvlayer's among them.
SECTIONS = ("tables", "kvlayer")
FIELDS = ("url", "storage_type", "storage_addresses", "app_name", "namespace")


def seconds(text: Any) -> float:
    """Read a time span above zero.

    >>> seconds("2.5")
    2.5
    """
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def positive(text: Any) -> int:
    """Read an integer above zero.

    >>> positive("16")
    16
    """
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


Reader = Callable[[Any], Any]
COMMON: dict[str, tuple[Reader, Any]] = {"timeout": (seconds, 10.0), "retry_for": (seconds, 10.0)}
BUCKETS: tuple[Reader, Any] = (positive, None)
REDIS: dict[str, tuple[Reader, Any]] = {
    "buckets": BUCKETS,
    "ca": (str, None),
    "connections": (positive, 64),
}
OPTIONS: dict[str, dict[str, tuple[Reader, Any]]] = {
    "local": {},
    "sqlite": {"synchronous": (str, "NORMAL")},
    "postgresql": {"connections": (positive, 16)},
    "redis": REDIS,
    "redis+cluster": REDIS,
    "cassandra": {
        "buckets": BUCKETS,
        "consistency": (str, "QUORUM"),
        "replication": (positive, 1),
        "local_dc": (str, None),
    },
}


@dataclass(frozen=True)
class Config:
    """An engine, where it is, and whose tables are meant.

    >>> config = read_config("redis://:secret@host/1?timeout=2", app_name="app")
    >>> config.storage_type, config.addresses, config.options["timeout"], config.shown
    ('redis', ('host',), 2.0, 'redis://host/1')
    """

    storage_type: str
    addresses: tuple[str, ...] = ()
    path: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    secure: bool = False
    query: tuple[tuple[str, str], ...] = ()
    app_name: str = "atbr"
    namespace: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The URL as messages show it: without user, password and query."""
        scheme = f"rediss{self.storage_type[5:]}" if self.secure else self.storage_type
        return f"{scheme}://{','.join(self.addresses)}{self.path}"

    @property
    def driver_url(self) -> str:
        """The URL for a driver: with user, password and what of the query is not ours.

        >>> read_config("postgresql://u:p%20w@h/db?sslmode=require&timeout=1").driver_url
        'postgresql://u:p%20w@h/db?sslmode=require'
        """
        login = quote(self.user or "", safe="")
        if self.password is not None:
            login += f":{quote(self.password, safe='')}"
        query = f"?{urlencode(self.query)}" if self.query else ""
        hosts = ",".join(self.addresses)
        return f"{self.storage_type}://{login}{'@' if login else ''}{hosts}{self.path}{query}"

    def host_ports(self, port: int) -> list[tuple[str, int]]:
        """Return (host, port) of each address, `port` where it has none.

        Raises:
            ConfigurationError: A port is no number, or there is no address.

        >>> read_config("cassandra://a,b:9043,[::1]/k").host_ports(9042)
        [('a', 9042), ('b', 9043), ('::1', 9042)]
        """
        if not self.addresses:
            raise ConfigurationError(f"storage_addresses: {self.storage_type} needs one at least")
        return [_host_port(address, port) for address in self.addresses]


def read_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    *,
    app_name: str | None = None,
    namespace: str | None = None,
    **options: Any,
) -> Config:
    """Read a URL, a file, or a mapping; the URL in ATBR_TABLES_URL if there is none of these.

    Raises:
        ConfigurationError: Something is wrong; the message names the field.
        OSError: The file cannot be read.

    >>> fields = {"storage_type": "redis", "storage_addresses": ["host:6379"], "app_name": "a"}
    >>> read_config(fields, namespace="n").shown
    'redis://host:6379'
    """
    if source is None:
        source = os.environ.get(ENVIRONMENT)
        if not source:
            raise ConfigurationError(f"url: none is given, and {ENVIRONMENT} is not set")
    if isinstance(source, Config):
        config, given = source, {**source.options}
    elif isinstance(source, Mapping):
        config, given = _of_mapping(source)
    elif isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        config, given = _of_url(text) if "://" in text else _of_mapping(_of_file(Path(text)))
    else:
        raise ConfigurationError(f"url: {source!r} is no URL, file or mapping")
    given.update({name: value for name, value in options.items() if value is not None})
    config = replace(
        config,
        app_name=check_name("app_name", config.app_name if app_name is None else app_name),
        namespace=check_name("namespace", config.namespace if namespace is None else namespace),
        options=_options(config.storage_type, given),
    )
    if config.storage_type in ("redis", "redis+cluster", "cassandra"):
        config.host_ports(1)
    return config


def _options(storage_type: str, given: Mapping[str, Any]) -> dict[str, Any]:
    known = COMMON | OPTIONS[storage_type]
    for name in given:
        if name not in known:
            raise ConfigurationError(
                f"{name}: {storage_type} has no such option; there are {', '.join(sorted(known))}"
            )
    read = {name: default for name, (_, default) in known.items()}
    for name, value in given.items():
        try:
            read[name] = None if value is None else known[name][0](value)
        except (TypeError, ValueError):
            raise ConfigurationError(f"{name}: {value!r} is no value for it") from None
    return read


def _of_url(url: str) -> tuple[Config, dict[str, Any]]:
    scheme, _, rest = url.partition("://")
    storage_type = _storage_type(scheme)
    rest, _, query = rest.partition("?")
    place, slash, path = rest.partition("/")
    login, at, hosts = place.rpartition("@")
    user, colon, password = login.partition(":")
    pairs = parse_qsl(query, keep_blank_values=True)
    known = COMMON | OPTIONS[storage_type]
    names: dict[str, Any] = {n: value for n, value in pairs if n in ("app_name", "namespace")}
    given: dict[str, Any] = {}
    drivers = []
    for name, value in pairs:
        if name in names:
            continue
        if storage_type == "postgresql" and name not in known:
            drivers.append((name, value))
        else:
            given[name] = value
    config = Config(
        storage_type=storage_type,
        addresses=tuple(host for host in hosts.split(",") if host),
        path=unquote(slash + path) if storage_type == "sqlite" else slash + path,
        user=unquote(user) if at and user else None,
        password=unquote(password) if colon else None,
        secure=scheme.startswith("rediss"),
        query=tuple(drivers),
        **names,
    )
    return config, given


def _of_mapping(fields: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    for section in SECTIONS:
        inner = fields.get(section)
        if isinstance(inner, Mapping):
            fields = inner
            break
    names = {name: fields[name] for name in ("app_name", "namespace") if name in fields}
    if "url" in fields:
        if not isinstance(fields["url"], str) or "://" not in fields["url"]:
            raise ConfigurationError(f"url: {fields['url']!r} is no URL")
        config, given = _of_url(fields["url"])
    else:
        if "storage_type" not in fields:
            raise ConfigurationError("storage_type: it is missing, and so is url")
        scheme = fields["storage_type"]
        if not isinstance(scheme, str):
            raise ConfigurationError(f"storage_type: {scheme!r} is no str")
        config, given = _of_addresses(scheme, fields.get("storage_addresses", ()))
    given.update({name: value for name, value in fields.items() if name not in FIELDS})
    return replace(config, **names), given


def _of_addresses(scheme: str, addresses: Any) -> tuple[Config, dict[str, Any]]:
    _storage_type(scheme)
    if isinstance(addresses, str):
        addresses = [addresses]
    if not isinstance(addresses, (list, tuple)) or not all(isinstance(a, str) for a in addresses):
        raise ConfigurationError(f"storage_addresses: {addresses!r} is no list of str")
    if len(addresses) == 1 and "://" in addresses[0]:
        return _of_url(addresses[0])
    if scheme == "sqlite":
        return _of_url(f"sqlite:///{quote(','.join(addresses))}")
    places = [address.partition("/")[0] for address in addresses]
    path = addresses[0].partition("/")[2] if addresses else ""
    return _of_url(f"{scheme}://{','.join(places)}{'/' if path else ''}{path}")


def _of_file(path: Path) -> Mapping[str, Any]:
    read = _READERS.get(path.suffix)
    if read is None:
        raise ConfigurationError(f"url: {str(path)!r} is no URL and no .yaml or .toml file")
    try:
        fields = read(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(fields, Mapping):
        raise ConfigurationError(f"{path}: it holds no mapping")
    return fields


def _toml(text: str) -> Any:
    try:
        tomllib = importlib.import_module("tomllib")
    except ImportError:
        raise MissingDriver("TOML needs Python 3.11 or newer; a dict or YAML will do") from None
    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingDriver("YAML needs PyYAML: pip install 'atbr[yaml]'") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


_READERS = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml}


def _storage_type(scheme: str) -> str:
    storage_type = ALIASES.get(scheme, scheme)
    if storage_type not in TYPES:
        raise ConfigurationError(f"storage_type: {scheme!r} is none of {', '.join(TYPES)}")
    return storage_type


def _host_port(address: str, default: int) -> tuple[str, int]:
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        port = port.lstrip(":")
    else:
        host, _, port = address.partition(":")
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65_536)):
        raise ConfigurationError(f"storage_addresses: {address!r} is no host or host:port")
    return host, int(port) if port else default
