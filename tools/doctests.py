"""Run the examples of Markdown files and of the package's docstrings.

In Markdown every fenced block marked ``python`` runs, the blocks of one file in one namespace:
a block with prompts as a doctest, any other as plain code. ``python no-run`` is left out.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import os
import pkgutil
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

FENCE = re.compile(r"^```python *\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@contextlib.contextmanager
def empty_folder() -> Iterator[None]:
    """Examples may write files: they get a folder of their own."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def run_markdown(path: Path) -> tuple[int, int]:
    """Run the blocks of one file; return how many examples ran and how many failed."""
    text = path.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    parser = doctest.DocTestParser()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    ran = failed = 0
    for block in FENCE.finditer(text):
        code = block.group(1)
        line = text.count("\n", 0, block.start()) + 1
        if ">>>" in code:
            test = parser.get_doctest(code, names, f"{path}:{line}", str(path), line)
            result = runner.run(test, clear_globs=False)
            names = test.globs
            ran, failed = ran + result.attempted, failed + result.failed
            continue
        ran += 1
        try:
            exec(compile("\n" * line + code, str(path), "exec"), names)
        except Exception:
            traceback.print_exc()
            failed += 1
    return ran, failed


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def run_docstrings(module: ModuleType) -> tuple[int, int]:
    """Run a module's docstrings, those of compiled classes included."""
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test)
    return runner.tries, runner.failures


def main(arguments: list[str]) -> int:
    """Run everything; the exit status says whether an example failed."""
    places: list[tuple[str, int, int]] = []
    files = [Path(argument).resolve() for argument in arguments]
    for path in files:
        with empty_folder():
            places.append((path.name, *run_markdown(path)))
    for module in modules_of(importlib.import_module("atbr")):
        with empty_folder():
            places.append((module.__name__, *run_docstrings(module)))
    for name, ran, failed in places:
        if ran:
            print(f"{name}: {ran} examples, {failed} failed")
    total = sum(ran for _, ran, _ in places)
    failures = sum(failed for _, _, failed in places)
    print(f"doctests: {total} examples, {failures} failed")
    if not total:
        print("doctests: no example was found, which is a fault in itself", file=sys.stderr)
    return 1 if failures or not total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
