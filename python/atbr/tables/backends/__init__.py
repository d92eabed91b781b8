"""One module an engine. A driver is imported when a URL first names its engine."""

from __future__ import annotations

import importlib
from typing import cast

from atbr.tables.backend import Backend
from atbr.tables.config import Config
from atbr.tables.errors import MissingDriver

_MODULES = {
    "local": ("local", "LocalBackend", None),
    "sqlite": ("sqlite", "SqliteBackend", None),
    "postgresql": ("postgresql", "PostgresqlBackend", "psycopg"),
    "redis": ("redis", "RedisBackend", "redis"),
    "redis+cluster": ("redis", "RedisBackend", "redis"),
    "cassandra": ("cassandra", "CassandraBackend", "cassandra"),
}
_EXTRAS = {"psycopg": "postgresql", "redis": "redis", "cassandra": "cassandra"}


def open_backend(config: Config) -> Backend:
    """Return the backend of a configuration, connected.

    Raises:
        MissingDriver: Its library is not installed.
        BackendUnavailable: The engine does not answer.

    >>> from atbr.tables.config import read_config
    >>> open_backend(read_config("local://")).atomic
    True
    """
    name, class_name, driver = _MODULES[config.storage_type]
    if driver is not None:
        try:
            importlib.import_module(driver)
        except ImportError as error:
            raise MissingDriver(
                f"{config.storage_type}:// needs {driver}: pip install 'atbr[{_EXTRAS[driver]}]'"
            ) from error
    module = importlib.import_module(f"{__name__}.{name}")
    return cast("Backend", getattr(module, class_name)(config))
