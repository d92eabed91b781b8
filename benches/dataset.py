"""TSV files for the demo and the benchmarks: deterministic, written once, kept under build/."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

CACHE = Path(__file__).resolve().parent.parent / "build" / "data"

ROWS_2012 = 212_969
BYTES_2012 = 117_362_571

WORDS = (
    "the of and map reduce key value store memory sparse hash table probe group bit row column "
    "query click page user session cluster node block split merge sort shuffle log index term "
    "document link graph edge rank score feature vector train sample batch stream window count"
).split()


def cached(name: str, size: int | None, write: Callable[[BinaryIO], None]) -> Path:
    """Return the file, written by ``write`` unless one of this size is there already."""
    path = CACHE / name
    if path.exists() and size in (None, path.stat().st_size):
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        write(file)
    if size is not None and draft.stat().st_size != size:
        raise AssertionError(f"{draft} has {draft.stat().st_size} bytes instead of {size}")
    draft.replace(path)
    return path


def medium() -> Path:
    """Return a file of the 2012 benchmark's shape: 212,969 rows of JSON in 117,362,571 bytes."""
    return cached("medium.tsv", BYTES_2012, write_medium)


def write_medium(file: BinaryIO) -> None:
    """Spread the bytes over the rows, a few more here and a few fewer there, and end exactly."""
    # Only random(): its sequence is the one that Python promises to keep.
    uniform = random.Random(2012).random
    text = " ".join(WORDS[int(uniform() * len(WORDS))] for _ in range(40_000))
    left = BYTES_2012
    for row in range(ROWS_2012):
        rows_after = ROWS_2012 - row - 1
        size = left // (rows_after + 1)
        if rows_after:
            size += int((uniform() - 0.5) * 400)
        head = (
            f'{{"job": "sessions", "user": "u{row * 7919 % 1_000_003:07}", "part": {row % 64}}}'
            f'\t{{"clicks": {int(uniform() * 1000)}, "score": {uniform():.6f}, "terms": "'
        )
        start = int(uniform() * (len(text) - 1000))
        terms = text[start : start + size - len(head) - 3]
        line = f'{head}{terms}"}}\n'.encode()
        file.write(line)
        left -= len(line)


def fixed(rows: int) -> Path:
    """Return a file of ``rows`` rows in random order: a key of 16 bytes, a value of 32."""
    return cached(f"fixed-{rows}.tsv", rows * 50, lambda file: write_fixed(file, rows, rows))


def repeated(rows: int) -> Path:
    """Return a file like ``fixed``, with ten rows to each key."""
    return cached(
        f"repeated-{rows}.tsv", rows * 50, lambda file: write_fixed(file, rows, rows // 10)
    )


def fixed_key(row: int) -> str:
    """Return the key of a row: in no order, and no two alike."""
    # An odd multiplier permutes the 64-bit integers.
    return f"{(row * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF:016x}"


def write_fixed(file: BinaryIO, rows: int, keys: int) -> None:
    """Write ``rows`` rows that go round ``keys`` keys."""
    for row in range(rows):
        file.write(b"%s\tvalue %026d\n" % (fixed_key(row % keys).encode(), row))


def characters() -> Path:
    """Return a file of every named character of ``unicodedata`` that a row can hold."""
    return cached(f"characters-{unicodedata.unidata_version}.tsv", None, write_characters)


def write_characters(file: BinaryIO) -> None:
    """Write name, tab, character; tab and newline have no name, so nothing needs escaping."""
    for code in range(0x110000):
        character = chr(code)
        name = unicodedata.name(character, "")
        if name and character not in "\t\n":
            file.write(f"{name}\t{character}\n".encode())
