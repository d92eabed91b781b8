"""HTTP and WebSocket beside Tornado, which the server of 2012 used, and granian with starlette.

    pip install --group servers
    python benches/web.py [--seconds 5] [--rounds 3] [--peers granian,tornado]

Each server runs in a process of its own and looks up the same keys; wrk asks each for a few seconds, one after the
other, round by round. Compare ratios within a run.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import serving
from serving import Row

KEYS = 100_000
VALUE = "x" * 32
HERE = Path(__file__).parent
# What our rate of HTTP GETs is to be, in theirs.
PEERS = {"granian": 2, "tornado": 15}
NAMES = {"granian": "starlette on granian", "tornado": "Tornado"}
SOCKETS = ("/v1/ws", "/getws/")

Rates = dict[str, list[float]]
SCRIPT = f"""
math.randomseed(os.time())
request = function()
  return wrk.format("GET", "/get/key/key:" .. math.random(0, {KEYS - 1}))
end
"""


def entries() -> dict[bytes, bytes]:
    return {b"key:%d" % i: VALUE.encode() for i in range(KEYS)}


# -- servers, each in a process of its own ---------------------------------------------------------


def serve_atbr(port: int) -> None:
    from atbr import Store

    with Store(entries(), keys=bytes, values=bytes).serve(http=port, resp=None):
        sys.stdin.read()


def serve_tornado(port: int) -> None:
    import tornado.web

    from atbr import Store

    store = Store(entries(), keys=bytes, values=bytes)

    class Get(tornado.web.RequestHandler):  # type: ignore[misc,unused-ignore]
        def get(self, key: str) -> None:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.write(store.get(key.encode(), b""))

    async def main() -> None:
        tornado.web.Application([(r"/get/key/(.*)", Get)]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    import logging

    logging.getLogger("tornado.access").disabled = True
    asyncio.run(main())


def starlette_application() -> object:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from atbr import Store

    store = Store(entries(), keys=bytes, values=bytes)

    async def get(request: Request) -> PlainTextResponse:
        return PlainTextResponse(store.get(request.path_params["key"].encode(), b""))

    return Starlette(routes=[Route("/get/key/{key:path}", get)])


def serve_granian(port: int) -> None:
    from granian import Granian
    from granian.constants import Interfaces

    Granian(
        "web:starlette_application",
        factory=True,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGI,
        workers=1,
        log_enabled=False,
        working_dir=HERE,
    ).serve()


SERVERS = {"atbr": serve_atbr, "granian": serve_granian, "tornado": serve_tornado}


# -- load ------------------------------------------------------------------------------------------


def start(name: str) -> tuple[subprocess.Popen[bytes], int]:
    port = serving.free_port()
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", name, "--port", str(port)],
        stdin=subprocess.PIPE,
        cwd=HERE,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/get/key/key:7") as answer:
                assert answer.read().decode() == VALUE
                return process, port
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.1)


def wrk(port: int, seconds: float, script: str) -> float:
    done = subprocess.run(
        ["wrk", "-t1", "-c50", f"-d{seconds:.0f}s", "-s", script, f"http://127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


def websocket(generator: Path, port: int, path: str, seconds: float) -> float:
    done = subprocess.run(
        [generator, f"127.0.0.1:{port}", path, "16", "32", str(seconds), str(KEYS)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def measure(peers: list[str], seconds: float, rounds: int) -> Rates:
    """Return requests a second of each server, and gets a second of the WebSockets."""
    serving.need("wrk")
    rates: Rates = {}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "keys.lua"
        script.write_text(SCRIPT)
        generator = serving.compiled("websocket", folder)
        running = {name: start(name) for name in ["atbr", *peers]}
        try:
            for _ in range(rounds):
                for name, (_, port) in running.items():
                    rates.setdefault(name, []).append(wrk(port, seconds, str(script)))
                port = running["atbr"][1]
                for path in SOCKETS:
                    rate = websocket(generator, port, path, seconds)
                    rates.setdefault(path, []).append(rate)
        finally:
            for process, _ in running.values():
                process.terminate()
                process.wait()
    return rates


def rows_of(rates: Rates) -> list[Row]:
    medians = {name: statistics.median(seen) for name, seen in rates.items()}
    own = medians["atbr"]
    found = []
    for name, reach in PEERS.items():
        if name in medians:
            what = f"HTTP GET by wrk, 50 connections; the same handler in {NAMES[name]}"
            found.append(row(what, own, medians[name], reach))
    for path in SOCKETS:
        what = f"gets of {path}, 16 sockets of 32 requests ahead; HTTP GET of the same run"
        found.append(row(what, medians[path], own, 1.5))
    return found


def row(what: str, ours: float, theirs: float, reach: float) -> Row:
    rates = f"{ours / 1e3:,.1f} k/s", f"{theirs / 1e3:,.1f} k/s"
    return Row(what, *rates, f"{ours / theirs:.2f} x", f">= {reach:g} x")


def rows(rounds: int = 3, seconds: float = 5) -> list[Row]:
    return rows_of(measure(list(PEERS), seconds, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="granian,tornado")
    parser.add_argument("--serve", choices=SERVERS)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve](options.port)
    else:
        peers = [peer for peer in options.peers.split(",") if peer]
        for line in rows_of(measure(peers, options.seconds, options.rounds)):
            print(*line, sep=" | ")


if __name__ == "__main__":
    main()
