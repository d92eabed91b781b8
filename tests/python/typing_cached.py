"""What mypy --strict must understand of `atbr.cached` and `atbr.compat`; run by test_memoize.py too."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from typing_extensions import assert_type

import atbr
from atbr.memoize import CachedFunction, CacheInfo

store = atbr.Store(values=atbr.JSON)


@atbr.cached(store, ttl=60)
def area(width: int, height: int = 1) -> int:
    return width * height


@atbr.cached(store, serializer=(str, int))
async def fetch(number: int) -> int:
    return number


class User:
    number = 1

    @atbr.cached(store, key=lambda self, more: f"{self.number} {more}")
    def name(self, more: int) -> str:
        return f"{self.number} {more}"

    @atbr.cached(store, key=lambda self: str(self.number), ttl=None)
    async def load(self) -> list[int]:
        return [self.number]

    @staticmethod
    @atbr.cached(store)
    def double(number: int) -> int:
        return number * 2


def functions() -> None:
    assert_type(area(2, height=3), int)
    assert_type(area.cache_info(), CacheInfo)
    assert_type(area.cache_key(1), "str | bytes")
    area.cache_clear()
    assert_type(area.__name__, str)
    plain: Callable[[int, int], int] = area
    assert plain(1, 2) == area.__wrapped__(1, 2)


def methods() -> None:
    assert_type(User().name(1), str)
    assert_type(User().name.cache_info(), CacheInfo)
    assert_type(User.name(User(), 2), str)
    assert_type(User.double(4), int)


async def coroutines() -> None:
    assert_type(await fetch(1), int)
    assert_type(await User().load(), "list[int]")
    call: Callable[[int], Coroutine[Any, Any, int]] = fetch
    assert await call(2) == 2


def words() -> None:
    atbr.compat.Store.set("a", 1, expires=60)
    assert_type(atbr.compat.Store().delete("a"), bool)
    assert_type(atbr.compat.Store.clean(), int)
    atbr.compat.Store.purge()


def mistakes(function: CachedFunction[[int], str]) -> None:
    area("1")  # type: ignore[arg-type]
    area(1, depth=2)  # type: ignore[call-arg]
    User().name("1")  # type: ignore[arg-type]
    function(1).denominator  # type: ignore[attr-defined]  # noqa: B018
    atbr.cached(store, ttl="1")  # type: ignore[arg-type]
    atbr.compat.Store.set(1, 1)  # type: ignore[arg-type]
