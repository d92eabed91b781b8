"""Values other than str and bytes: a pair of functions that turn them into bytes and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How a store keeps values of a type.

    Attributes:
        dumps: Turns a value into str or bytes.
        loads: Turns the bytes back into a value. It is given bytes, whatever `dumps` returned.

    >>> import atbr
    >>> store = atbr.Store(values=atbr.Codec(dumps=str, loads=int))
    >>> store["answer"] = 42
    >>> store["answer"]
    42

    """

    dumps: Callable[[T], str | bytes]
    loads: Callable[[bytes], T]


def _dumps_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


JSON: Codec[Any] = Codec(dumps=_dumps_json, loads=json.loads)
"""Values as JSON text in UTF-8, so that `view(values=str)` and a saved file show it."""


def codec_of(values: Any) -> Codec[Any] | None:
    """Read the `values=` argument: a codec, or None for a plain type.

    >>> codec_of(str) is None, codec_of((str, int)) == Codec(str, int)
    (True, True)
    """
    if isinstance(values, Codec):
        return values
    if values is str or values is bytes:
        return None
    if isinstance(values, tuple) and len(values) == 2 and all(map(callable, values)):
        return Codec(*values)
    raise TypeError(f"values= must be str, bytes, atbr.JSON or two functions, not {values!r}")
