"""CPython's own tests of mappings, for stores of each kind of values."""

from __future__ import annotations

import unittest
from typing import Any

import pytest

from atbr import JSON, Store

mapping_tests = pytest.importorskip("test.mapping_tests", reason="this CPython lacks its tests")


class TestStrValues(mapping_tests.BasicTestMappingProtocol):
    type2test = Store

    def _reference(self) -> dict[str, str]:
        return {"1": "2", "key1": "value1", "key2": ""}


class TestBytesValues(mapping_tests.BasicTestMappingProtocol):
    @staticmethod
    def type2test() -> Store[bytes]:
        return Store(values=bytes)

    def _reference(self) -> dict[str, bytes]:
        return {"1": b"2", "key1": b"\x00\xff", "key2": b""}


class TestBytesKeys(mapping_tests.BasicTestMappingProtocol):
    @staticmethod
    def type2test() -> Store[bytes, bytes]:
        return Store(keys=bytes, values=bytes)

    def _reference(self) -> dict[bytes, bytes]:
        return {b"1": b"2", b"\xff": b"value1", b"": b""}

    def test_update(self) -> None:
        # Its keys are str, so comparing what comes back needs keys=str; the rest is above.
        entries = Store({"a": b"1"}, keys=bytes, values=bytes)
        assert list(entries.items()) == [(b"a", b"1")]


class TestJsonValues(mapping_tests.BasicTestMappingProtocol):
    @staticmethod
    def type2test() -> Store[Any]:
        return Store(values=JSON)

    def _reference(self) -> dict[str, Any]:
        return {"1": "2", "key1": {"a": [1, None]}, "key2": 3}

    def test_read(self) -> None:
        # It puts values into a set, which dicts do not allow for dicts.
        self.reference = {"1": "2", "key1": 1}
        super().test_read()

    def test_update(self) -> None:
        self.reference = {"1": "2", "key1": "value1"}
        super().test_update()


INT_KEYS = "it uses keys that are integers, which a store refuses"
INAPPLICABLE = {
    "test_constructor": "it passes entries as keywords, which are options here",
    "test_values": INT_KEYS,
    "test_items": INT_KEYS,
    "test_clear": INT_KEYS,
    "test_update": INT_KEYS,
    "test_copy": INT_KEYS,
    "test_fromkeys": "it leaves the value out: a store of str has no None to fall back on",
    "test_setdefault": "it uses integers as keys, and None as the default that is left out",
}


class FullProtocol(mapping_tests.TestMappingProtocol):
    """The second half of CPython's tests, with JSON values since many are integers."""

    # Run by name below, not collected.
    __test__ = False

    @staticmethod
    def type2test(*args: Any, **kwargs: Any) -> Store[Any]:
        # One seed, because two mappings with one history are to pop in one order.
        return Store(*args, values=JSON, seed=1, **kwargs)

    def _reference(self) -> dict[str, Any]:
        return {"1": "2", "key1": "value1", "key2": 3}


def outcome_of(name: str) -> unittest.TestResult:
    result = unittest.TestResult()
    FullProtocol(name).run(result)
    return result


CASES = [name for name in vars(mapping_tests.TestMappingProtocol) if name.startswith("test_")]


@pytest.mark.parametrize("name", [name for name in CASES if name not in INAPPLICABLE])
def test_the_second_half_holds(name: str) -> None:
    result = outcome_of(name)
    problems = [text for _, text in result.failures + result.errors]
    assert result.testsRun == 1
    assert not problems, problems[0]


@pytest.mark.parametrize("name", [name for name in CASES if name in INAPPLICABLE])
def test_what_is_listed_as_inapplicable_really_is(name: str) -> None:
    result = outcome_of(name)
    assert result.failures or result.errors, f"{name} passes: take it off the list"
