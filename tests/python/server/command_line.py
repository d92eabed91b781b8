"""`atbr serve` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import Request, urlopen

START_SECONDS = 120
END_SECONDS = 120


class Serve:
    """Starts it on free ports; waits until it serves, and for its end."""

    def __init__(self, *words: str, cwd: Path | None = None, ready: bool = True) -> None:
        command = [sys.executable, "-W", "error", "-m", "atbr", "serve"]
        for flag, value in (("--log-format", "json"), ("--http", "0"), ("--resp", "0")):
            if flag not in words:
                command += [flag, value]
        self.lines: list[str] = []
        self.child = subprocess.Popen(
            [*command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if ready:
            self.message("serving at")

    def _read(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            with self._said:
                self.lines.append(line.decode())
                self._said.notify_all()
        with self._said:
            self.lines.append("")
            self._said.notify_all()

    def message(self, words: str) -> str:
        """Wait for a line of the log with these words, and return what it says."""

        def found() -> str | None:
            for line in self.lines:
                if words in line:
                    return line
            return "" if self.lines and self.lines[-1] == "" else None

        with self._said:
            line = self._said.wait_for(found, START_SECONDS)
        assert line, f"{words!r} was not said: {self.lines}"
        return str(json.loads(line)["message"]) if line.startswith("{") else line

    def port(self, scheme: str) -> int:
        """Return the port of `http` or `redis`, as the log says it."""
        text = self.message("serving at")
        return int(text.partition(f"{scheme}://")[2].split()[0].rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port('http')}"

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.child.wait(END_SECONDS)
        self._reader.join(END_SECONDS)
        self.lines = [line for line in self.lines if line]
        return status

    def __enter__(self) -> Serve:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.wait()
        for stream in (self.child.stdout, self.child.stderr):
            assert stream is not None
            stream.close()


def fetch(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> bytes:
    """Return what HTTP answers."""
    request = Request(url, data=body, method=method, headers=headers)
    with urlopen(request, timeout=60) as answer:
        return answer.read()
