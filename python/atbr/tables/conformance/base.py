"""What the parts of the suite share: a fresh namespace for each test, and a way to expect errors."""

from __future__ import annotations

import traceback
import uuid
from datetime import datetime
from types import TracebackType
from typing import Any, ClassVar
from uuid import UUID

from atbr.tables.database import Database, connect
from atbr.tables.table import Table

TABLES: dict[str, Any] = {
    "text": (str,),
    "pairs": (str, int),
    "data": (bytes,),
    "ids": 1,
    "floats": (float,),
    "flags": (bool, int),
    "moments": (datetime,),
    "nested": (tuple,),
    "optional": (str | None, UUID | None),
}


class Base:
    """A namespace of its own for each test, gone after it.

    >>> Base().url
    ''
    """

    url: ClassVar[str] = ""
    db: Database

    def connect(self, **names: Any) -> Database:
        """Connect to the engine; what is given overrides the URL's.

        >>> class Local(Base):
        ...     url = "local://docs"
        >>> Local().connect(namespace="other").namespace
        'other'
        """
        return connect(self.url, **names)

    def setup_method(self) -> None:
        """Make the tables; pytest and `run_all` call it before each test."""
        self.opened: list[Database] = []
        self.names = {"app_name": "conformance", "namespace": f"n{uuid.uuid4().hex[:12]}"}
        self.db = self.again()
        self.db.setup_namespace(TABLES)

    def teardown_method(self) -> None:
        """Forget what the test has made, and close every handle."""
        try:
            self.db.delete_namespace()
        finally:
            for db in self.opened:
                db.close()

    def again(self, **names: Any) -> Database:
        """Return one more handle on the test's namespace, or on another one.

        >>> class Local(Base):
        ...     url = "local://docs"
        >>> test = Local()
        >>> test.setup_method()
        >>> test.again().namespace == test.db.namespace
        True
        >>> test.teardown_method()
        """
        db = self.connect(**(self.names | names))
        self.opened.append(db)
        return db

    def table(self, name: str) -> Table:
        """Return a table of the test's namespace.

        >>> class Local(Base):
        ...     url = "local://docs"
        >>> test = Local()
        >>> test.setup_method()
        >>> test.table("text").name
        'text'
        >>> test.teardown_method()
        """
        return self.db[name]

    @classmethod
    def run_all(cls) -> tuple[int, list[str]]:
        """Run every test; return how many there are, and the name and traceback of each failed one.

        >>> Base.run_all()
        (0, [])
        """
        names = sorted(name for name in dir(cls) if name.startswith("test_"))
        failed = []
        for name in names:
            test = cls()
            try:
                test.setup_method()
                try:
                    getattr(test, name)()
                finally:
                    test.teardown_method()
            except Exception:
                failed.append(f"{name}\n{traceback.format_exc()}")
        return len(names), failed


class raises:  # noqa: N801
    """Expect one of some exceptions, with `match` in its message.

    >>> with raises(ValueError, match="invalid literal"):
    ...     int("x")
    """

    def __init__(self, *kinds: type[Exception], match: str = "") -> None:
        self._kinds = kinds
        self._match = match

    def __enter__(self) -> None:
        """Begin to expect it."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        if kind is None:
            names = " or ".join(kind.__name__ for kind in self._kinds)
            raise AssertionError(f"no {names} was raised")
        if not issubclass(kind, self._kinds):
            return False
        if self._match not in str(error):
            raise AssertionError(f"{self._match!r} is not in {str(error)!r}") from error
        return True
