"""Child processes that listen on a port: start, wait until they answer, end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

START_SECONDS = 180
STOP_SECONDS = 30


def missing(engine: str) -> str | None:
    """Say what an engine lacks on this machine, or nothing."""
    from engines.cassandra import jars
    from engines.postgresql import programs

    if engine == "postgresql":
        return None if programs() else "PostgreSQL is not installed (tools/engines.sh)"
    if engine.startswith("redis"):
        found = shutil.which("redis-server")
        return None if found else "redis-server is not installed (tools/engines.sh)"
    found = shutil.which("java") if jars() else None
    return None if found else "Cassandra is not installed (tools/engines.sh cassandra)"


def free_port(
    hosts: tuple[str, ...] = ("127.0.0.1",), low: int = 20_000, high: int = 32_000
) -> int:
    """Return a port below the ephemeral range that is free on all of some addresses."""
    while True:
        port = random.randint(low, high)
        sockets = [socket.socket() for _ in hosts]
        try:
            for each, host in zip(sockets, hosts, strict=True):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind((host, port))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
        return port


def folder(name: str) -> Path:
    """Return a fresh folder with a short path that other users may enter: sockets and postgres need it."""
    made = Path(tempfile.mkdtemp(prefix=f"atbr-{name}-", dir="/tmp"))
    made.chmod(0o755)
    return made


class Process:
    """One child; it gets SIGTERM when the thread that started it ends, so none is left behind."""

    def __init__(self, command: list[str], log: Path, user: str | None = None) -> None:
        self.log = log
        wrapped = ["setpriv", "--pdeathsig", "TERM"]
        if user is not None and os.geteuid() == 0:
            wrapped += [f"--reuid={user}", f"--regid={user}", "--init-groups"]
        with log.open("ab") as out:
            self.child = subprocess.Popen(
                [*wrapped, "env", "HOME=/tmp", "LC_ALL=C.UTF-8", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                start_new_session=True,
            )

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Return when it answers; raise with the end of its log if it does not."""
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.end(signal.SIGKILL)
                tail = self.log.read_text(errors="replace")[-3_000:]
                raise RuntimeError(f"the engine did not start: {tail}")
            # Looked at again and again; nothing tells when a port begins to listen.
            time.sleep(0.02)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.child.poll() is None

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.alive:
            self.child.send_signal(number)

    def pause(self) -> None:
        """Stop it with its connections open, and wait until its last thread has stopped: until then it may answer."""
        self.send(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.child.pid}/task")
        while self.alive and any(
            (task / "stat").read_text().rpartition(")")[2].split()[0] != "T"
            for task in tasks.iterdir()
        ):
            time.sleep(0.002)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it and wait for that."""
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(STOP_SECONDS)


class Service:
    """What has one process, or none yet, and may be made to go away."""

    process: Process | None = None

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process:
            self.process.end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it, connections staying open."""
        if self.process:
            self.process.pause()

    def go_on(self) -> None:
        """Undo `pause`."""
        if self.process:
            self.process.send(signal.SIGCONT)


def listens(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True
