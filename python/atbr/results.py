"""Results of functions as a store keeps them, for `atbr.cached`.

What comes back has the type of what was computed, or is refused when it is computed.
"""

from __future__ import annotations

import json
from typing import Any

from atbr import _core
from atbr.codecs import JSON, Codec, codec_of
from atbr.store import Store

TAG = b"\0"
"""What bytes begin with in a store of bytes; JSON never does."""

_SCALARS = frozenset({str, int, float, bool, type(None)})
_NOT_AS_IT_IS = "{}, which JSON would not give back as it is: pass another serializer="


class UnfitError(TypeError):
    """A result that the store could not give back as it is."""


def codec_of_results(store: Store[Any, Any], serializer: Any) -> Codec[Any]:
    """Read the `serializer=` argument of `cached`; None: what suits the store.

    >>> codec_of_results(Store(values=bytes), None).dumps([1])
    '[1]'
    """
    if serializer is not None:
        try:
            codec = codec_of(serializer)
        except TypeError:
            codec = None
        if codec is None:
            raise TypeError(
                f"serializer= must be atbr.JSON, a Codec or two functions, not {serializer!r}"
            )
    else:
        codec = store._codec_of_values()
    if codec is JSON:
        return Codec(_dumps_checked, json.loads)
    if codec is not None:
        return codec
    _, values, errors = _core.types_of(store)
    return _codec_of_text(errors) if values is str else Codec(_dumps_tagged, _loads_tagged)


def _codec_of_text(errors: str) -> Codec[str]:
    # "replace" is for reading only.
    writing = "surrogateescape" if errors == "surrogateescape" else "strict"

    def dumps(result: Any) -> bytes:
        if type(result) is not str:
            raise UnfitError(
                f"{_named(result)}, and a store of str keeps str: pass serializer=, such as atbr.JSON"
            )
        return result.encode(errors=writing)

    return Codec(dumps, lambda encoded: encoded.decode(errors=errors))


def _dumps_checked(result: Any) -> str | bytes:
    _check_json(result)
    return JSON.dumps(result)


def _dumps_tagged(result: Any) -> str | bytes:
    return TAG + result if type(result) is bytes else _dumps_checked(result)


def _loads_tagged(encoded: bytes) -> Any:
    return encoded[1:] if encoded[:1] == TAG else json.loads(encoded)


def _check_json(value: Any) -> None:
    """Raise unless JSON gives back an equal value of the same types. O(size of the value).

    >>> _check_json({"a": [1, 2.0, None]})
    >>> _check_json([(1, 2)])
    Traceback (most recent call last):
    ...
    atbr.results.UnfitError: a tuple, which JSON would not give back as it is: pass another serializer=
    """
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is list:
        for item in value:
            _check_json(item)
    elif kind is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise UnfitError(_NOT_AS_IT_IS.format(f"a dict with {_named(name)} as a key"))
            _check_json(item)
    else:
        raise UnfitError(_NOT_AS_IT_IS.format(_named(value)))


def _named(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
