"""redis-py's own tests, from its source distribution (`tools/engines.sh redis-py` fetches it), on this server."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from redis_py_exclusions import EXCLUDED

from atbr import Store

VERSION = "8.1.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atbr"
SOURCE = CACHE / f"redis-py-{VERSION}"
FILES = "commands pipeline pubsub lock monitor keyspace_notifications".split()
SECONDS = 900
# Of one test, on a machine that is busy.
TEST_SECONDS = 200
# Why tests of redis-py skip themselves: another version of Redis (INFO says 7.0), of the protocol, or of the product.
OWN_REASONS = ("Redis version required", "RESP version required", "Not running in redis enterprise")
PASSED = {("sync", 2): 523, ("sync", 3): 523, ("asyncio", 2): 606, ("asyncio", 3): 606}


@pytest.mark.deep
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_redis_pys_own_tests_pass(kind: str, protocol: int, tmp_path: Path) -> None:
    # One test saves twice within 0.3 s, which a disk that others use may take for one.
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=in_memory) as data:
        run_tests(kind, protocol, tmp_path / "report.xml", data)


def run_tests(kind: str, protocol: int, report: Path, data: str) -> None:
    if not (SOURCE / "complete").exists():
        reason = "redis-py's tests are not there (tools/engines.sh redis-py)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    # What follows has a bound of its own.
    faulthandler.cancel_dump_traceback_later()
    folder = "tests" if kind == "sync" else "tests/test_asyncio"
    with Store(values=bytes).serve(http=None, data_dir=data) as server:
        command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-o", "addopts="]
        command += ["-p", "no:cacheprovider", "-p", "redis_py_exclusions", "-m", "not onlycluster"]
        command += [f"--redis-url={server.resp_url}/0", f"--protocol={protocol}"]
        command += [f"--timeout={TEST_SECONDS}"]
        command += [f"--junitxml={report}"]
        done = subprocess.run(
            [*command, *(f"{folder}/test_{name}.py" for name in FILES)],
            cwd=SOURCE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [str(Path(__file__).parent), str(SOURCE / "plugins")]
                ),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-10_000:]
    passed = 0
    reasons = set()
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        if skipped is None:
            passed += 1
        elif skipped.get("type") == "pytest.skip":
            reasons.add(skipped.get("message", ""))
    ours = {f"atbr: {reason}" for reason in EXCLUDED}
    assert {reason for reason in reasons - ours if not reason.startswith(OWN_REASONS)} == set()
    assert kind == "asyncio" or ours <= reasons, "a reason that leaves nothing out"
    assert passed == PASSED[kind, protocol]
