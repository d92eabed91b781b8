"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from http_door import client_of, serving

from atbr.server import Server


@pytest.fixture
def http_server() -> Iterator[Server]:
    """A server of HTTP over a store of bytes."""
    with serving() as server:
        yield server


@pytest.fixture
def client(http_server: Server) -> Iterator[httpx.Client]:
    with client_of(http_server) as client:
        yield client
