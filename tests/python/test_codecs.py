"""Stores of other values than str and bytes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from atbr import JSON, Codec, ManualClock, Store

VALUES = [None, True, 0, -1.5, "", "ä", [], {}, [1, [2, {"a": None}]], {"b": "\n\t\0"}]


def test_json_values_come_back(json_store: Store[Any]) -> None:
    assert isinstance(json_store, Store)
    for number, value in enumerate(VALUES):
        json_store[str(number)] = value
    assert [json_store[str(number)] for number in range(len(VALUES))] == VALUES
    assert json_store.mget(map(str, range(len(VALUES)))) == VALUES
    assert json_store.get_many(["3", "none"]) == {"3": -1.5}
    assert sorted(map(repr, json_store.values())) == sorted(map(repr, VALUES))
    assert dict(json_store.items()) == {str(n): value for n, value in enumerate(VALUES)}
    assert json_store == {str(n): value for n, value in enumerate(VALUES)}


def test_none_as_a_value_is_not_a_missing_key(json_store: Store[Any]) -> None:
    json_store["a"] = None
    assert json_store.get("a", 1) is None
    assert json_store.mget(["a", "b"], 1) == [None, 1]
    assert json_store.pop("a", 1) is None
    assert json_store.pop("a", None) is None
    assert "a" not in json_store
    assert json_store.setdefault("a") is None


def test_each_operation_goes_through_the_codec(json_store: Store[Any]) -> None:
    assert json_store.add("a", [1]) is True
    assert json_store.setdefault("a", [2]) == [1]
    assert json_store.setdefault("b", [2]) == [2]
    assert json_store.compare_and_set("a", [1], {"x": 1}) is True
    assert json_store.compare_and_set("c", None, 5) is True
    assert json_store.incr("c") == 6
    assert json_store["c"] == 6
    assert json_store.pop("b") == [2]
    assert dict([json_store.popitem(), json_store.popitem()]) == {"a": {"x": 1}, "c": 6}
    with pytest.raises(TypeError, match="append"):
        json_store.append("a", 1)
    with pytest.raises(KeyError):
        json_store["a"]


def test_a_batch_that_does_not_encode_writes_nothing(json_store: Store[Any]) -> None:
    with pytest.raises(TypeError, match="serializable"):
        json_store.update({"a": 1, "b": {1, 2}})
    assert not json_store


def test_json_is_stored_as_text(json_store: Store[Any]) -> None:
    json_store["ä"] = {"ö": [1, 2]}
    assert json_store.view(values=str)["ä"] == '{"ö":[1,2]}'
    text = Store({"a": "[1]"})
    assert text.view(values=JSON)["a"] == [1]
    assert type(text.view(values=JSON).view(values=str)) is Store
    assert json_store.view(keys=bytes).copy()["ä"] == {"ö": [1, 2]}


def test_two_functions_are_a_codec() -> None:
    for values in ((pickle.dumps, pickle.loads), Codec(pickle.dumps, pickle.loads)):
        store: Store[Any] = Store({"a": {1, 2}}, values=values)
        assert store["a"] == {1, 2}
        assert store.copy()["a"] == {1, 2}


def test_stores_of_different_codecs_exchange_values() -> None:
    numbers: Store[int] = Store({"a": 1}, values=(str, int))
    objects = Store(values=JSON)
    objects.update(numbers)
    assert objects == {"a": 1}
    words = Store({"a": "x"})
    objects.update(words)
    assert objects["a"] == "x"
    assert words.view(values=bytes)["a"] == b"x"


def test_union_and_fromkeys_keep_the_codec(json_store: Store[Any]) -> None:
    both = json_store | {"a": [1]}
    assert both["a"] == [1]
    assert ({"b": [2]} | both) == {"a": [1], "b": [2]}
    assert Store.fromkeys("ab", [0], values=JSON) == {"a": [0], "b": [0]}


def test_a_value_that_does_not_decode_raises_what_loads_raises(json_store: Store[Any]) -> None:
    json_store.view(values=bytes)["a"] = b"{"
    with pytest.raises(ValueError, match="Expecting"):
        json_store["a"]
    assert "a" in json_store


def test_what_cannot_be_decoded_stays_with_its_ttl() -> None:
    clock = ManualClock()
    store: Store[Any] = Store(values=JSON, clock=clock)
    store.view(values=str).set("bad", "{nope", ttl=60)
    clock.advance(10)
    with pytest.raises(ValueError, match="Expecting"):
        store.pop("bad")
    with pytest.raises(ValueError, match="Expecting"):
        store.popitem()
    assert store.get_ttl("bad") == 50
    assert store.view(values=str)["bad"] == "{nope"
    store["good"] = [1]
    assert store.pop("good") == [1]
    assert store.pop("good", None) is None
    with pytest.raises(KeyError, match="good"):
        store.pop("good")
    store.clear()
    with pytest.raises(KeyError, match="empty"):
        store.popitem()
