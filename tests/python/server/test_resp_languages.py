"""Clients of other languages (tests/clients) connect, pipeline, transact and subscribe, in both protocol versions."""

from __future__ import annotations

import faulthandler
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from atbr import Store

CLIENTS = Path(__file__).parents[2] / "clients"
SECONDS = 900
# What has to be there, what prepares a copy of the folder, and what runs it.
LANGUAGES = {
    "go": (["go"], ["go", "build", "-o", "check", "."], ["./check"]),
    "node": (["node", "npm"], ["npm", "install", "--no-audit", "--no-fund"], ["node", "check.mjs"]),
    "java": (
        ["java", "mvn"],
        ["mvn", "-q", "-B", "compile"],
        ["mvn", "-q", "-B", "exec:java"],
    ),
}


@pytest.mark.deep
@pytest.mark.parametrize("language", LANGUAGES)
def test_clients_of_other_languages_work(language: str, tmp_path: Path) -> None:
    tools, prepare, check = LANGUAGES[language]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} are not installed")
    # What follows has a bound of its own.
    faulthandler.cancel_dump_traceback_later()
    folder = tmp_path / language
    shutil.copytree(CLIENTS / language, folder)
    run(prepare, folder)
    for protocol in ("2", "3"):
        with Store(values=bytes).serve(http=None) as server:
            words = [str(server.resp_port), protocol]
            if language == "java":
                words = [f"-Dexec.args={' '.join(words)}"]
            # Maven resets colours that it has not set.
            printed = run([*check, *words], folder).replace("\x1b[0m", "")
            assert "fine" in printed.splitlines()
            assert server.close(60)


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]
    return done.stdout
