"""How values are written on the command line and in the configuration file: sizes, ports, times.

Each reader takes text, or a TOML value, and raises ValueError with what would be right.
"""

from __future__ import annotations

import re
from typing import Any

UNITS = {"": 1, "b": 1}
for power, letter in enumerate("kmgt", start=1):
    UNITS |= {letter: 1000**power, f"{letter}b": 1000**power, f"{letter}ib": 1024**power}
TEN_YEARS = 10 * 365 * 86_400
SIZE = re.compile(r"(\d+(?:\.\d+)?) *([a-z]*)", re.IGNORECASE)


def size(value: Any) -> int:
    """Read a number of bytes, with a unit or without one.

    >>> size("1.5GiB"), size("200 MB"), size(4096)
    (1610612736, 200000000, 4096)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError("a number of bytes, such as 512MiB, 4GB or 1048576")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def count(value: Any) -> int:
    """Read a number of at least 1.

    >>> count("10000"), count(3)
    (10000, 3)
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number of at least 1")
    return value


def port(value: Any) -> int | None:
    """Read a port; "off" closes the door.

    >>> port("8888"), port(0), port("off")
    (8888, 0, None)
    """
    if value == "off":
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 65_536:
        raise ValueError("a port from 0 (any that is free) to 65535, or off")
    return value


def seconds(value: Any) -> float:
    """Read a time in seconds, above zero and up to ten years.

    >>> seconds("2.5"), seconds(60)
    (2.5, 60.0)
    """
    wrong = ValueError("a number of seconds above 0, and up to ten years")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise wrong
    try:
        number = float(value)
    except ValueError:
        raise wrong from None
    if not 0 < number <= TEN_YEARS:
        raise wrong
    return number


def text(value: Any) -> str:
    """Read a text that is not empty.

    >>> text("127.0.0.1")
    '127.0.0.1'
    """
    if not isinstance(value, str) or not value:
        raise ValueError("a text that is not empty")
    return value


def switch(value: Any) -> bool:
    """Read true or false, of the configuration file only.

    >>> switch(True)
    True
    """
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def path(value: Any) -> str:
    """Read a path; in the configuration file it is relative to that file's folder.

    >>> path("rows.tsv")
    'rows.tsv'
    """
    return text(value)
