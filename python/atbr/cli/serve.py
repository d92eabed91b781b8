"""`atbr serve`: listen, load, answer, end as told, save."""

from __future__ import annotations

import signal
import sys
import threading
from argparse import Namespace
from pathlib import Path
from typing import Any, Literal

from atbr import _core
from atbr.cli.signals import ENDS, NOTHING, Ended, Signals
from atbr.server import Server
from atbr.store import Store

DATABASES = range(1, 16)
A_DAY = 86_400.0


def run(options: Namespace) -> int:
    """Serve until told to end; return the exit status."""
    _core.start_log(options.log_level, options.log_format)
    with Signals() as signals:
        try:
            return _serve(options, signals)
        except Ended:
            _core.log("info", "ended before all files were loaded; nothing was saved")
            return 0
        except (OSError, ValueError, MemoryError) as error:
            print(f"atbr serve: {_in_one_line(error)}", file=sys.stderr)
            return 1


def _serve(options: Namespace, signals: Signals) -> int:
    with _store(options) as store, _server(store, options) as server:
        # The ports are taken before anything is loaded; who connects by then waits.
        with signals.interrupting():
            for file in options.files:
                _load(server, file, options)
        server._serve()
        _core.log("info", f"serving at {_places(server)}")
        _until_told(server, signals)
        _core.log("info", "ending")
        saves = server._core.saves
        if not server.close(options.drain):
            _core.log("warn", f"connections were cut that had not ended after {options.drain:g} s")
        if options.save_on_exit is not None and not saves:
            _core.log("info", "nothing is saved: a client asked for SHUTDOWN NOSAVE")
        elif options.save_on_exit is not None:
            _save(server, options.save_on_exit, options)
    _core.log("info", "ended")
    return 0


def _store(options: Namespace) -> Store[bytes, bytes]:
    return Store(
        keys=bytes,
        values=bytes,
        capacity=options.capacity or 0,
        ttl=options.ttl,
        max_bytes=options.max_bytes,
        on_full=options.on_full,
    )


def _server(store: Store[Any, Any], options: Namespace) -> Server:
    closed = [path for path in (options.config, options.save_on_exit) if path is not None]
    return Server(
        store,
        http=options.http,
        resp=options.resp,
        host=options.host,
        password_file=options.password_file,
        token_file=options.token_file,
        data_dir=options.data_dir,
        readonly=options.readonly,
        tsv=options.tsv,
        disabled_commands=options.disable_command,
        allowed_hosts=options.allowed_host,
        cors_origins=options.cors_origin,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        max_connections=options.max_connections,
        max_unauthenticated=options.max_unauthenticated,
        max_value=options.max_value,
        max_request_line=options.max_request_line,
        max_headers=options.max_headers,
        max_buffers=options.max_buffers,
        idle_timeout=options.idle_timeout,
        stall_timeout=options.stall_timeout,
        unauthenticated_timeout=options.unauthenticated_timeout,
        threads=options.threads or 0,
        _closed_files=closed,
        _start=False,
    )


def _load(server: Server, file: str, options: Namespace) -> None:
    """Load a file into database 0, and what a save left beside it into the others."""
    parts = {0: Path(file)}
    for number in DATABASES:
        beside = _part(file, number)
        if beside.exists():
            parts[number] = beside
    show = None if options.quiet or not sys.stderr.isatty() else True
    for number, path in parts.items():
        report = server.db(number).load(path, progress=show, escape=_escape(options))
        _core.log("info", f"loaded {report.rows:,} rows of {path} in {report.seconds:.2f} s")


def _save(server: Server, file: str, options: Namespace) -> None:
    for number in (0, *DATABASES):
        path = _part(file, number)
        store = server.db(number)
        # An empty database leaves no file, but does not leave an old one either.
        if number == 0 or len(store) or path.exists():
            report = store.save(path, escape=_escape(options), skip_expiring=True)
            left_out = f", {report.skipped:,} that expire left out" if report.skipped else ""
            took = f"in {report.seconds:.2f} s"
            _core.log("info", f"saved {report.rows:,} rows to {path} {took}{left_out}")


def _part(file: str, number: int) -> Path:
    return Path(f"{file}.db{number}" if number else file)


def _escape(options: Namespace) -> Literal["backslash"] | None:
    return "backslash" if options.tsv == "backslash" else None


def _until_told(server: Server, signals: Signals) -> None:
    """Return when a signal or a client asks for the end."""

    def watch() -> None:
        while not server._core.wait(A_DAY):
            pass
        signals.wake()

    certificate = ", and the certificate" if server._encrypts else ""
    threading.Thread(target=watch, name="atbr-shutdown", daemon=True).start()
    while True:
        number = signals.wait()
        if number in ENDS or (number == NOTHING and server.closed):
            return
        if number == signal.SIGHUP:
            try:
                server.reload_secrets()
                _core.log("info", "the secrets were read again" + certificate)
            except OSError as error:
                _core.log("error", f"the secrets stay as they were: {_in_one_line(error)}")


def _places(server: Server) -> str:
    return " and ".join(place for place in (server.url, server.resp_url) if place)


def _in_one_line(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(text.split())
