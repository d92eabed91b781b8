"""The shipped suite, against every engine."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from atbr.tables.conformance import Conformance


class OnEngine(Conformance):
    """The suite with the URL of an engine that a fixture has started."""

    engine = ""

    @pytest.fixture(autouse=True)
    def _engine(self, urls: Any) -> None:
        type(self).url = urls[self.engine]

    # The fixture has to come first, so the suite's own methods become one of its own.
    def setup_method(self) -> None: ...
    def teardown_method(self) -> None: ...

    @pytest.fixture(autouse=True)
    def _namespace(self, _engine: None) -> Any:
        Conformance.setup_method(self)
        yield
        Conformance.teardown_method(self)


class TestLocal(OnEngine):
    engine = "local"


class TestSqlite(OnEngine):
    engine = "sqlite"


class TestPostgresql(OnEngine):
    engine = "postgresql"


class TestRedis(OnEngine):
    engine = "redis"


class TestRedisCluster(OnEngine):
    engine = "redis+cluster"


class TestCassandra(OnEngine):
    engine = "cassandra"


def test_the_suite_runs_without_pytest() -> None:
    command = [sys.executable, "-m", "atbr.tables.conformance", "local://alone"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 failed" in done.stdout


def test_the_suite_fails_a_backend_that_loses_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from atbr.tables.backends.local import LocalBackend

    whole = LocalBackend.put_many
    monkeypatch.setattr(
        LocalBackend, "put_many", lambda self, table, pairs, ttl=None: whole(self, table, pairs[1:])
    )

    class Broken(Conformance):
        url = "local://broken"

    _, failed = Broken.run_all()
    assert len(failed) > 20
