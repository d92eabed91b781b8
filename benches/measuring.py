"""Measurements in processes of their own, and rows of what they saw."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

MILLION = 1_000_000
MEBIBYTE = 1 << 20

Row = tuple[str, str, str]
"""What was measured, what was seen, and what is to be reached."""
Result = dict[str, Any]


def command(task: str, rows: int, *arguments: str) -> list[str]:
    return [sys.executable, sys.argv[0], "--task", task, str(rows), *arguments]


def measure(task: str, rows: int, *arguments: str) -> Result:
    print(f"measuring {task} {rows:,} {' '.join(arguments)} ...", file=sys.stderr)
    output = subprocess.run(
        command(task, rows, *arguments), check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(output.stdout))
