"""`connect` and `Database`: the tables of one app_name and namespace on one engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from atbr.tables.backend import Backend
from atbr.tables.backends import open_backend
from atbr.tables.config import Config, read_config
from atbr.tables.errors import unknown_table
from atbr.tables.schema import TableSchema, read_schemas
from atbr.tables.table import Table


def connect(
    url: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    app_name: str | None = None,
    namespace: str | None = None,
    **options: Any,
) -> Database:
    """Return the tables of a namespace, wherever they are.

    Args:
        url: local://, sqlite:///file, postgresql://, redis://, redis+cluster://h1,h2 or
            cassandra://h1,h2/keyspace; a .yaml or .toml file or a mapping with kvlayer's fields
            storage_type, storage_addresses, app_name and namespace; by default the environment's
            ATBR_TABLES_URL.
        app_name: Keeps applications apart in one engine; "atbr" if nobody says otherwise.
        namespace: Keeps data sets of one application apart; "default".
        options: timeout= (seconds for one answer, 10) and retry_for= (seconds for which a call
            that is safe to repeat is repeated, 10), and those of the engine; see docs/tables.md.

    Raises:
        ConfigurationError: A field is missing or wrong; the message names it.
        MissingDriver: The engine's library is not installed; the message says which extra has it.
        BackendUnavailable: The engine does not answer.

    >>> import atbr.tables
    >>> with atbr.tables.connect("sqlite:///users.db", app_name="docs") as db:
    ...     db.setup_namespace({"users": (str, int)})
    ...     db["users"][("ada", 1)] = b"countess"
    >>> with atbr.tables.connect("sqlite:///users.db", app_name="docs") as db:
    ...     db["users"][("ada", 1)]
    b'countess'

    """
    config = read_config(url, app_name=app_name, namespace=namespace, **options)
    return Database(config, open_backend(config))


class Database(Mapping[str, Table]):
    """A mapping of names to tables; `connect` makes it. O(1) a table.

    Any thread may use it. Where the engine is remote or a file, it can be pickled, and connects
    anew where it is unpickled.

    >>> with connect("local://") as db:
    ...     db.setup_namespace({"users": (str,), "edges": 2})
    ...     sorted(db)
    ['edges', 'users']
    """

    def __init__(self, config: Config, backend: Backend) -> None:
        self._config = config
        self._backend = backend
        self._lock = threading.Lock()
        self._tables: dict[str, Table] = {}
        self._closed = False

    @property
    def url(self) -> str:
        """The URL, without user and password.

        >>> connect("local://").url
        'local://'
        """
        return self._config.shown

    @property
    def app_name(self) -> str:
        """The application.

        >>> connect("local://").app_name
        'atbr'
        """
        return self._config.app_name

    @property
    def namespace(self) -> str:
        """The namespace.

        >>> connect("local://", namespace="test").namespace
        'test'
        """
        return self._config.namespace

    @property
    def is_shared(self) -> bool:
        """Whether other processes can use the same tables, and the handle can be pickled.

        >>> connect("local://").is_shared
        False
        """
        return self._backend.shared

    def setup_namespace(
        self, tables: Mapping[str, Any], value_types: Mapping[str, Any] | None = None
    ) -> None:
        """Make tables that are not there yet; the others stay as they are. O(tables).

        Args:
            tables: For each name the types of the parts of its keys: str, bytes, int, float, bool,
                UUID, datetime, tuple, or a union with None such as `int | None`; or a number n for
                n UUIDs.
            value_types: bytes unless said otherwise; others are for `KVLayerClient`.

        Raises:
            SchemaMismatch: A table is there with other types; nothing has been made.
            ConfigurationError: A name or a type is none.

        >>> db = connect("local://")
        >>> db.setup_namespace({"users": (str, int)})
        >>> db.setup_namespace({"by_id": 1})
        >>> sorted(db)
        ['by_id', 'users']

        """
        self._check_open()
        wanted = read_schemas(tables, value_types or {})
        self._check(self._backend.schemas(), wanted)
        self._backend.create({name: schema.text for name, schema in wanted.items()})
        # Another program may have been first: what is stored counts.
        self._check(self._backend.schemas(), wanted)
        with self._lock:
            for name, schema in wanted.items():
                known = self._tables.get(name)
                # Somebody else may have deleted the namespace, and other types been asked for now.
                if known is None or known.schema != schema:
                    self._tables[name] = Table(name, schema, self._backend)

    @staticmethod
    def _check(stored: dict[str, str], wanted: dict[str, TableSchema]) -> None:
        for name, schema in wanted.items():
            if name in stored:
                TableSchema.parse(stored[name]).check_same(name, schema)

    def __getitem__(self, name: str) -> Table:
        table = self._tables.get(name)
        if table is None or self._closed:
            self._check_open()
            text = self._backend.schemas().get(name)
            if text is None:
                raise unknown_table(name)
            schema = TableSchema.parse(text)
            with self._lock:
                table = self._tables.setdefault(name, Table(name, schema, self._backend))
        return table

    def __iter__(self) -> Iterator[str]:
        self._check_open()
        return iter(sorted(self._backend.schemas()))

    def __len__(self) -> int:
        self._check_open()
        return len(self._backend.schemas())

    def delete_namespace(self) -> None:
        """Forget every table of the namespace and what is in it. O(n) on most engines.

        >>> db = connect("local://")
        >>> db.setup_namespace({"users": (str,)})
        >>> db.delete_namespace()
        >>> list(db)
        []
        """
        self._check_open()
        self._backend.drop_namespace()
        with self._lock:
            self._tables.clear()

    def close(self) -> None:
        """Let go of connections; any later use of the database raises ValueError. Twice is fine.

        >>> db = connect("local://")
        >>> db.close()
        >>> len(db)
        Traceback (most recent call last):
            ...
        ValueError: local:// is closed
        """
        self._closed = True
        self._backend.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self._config.shown} is closed")

    def __enter__(self) -> Database:
        self._check_open()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        if not self._backend.shared:
            raise TypeError(
                f"{self._config.shown} cannot be pickled: it is in this process's memory"
            )
        return _reopen, (self._config,)

    def __repr__(self) -> str:
        names = f"{self._config.app_name}/{self._config.namespace}"
        return f"<atbr.tables.Database {names} on {self._config.shown}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def _reopen(config: Config) -> Database:
    return Database(config, open_backend(config))
