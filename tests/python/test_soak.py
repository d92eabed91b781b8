"""A store that is used for long takes no more memory than after a while."""

from __future__ import annotations

import faulthandler
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import soak


@pytest.mark.deep
def test_memory_stays_flat_while_entries_come_change_and_expire() -> None:
    seconds = 60 * float(os.environ.get("ATBR_SOAK_MINUTES", "3"))
    faulthandler.dump_traceback_later(seconds + 120, exit=True)
    program = Path(soak.__file__)
    run = subprocess.run(
        [sys.executable, "-W", "error", str(program), str(seconds)],
        stdout=subprocess.PIPE,
        timeout=seconds + 90,
        check=True,
    )
    seen = json.loads(run.stdout)
    memory, third = seen["memory"], len(seen["memory"]) // 3
    middle, last = statistics.median(memory[third:-third]), statistics.median(memory[-third:])
    print(
        f"{middle:,} B in the middle, {last:,} B at the end:", {**seen, "memory": 0, "entries": 0}
    )
    assert last < 1.03 * middle
    assert max(seen["entries"]) <= soak.MOST
    assert seen["expirations"] > 10_000
    assert seen["evictions"] > 0
    # Each pair that expired was told or counted as lost, but for those on their way when both were asked.
    assert 0 < seen["told"] <= seen["expirations"]
