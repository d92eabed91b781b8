"""Passwords, TLS and data centers, each on a real engine that insists on it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from tables_engines import need

from atbr.tables import BackendUnavailable, ConfigurationError, connect


def without_login(url: str, login: str = "") -> str:
    return url.replace(f"{url.partition('://')[2].rpartition('@')[0]}@", login)


@pytest.mark.parametrize("engine", ["postgresql", "cassandra"])
def test_a_login_is_needed_and_shown_nowhere(urls: Any, engine: str) -> None:
    url = urls[engine]
    login, _, _ = url.partition("://")[2].rpartition("@")
    user, _, _ = login.partition(":")
    with connect(url, namespace="logins") as db:
        db.setup_namespace({"t": (str,)})
        db["t"][("k",)] = b"v"
        assert login not in repr(db) + db.url
        db.delete_namespace()
    for wrong in (f"{user}:wr0ng@", f"{user}@"):
        with pytest.raises(BackendUnavailable, match=r"(?i)password|auth|credentials") as caught:
            connect(without_login(url, wrong), timeout=5, retry_for=0.2)
        assert "wr0ng" not in str(caught.value)


def test_a_mapping_may_have_the_login_in_an_address(urls: Any) -> None:
    place = urlsplit(urls["postgresql"])
    fields = {"storage_type": "postgresql", "storage_addresses": [urls["postgresql"]]}
    with connect(fields, namespace="logins") as db:
        assert db.url == f"postgresql://127.0.0.1:{place.port}/postgres"
        assert quote("p@ss/w0rd", safe="") not in repr(db)


@pytest.mark.parametrize("kind", ["Redis", "RedisCluster"])
def test_redis_is_spoken_to_by_tls_with_a_certificate_that_is_checked(kind: str) -> None:
    need("redis")
    import engines

    with engines.Certificates() as tls, getattr(engines, kind)(tls=tls) as server:
        ca = str(tls.ca)
        with connect(f"{server.url}?ca={ca}", timeout=5) as db:
            db.setup_namespace({"t": (str, int)})
            table = db["t"]
            table.put_many([(("k", i), b"v") for i in range(2_000)])
            assert table.count((("k",), ("k",))) == 2_000
            assert [key for _, key in table.scan_keys()] == list(range(2_000))
            assert table.increment(("n", 1), 2) == 2
            assert db.url.startswith(server.url.partition("/0")[0])
        with connect(server.url, ca=ca) as db:
            found = list(db["t"].get_many([("k", i) for i in range(2_001)]))
            assert found[-2:] == [(("k", 1_999), b"v"), (("k", 2_000), None)]
        # An authority that nobody knows, and no TLS at all.
        with pytest.raises(BackendUnavailable, match=r"(?i)certificate"):
            connect(server.url, timeout=5)
        plain = server.url.replace("rediss", "redis")
        with pytest.raises(BackendUnavailable):
            connect(plain, timeout=5)
        with pytest.raises(ConfigurationError, match="ca: it is for TLS"):
            connect(plain, ca=ca)


def test_a_data_center_of_cassandra_can_be_preferred(urls: Any) -> None:
    # What a node is in that has not been told otherwise.
    near = {"local_dc": "datacenter1", "consistency": "LOCAL_QUORUM"}
    with connect(urls["cassandra"], namespace="near", **near) as db:
        db.setup_namespace({"t": (str,)})
        db["t"].put_many([((f"k{i}",), b"v") for i in range(500)])
        assert db["t"].increment(("n",), 2) == 2
        assert len(db["t"]) == 501
        db.delete_namespace()
    with pytest.raises(BackendUnavailable):
        connect(urls["cassandra"], local_dc="nowhere", timeout=5, retry_for=0.2)
