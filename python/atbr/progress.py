"""Shows how a load or a save proceeds: a bar of tqdm or rich, else a line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

MIB = 2**20


class Progress(NamedTuple):
    """Where a running load or save stands; what a `progress=` function is called with.

    Attributes:
        rows: Rows read or written so far.
        bytes: Bytes read or written so far.
        total_bytes: Bytes there will be, where known: the size of the file for a load.
        total_rows: Rows there will be, where known: the number of entries for a save.
        seconds: Time since the start.

    >>> Progress(rows=1, bytes=50, total_bytes=100, total_rows=None, seconds=0.5).fraction
    0.5

    """

    rows: int
    bytes: int
    total_bytes: int | None
    total_rows: int | None
    seconds: float

    @property
    def fraction(self) -> float | None:
        """Share of the work that is done, 0 to 1; None where the total is not known.

        >>> Progress(1, 50, None, None, 0.5).fraction is None
        True
        """
        for done, total in ((self.bytes, self.total_bytes), (self.rows, self.total_rows)):
            if total:
                return min(1.0, done / total)
        return None


Show = Callable[[Progress], object]
Tick = Callable[[int, int, "int | None", "int | None", float], None]


def describe(progress: Progress) -> str:
    """Return rows, rate and time left as one line.

    >>> describe(Progress(2_000, 2**20, 2**21, None, 1.0))
    '2,000 rows, 1.0 MB/s, 1 s left'
    """
    rate = progress.bytes / MIB / progress.seconds if progress.seconds else 0.0
    line = f"{progress.rows:,} rows, {rate:,.1f} MB/s"
    fraction = progress.fraction
    if fraction:
        line += f", {progress.seconds / fraction - progress.seconds:.0f} s left"
    return line


@contextmanager
def shown(progress: bool | Show | None, title: str) -> Iterator[Tick | None]:
    """Give the function that the compiled part calls, or None if nothing is to be shown.

    >>> seen = []
    >>> with shown(seen.append, "load") as tick:
    ...     tick(1, 50, 100, None, 0.5)
    >>> seen[0].rows
    1
    """
    if progress is None or progress is False:
        yield None
        return
    if progress is not True:
        if not callable(progress):
            raise TypeError(f"progress= must be True or a function, not {progress!r}")
        show = progress
        yield lambda *figures: _discard(show(Progress(*figures)))
        return
    with _bar(title) as bar:
        yield lambda *figures: bar(Progress(*figures))


def _discard(_result: object) -> None:
    """Ignore what a user's function returns."""


@contextmanager
def _bar(title: str) -> Iterator[Callable[[Progress], None]]:
    for kind in (_tqdm_bar, _rich_bar):
        try:
            manager = kind(title)
            with manager as bar:
                yield bar
            return
        except _NotInstalledError:
            continue
    with _plain_line(title) as bar:
        yield bar


class _NotInstalledError(Exception):
    """The library of a kind of bar is missing."""


@contextmanager
def _tqdm_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise _NotInstalledError from None
    with tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.total_bytes
            bar.set_postfix_str(f"{progress.rows:,} rows", refresh=False)
            bar.update(progress.bytes - bar.n)

        yield show


@contextmanager
def _rich_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    try:
        from rich.progress import Progress as Bar
    except ImportError:
        raise _NotInstalledError from None
    with Bar() as bar:
        task = bar.add_task(title, total=None)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                total=progress.total_bytes or progress.total_rows,
                completed=progress.bytes if progress.total_bytes else progress.rows,
                description=f"{title}: {describe(progress)}",
            )

        yield show


@contextmanager
def _plain_line(title: str) -> Iterator[Callable[[Progress], None]]:
    def show(progress: Progress) -> None:
        fraction = progress.fraction
        percent = "" if fraction is None else f"{fraction:4.0%} "
        sys.stderr.write(f"\r{title}: {percent}{describe(progress)}\x1b[K")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\n")
