"""The figures of a store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoreStats:
    """What `Store.stats()` returns; sizes are in bytes.

    Attributes:
        entries: Number of keys.
        key_bytes: Bytes of all keys, as UTF-8.
        value_bytes: Bytes of all values, as UTF-8.
        bytes_allocated: Memory that the store holds, entries included.
        index_bytes: Of these, the index.
        dead_bytes: Of these, what overwriting and deleting left behind; `compact()` gives it back.
        expiry_bytes: Of bytes_allocated, what expiry takes beside the entries.
        expiring: Entries that have a time to live.
        expirations: Entries removed because they had expired, since the store was made.
        expirations_lost: Of these, entries that `on_expire` was not told of because too many waited.
        evictions: Entries removed to keep `maxsize` or `max_bytes`, since the store was made.
        hits: Look-ups that found a value, since the store was made; batches count each key.
        misses: Look-ups that found none.
        shards: Number of parts with a lock of their own.
        load_factor: Used share of the index's slots, 0 to 1.
        slots_moved: Index slots moved by growth since the store was made.
        bytes_copied: Bytes of records moved by growth and compaction since the store was made.
        attached: Single look-ups that kept the GIL.
        detached: Single look-ups that released it.

    >>> import atbr
    >>> stats = atbr.Store({"key": "value"}).stats()
    >>> stats.entries, stats.key_bytes, stats.value_bytes
    (1, 3, 5)

    """

    entries: int
    key_bytes: int
    value_bytes: int
    bytes_allocated: int
    index_bytes: int
    dead_bytes: int
    expiry_bytes: int
    expiring: int
    expirations: int
    expirations_lost: int
    evictions: int
    hits: int
    misses: int
    shards: int
    load_factor: float
    slots_moved: int
    bytes_copied: int
    attached: int
    detached: int

    @property
    def overhead_per_entry(self) -> float:
        """Bytes an entry beyond its key and value; 0.0 for an empty store.

        >>> import atbr
        >>> atbr.Store().stats().overhead_per_entry
        0.0
        """
        if not self.entries:
            return 0.0
        return (self.bytes_allocated - self.key_bytes - self.value_bytes) / self.entries
