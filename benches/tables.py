"""What atbr.tables costs: beside fdb.tuple, SortedDict and the bare drivers, and kvlayer's throughput table.

``python benches/tables.py [--only NAME,...] [--engines NAME,...] [--write docs/tables.md] [--plot FILE.svg]`` starts
each engine that is installed, measures, prints tables, and puts them between the marks of a document. Every ratio is of
one run.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import platform
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import engines
import tables_bare as bare
import tables_plot
from atbr._core import LocalMap
from atbr.tables import Table, connect, pack, unpack

BEGIN = "<!-- figures: begin (benches/tables.py) -->"
END = "<!-- figures: end -->"
WORKERS = (1, 4, 16, 50, 100)
MEGABYTE = 2**20
# kvlayer's README, values of 1 MB on single EC2 instances of 2014: (workers, read, write), MB/s.
KVLAYER = {
    "redis": [(100, 99.6, 57.3), (50, 93.7, 56.5), (25, 66.9, 33.8)],
    "postgresql": [(80, 34.2, 14.4), (50, 33.1, 14.1), (25, 30.1, 13.7)],
}
ENGINES = ("local", "sqlite", "postgresql", "redis", "redis+cluster", "cassandra")
BATCH = 1_000


class Row(NamedTuple):
    """A line of the table of ratios."""

    what: str
    ours: str
    theirs: str
    ratio: str
    reach: str


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best(work: Callable[[], object], runs: int = 3) -> float:
    return min(seconds(work) for _ in range(runs))


def drain(rows: Iterator[Any]) -> None:
    for _ in rows:
        pass


def keys_of(count: int, seed: int = 7) -> list[tuple[str, int, uuid.UUID]]:
    pick = random.Random(seed)
    return [
        (
            f"user{pick.randrange(count)}",
            pick.randrange(-(2**40), 2**40),
            uuid.UUID(int=pick.getrandbits(128)),
        )
        for _ in range(count)
    ]


def rate(count: float, spent: float) -> str:
    per_second = count / spent
    return f"{per_second / 1e6:.2f} M/s" if per_second >= 1e6 else f"{per_second / 1e3:.0f} k/s"


# -- the codec and the local map -------------------------------------------------------------------


def codec() -> list[Row]:
    keys = keys_of(20_000)
    return [
        codec_row("(str, int)", [key[:2] for key in keys]),
        codec_row("(str, int, UUID)", keys),
        codec_row(
            "(float, (int, None, bytes))", [(key[1] / 7, (key[1], None, b"a\0b")) for key in keys]
        ),
    ]


def codec_row(what: str, keys: list[Any]) -> Row:
    from fdb import tuple as fdb

    assert [fdb.pack(key) for key in keys[:100]] == [pack(key) for key in keys[:100]]
    ours = best(lambda: drain(unpack(pack(key)) for key in keys), 7)
    theirs = best(lambda: drain(fdb.unpack(fdb.pack(key)) for key in keys))
    ratio = f"{theirs / ours:.1f} x"
    name = f"pack + unpack of {what}"
    return Row(name, rate(len(keys), ours), rate(len(keys), theirs), ratio, "10 x fdb.tuple")


def local() -> list[Row]:
    from fdb import tuple as fdb
    from sortedcontainers import SortedDict

    count = 300_000
    keys = [(f"user{i % 1_000:04}", i) for i in range(count)]
    random.Random(3).shuffle(keys)
    pairs = [(key, b"value %026d" % i) for i, key in enumerate(keys)]
    db = connect("local://")
    db.setup_namespace({"t": (str, int)})
    table = db["t"]
    for at in range(0, count, BATCH):
        table.put_many(pairs[at : at + BATCH])
    plain: Any = SortedDict()
    for key, value in pairs:
        plain[fdb.pack(key)] = value
    asked = random.Random(5).sample(keys, 50_000)

    def theirs_get() -> None:
        for _ in ((key, plain.get(fdb.pack(key))) for key in asked):
            pass

    def theirs_scan() -> None:
        for _ in ((fdb.unpack(key), value) for key, value in plain.items()):
            pass

    assert list(table.scan(limit=50)) == [(fdb.unpack(k), v) for k, v in plain.items()[:50]]
    rows = []
    for what, done, ours, theirs in (
        (
            "local get_many",
            len(asked),
            best(lambda: drain(table.get_many(asked)), 7),
            best(theirs_get, 7),
        ),
        ("local scan", count, best(lambda: drain(table.scan())), best(theirs_scan, 1)),
    ):
        rows.append(
            Row(
                what,
                rate(done, ours),
                rate(done, theirs),
                f"{theirs / ours:.1f} x",
                "3 x SortedDict",
            )
        )
    memory = [sys.getsizeof(local_map(table)) / count, memory_of(plain) / count]
    ratio = f"{memory[0] / memory[1]:.2f} x"
    rows.append(
        Row(
            "local memory a row",
            f"{memory[0]:.0f} B",
            f"{memory[1]:.0f} B",
            ratio,
            "0.5 x SortedDict",
        )
    )
    return rows


def local_map(table: Table) -> LocalMap:
    found = table._backend._map(table.name)  # type: ignore[attr-defined]
    assert isinstance(found, LocalMap)
    return found


def memory_of(plain: Any) -> int:
    """Bytes of a SortedDict: its dict, its lists, and every key and value."""
    lists = plain.keys()._mapping._list
    total = sys.getsizeof(plain) + sum(sys.getsizeof(part) for part in lists._lists)
    total += sys.getsizeof(lists._maxes)
    return total + sum(sys.getsizeof(k) + sys.getsizeof(v) for k, v in plain.items())


# -- engines ---------------------------------------------------------------------------------------


@contextmanager
def started(name: str) -> Iterator[str]:
    with ExitStack() as stack:
        if name == "local":
            yield "local://bench"
        elif name == "sqlite":
            folder = stack.enter_context(TemporaryDirectory())
            yield f"sqlite:///{folder}/bench.db"
        else:
            makers: dict[str, Callable[[], Any]] = {
                "postgresql": lambda: engines.PostgreSQL(durable=True),
                "redis": engines.Redis,
                "redis+cluster": engines.RedisCluster,
                "cassandra": engines.Cassandra,
            }
            yield stack.enter_context(makers[name]()).url


def against_bare(name: str, url: str) -> list[Row]:
    """Batches of 1,000 and a load, against what the bare driver does best, and naively."""
    count = 20_000 if name == "cassandra" else 100_000
    driver = bare.DRIVERS[name](url)
    rows = []
    with connect(url, namespace="bare") as db:
        db.setup_namespace({"t": (str, int)})
        table = db["t"]
        pairs = [((f"user{i % 1_000:04}", i), b"value %094d" % i) for i in range(count)]
        random.Random(3).shuffle(pairs)
        encoded = [(pack(key), value) for key, value in pairs]

        def ours_put() -> None:
            for at in range(0, count, BATCH):
                table.put_many(pairs[at : at + BATCH])

        def ours_get() -> None:
            for at in range(0, count, BATCH):
                for _ in table.get_many([key for key, _ in pairs[at : at + BATCH]]):
                    pass

        def theirs(method: Callable[[list[Any]], object]) -> Callable[[], None]:
            def run() -> None:
                for at in range(0, count, BATCH):
                    method(encoded[at : at + BATCH])

            return run

        for what, ours, method in (
            ("put_many", ours_put, driver.put_many),
            ("get_many", ours_get, driver.get_many),
        ):
            our_times, their_times = [], []
            # In turns, each on tables of the same age.
            for _ in range(3 if what == "put_many" else 9):
                if what == "put_many":
                    table.clear()
                    driver.clear()
                our_times.append(seconds(ours))
                their_times.append(seconds(theirs(method)))
            mine, other = min(our_times), min(their_times)
            label = f"{name} {what}, 1,000 a call"
            rows.append(
                Row(
                    label,
                    rate(count, mine),
                    rate(count, other),
                    f"{other / mine:.2f} x",
                    "0.8 x the driver",
                )
            )
        table.clear()
        driver.clear()
        if hasattr(driver, "load"):
            mine, other = (
                seconds(lambda: table.put_many(pairs)),
                seconds(lambda: driver.load(encoded)),
            )
            label = f"{name} put_many, {count:,} in a call"
            rows.append(
                Row(
                    label,
                    rate(count, mine),
                    rate(count, other),
                    f"{other / mine:.2f} x",
                    "0.8 x the driver",
                )
            )
        few = encoded[:500]
        naive = seconds(lambda: [driver.put(key, value) for key, value in few])
        mine = best(lambda: table.put_many(pairs[:500]))
        label = f"{name} put_many against one by one"
        rows.append(Row(label, rate(500, mine), rate(500, naive), f"{naive / mine:.1f} x", ""))
        db.delete_namespace()
    driver.close()
    return rows


def long_scan(name: str, url: str) -> list[Row]:
    count = 1_000_000
    with connect(url, namespace="scan") as db:
        db.setup_namespace({"t": (str, int)})
        table = db["t"]
        for at in range(0, count, 100_000):
            table.put_many(
                [((f"user{i // 1_000:04}", i), b"value %026d" % i) for i in range(at, at + 100_000)]
            )

        def scan() -> None:
            assert sum(1 for _ in table.scan()) == count

        spent = best(scan, 2)
        db.delete_namespace()
    return [Row(f"{name} scan of {count:,} rows", rate(count, spent), "", "", "300 k/s")]


def run_all(pool: ThreadPoolExecutor, call: Callable[[Any], object], keys: list[Any]) -> None:
    for _ in pool.map(call, keys):
        pass


def throughput(name: str, url: str) -> list[tuple[str, int, float, float]]:
    """Values of 1 MB under random UUIDs, as kvlayer's own test: (engine, workers, read, write) in MB/s."""
    found = []
    value = random.Random(1).randbytes(MEGABYTE)
    total = 100 if name == "cassandra" else 400
    with connect(url, namespace="throughput", timeout=60) as db:
        db.setup_namespace({"t1": 1})
        table = db["t1"]
        for workers in WORKERS:
            keys = [(uuid.uuid4(),) for _ in range(max(total, 2 * workers))]

            with ThreadPoolExecutor(workers) as pool:
                wrote = seconds(partial(run_all, pool, lambda key: table.put(key, value), keys))
                read_ = seconds(partial(run_all, pool, lambda key: table[key], keys))
            found.append((name, workers, len(keys) / read_, len(keys) / wrote))
            table.clear()
        db.delete_namespace()
    return found


# -- the tables ------------------------------------------------------------------------------------


def ratios(rows: list[Row]) -> str:
    lines = ["| what | atbr.tables | beside it | ratio | reach |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def throughputs(found: list[tuple[str, int, float, float]]) -> str:
    lines = ["| workers | engine | read MB/s | write MB/s |", "|---|---|---|---|"]
    for name, workers, read, write in found:
        lines.append(f"| {workers} | {name} | {read:,.1f} | {write:,.1f} |")
    for name, published in KVLAYER.items():
        for workers, read, write in published:
            lines.append(f"| {workers} | kvlayer on {name}, 2014 | {read} | {write} |")
    return "\n".join(lines)


def machine() -> str:
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    import os

    today = datetime.date.today().isoformat()
    return f"`benches/tables.py`, {today}: {os.cpu_count()} cores of {model}, CPython {platform.python_version()}."


def main() -> None:
    """Measure what the arguments name, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="codec,local,bare,scan,throughput")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    only = options.only.split(",")
    rows: list[Row] = []
    rows += codec() if "codec" in only else []
    rows += local() if "local" in only else []
    found: list[tuple[str, int, float, float]] = []
    for name in options.engines.split(","):
        lack = None if name in ("local", "sqlite") else engines.missing(name)
        if lack:
            print(f"{name} is left out: {lack}", file=sys.stderr)
            continue
        with started(name) as url:
            rows += against_bare(name, url) if "bare" in only and name in bare.DRIVERS else []
            rows += (
                long_scan(name, url) if "scan" in only and name in ("sqlite", "postgresql") else []
            )
            found += throughput(name, url) if "throughput" in only else []
    text = f"{machine()}\n\n{ratios(rows)}\n"
    if found:
        text += f"\nValues of 1 MB under random UUIDs, threads of one process:\n\n{throughputs(found)}\n"
    print(text)
    if options.plot and found:
        options.plot.write_text(tables_plot.svg(found, KVLAYER))
    if options.write:
        document = options.write.read_text(encoding="utf-8")
        before, _, rest = document.partition(BEGIN)
        _, _, after = rest.partition(END)
        options.write.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
