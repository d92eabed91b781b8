"""The engine's single-key paths, as they are and as they were at another commit.

    python benches/engine_versions.py COMMIT [--rounds 3] [--seconds 3] [--filter 'get|set']

Builds `cargo bench --bench engine` of this tree and of the commit, and runs them in turns: medians over the rounds of
criterion's own estimates, and their ratios. Needs git and a few minutes to build.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from serving import Row

ROOT = Path(__file__).resolve().parent.parent
# Before the engine knew of watches, notifications and numbered databases.
BEFORE = "8b2f9a8"


def built(tree: Path, target: Path) -> Path:
    """Compile the benchmark of a tree; return the program."""
    command = ["cargo", "bench", "--bench", "engine", "--no-run", "--message-format=json"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    found = re.findall(rb'"executable":"([^"]*/engine-[^"]*)"', done.stdout)
    assert found, "cargo says of no program that it was built"
    return Path(os.fsdecode(found[-1]))


def run(program: Path, only: str, seconds: float) -> dict[str, float]:
    """Return nanoseconds by benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--bench", only, "--noplot", "--measurement-time", str(seconds)]
        environment = {**os.environ, "CRITERION_HOME": folder}
        subprocess.run([program, *words], env=environment, check=True, stdout=subprocess.DEVNULL)
        return {
            path.parts[-4]: json.loads(path.read_text())["median"]["point_estimate"]
            for path in Path(folder).glob("*/atbr/new/estimates.json")
        }


def rows(
    commit: str = BEFORE, rounds: int = 3, seconds: float = 3, only: str = "atbr"
) -> list[Row]:
    cache = ROOT / "build" / "engine-versions"
    tree = cache / commit
    if not tree.exists():
        tree.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "x"], cwd=tree, input=archive.stdout, check=True)
    programs = [built(ROOT, cache / "target-now"), built(tree, cache / f"target-{commit}")]
    times: list[dict[str, list[float]]] = [{}, {}]
    for _ in range(rounds):
        for seen, program in zip(times, programs, strict=True):
            for name, nanoseconds in run(program, only, seconds).items():
                seen.setdefault(name, []).append(nanoseconds)
    found = []
    for name in times[0]:
        now, then = (statistics.median(seen[name]) for seen in times)
        what = f"engine, {name}: now; at {commit}, before the server"
        found.append(Row(what, shown(now), shown(then), f"{now / then:.2f} x", "reported"))
    return found


def shown(nanoseconds: float) -> str:
    if nanoseconds >= 1e6:
        return f"{nanoseconds / 1e6:.2f} ms"
    return f"{nanoseconds / 1e3:.1f} us" if nanoseconds >= 1e4 else f"{nanoseconds:.1f} ns"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("commit", nargs="?", default=BEFORE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--filter", default="atbr")
    options = parser.parse_args()
    for row in rows(options.commit, options.rounds, options.seconds, options.filter):
        print(*row, sep=" | ")


if __name__ == "__main__":
    main()
