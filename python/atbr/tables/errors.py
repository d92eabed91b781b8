"""What can go wrong with tables, each an exception of Python's own as well."""

from __future__ import annotations


class TablesError(Exception):
    """Any error of `atbr.tables` that is not simply a built-in one.

    >>> issubclass(BadKey, TablesError), issubclass(BackendUnavailable, TablesError)
    (True, True)
    """


class BadKey(TablesError, TypeError, ValueError):  # noqa: N818
    """A key is not of its table's shape: wrong type, wrong number of parts, too long, NaN.

    Nothing of the call has been written.

    >>> import atbr.tables
    >>> db = atbr.tables.connect("local://")
    >>> db.setup_namespace({"users": (str, int)})
    >>> db["users"][("ada", True)] = b""
    Traceback (most recent call last):
        ...
    atbr.tables.errors.BadKey: part 1 of the key is bool; it must be int: True
    """


class ConfigurationError(TablesError, ValueError):
    """A URL or a configuration is wrong; the message names the field.

    >>> import atbr.tables
    >>> atbr.tables.connect("mongodb://host")
    Traceback (most recent call last):
        ...
    atbr.tables.errors.ConfigurationError: storage_type: 'mongodb' is none of cassandra, local, ...
    """


class SchemaMismatch(TablesError, TypeError):  # noqa: N818
    """A table exists with other types; the message shows both.

    >>> import atbr.tables
    >>> db = atbr.tables.connect("local://")
    >>> db.setup_namespace({"users": (str, int)})
    >>> db.setup_namespace({"users": (int,)})
    Traceback (most recent call last):
        ...
    atbr.tables.errors.SchemaMismatch: table 'users' has keys (str, int), not (int)
    """


class UnknownTable(TablesError, KeyError):  # noqa: N818
    """No `setup_namespace` has made this table.

    >>> import atbr.tables
    >>> atbr.tables.connect("local://")["users"]
    Traceback (most recent call last):
        ...
    atbr.tables.errors.UnknownTable: no table 'users'; setup_namespace({'users': (...)}) makes it
    """

    def __str__(self) -> str:
        """Give the message itself, where KeyError would give its repr."""
        return str(self.args[0])


def unknown_table(name: str) -> UnknownTable:
    """Return the exception for a table that is not there.

    >>> type(unknown_table("users")).__name__
    'UnknownTable'
    """
    return UnknownTable(f"no table {name!r}; setup_namespace({{{name!r}: (...)}}) makes it")


class BackendUnavailable(TablesError, ConnectionError):  # noqa: N818
    """The engine did not answer, or not in time.

    A read has had no effect. A write may have been made or not: put, delete and delete_range may
    simply be repeated, increment, compare_and_set and pop may not.

    >>> import atbr.tables
    >>> atbr.tables.connect("redis://127.0.0.1:1", timeout=1)
    Traceback (most recent call last):
        ...
    atbr.tables.errors.BackendUnavailable: redis://127.0.0.1:1: ...
    """


class NotSupported(TablesError, NotImplementedError):  # noqa: N818
    """The engine cannot do this, ttl= for instance; the message says which can.

    >>> import atbr.tables
    >>> db = atbr.tables.connect("local://")
    >>> db.setup_namespace({"users": (str,)})
    >>> db["users"].put(("ada",), b"", ttl=60)
    Traceback (most recent call last):
        ...
    atbr.tables.errors.NotSupported: ttl=: local:// has none; cassandra:// has
    """


class MissingDriver(TablesError, ImportError):  # noqa: N818
    """The library that talks to an engine is not installed; the message says which extra has it.

    >>> issubclass(MissingDriver, ImportError)
    True
    """
