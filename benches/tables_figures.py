"""Figures of benches/tables.py, kept in a file so that engines may be measured one by one, and tables made of them."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import atbr._core

BEGIN = "<!-- figures: begin (benches/tables.py) -->"
END = "<!-- figures: end -->"
# kvlayer's README, values of 1 MB on single EC2 instances of 2014: (workers, read, write), MB/s.
KVLAYER = {
    "redis": [(100, 99.6, 57.3), (50, 93.7, 56.5), (25, 66.9, 33.8)],
    "postgresql": [(80, 34.2, 14.4), (50, 33.1, 14.1), (25, 30.1, 13.7)],
}
ENGINES = ("local", "sqlite", "postgresql", "redis", "redis+cluster", "cassandra")
# In the order of the tables.
GROUPS = ("codec", "local", *(f"{part} {name}" for name in ENGINES for part in ("bare", "scan")))


class Row(NamedTuple):
    """A line of the table of ratios."""

    what: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    rounds: str = ""
    reach: str = ""


def rate(count: float, spent: float) -> str:
    """Return so many in some seconds, a second."""
    per_second = count / spent
    if per_second >= 1e6:
        return f"{per_second / 1e6:.2f} M/s"
    return f"{per_second / 1e3:.{0 if per_second >= 1e4 else 1}f} k/s"


def compared(what: str, count: int, rounds: list[tuple[float, float]], reach: str) -> Row:
    """Return the medians of (our seconds, their seconds) of each round, and the middle half of the rounds' ratios."""
    ratios = sorted(theirs / ours for ours, theirs in rounds)
    ours, theirs = (statistics.median(each) for each in zip(*rounds, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Row(
        what,
        rate(count, ours),
        rate(count, theirs),
        f"{statistics.median(ratios):.2f} x",
        f"{low:.2f} to {high:.2f}",
        reach,
    )


class Figures:
    """What has been measured of one build. Another build's figures are not mixed with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        build = hashlib.sha256(Path(atbr._core.__file__).read_bytes()).hexdigest()[:16]
        self.kept: dict[str, Any] = {"build": build, "rows": {}, "throughput": {}}
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["build"] == build:
                self.kept = kept

    def add_rows(self, group: str, rows: list[Row]) -> None:
        """Put the rows of a group in the place of what is known of it."""
        self.kept["rows"][group] = rows
        self._keep()

    def add_throughput(self, engine: str, found: list[tuple[int, float, float]]) -> None:
        """Put (workers, read MB/s, write MB/s) in the place of what is known of an engine."""
        self.kept["throughput"][engine] = found
        self._keep()

    def _keep(self) -> None:
        self.kept["machine"] = machine()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.kept, indent=1), encoding="utf-8")

    @property
    def throughput(self) -> list[tuple[str, int, float, float]]:
        """Every (engine, workers, read, write)."""
        known = self.kept["throughput"]
        return [(name, *line) for name in ENGINES for line in known.get(name, ())]

    @property
    def rows(self) -> list[Row]:
        """Every line of the table of ratios."""
        return [Row(*row) for group in GROUPS for row in self.kept["rows"].get(group, ())]

    @property
    def ratios(self) -> list[tuple[str, float, float]]:
        """What is so many times as fast as what is beside it, and is to be: (what, ratio, reach)."""
        rows = [row for row in self.rows if row.rounds and row.reach]
        return [(row.what, _number(row.ratio), _number(row.reach)) for row in rows]

    def text(self) -> str:
        """Return the tables."""
        text = f"{self.kept.get('machine', machine())}\n\n{_ratios(self.rows)}\n"
        if self.throughput:
            text += "\nValues of 1 MB under random UUIDs, threads of one process:\n\n"
            text += f"{_throughputs(self.throughput)}\n"
        return text

    def write(self, document: Path) -> None:
        """Put the tables between the marks of a document."""
        before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        document.write_text(f"{before}{BEGIN}\n{self.text()}{END}{after}", encoding="utf-8")


def _number(words: str) -> float:
    return float(words.partition(" ")[0])


def _ratios(rows: list[Row]) -> str:
    lines = ["| what | atbr.tables | beside it | ratio | middle half of the rounds | reach |"]
    lines += ["|---|---|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def _throughputs(found: list[tuple[str, int, float, float]]) -> str:
    lines = ["| workers | engine | read MB/s | write MB/s |", "|---|---|---|---|"]
    for name, workers, read, write in found:
        lines.append(f"| {workers} | {name} | {read:,.1f} | {write:,.1f} |")
    for name, published in KVLAYER.items():
        for workers, read, write in published:
            lines.append(f"| {workers} | kvlayer on {name}, 2014 | {read} | {write} |")
    return "\n".join(lines)


def machine() -> str:
    """Return what was measured on, and when."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    today = datetime.date.today().isoformat()
    return f"`benches/tables.py`, {today}: {os.cpu_count()} cores of {model}, CPython {platform.python_version()}."
