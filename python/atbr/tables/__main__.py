"""`python -m atbr.tables`: load TSV files into any engine, copy a namespace between engines."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from atbr.tables.copying import copy
from atbr.tables.database import Database, connect
from atbr.tables.errors import ConfigurationError, TablesError
from atbr.tables.loading import State, load_parts, parts_of

TYPES: dict[str, Any] = {
    each.__name__.lower(): each for each in (str, bytes, int, float, bool, UUID, datetime)
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; what goes wrong is one line on stderr and exit status 1."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("\natbr.tables: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    except (TablesError, OSError, ValueError) as error:
        print(f"atbr.tables: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return status


def _load(options: argparse.Namespace) -> int:
    with _connected(options.to, options) as db:
        if options.schema:
            db.setup_namespace({options.table: _types(options.schema)})
        table = db[options.table]
        files = [str(Path(file)) for file in options.files]
        stats = [Path(file).stat() for file in files]
        described: dict[str, object] = {
            "to": [db.url, db.app_name, db.namespace, options.table],
            "files": [
                [file, stat.st_size, stat.st_mtime_ns]
                for file, stat in zip(files, stats, strict=True)
            ],
        }
        state = State(Path(options.state or f"{files[0]}.atbr-load"), described)
        parts = [part for file in files for part in parts_of(file)]
        title = f"load {len(files)} files" if len(files) > 1 else f"load {files[0]}"
        report = load_parts(table, parts, options.workers, not options.quiet, title, state)
        state.remove()
    seconds = max(report.seconds, 1e-9)
    resumed = f", {report.skipped_parts} parts were done before" if report.skipped_parts else ""
    print(
        f"{report.rows:,} rows, {report.bytes / 2**20:,.1f} MB in {seconds:.1f} s: "
        f"{report.rows / seconds:,.0f} rows/s{resumed}"
    )
    return 0


def _copy(options: argparse.Namespace) -> int:
    def show(table: str, rows: int) -> None:
        sys.stderr.write(f"\r{table}: {rows:,} rows\x1b[K")
        sys.stderr.flush()

    with _connected(options.source, options) as source:
        target_names = {
            "app_name": options.to_app_name or source.app_name,
            "namespace": options.to_namespace or source.namespace,
        }
        with connect(options.target, **target_names) as target:
            tables = options.tables.split(",") if options.tables else None
            described: dict[str, object] = {
                "from": [source.url, source.app_name, source.namespace, options.tables],
                "to": [target.url, target.app_name, target.namespace],
            }
            path = options.state or f"{source.app_name}.{source.namespace}.atbr-copy"
            state = State(Path(path), described)
            tick = None if options.quiet else show
            copied = copy(source, target, tables, tick, drop_ttl=options.drop_ttl, state=state)
            state.remove()
    if not options.quiet:
        sys.stderr.write("\n")
    for table, rows in copied.items():
        print(f"{table}\t{rows}")
    return 0


def _connected(url: str, options: argparse.Namespace) -> Database:
    return connect(url, app_name=options.app_name, namespace=options.namespace)


def _types(text: str) -> tuple[Any, ...]:
    found = []
    for name in text.split(","):
        optional = name.strip().endswith("?")
        kind = TYPES.get(name.strip().rstrip("?").lower())
        if kind is None:
            raise ConfigurationError(f"schema: {name!r} is none of {', '.join(TYPES)}")
        found.append(kind | None if optional else kind)
    return tuple(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atbr.tables", description=__doc__)
    commands = parser.add_subparsers(required=True)
    load = commands.add_parser("load", help="stream TSV files into a table, in parallel, resumable")
    load.add_argument(
        "files", nargs="+", metavar="FILE", help="rows of key columns, then the value"
    )
    load.add_argument("--to", required=True, metavar="URL")
    load.add_argument("--table", required=True)
    load.add_argument("--schema", help="make the table: str,int,uuid...; str? takes empty as None")
    load.add_argument("--workers", type=_workers, default=4, help="threads (4)")
    load.add_argument("--state", metavar="FILE", help="what is done (the first file's .atbr-load)")
    load.set_defaults(run=_load)
    copied = commands.add_parser(
        "copy", help="copy a namespace from one engine to another, resumable"
    )
    copied.add_argument("source", metavar="URL1")
    copied.add_argument("target", metavar="URL2")
    copied.add_argument("--tables", help="names with commas; all of them if left out")
    copied.add_argument("--drop-ttl", action="store_true", help="keep for ever what expires")
    copied.add_argument(
        "--state",
        metavar="FILE",
        help="what is done (APP_NAME.NAMESPACE.atbr-copy, in this folder)",
    )
    copied.add_argument("--to-app-name")
    copied.add_argument("--to-namespace")
    copied.set_defaults(run=_copy)
    for command in (load, copied):
        command.add_argument("--app-name")
        command.add_argument("--namespace")
        command.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _workers(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 256:
        raise argparse.ArgumentTypeError("1 to 256")
    return count


if __name__ == "__main__":
    sys.exit(main())
