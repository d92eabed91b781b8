"""TSV files into a table: in parts, in parallel, and resumable."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from atbr.progress import Show, shown
from atbr.tables.errors import ConfigurationError
from atbr.tables.rows import parse, readers_of

if TYPE_CHECKING:
    from atbr.tables.table import Table

PART_BYTES = 8 * 2**20
# What is parsed and written at once: a bad row is known before its block is written.
BLOCK_BYTES = 2**20


class Part(NamedTuple):
    """Some rows of a file.

    >>> Part("f.tsv", 0, 10).stop
    10
    """

    file: str
    start: int
    stop: int


class LoadReport(NamedTuple):
    """What a load has written.

    >>> LoadReport(rows=10, bytes=100, seconds=2.0, skipped_parts=0).rows
    10
    """

    rows: int
    bytes: int
    seconds: float
    skipped_parts: int = 0


class State:
    """What is done of a load or a copy, in a file, so that it can be resumed.

    >>> state = State(Path("load.state"), {"table": "t"})
    >>> state.add(Part("f.tsv", 0, 10))
    >>> State(Path("load.state"), {"table": "t"}).done == {("f.tsv", 0, 10)}
    True
    """

    def __init__(self, path: Path, load: dict[str, object]) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.done: set[tuple[Any, ...]] = set()
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text:
            head, *lines = text.splitlines()
            if head != json.dumps(load):
                raise ConfigurationError(
                    f"state: {path} is of something else; remove it to begin this"
                )
            for line in lines:
                # The last line may be cut off by a crash: its part is done again.
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                self.done.add(tuple(entry))
            if not text.endswith("\n"):
                path.write_text(f"{text}\n", encoding="utf-8")
            return
        path.write_text(json.dumps(load) + "\n", encoding="utf-8")

    def add(self, part: tuple[Any, ...]) -> None:
        """Remember that a part is written.

        >>> State(Path("other.state"), {}).add(Part("f.tsv", 0, 10))
        """
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(part) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Forget what is finished.

        >>> State(Path("third.state"), {}).remove()
        """
        self._path.unlink(missing_ok=True)


def parts_of(path: str, size: int = PART_BYTES) -> list[Part]:
    r"""Cut a file at newlines into parts of about `size` bytes.

    >>> with open("cut.tsv", "wb") as file:
    ...     _ = file.write(b"a\t1\nb\t2\n")
    >>> [(part.start, part.stop) for part in parts_of("cut.tsv", 2)]
    [(0, 4), (4, 8)]
    """
    parts = []
    total = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        start = 0
        while start < total:
            file.seek(min(start + size, total) - 1)
            file.readline()
            stop = min(file.tell(), total)
            parts.append(Part(path, start, stop))
            start = stop
    return parts


def _blocks(part: Part) -> Iterator[tuple[int, bytes]]:
    with Path(part.file).open("rb") as file:
        file.seek(part.start)
        at = part.start
        while at < part.stop:
            block = file.read(min(BLOCK_BYTES, part.stop - at))
            if not block:
                raise OSError(f"{part.file} has become shorter while it was loaded")
            block += file.readline() if not block.endswith(b"\n") else b""
            yield at, block
            at += len(block)


class _Progress:
    """Rows and bytes of all workers, and whether they are to stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rows = 0
        self.bytes = 0
        self.stop = threading.Event()

    def add(self, rows: int, size: int) -> None:
        with self._lock:
            self.rows += rows
            self.bytes += size


def _load_part(table: Table, part: Part, progress: _Progress) -> None:
    readers = readers_of(table.name, table.schema)
    for offset, block in _blocks(part):
        if progress.stop.is_set():
            raise InterruptedError
        # The compiled reader takes the plain forms, this one all, and says which row is wrong.
        rows = table._put_plain_rows(block)
        if rows is None:
            pairs = parse(block, readers, part.file, offset)
            table.put_many(pairs)
            rows = len(pairs)
        progress.add(rows, len(block))


def load_file(
    table: Table, path: str | os.PathLike[str], *, progress: bool | Show | None = None
) -> LoadReport:
    r"""Load one file, row after row; see `Table.load_tsv`.

    >>> from atbr.tables.ordered import _users
    >>> with open("load.tsv", "wb") as file:
    ...     _ = file.write(b"a\t1\tx\na\t1\ty\n")
    >>> users = _users()
    >>> load_file(users, "load.tsv").rows, users[("a", 1)]
    (2, b'y')
    """
    name = os.fspath(path)
    return load_parts(
        table, [Part(name, 0, Path(name).stat().st_size)], 1, progress, f"load {name}"
    )


def load_parts(
    table: Table,
    parts: Sequence[Part],
    workers: int,
    progress: bool | Show | None = None,
    title: str = "load",
    state: State | None = None,
) -> LoadReport:
    """Load parts with some threads; those that `state` has are left out.

    Raises:
        RowError: A row does not fit; what other workers had begun is written to its block's end.
        BackendUnavailable: The engine went away; `state` has what is done.

    >>> from atbr.tables.ordered import _users
    >>> load_parts(_users(), [], 4).rows
    0
    """
    start = time.monotonic()
    sums = _Progress()
    left = [part for part in parts if state is None or part not in state.done]
    total = sum(part.stop - part.start for part in left)
    readers_of(table.name, table.schema)

    def work(part: Part) -> None:
        _load_part(table, part, sums)
        if state is not None:
            state.add(part)

    with shown(progress, title) as tick, ThreadPoolExecutor(workers) as pool:
        waiting: set[Future[None]] = {pool.submit(work, part) for part in left}
        try:
            while waiting:
                done, waiting = wait(waiting, 0.1, FIRST_COMPLETED)
                for each in done:
                    each.result()
                if tick is not None:
                    tick(sums.rows, sums.bytes, total, None, time.monotonic() - start)
        except BaseException:
            sums.stop.set()
            for each in waiting:
                each.cancel()
            raise
    return LoadReport(sums.rows, sums.bytes, time.monotonic() - start, len(parts) - len(left))
