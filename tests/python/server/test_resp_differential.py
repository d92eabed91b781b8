"""The same random commands for this server and a real redis-server: their replies have to be the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from resp_steps import MAKERS, Step, Steps, are_same
from resp_wire import Wire, real_redis

from atbr import Store

STEPS = 4_000
MORE_STEPS = 200_000


class Pair:
    """Connections to both servers that are told the same."""

    def __init__(self, ours: int, theirs: int, seed: int, resp3: bool) -> None:
        self.ports = ours, theirs
        self.steps = Steps(seed)
        self.resp3 = resp3
        self.connections = [self.connect() for _ in range(4)]
        self.history: list[object] = []
        self.queues: dict[int, list[str]] = {}
        self.tokens = 0
        both = self.connections[0]
        for args in (["FLUSHALL"], ["CONFIG", "SET", "notify-keyspace-events", "KEAn"]):
            assert [wire.call(*args) for wire in both] == [b"+OK\r\n"] * 2
        listener = self.connections[3]
        for args in (
            ["SUBSCRIBE", "news"],
            ["PSUBSCRIBE", "__key*", "news*"],
            ["SSUBSCRIBE", "news"],
        ):
            for wire in listener:
                wire.send(*args)
        self.drain(Step(["SUBSCRIBE"]))

    def connect(self) -> tuple[Wire, Wire]:
        pair = Wire(self.ports[0]), Wire(self.ports[1])
        if self.resp3:
            for wire in pair:
                assert wire.call("HELLO", 3).startswith(b"%7\r\n")
        return pair

    def close(self) -> None:
        for pair in self.connections:
            for wire in pair:
                wire.close()

    def drain(self, step: Step) -> None:
        """Compare the messages so far."""
        self.tokens += 1
        token = b"token-%d" % self.tokens
        for wire in self.connections[3]:
            wire.send("PING", token)
        ours, theirs = (wire.until(token) for wire in self.connections[3])
        if str(step.args[0]).upper() == "EXEC":
            # Messages that its commands publish come before events of keys.
            assert sorted(ours.split(b"\r\n")) == sorted(theirs.split(b"\r\n")), self.story(step)
        else:
            assert ours == theirs, self.story(step)

    def story(self, step: Step) -> str:
        return "\n".join(map(str, [*self.history[-12:], step]))

    def run(self, step: Step) -> None:
        """Tell both servers one command and compare what they say."""
        which = self.steps.random.randrange(3)
        pair = self.connections[which]
        ours, theirs = (wire.call(*step.args) for wire in pair)
        self.history.append((which, step, ours[:200], theirs[:200]))
        name = str(step.args[0]).upper()
        if ours == theirs == b"+QUEUED\r\n":
            self.queues.setdefault(which, []).append(step.same)
        elif name == "EXEC" and ours != theirs:
            # Some of its commands are compared loosely.
            queued = self.queues.get(which, [])
            assert ours[:1] == theirs[:1], self.story(step)
            assert any(same != "exactly" for same in queued), self.story(step)
        else:
            assert are_same(ours, theirs, step.same), self.story(step)
        if name in ("EXEC", "DISCARD"):
            self.queues.pop(which, None)
        self.drain(step)


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with real_redis(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture(scope="module")
def atbr_port() -> Iterator[int]:
    with Store().serve(http=None, resp=0) as server:
        assert server.resp_port
        yield server.resp_port


def run(ours: int, theirs: int, seed: int, resp3: bool, steps: int) -> Pair:
    pair = Pair(ours, theirs, seed, resp3)
    try:
        for name in MAKERS:
            pair.run(pair.steps.of(name))
        for _ in range(steps):
            pair.run(pair.steps.step())
    finally:
        pair.close()
    return pair


@pytest.mark.parametrize("resp3", [False, True], ids=["resp2", "resp3"])
def test_replies_are_the_bytes_of_a_real_server(
    atbr_port: int, redis_port: int, resp3: bool
) -> None:
    for seed in range(2):
        run(atbr_port, redis_port, seed, resp3, STEPS)


@pytest.mark.deep
@pytest.mark.parametrize("resp3", [False, True], ids=["resp2", "resp3"])
def test_replies_are_the_bytes_of_a_real_server_for_long(
    atbr_port: int, redis_port: int, resp3: bool, tmp_path: Path
) -> None:
    run(atbr_port, redis_port, 1_000, resp3, MORE_STEPS // 2)
