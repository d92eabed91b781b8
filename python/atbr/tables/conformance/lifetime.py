"""Closing, and sending a handle to another process."""

from __future__ import annotations

import pickle

from atbr.tables.conformance.base import Base, raises
from atbr.tables.database import Database
from atbr.tables.errors import BackendUnavailable


class Lifetime(Base):
    """close, context managers, pickle."""

    def test_a_closed_database_says_so(self) -> None:
        db = self.again()
        table = db["text"]
        with db:
            table[("k",)] = b"v"
        db.close()
        with raises(ValueError, match="is closed"):
            db["text"]
        with raises(ValueError, match="is closed"):
            db.setup_namespace({"text": (str,)})
        if db.is_shared:
            with raises(ValueError, BackendUnavailable):
                table[("k",)]
        assert self.table("text")[("k",)] == b"v"

    def test_a_handle_can_be_pickled_where_the_engine_is_shared(self) -> None:
        self.table("text")[("k",)] = b"v"
        if not self.db.is_shared:
            with raises(TypeError, match="cannot be pickled"):
                pickle.dumps(self.db)
            return
        copy: Database = pickle.loads(pickle.dumps(self.db))
        self.opened.append(copy)
        assert copy["text"][("k",)] == b"v"
        assert (copy.app_name, copy.namespace) == (self.db.app_name, self.db.namespace)
