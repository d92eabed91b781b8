"""kvlayer's words: what programs written for it rely on."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from atbr.tables.conformance.base import Base, raises
from atbr.tables.errors import BadKey, NotSupported
from atbr.tables.kvlayer import KVLayerClient
from atbr.tables.schema import ACCUMULATOR, COUNTER


class Words(Base):
    """KVLayerClient."""

    def client(self) -> KVLayerClient:
        """Return a client on the test's namespace."""
        client = KVLayerClient.__new__(KVLayerClient)
        client._db = self.again()
        return client

    def test_put_get_scan_delete_in_kvlayers_words(self) -> None:
        client = self.client()
        client.setup_namespace({"t1": 2, "t2": (str, int)})
        one, two = sorted([uuid4(), uuid4()])
        client.put("t1", ((one, two), b"12"), ((two, one), b"21"))
        assert list(client.get("t1", (one, two), (one, one))) == [
            ((one, two), b"12"),
            ((one, one), None),
        ]
        assert list(client.scan("t1")) == [((one, two), b"12"), ((two, one), b"21")]
        assert list(client.scan("t1", ((two,), (two,)))) == [((two, one), b"21")]
        assert list(client.scan_keys("t1", ((one,), (one,)), ((two,), ()))) == [
            (one, two),
            (two, one),
        ]
        client.delete("t1", (one, two), (one, one))
        assert list(client.scan_keys("t1")) == [(two, one)]
        client.put("t1", ((two, one), b"new"))
        assert list(client.get("t1", (two, one))) == [((two, one), b"new")]
        client.clear_table("t1")
        assert list(client.scan("t1")) == []

    def test_no_keys_do_nothing(self) -> None:
        client = self.client()
        client.setup_namespace({"t1": 1})
        key = (UUID(int=1),)
        client.put("t1", (key, b"v"))
        client.put("t1")
        client.delete("t1")
        assert list(client.get("t1")) == []
        assert list(client.scan("t1")) == [(key, b"v")]

    def test_a_bad_key_or_value_writes_nothing(self) -> None:
        client = self.client()
        client.setup_namespace({"t": (str, int)}, {"t": int})
        bad: list[Any] = [
            ((147, "a"), 1),
            (("a", "b"), 1),
            (("a",), 1),
            (("a", 1), "text"),
            (("a", 1), 1.5),
            (("a", 1), True),
            (("a", 1), 2**63),
            "no pair",
        ]
        for pair in bad:
            with raises(BadKey):
                client.put("t", (("good", 1), 1), pair)
        assert list(client.scan("t")) == []

    def test_value_types_come_back(self) -> None:
        client = self.client()
        client.setup_namespace({"i": 1, "f": 1, "b": 1}, {"i": int, "f": float, "b": bytes})
        kinds: dict[str, list[Any]] = {
            "i": [0, -1, 2**63 - 1, -(2**63)],
            "f": [0.1, -0.0, 1e300, float("inf")],
            "b": [b"", b"\xff"],
        }
        for name, values in kinds.items():
            pairs = [((UUID(int=i),), value) for i, value in enumerate(values)]
            client.put(name, *pairs)
            assert repr(list(client.scan(name))) == repr(pairs)
            assert repr(list(client.get(name, *(key for key, _ in pairs)))) == repr(pairs)

    def test_counters_are_incremented_and_put(self) -> None:
        client = self.client()
        client.setup_namespace(
            {"c": (str,), "a": (str,), "i": (str,)}, {"c": COUNTER, "a": ACCUMULATOR, "i": int}
        )
        client.increment("c", (("x",), 2), (("y",), -1))
        client.increment("c", (("x",), 40))
        client.put("c", (("y",), 7))
        client.increment("c", (("y",), -7))
        assert list(client.scan("c")) == [(("x",), 42), (("y",), 0)]
        client.increment("a", (("x",), 0.5))
        client.increment("a", (("x",), 0.25))
        assert list(client.get("a", ("x",))) == [(("x",), 0.75)]
        with raises(NotSupported):
            client.increment("i", (("x",), 1))
        bad: list[Any] = [1.5, "1", True]
        for number in bad:
            with raises(BadKey):
                client.increment("c", (("x",), 1), (("x",), number))
        assert list(client.get("c", ("x",))) == [(("x",), 42)]

    def test_an_emptied_namespace_is_empty(self) -> None:
        client = self.client()
        client.setup_namespace({"t1": 1})
        client.put("t1", ((UUID(int=1),), b"v"))
        client.setup_namespace({"t1": 1})
        assert len(list(client.scan("t1"))) == 1
        client.delete_namespace()
        client.setup_namespace({"t1": 1})
        assert list(client.scan("t1")) == []
