"""The real engines, and what a test does where one is missing."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))

import engines

STARTERS: dict[str, Callable[[], Any]] = {
    "postgresql": lambda: engines.PostgreSQL(password="p@ss/w0rd"),
    "redis": engines.Redis,
    "redis+cluster": engines.RedisCluster,
    "cassandra": lambda: engines.Cassandra(login=True),
}
DRIVERS = {
    "postgresql": "psycopg",
    "redis": "redis",
    "redis+cluster": "redis",
    "cassandra": "cassandra",
}


def need(engine: str) -> None:
    """Skip where an engine is not installed; in continuous integration that is a failure."""
    lack = engines.missing(engine)
    if importlib.util.find_spec(DRIVERS[engine]) is None:
        lack = f"the driver {DRIVERS[engine]} is not installed"
    if lack is None:
        return
    if os.environ.get("CI"):
        pytest.fail(lack)
    pytest.skip(lack)


class Urls:
    """The URL of each engine, started when it is first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._engines: dict[str, Any] = {}
        self._urls = {"local": "local://tests", "sqlite": f"sqlite:///{folder}/tables.db"}

    def __getitem__(self, engine: str) -> str:
        if engine not in self._urls:
            need(engine)
            self._engines[engine] = self._stack.enter_context(STARTERS[engine]())
            self._urls[engine] = self._engines[engine].url
        return self._urls[engine]

    def engine(self, name: str) -> Any:
        """What runs behind a URL."""
        assert self[name]
        return self._engines[name]
