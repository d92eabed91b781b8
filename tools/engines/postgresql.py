"""One PostgreSQL server with a data folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engines.processes import Process, folder, free_port

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 128MB
max_connections = 150
max_wal_size = 1GB
logging_collector = off
timezone = 'UTC'
"""


def programs() -> Path | None:
    """Return the folder of the newest version's programs."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    elsewhere = shutil.which("postgres")
    if not found and elsewhere:
        found = [Path(elsewhere).resolve().parent]
    return max(found, key=lambda path: [int(p) for p in path.parts if p.isdecimal()], default=None)


class PostgreSQL:
    """A server; `durable=False` saves the disk's time in tests, with `password` it wants one."""

    def __init__(self, *, durable: bool = False, password: str = "") -> None:
        self.folder = folder("postgresql")
        self.data = self.folder / "data"
        self.port = free_port()
        login = f"postgres:{quote(password, safe='')}" if password else "postgres"
        self.url = f"postgresql://{login}@127.0.0.1:{self.port}/postgres"
        self.process: Process | None = None
        bin_folder = programs()
        if bin_folder is None:
            raise RuntimeError("PostgreSQL is not installed")
        self.bin = bin_folder
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        secret = self.folder / "password"
        secret.write_text(f"{password}\n")
        kind = ["scram-sha-256", f"--pwfile={secret}"] if password else ["trust"]
        options = ["-U", "postgres", "-A", *kind, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        initdb = [str(self.bin / "initdb"), "-D", str(self.data), *options]
        log = self.folder / "initdb.log"
        made = Process(initdb, log, "postgres")
        if made.child.wait(120):
            raise RuntimeError(log.read_text())
        safety = "" if durable else "fsync = off\nfull_page_writes = off\n"
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"{SETTINGS}port = {self.port}\n{safety}")

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(self.bin / "postgres"), "-D", str(self.data)]
        self.process = Process(command, self.folder / "log", "postgres")
        self.process.wait_until(self._answers)

    def _answers(self) -> bool:
        ready = [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def kill(self) -> None:
        """End it as a crash does; its children end by themselves."""
        if self.process:
            self.process.end(signal.SIGQUIT)

    def pause(self) -> None:
        """Stop every one of its processes, connections staying open."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """Undo `pause`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        if self.process:
            parent = self.process.child.pid
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            for pid in [parent, *map(int, children)]:
                os.kill(pid, number)

    def __enter__(self) -> PostgreSQL:
        self.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        if self.process:
            self.process.end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)
