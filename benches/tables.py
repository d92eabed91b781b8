"""What atbr.tables costs: beside fdb.tuple, SortedDict and the bare drivers, and kvlayer's throughput table.

``python benches/tables.py [--only NAME,...] [--engines NAME,...] [--write docs/tables.md] [--plot FILE.svg]`` starts
each engine that is installed, measures, prints tables, and puts them between the marks of a document. Figures are kept
in ``--figures FILE``, so that parts may be measured one after the other; ``--only none`` measures nothing. Ours and
theirs take turns, and ratios are medians of rounds.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import engines
import tables_bare as bare
import tables_plot
from atbr._core import LocalMap
from atbr.tables import Table, connect, pack, unpack
from tables_figures import ENGINES, KVLAYER, Figures, Row, compared, rate

WORKERS = (1, 4, 16, 50, 100)
MEGABYTE = 2**20
BATCH = 1_000
Work = Callable[[], object]


def seconds(work: Work) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(
    rounds: int, ours: Work, theirs: Work, before: Work = lambda: None
) -> list[tuple[float, float]]:
    """Return the seconds of both in each round; who is first changes."""
    found = []
    for number in range(rounds + 1):
        before()
        times = [
            (each, seconds(each)) for each in ((ours, theirs) if number % 2 else (theirs, ours))
        ]
        found.append((dict(times)[ours], dict(times)[theirs]))
    # The first round warms caches, connections and compilers up.
    return found[1:]


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
    rounds = in_turns(
        9,
        lambda: drain(unpack(pack(key)) for key in keys),
        lambda: drain(fdb.unpack(fdb.pack(key)) for key in keys),
    )
    return compared(f"pack + unpack of {what}", len(keys), rounds, "10 x fdb.tuple")


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
    gets = in_turns(15, lambda: drain(table.get_many(asked)), theirs_get)
    scans = in_turns(5, lambda: drain(table.scan()), theirs_scan)
    rows = [
        compared("local get_many", len(asked), gets, "3 x SortedDict"),
        compared("local scan", count, scans, "3 x SortedDict"),
    ]
    memory = [sys.getsizeof(local_map(table)) / count, memory_of(plain) / count]
    ours, theirs = (f"{each:.0f} B" for each in memory)
    ratio = f"{memory[0] / memory[1]:.2f} x"
    return [*rows, Row("local memory a row", ours, theirs, ratio, "", "0.5 x SortedDict")]


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
                "cassandra": lambda: engines.Cassandra(heap="2g"),
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

        def both_cleared() -> None:
            table.clear()
            driver.clear()

        reach = "0.8 x the driver"
        rows.append(
            compared(
                f"{name} put_many, 1,000 a call",
                count,
                in_turns(7, ours_put, theirs(driver.put_many), both_cleared),
                reach,
            )
        )
        rows.append(
            compared(
                f"{name} get_many, 1,000 a call",
                count,
                in_turns(15, ours_get, theirs(driver.get_many)),
                reach,
            )
        )
        if hasattr(driver, "load"):
            rows.append(
                compared(
                    f"{name} put_many, {count:,} in a call",
                    count,
                    in_turns(
                        7,
                        lambda: table.put_many(pairs),
                        lambda: driver.load(encoded),
                        both_cleared,
                    ),
                    reach,
                )
            )
        both_cleared()
        few = 500
        naive = in_turns(
            3,
            lambda: table.put_many(pairs[:few]),
            lambda: [driver.put(key, value) for key, value in encoded[:few]],
        )
        rows.append(compared(f"{name} put_many against one by one", few, naive, ""))
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

        spent = statistics.median(seconds(scan) for _ in range(3))
        db.delete_namespace()
    return [Row(f"{name} scan of {count:,} rows", rate(count, spent), reach="300 k/s")]


def run_all(pool: ThreadPoolExecutor, call: Callable[[Any], object], keys: list[Any]) -> None:
    for _ in pool.map(call, keys):
        pass


def throughput(name: str, url: str) -> list[tuple[int, float, float]]:
    """Values of 1 MB under random UUIDs, as kvlayer's own test: (workers, read, write) in MB/s."""
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
            found.append((workers, len(keys) / read_, len(keys) / wrote))
            table.clear()
        db.delete_namespace()
    return found


def main() -> None:
    """Measure what the arguments name, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="codec,local,bare,scan,throughput")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--figures", type=Path, default=Path("build/figures/tables.json"))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    only = options.only.split(",")
    figures = Figures(options.figures)
    for group, measure in (("codec", codec), ("local", local)):
        if group in only:
            figures.add_rows(group, measure())
    for name in options.engines.split(",") if {"bare", "scan", "throughput"} & {*only} else ():
        lack = None if name in ("local", "sqlite") else engines.missing(name)
        if lack:
            print(f"{name} is left out: {lack}", file=sys.stderr)
            continue
        with started(name) as url:
            if "bare" in only and name in bare.DRIVERS:
                figures.add_rows(f"bare {name}", against_bare(name, url))
            if "scan" in only and name in ("sqlite", "postgresql"):
                figures.add_rows(f"scan {name}", long_scan(name, url))
            if "throughput" in only:
                figures.add_throughput(name, throughput(name, url))
    print(figures.text())
    if options.plot and figures.throughput:
        options.plot.write_text(tables_plot.throughput(figures.throughput, KVLAYER))
        ratios = options.plot.with_stem(f"{options.plot.stem}-ratios")
        ratios.write_text(tables_plot.ratios(figures.ratios))
    if options.write:
        figures.write(options.write)


if __name__ == "__main__":
    main()
