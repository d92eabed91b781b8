"""/v1: keys, batches, listings, figures."""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import pytest
from http_door import client_of, get, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atbr import ManualClock, Store
from atbr.server import Server


def key64(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def put(client: httpx.Client, key: str, value: bytes, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.put(f"/v1/keys/{key}", content=value, headers=names)


# -- one key ---------------------------------------------------------------------------------------


def test_a_value_is_written_read_replaced_and_taken_out(client: httpx.Client) -> None:
    assert client.get("/v1/keys/a").status_code == 404
    assert put(client, "a", b"1").status_code == 201
    assert put(client, "a", b"2").status_code == 204
    answer = client.get("/v1/keys/a")
    assert (answer.status_code, answer.content) == (200, b"2")
    assert client.delete("/v1/keys/a").status_code == 204
    assert client.delete("/v1/keys/a").status_code == 404
    assert client.get("/v1/keys/a").status_code == 404


def test_a_stored_value_is_bytes_that_no_browser_runs(client: httpx.Client) -> None:
    put(client, "page", b"<script>alert(1)</script>", content_type="text/html")
    answer = client.get("/v1/keys/page")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("size", [0, 1, 2048, 65535, 65536, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_values_of_any_size_come_back_as_they_were(client: httpx.Client, size: int) -> None:
    value = bytes(i * 7 & 255 for i in range(min(size, 4096))) * (size // 4096 + 1)
    value = value[:size]
    put(client, "a", value)
    assert client.get("/v1/keys/a").content == value
    head = client.head("/v1/keys/a")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(size)
    assert head.headers["etag"] == client.get("/v1/keys/a").headers["etag"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=st.binary(max_size=200), value=st.binary(max_size=200))
def test_every_key_is_reached_by_a_query(client: httpx.Client, key: bytes, value: bytes) -> None:
    by_bytes = "/v1/key?" + urlencode({"k": key})
    by_base64 = "/v1/key?" + urlencode({"k64": key64(key)})
    assert client.put(by_bytes, content=value).status_code in (201, 204)
    assert client.get(by_base64).content == value
    if key not in (b"", b".", b".."):
        assert client.get(f"/v1/keys/{quote(key, safe='')}").content == value


def test_slashes_and_pluses_are_part_of_a_key(http_server: Server, client: httpx.Client) -> None:
    client.put("/v1/key", params={"k": "a/b+c d"}, content=b"1")
    assert get(http_server, "/v1/keys/a/b+c%20d")[2] == b"1"
    assert get(http_server, "/v1/keys/a%2Fb%2Bc%20d")[2] == b"1"
    assert get(http_server, "/v1/keys/a%2fb+c+d")[0] == 404


@pytest.mark.parametrize("path", ["/v1/keys/%", "/v1/keys/a%2", "/v1/keys/%zz", "/v1/key?k=%"])
def test_a_key_that_is_cut_short_is_refused(http_server: Server, path: str) -> None:
    status, head, body = get(http_server, path)
    assert status == 400
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_a_key_beyond_the_limit_is_refused(client: httpx.Client) -> None:
    item = {"items": [{"key": "a" * 65537, "value": "1"}]}
    answer = client.post("/v1/set-many", json=item)
    assert (answer.status_code, answer.json()["code"]) == (413, "key_too_long")


def test_methods_of_a_path_are_told(client: httpx.Client) -> None:
    for path in ("/v1/keys/a", "/v1/key?k=a"):
        answer = client.post(path)
        assert answer.status_code == 405
        assert {"GET", "PUT", "DELETE"} <= set(answer.headers["allow"].replace(" ", "").split(","))
        assert answer.json()["code"] == "method_not_allowed"


# -- tags and conditions ---------------------------------------------------------------------------


def test_a_tag_stands_for_a_value(client: httpx.Client) -> None:
    first = put(client, "a", b"1").headers["etag"]
    assert first.startswith('"')
    assert client.get("/v1/keys/a").headers["etag"] == first
    assert put(client, "b", b"1").headers["etag"] == first
    assert put(client, "a", b"2").headers["etag"] != first
    with serving() as other, client_of(other) as elsewhere:
        assert put(elsewhere, "a", b"1").headers["etag"] != first


@pytest.mark.parametrize("size", [1, 100_000])
def test_writes_hold_to_their_conditions(client: httpx.Client, size: int) -> None:
    old, new = b"o" * size, b"n" * size
    tag = put(client, "a", old).headers["etag"]
    other = put(client, "b", new).headers["etag"]
    assert put(client, "a", new, if_match=other).status_code == 412
    assert put(client, "a", new, if_none_match="*").status_code == 412
    assert put(client, "a", new, if_none_match=tag).status_code == 412
    assert put(client, "a", new, if_match=f"W/{tag}").status_code == 412
    assert client.get("/v1/keys/a").content == old
    assert put(client, "a", new, if_match=f"{other}, {tag}").status_code == 204
    assert client.delete("/v1/keys/a", headers={"if-match": tag}).status_code == 412
    assert client.delete("/v1/keys/a", headers={"if-match": other}).status_code == 204
    assert put(client, "a", old, if_match="*").status_code == 412
    assert put(client, "a", old, if_none_match="*").status_code == 201
    assert client.delete("/v1/keys/none", headers={"if-match": "*"}).status_code == 412


def test_reads_hold_to_their_conditions(client: httpx.Client) -> None:
    tag = put(client, "a", b"1").headers["etag"]
    unchanged = client.get("/v1/keys/a", headers={"if-none-match": f"W/{tag}"})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == tag
    assert client.get("/v1/keys/a", headers={"if-match": '"x"'}).status_code == 412
    assert client.get("/v1/keys/none", headers={"if-match": "*"}).status_code == 412
    assert client.get("/v1/keys/a", headers={"if-match": "nonsense"}).status_code == 400


def test_of_many_who_change_one_value_by_its_tag_each_change_counts(http_server: Server) -> None:
    rounds, workers = 40, 4

    def work() -> None:
        with client_of(http_server) as client:
            for _ in range(rounds):
                while True:
                    answer = client.get("/v1/keys/sum")
                    new = str(int(answer.content) + 1).encode().zfill(3000)
                    done = put(client, "sum", new, if_match=answer.headers["etag"])
                    if done.status_code == 204:
                        break
                    assert done.status_code == 412

    with client_of(http_server) as client:
        put(client, "sum", b"0" * 3000)
        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert int(client.get("/v1/keys/sum").content) == rounds * workers


def test_ranges_are_parts_of_the_value(client: httpx.Client) -> None:
    put(client, "a", bytes(range(100)))
    for wanted, part, at in [
        ("bytes=0-9", range(10), "bytes 0-9/100"),
        ("bytes=90-", range(90, 100), "bytes 90-99/100"),
        ("bytes=-5", range(95, 100), "bytes 95-99/100"),
    ]:
        answer = client.get("/v1/keys/a", headers={"range": wanted})
        assert (answer.status_code, answer.content) == (206, bytes(part))
        assert answer.headers["content-range"] == at
    beyond = client.get("/v1/keys/a", headers={"range": "bytes=100-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */100")
    tag = client.get("/v1/keys/a").headers["etag"]
    fresh = client.get("/v1/keys/a", headers={"range": "bytes=0-0", "if-range": tag})
    stale = client.get("/v1/keys/a", headers={"range": "bytes=0-0", "if-range": '"x"'})
    assert (fresh.status_code, stale.status_code) == (206, 200)
    for path in ("/v1/keys/a", "/v1/key?k=a"):
        head = client.head(path, headers={"range": "bytes=0-9"})
        assert (head.status_code, head.headers["content-length"]) == (200, "100"), path


# -- time to live ----------------------------------------------------------------------------------


def test_a_time_to_live_goes_both_ways(clock: ManualClock) -> None:
    with (
        serving(Store(keys=bytes, values=bytes, clock=clock)) as server,
        client_of(server) as client,
    ):
        put(client, "a", b"1", atbr_ttl_ms="5000")
        clock.advance(1)
        assert client.get("/v1/keys/a").headers["atbr-ttl-ms"] == "4000"
        clock.advance(4)
        assert client.get("/v1/keys/a").status_code == 404
        put(client, "a", b"1")
        assert "atbr-ttl-ms" not in client.get("/v1/keys/a").headers


def test_any_time_that_can_be_told_is_taken(client: httpx.Client) -> None:
    century = 100 * 365 * 24 * 3600 * 1000
    assert put(client, "a", b"1", atbr_ttl_ms=str(century)).status_code == 201
    left = int(client.get("/v1/keys/a").headers["atbr-ttl-ms"])
    assert century - 60_000 <= left <= century
    for bad in ["0", "-1", "", "1.5", "x", str(2**63 - 1), str(2**64)]:
        answer = put(client, "b", b"1", atbr_ttl_ms=bad)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_ttl"), bad
    assert client.get("/v1/keys/b").status_code == 404


# -- databases -------------------------------------------------------------------------------------


def test_databases_are_apart(http_server: Server, client: httpx.Client) -> None:
    client.put("/v1/keys/a?db=3", content=b"3")
    assert client.get("/v1/keys/a").status_code == 404
    assert client.get("/v1/keys/a?db=3").content == b"3"
    assert http_server.db(3)[b"a"] == b"3"
    for bad in ("16", "-1", "x", ""):
        answer = client.get(f"/v1/keys/a?db={bad}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


# -- batches ---------------------------------------------------------------------------------------


def test_a_batch_in_json(client: httpx.Client) -> None:
    items = [
        {"key": "a", "value": "ä\n\t\u2028"},
        {"key64": key64(b"\xff/"), "value64": key64(b"\x00\xff")},
        {"key": "c", "value": "", "ttl_ms": 60_000},
    ]
    answer = client.post("/v1/set-many", json={"items": items})
    assert (answer.status_code, answer.json()) == (200, {"written": 3, "created": 3})
    keys = [{"key": "a"}, {"key64": key64(b"\xff/")}, {"key": "none"}, {"key": "c"}, {"key": "a"}]
    got = client.post("/v1/get-many", json={"items": keys}).json()["items"]
    left = got[3].pop("ttl_ms")
    assert 0 < left <= 60_000
    assert got == [
        {"key": "a", "value": "ä\n\t\u2028"},
        {"key64": key64(b"\xff/"), "value64": key64(b"\x00\xff")},
        {"key": "none", "value": None},
        {"key": "c", "value": ""},
        {"key": "a", "value": "ä\n\t\u2028"},
    ]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=40), max_size=20))
def test_a_batch_in_binary(client: httpx.Client, entries: dict[bytes, bytes]) -> None:
    binary = {"content-type": "application/octet-stream"}
    body = b"".join(
        struct.pack("!IIq", len(key), len(value), 0) + key + value for key, value in entries.items()
    )
    assert client.post("/v1/set-many?db=1", content=body, headers=binary).json()["written"] == len(
        entries
    )
    wanted = [*entries, b"missing" * 8]
    body = b"".join(struct.pack("!I", len(key)) + key for key in wanted)
    answer = client.post("/v1/get-many?db=1", content=body, headers=binary)
    assert answer.headers["content-type"] == "application/octet-stream"
    expected = b"".join(struct.pack("!I", len(value)) + value for value in entries.values())
    assert answer.content == expected + b"\xff" * 4


def test_a_batch_is_checked_before_its_first_write(client: httpx.Client) -> None:
    good = {"key": "a", "value": "1"}
    for bad in [
        {"key": "b"},
        {"value": "1"},
        {"key": "b", "key64": "YQ", "value": "1"},
        {"key": "b", "value": "1", "ttl_ms": 0},
        {"key": "b", "value": "1", "extra": 1},
        {"key64": "!", "value": "1"},
        {"key": 1, "value": "1"},
    ]:
        answer = client.post("/v1/set-many", json={"items": [good, bad]})
        assert answer.status_code == 400, bad
    binary = {"content-type": "application/octet-stream"}
    whole = struct.pack("!IIq", 1, 1, 0) + b"a1"
    for cut in range(1, len(whole)):
        answer = client.post("/v1/set-many", content=whole + whole[:cut], headers=binary)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body"), cut
    assert client.get("/v1/keys/a").status_code == 404


@pytest.mark.parametrize("path", ["/v1/get-many", "/v1/set-many"])
def test_only_two_encodings_of_a_batch_are_known(client: httpx.Client, path: str) -> None:
    for content_type, status in [
        ("text/plain", 415),
        ("application/json; charset=utf-8", 400),
        ("application/octet-stream", 400),
    ]:
        headers = {"content-type": content_type}
        assert client.post(path, content=b"{", headers=headers).status_code == status
    encoded = {"content-encoding": "gzip"}
    assert client.post(path, content=b"{", headers=encoded).json()["code"] == "encoded_body"


# -- listing ---------------------------------------------------------------------------------------


def all_keys(client: httpx.Client, **params: str | int) -> list[bytes]:
    keys: list[bytes] = []
    cursor = 0
    while True:
        page = client.get("/v1/keys", params={**params, "cursor": cursor}).json()
        for item in page["keys"]:
            if "key" in item:
                keys.append(item["key"].encode())
            else:
                keys.append(base64.urlsafe_b64decode(item["key64"] + "=="))
        cursor = page["cursor"]
        if cursor == 0:
            return keys


def test_listings_find_each_key_once() -> None:
    store = Store({b"user:%d" % i: b"" for i in range(5000)}, keys=bytes, values=bytes)
    store[b"\xff\xfe"] = b""
    with serving(store) as server, client_of(server) as client:
        keys = all_keys(client, count=700)
        assert len(keys) == 5001
        assert set(keys) == set(store)
        assert sorted(all_keys(client, prefix="user:499")) == sorted(
            key for key in store if key.startswith(b"user:499")
        )
        assert sorted(all_keys(client, match="user:[12]?")) == sorted(
            b"user:%d" % i for i in range(10, 30)
        )
        assert all_keys(client, prefix="none") == []
        assert all_keys(client, db=5) == []


def test_listings_refuse_what_they_cannot_read(client: httpx.Client) -> None:
    for query in [
        "cursor=x",
        "cursor=-1",
        "count=0",
        "count=10001",
        "match=" + "a" * 4097,
        "db=16",
    ]:
        answer = client.get(f"/v1/keys?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter"), query


# -- figures ---------------------------------------------------------------------------------------


def test_figures_count_what_happened(client: httpx.Client) -> None:
    before = client.get("/v1/stats").json()
    put(client, "a", b"1", atbr_ttl_ms="60000")
    client.get("/v1/keys/a")
    client.get("/v1/keys/b")
    after = client.get("/v1/stats").json()
    assert (after["entries"], after["expiring"]) == (1, 1)
    assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (1, 1)
    assert after["requests"] >= before["requests"] + 4
    assert sum(count for _, count in after["latency"]) >= 4
    assert after["connections"] == after["connections_http"] == 1
    assert after["bytes_in"] > before["bytes_in"]
    assert after["databases"] == [{"db": 0, "entries": 1}]


def test_metrics_are_what_prometheus_reads(client: httpx.Client) -> None:
    put(client, "a", b"1")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    values: dict[str, float] = {}
    typed: set[str] = set()
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            values[name] = float(value)
            bare = name.partition("{")[0]
            stem = bare.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
            assert bare in typed or stem in typed
    assert values['atbr_entries{db="0"}'] == 1
    assert values['atbr_request_seconds_bucket{le="+Inf"}'] == values["atbr_request_seconds_count"]
    buckets = [value for name, value in values.items() if "_bucket" in name]
    assert buckets == sorted(buckets)


def test_health_says_so(client: httpx.Client) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_there_is_a_problem_where_there_is_nothing(client: httpx.Client) -> None:
    for path in ("/v2", "/v1/none", "/v1", "/favicon.ico"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_path")
        assert answer.headers["content-type"] == "application/problem+json"


# -- refusing writes -------------------------------------------------------------------------------


def test_a_server_that_is_only_read_refuses_every_write(tmp_path: Path) -> None:
    writes: list[Callable[[httpx.Client], httpx.Response]] = [
        lambda client: client.put("/v1/keys/a", content=b"2"),
        lambda client: client.delete("/v1/keys/a"),
        lambda client: client.delete("/v1/keys/a", headers={"if-match": "*"}),
        lambda client: client.post("/v1/set-many", json={"items": [{"key": "a", "value": "2"}]}),
        lambda client: client.put("/v1/load", content=b"a\t2\n"),
        lambda client: client.post("/v1/load?file=a.tsv"),
        lambda client: client.get("/put/key/a/value/2"),
        lambda client: client.get("/load/a.tsv"),
        lambda client: client.get("/save/a.tsv"),
        lambda client: client.post("/v1/save?file=a.tsv"),
    ]
    (tmp_path / "a.tsv").write_bytes(b"a\t3\n")
    for readonly in (True, False):
        store = Store({b"a": b"1"}, keys=bytes, values=bytes)
        with serving(store, readonly=readonly, data_dir=tmp_path) as server:
            with client_of(server) as client:
                for write in writes:
                    client.put("/v1/keys/a", content=b"0")
                    answer = write(client)
                    assert (answer.status_code == 403) is readonly, answer.request.url
                if readonly:
                    assert client.get("/v1/keys/a").content == b"1"
                    assert (tmp_path / "a.tsv").read_bytes() == b"a\t3\n"


def test_a_full_store_says_so() -> None:
    store = Store(keys=bytes, values=bytes, maxsize=1, on_full="error")
    with serving(store) as server, client_of(server) as client:
        assert put(client, "a", b"1").status_code == 201
        answer = put(client, "b", b"1")
        assert (answer.status_code, answer.json()["code"]) == (507, "store_full")
