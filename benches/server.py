"""What the server reaches: every figure of docs/server.md, each beside its peer in the same run.

    pip install --group servers
    python benches/server.py [TASK ...] [--write docs/server.md]

Runs these tasks, or all, and prints a table; what a task has found stays in build/, so that tasks can be measured one
by one. --write puts all of it between the marks of a document. All of it takes 40 minutes, half of them
redis-benchmark's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import dataset
import engine_versions
import figures
import resp
import server_latency
import server_memory
import web
from serving import Row

BEGIN = "<!-- figures: begin (benches/server.py) -->"
END = "<!-- figures: end -->"
TASKS: dict[str, Callable[[], list[Row]]] = {
    "resp": resp.rows,
    "empty": lambda: server_memory.empty(3),
    "growth": lambda: server_memory.growth(3),
    "web": web.rows,
    "idle": lambda: server_memory.idle(3),
    "slow": lambda: server_memory.slow(3),
    "latency": server_latency.rows,
    "engine": engine_versions.rows,
}


def found_path() -> Path:
    return dataset.CACHE / "server.json"


def table(found: dict[str, list[Row]]) -> str:
    lines = [
        f"`benches/server.py`, {datetime.date.today()}: {len(os.sched_getaffinity(0))} cores of {figures.processor()},"
        f" CPython {platform.python_version()}; server, peer and generator of load share them. Medians.",
        "",
        "| what; beside it | atbr | beside it | ratio | to be reached |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(row)} |" for task in TASKS for row in found.get(task, [])]
    return "\n".join(lines)


def main() -> None:
    """Measure what the arguments name, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--rates", type=Path, help="what resp.py --add has left, instead of asking")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table there")
    options = parser.parse_args()
    path = found_path()
    found = json.loads(path.read_text()) if path.exists() else {}
    for task in options.tasks or TASKS:
        if task == "resp" and options.rates:
            found[task] = resp.rows_of(json.loads(options.rates.read_text()))
        else:
            found[task] = TASKS[task]()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    text = table(found)
    print(text)
    if options.write:
        document = options.write.read_text(encoding="utf-8")
        before, _, rest = document.partition(BEGIN)
        _, _, after = rest.partition(END)
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
