"""Fixtures of all tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from atbr import JSON, ManualClock, Store

TYPES = [
    pytest.param((str, str), id="str-str"),
    pytest.param((str, bytes), id="str-bytes"),
    pytest.param((bytes, str), id="bytes-str"),
    pytest.param((bytes, bytes), id="bytes-bytes"),
]


# A shell has what runs in its background ignore SIGINT; the programs that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=TYPES)
def types(request: pytest.FixtureRequest) -> tuple[type, type]:
    """Key type and value type of a store."""
    return request.param


@pytest.fixture
def store() -> Store[str]:
    return Store()


@pytest.fixture
def json_store() -> Store[Any]:
    return Store(values=JSON)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=[str, bytes, JSON], ids=["str", "bytes", "json"])
def values(request: pytest.FixtureRequest) -> Any:
    """Type of the values of a store."""
    return request.param


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run a program in a fresh interpreter with warnings as errors; return what it printed."""

    def run(program: str, *arguments: str, timeout: float = 240, check: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-X", "faulthandler", "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what starts engines last: their drivers leave threads, and other tests count threads."""
    items.sort(key=lambda item: "tables" in item.path.parts)
