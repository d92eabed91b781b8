"""The class of 2012."""

from __future__ import annotations

import os

from atbr.store import Store


class Atbr:
    r"""The interface that atbr had in 2012, on today's store.

    Departures from the original:

    - `load` keeps what follows the second tab: it belongs to the value. The original dropped it.
    - A row without a tab is a `LoadError`, with the rows before it loaded. The original took it
      as a key with an empty value.
    - Keys and values are str; bytes of a file that are not UTF-8 come back as lone surrogates
      (as in `os.fsdecode`) and are saved as they were.

    >>> with open("data.tsv", "w") as file:
    ...     _ = file.write("key1\tvalue1\n")
    >>> mystore = Atbr()
    >>> mystore.load("data.tsv")  # doctest: +ELLIPSIS
    Loaded in ... seconds
    New keys: 1
    Rate: ... pairs per second
    Throughput: ... MB per second
    >>> mystore.put("key2", "value2")
    >>> mystore.size(), mystore.get("key1"), mystore.get("none"), mystore.exists("key2")
    (2, 'value1', '', True)
    """

    def __init__(self) -> None:
        self._store: Store[str, str] = Store(errors="surrogateescape")

    def load(self, path: str | os.PathLike[str]) -> None:
        r"""Load a TSV file and print four lines about it. O(size of the file).

        >>> with open("data.tsv", "w") as file:
        ...     _ = file.write("a\tb\n")
        >>> Atbr().load("data.tsv")  # doctest: +ELLIPSIS
        Loaded in ...
        """
        print(self._store.load(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        r"""Write all entries as a TSV file, which is replaced only when all is written. O(n).

        >>> mystore = Atbr()
        >>> mystore.put("a", "b")
        >>> mystore.save("saved.tsv")
        >>> open("saved.tsv").read()
        'a\tb\n'
        """
        self._store.save(path)

    def size(self) -> int:
        """Return the number of keys. O(1).

        >>> Atbr().size()
        0
        """
        return len(self._store)

    def get(self, key: str | bytes) -> str:
        """Return the value of `key`, or '' if it is missing. O(1).

        >>> Atbr().get("none")
        ''
        """
        return self._store.get(key, "")

    def put(self, key: str | bytes, value: str) -> None:
        """Store `value` under `key`. O(1).

        >>> Atbr().put("key", "value")
        """
        self._store[key] = value

    def exists(self, key: str | bytes) -> bool:
        """Return whether `key` is there. O(1).

        >>> Atbr().exists("none")
        False
        """
        return key in self._store
