"""Namespaces and schemas: additive, stored, checked, apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from atbr.tables.conformance.base import TABLES, Base, raises
from atbr.tables.errors import ConfigurationError, SchemaMismatch, UnknownTable


class Schemas(Base):
    """setup_namespace, delete_namespace, and what keeps applications apart."""

    def test_setting_up_again_keeps_what_is_there(self) -> None:
        self.table("text")[("k",)] = b"v"
        self.db.setup_namespace(TABLES)
        self.db.setup_namespace({"more": (int,)})
        assert self.table("text")[("k",)] == b"v"
        assert sorted(self.db) == sorted([*TABLES, "more"])
        assert len(self.db) == len(TABLES) + 1
        assert "more" in self.db
        assert "none" not in self.db

    def test_another_handle_finds_the_schema(self) -> None:
        self.table("pairs")[("a", 1)] = b"v"
        other = self.again()
        assert other["pairs"].schema.text == "(str, int) -> bytes"
        assert other["pairs"][("a", 1)] == b"v"
        other["pairs"][("a", 1)] = b"w"
        assert self.table("pairs")[("a", 1)] == b"w"

    def test_other_types_are_refused_and_both_are_shown(self) -> None:
        other = self.again()
        with raises(SchemaMismatch, match="table 'pairs' has keys (str, int), not (str, bytes)"):
            other.setup_namespace({"fresh": (str,), "pairs": (str, bytes)})
        assert "fresh" not in self.db
        with raises(SchemaMismatch, match="(UUID), not (UUID, UUID)"):
            other.setup_namespace({"ids": (UUID, UUID)})
        with raises(SchemaMismatch, match="values bytes, not int"):
            other.setup_namespace({"ids": 1}, {"ids": int})

    def test_bad_schemas_are_refused(self) -> None:
        bad: list[dict[Any, Any]] = [
            {"t": (list,)},
            {"t": ()},
            {"t": "str"},
            {"t": str},
            {"t": 0},
            {"t": 51},
            {"t": True},
            {"": (str,)},
            {"a b": (str,)},
            {'a"b': (str,)},
            {"a.b": (str,)},
            {"x" * 41: (str,)},
            {5: (str,)},
        ]
        for tables in bad:
            with raises(ConfigurationError):
                self.db.setup_namespace({"fine": (str,), **tables})
        with raises(ConfigurationError):
            self.db.setup_namespace({"t": (str,)}, {"t": list})
        assert sorted(self.db) == sorted(TABLES)

    def test_an_unknown_table_is_named(self) -> None:
        with raises(UnknownTable, match="no table 'none'"):
            self.db["none"]

    def test_names_keep_namespaces_and_applications_apart(self) -> None:
        app, name = self.names["app_name"], self.names["namespace"]
        others = [
            self.again(namespace=f"{name}_2"),
            self.again(app_name=f"{app}_{name}", namespace="2"),
            self.again(app_name=f"{app}2"),
            self.again(namespace=name.upper()),
        ]
        for i, db in enumerate([self.db, *others]):
            db.setup_namespace({"text": (str,), "TEXT": (str,), "te-xt": (str,)})
            for table in ("text", "TEXT", "te-xt"):
                db[table][("k",)] = f"{i} {table}".encode()
        try:
            for i, db in enumerate([self.db, *others]):
                for table in ("text", "TEXT", "te-xt"):
                    assert list(db[table].items()) == [(("k",), f"{i} {table}".encode())]
            others[0].delete_namespace()
            assert list(others[0]) == []
            assert self.table("text")[("k",)] == b"0 text"
            assert others[1]["text"][("k",)] == b"2 text"
        finally:
            for db in others:
                db.delete_namespace()

    def test_a_deleted_namespace_is_empty_and_can_be_made_again(self) -> None:
        table = self.table("text")
        table[("k",)] = b"v"
        self.db.delete_namespace()
        assert list(self.db) == []
        with raises(UnknownTable):
            self.db["text"]
        with raises(UnknownTable):
            table.get(("k",))
        self.db.delete_namespace()
        self.db.setup_namespace({"text": (int,)})
        assert list(self.db["text"]) == []
        self.db["text"][(1,)] = b"v"
        assert list(self.db["text"]) == [(1,)]

    def test_other_handles_notice_that_a_namespace_was_deleted(self) -> None:
        other = self.again()
        table = other["pairs"]
        table.put_many([(("k", i), b"old") for i in range(100)])
        assert table[("k", 1)] == b"old"
        self.db.delete_namespace()
        calls: list[Callable[[], object]] = [
            lambda: table.get(("k", 1)),
            lambda: list(table.get_many([("k", 1), ("k", 2)])),
            lambda: table.put(("k", 1), b"lost"),
            lambda: table.put_many([(("k", i), b"lost") for i in range(100)]),
            lambda: table.delete_many([("k", 1), ("k", 2)]),
            lambda: table.compare_and_set(("k", 1), None, b"lost"),
            lambda: table.increment(("n", 1)),
            lambda: table.pop(("k", 1)),
            lambda: list(table.scan()),
            lambda: table.delete_range((("k",), ("k",))),
            lambda: len(table),
            lambda: table.clear(),
        ]
        for call in calls:
            with raises(UnknownTable, match="no table 'pairs'"):
                call()
        # Made again elsewhere: the old handle goes on with what is there now.
        self.db.setup_namespace({"pairs": (str, int), "text": (str,)})
        assert list(self.db["pairs"]) == []
        table.put(("k", 2), b"new")
        assert list(self.db["pairs"].items()) == [(("k", 2), b"new")] == list(table.items())
        table.put_many([(("k", i), b"new") for i in range(50)])
        assert len(self.db["pairs"]) == len(table) == 50

    def test_a_handle_may_make_what_another_one_deleted_with_other_types(self) -> None:
        self.table("text")[("k",)] = b"old"
        self.again().delete_namespace()
        self.db.setup_namespace({"text": (int,)})
        assert self.db["text"].schema.text == "(int) -> bytes"
        self.db["text"][(1,)] = b"new"
        assert list(self.again()["text"].items()) == [((1,), b"new")]

    def test_all_kinds_of_schemas_survive_being_stored(self) -> None:
        other = self.again()
        assert {name: other[name].schema for name in other} == {
            name: self.db[name].schema for name in TABLES
        }
        assert other["optional"].schema.keys_text == "(str | None, UUID | None)"
