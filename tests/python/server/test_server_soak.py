"""A server in long use, by every door and by clients that leave in the middle, takes no more than after a while."""

from __future__ import annotations

import faulthandler
import itertools
import os
import random
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from command_line import Serve
from websockets.sync.client import connect as connect_socket

BOUND = 24 << 20
KEYS = 200_000
WARM_SECONDS = 20
EVICTED = 1_000
LARGE = 300_000


class Load:
    """Clients of each kind, until told to end; what goes wrong with one is kept."""

    def __init__(self, http: int, resp: int) -> None:
        self.http, self.resp = http, resp
        self.ends = threading.Event()
        self.failures: list[BaseException] = []
        self.rounds = dict.fromkeys(("resp", "http", "socket", "listener", "leaver"), 0)
        self._threads = [
            threading.Thread(target=self._run, args=(name, work, seed))
            for seed, (name, work) in enumerate(
                itertools.chain.from_iterable(
                    itertools.repeat((name, work), count)
                    for name, work, count in [
                        ("resp", self._use_resp, 2),
                        ("http", self._use_http, 2),
                        ("socket", self._use_socket, 2),
                        ("listener", self._listen, 1),
                        ("leaver", self._leave, 1),
                    ]
                )
            )
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.ends.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, name: str, work: Callable[[random.Random], Iterator[None]], seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not self.ends.is_set():
                # Each client connects anew after a while.
                for _ in itertools.islice(work(chance), 50):
                    self.rounds[name] += 1
                    if self.ends.is_set():
                        break
        except BaseException as error:
            self.failures.append(error)

    def _use_resp(self, chance: random.Random) -> Iterator[None]:
        with redis.Redis(port=self.resp, protocol=chance.choice((2, 3))) as client:
            while True:
                with client.pipeline(transaction=chance.random() < 0.2) as pipeline:
                    for _ in range(100):
                        key = f"key:{chance.randrange(KEYS)}"
                        what = chance.random()
                        if what < 0.5:
                            pipeline.set(key, chance.randbytes(chance.choice((8, 80, 800))), px=500)
                        elif what < 0.7:
                            pipeline.set(key, b"stays" * chance.randrange(40))
                        elif what < 0.9:
                            pipeline.get(key)
                        elif what < 0.95:
                            pipeline.publish("news", key)
                        else:
                            pipeline.delete(key)
                    pipeline.execute()
                yield

    def _use_http(self, chance: random.Random) -> Iterator[None]:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.http}", trust_env=False, timeout=60
        ) as client:
            while True:
                key = f"/v1/keys/key:{chance.randrange(KEYS)}"
                client.put(key, content=bytes(chance.choice((10, 1000, LARGE))))
                client.get(key)
                client.get(f"/get/key/{chance.randrange(KEYS)}")
                items = [
                    {"key": f"key:{chance.randrange(KEYS)}", "value": "v" * 50, "ttl_ms": 300}
                    for _ in range(100)
                ]
                assert client.post("/v1/set-many", json={"items": items}).status_code == 200
                client.get("/v1/keys?prefix=key:1&count=200")
                client.get("/metrics")
                yield

    def _use_socket(self, chance: random.Random) -> Iterator[None]:
        address = f"ws://127.0.0.1:{self.http}/v1/ws"
        with connect_socket(address, max_size=None, proxy=None) as opened:
            opened.send('{"op":"watch","interval_ms":100}')
            while True:
                for id_ in range(50):
                    key = b"key:%d" % chance.randrange(KEYS)
                    if chance.random() < 0.5:
                        opened.send(b"\x01\x00" + struct.pack("!I", id_) + key)
                    else:
                        value = bytes(chance.choice((10, 500)))
                        head = b"\x02\x00" + struct.pack("!IqI", id_, 400, len(key))
                        opened.send(head + key + value)
                answers = 0
                while answers < 50:
                    answers += isinstance(opened.recv(), bytes)
                yield

    def _listen(self, _chance: random.Random) -> Iterator[None]:
        with redis.Redis(port=self.resp) as client, client.pubsub() as listener:
            listener.subscribe("news")
            while True:
                listener.get_message(timeout=0.1)
                yield

    def _leave(self, chance: random.Random) -> Iterator[None]:
        """Begin something, and go: in the middle of a request, of an answer, of a handshake."""
        begun = [
            (
                self.http,
                b"PUT /v1/keys/left HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n"
                + bytes(90_000),
            ),
            (self.http, b"GET /v1/keys/large HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20),
            (self.http, b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"),
            (
                self.http,
                b"PUT /v1/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\nleft\t1\n",
            ),
            (self.resp, b"*3\r\n$3\r\nSET\r\n$4\r\nleft\r\n$500000\r\n" + bytes(90_000)),
            (self.resp, b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 20),
            (self.resp, b"MULTI\r\nSET left 1\r\n"),
        ]
        while True:
            port, request = chance.choice(begun)
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                connection.sendall(request[: chance.randrange(1, len(request) + 1)])
                if chance.random() < 0.5:
                    # Gone by a reset.
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            yield


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def count(pid: int, folder: str) -> int:
    return len(list(Path(f"/proc/{pid}/{folder}").iterdir()))


@pytest.mark.deep
def test_memory_descriptors_and_threads_stay_flat_under_all_clients_at_once() -> None:
    minutes = float(os.environ.get("ATBR_SOAK_MINUTES", "2"))
    # Longer than other tests may take.
    faulthandler.dump_traceback_later(60 * minutes + 600, exit=True)
    with Serve("--max-bytes", str(BOUND), "--max-connections", "500") as serve:
        pid, http, resp = serve.child.pid, serve.port("http"), serve.port("redis")
        with redis.Redis(port=resp) as client:
            client.set("large", bytes(LARGE))
        idle = count(pid, "fd")
        seen: list[tuple[int, int, int]] = []
        with Load(http, resp) as load, redis.Redis(port=resp) as client:
            warm = time.monotonic() + WARM_SECONDS
            while not load.failures and (
                time.monotonic() < warm or client.info("stats")["evicted_keys"] < EVICTED
            ):
                assert time.monotonic() < warm + 300, "the store is not full yet"
                time.sleep(0.5)
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until and not load.failures:
                time.sleep(0.25)
                seen.append((resident(pid), count(pid, "fd"), count(pid, "task")))
        assert not load.failures, load.failures
        third = len(seen) // 3
        middle, last = seen[third:-third], seen[-third:]
        memory = [statistics.median(each[0] for each in part) for part in (middle, last)]
        print(
            f"{memory[0]:,.0f} B in the middle, {memory[1]:,.0f} B at the end; rounds {load.rounds};"
        )
        most = [max(each[i] for each in seen) for i in range(3)]
        print(f"at most {most[0]:,} B, {most[1]} descriptors, {most[2]} threads")
        assert all(rounds > 10 * minutes for rounds in load.rounds.values()), load.rounds
        assert memory[1] < 1.05 * memory[0]
        # Descriptors are those of clients, which are few; threads those of the network and of long work.
        assert max(each[1] for each in last) <= max(each[1] for each in middle) + 8
        assert max(each[2] for each in last) <= max(each[2] for each in middle) + 4
        deadline = time.monotonic() + 60
        while count(pid, "fd") > idle:
            assert time.monotonic() < deadline, "descriptors of clients that left are open"
            time.sleep(0.1)
        with redis.Redis(port=resp) as client:
            assert client.info("stats")["expired_keys"] > KEYS
        assert serve.end() == 0
