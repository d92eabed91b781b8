"""`Batch`: writes that are collected and made together."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from atbr.tables.backend import Backend

if TYPE_CHECKING:
    from atbr._core import KeyCodec

Key = tuple[Any, ...]


class Batch:
    """What `with table.batch()` gives. Used by one thread at a time.

    >>> from atbr.tables.ordered import _users
    >>> users = _users()
    >>> with users.batch() as batch:
    ...     batch[("a", 1)] = b"1"
    ...     len(batch), len(users)
    (1, 0)
    >>> len(users)
    1
    """

    def __init__(self, table: str, codec: KeyCodec, backend: Backend) -> None:
        self._table = table
        self._codec = codec
        self._backend = backend
        self._writes: dict[bytes, bytes | None] = {}

    def put(self, key: Key, value: bytes) -> None:
        """Store `value` under `key` at the end of the block; BadKey and TypeError come now.

        >>> from atbr.tables.ordered import _users
        >>> with _users().batch() as batch:
        ...     batch.put(("a", 1), b"1")
        """
        self._writes[self._codec.encode(key)] = self._codec.value(value)

    def delete(self, key: Key) -> None:
        """Remove `key` at the end of the block; a missing one is no error.

        >>> from atbr.tables.ordered import _users
        >>> with _users().batch() as batch:
        ...     batch.delete(("a", 1))
        """
        self._writes[self._codec.encode(key)] = None

    __setitem__ = put
    __delitem__ = delete

    def __len__(self) -> int:
        return len(self._writes)

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        writes = list(self._writes.items())
        self._writes.clear()
        if kind is None and writes:
            self._backend.write(self._table, writes)
