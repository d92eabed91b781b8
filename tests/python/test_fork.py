"""fork() while other threads write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# 3.12 and later warn of a fork while threads run, which is what this is about; every other warning
# is an error.
PROGRAM = """
import os, signal, sys, threading, warnings
import atbr

warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
forks = int(sys.argv[1])
sys.setswitchinterval(1e-4)
store = atbr.Store({str(i): "x" * i for i in range(300)})
stop = threading.Event()

def write(own):
    number = 0
    while not stop.is_set():
        number += 1
        store[f"{own} {number % 500}"] = "y" * (number % 6_000)
        store.append(f"log {own}", "z")
        store.delete(f"{own} {number * 7 % 500}")
        store.get(str(number % 300))
        if number % 50 == 0:
            store.set_many({f"{own} {i}": "b" for i in range(50)})
            sum(1 for _ in store.items())
            store.clear() if number % 1_000 == 0 and own == 0 else None

writers = [threading.Thread(target=write, args=(own,)) for own in range(4)]
for writer in writers:
    writer.start()
path = sys.argv[2]
try:
    for number in range(forks):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(60)
                for i in range(500):
                    store[f"child {i}"] = "c" * (i * 20)
                assert store["child 499"] == "c" * 9_980
                assert store.get_many(["child 0", "child 1"]) == {"child 0": "", "child 1": "c" * 20}
                assert len(list(store)) == len(store)
                other = atbr.Store()
                for target in (store, other):
                    target.load(path)
                    assert target["loaded 999"] == "999"
                assert other == other.copy()
                other.compact()
                store.clear()
                assert not store
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status != 0:
            print("fork", number, "ended with", status)
            break
    else:
        store["parent"] = "alive"
        assert store["parent"] == "alive"
        print("done")
finally:
    stop.set()
    for writer in writers:
        writer.join()
"""


def fork_often(run_python: Callable[..., str], folder: Path, count: int) -> None:
    path = folder / "rows.tsv"
    path.write_text("".join(f"loaded {i}\t{i}\n" for i in range(1_000)))
    assert run_python(PROGRAM, str(count), str(path), timeout=1_200) == "done\n"


def test_children_of_a_writing_process_work(run_python: Callable[..., str], tmp_path: Path) -> None:
    fork_often(run_python, tmp_path, 50)


@pytest.mark.deep
def test_500_children_of_a_writing_process_work(
    run_python: Callable[..., str], tmp_path: Path
) -> None:
    fork_often(run_python, tmp_path, 500)


def test_a_single_threaded_fork_warns_of_nothing(
    run_python: Callable[..., str], tmp_path: Path
) -> None:
    # The store must have left no thread behind, not even after a load.
    path = tmp_path / "rows.tsv"
    path.write_text("".join(f"{i}\t{'x' * 50}\n" for i in range(100_000)))
    program = """
import os, sys
import atbr
store = atbr.Store()
store.load(sys.argv[1], threads=2)
child = os.fork()
if child == 0:
    os._exit(0 if store["99999"] == "x" * 50 and len(store) == 100_000 else 1)
print(os.waitpid(child, 0)[1])
"""
    assert run_python(program, str(path)) == "0\n"


def test_an_iterator_that_threads_share_does_not_block_a_child(
    run_python: Callable[..., str],
) -> None:
    program = """
import os, threading, warnings
import atbr
warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
store = atbr.Store({str(i): "x" * 100 for i in range(20_000)})
shared, stop = [iter(store.items())], threading.Event()

def work():
    while not stop.is_set():
        try:
            next(shared[0])
        except StopIteration:
            shared[0] = iter(store.items())

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
ended = []
for _ in range(60):
    child = os.fork()
    if child == 0:
        try:
            next(shared[0], None)
        except RuntimeError as error:
            os._exit(1 if "forked while another thread" in str(error) else 2)
        os._exit(0)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
for thread in threads:
    thread.join()
print(set(ended) <= {0, 1})
"""
    assert run_python(program) == "True\n"
