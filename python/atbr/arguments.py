"""The arguments of a call as a key: what `cached` uses unless it is given `key=`.

Arguments are written as Python writes them, so that what differs in value or type differs in
writing: `1`, `1.0`, `True` and `'1'`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

LONGEST = 1_024
"""Of longer writings a key holds the BLAKE2b hash."""

PLACES = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Arguments:
    """Writes the arguments of one function's calls.

    Args:
        function: What is called; its signature says which calls are the same.
        name: What to call it in errors.

    Raises:
        TypeError: The function has no signature.

    >>> def area(width, height=1): ...
    >>> write = Arguments(area, "area").write
    >>> write((2,), {}), write((), {"height": 1, "width": 2}), write(("2", 1.0), {})
    ('2,1', '2,1', "'2',1.0")

    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        try:
            self._signature = inspect.signature(function)
        except ValueError:
            raise TypeError(f"{name} has no signature: pass key=") from None
        kinds = [parameter.kind for parameter in self._signature.parameters.values()]
        # Calls that need no binding: all in their places.
        self._places = len(kinds) if all(kind in PLACES for kind in kinds) else -1

    def write(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the writing of a call. O(size of the arguments).

        Raises:
            TypeError: The function does not take these arguments, or one of them has no writing.

        """
        if kwargs or len(args) != self._places:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        try:
            parts = [_written(value) for value in args]
            parts += [f"{_written_name(name)}={_written(kwargs[name])}" for name in sorted(kwargs)]
        except KeyError as unknown:
            raise self._refused(unknown.args[0], args, kwargs) from None
        text = ",".join(parts)
        if len(text) > LONGEST:
            # Here, for it takes megabytes, which a server that caches nothing need not hold.
            from hashlib import blake2b

            return "#" + blake2b(text.encode(), digest_size=32).hexdigest()
        return text

    def _refused(self, kind: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> TypeError:
        """Name the argument that holds a `kind`."""
        first = next(iter(self._signature.parameters), None)
        for name, value in self._signature.bind(*args, **kwargs).arguments.items():
            if type(value) is kind and name == first == "self":
                return TypeError(
                    f"the instance of a method, here {kind.__name__}, has no default key: pass key=, such as"
                    f" {self._name}'s key=lambda self, ...: f'{{self.id}} ...'"
                )
            if type(value) is kind:
                break
        else:
            name = "an argument's content"
        return TypeError(
            f"{name} of {self._name} is of type {kind.__name__}, which has no default key: pass key=, a function of"
            " the arguments that returns str or bytes"
        )


def _written(value: Any) -> str:
    """Write a value; KeyError of its type if it has no writing.

    >>> _written((None, True, b"x", 2.0, frozenset({2, 1}), ()))
    "(None,True,b'x',2.0,{1,2},(),)"
    """
    return _WRITERS[type(value)](value)


def _written_int(number: int) -> str:
    # Python refuses to write very long numbers in decimal.
    return repr(number) if -(2**63) < number < 2**63 else hex(number)


def _written_tuple(values: tuple[Any, ...]) -> str:
    return f"({''.join([_written(value) + ',' for value in values])})"


def _written_set(values: frozenset[Any]) -> str:
    return "{" + ",".join(sorted([_written(value) for value in values])) + "}"


def _written_name(name: str) -> str:
    return name if name.isidentifier() else ascii(name)


# Only these very types: a subclass may mean something else by the same value.
_WRITERS: dict[type[Any], Callable[[Any], str]] = {
    str: ascii,
    bytes: repr,
    int: _written_int,
    float: repr,
    bool: repr,
    type(None): repr,
    tuple: _written_tuple,
    frozenset: _written_set,
}
