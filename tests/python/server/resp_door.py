"""Fixtures of the Redis protocol's tests, for modules that import them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis
from resp_wire import Wire

from atbr import Store
from atbr.server import Server


@pytest.fixture(scope="module")
def store() -> Store[bytes]:
    return Store(values=bytes)


@pytest.fixture(scope="module")
def server(store: Store[bytes]) -> Iterator[Server]:
    with store.serve(http=None) as server:
        yield server


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.resp_port, protocol=request.param) as client:
        client.flushall()
        yield client


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    assert server.resp_port
    with Wire(server.resp_port) as wire:
        yield wire


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    """Return once it is true; fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


__all__ = ["client", "server", "store", "wait_until", "wire"]
