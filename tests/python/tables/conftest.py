"""The engines, each started once by the first test that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

pytest.register_assert_rewrite("atbr.tables.conformance")

from tables_engines import Urls


@pytest.fixture(scope="session")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Urls]:
    with ExitStack() as stack:
        yield Urls(tmp_path_factory.mktemp("sqlite"), stack)


QUICK = ["local", "sqlite", "postgresql", "redis", "redis+cluster"]


@pytest.fixture(params=[*QUICK, "cassandra"])
def any_url(request: pytest.FixtureRequest, urls: Urls) -> str:
    """Each engine."""
    return urls[request.param]


@pytest.fixture(params=QUICK)
def url(request: pytest.FixtureRequest, urls: Urls) -> str:
    """Each engine that starts in a second or two."""
    return urls[request.param]
