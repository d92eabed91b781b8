"""The same random commands for this server and a real redis-server: their replies have to be the same bytes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from resp_steps import MAKERS, Step, Steps, are_same
from resp_wire import Wire, encode, real_redis

from atbr import Store

STEPS = 4_000
# In each version of the protocol.
MORE_STEPS = 120_000
PARTS = 4
WRONG_REQUESTS = [
    b'ECHO "a b" \r\n',
    b'ECHO "\\x41\\n\\a\\b\\t\\r\\q\\xzz"\r\n',
    b"ECHO 'it\\'s'\r\n",
    b'ECHO "a"b\r\n',
    b"ECHO 'a\r\n",
    b'ECHO "a\\\r\n',
    b'ECHO ""\r\n',
    b'""\r\n',
    b"ECHO \t\x0b x\r\n",
    b"  PING  \r\nPING\n",
    b"\r\n\r\nPING\r\n",
    b"*-1\r\nPING\r\n",
    b"*0\r\nPING\r\n",
    b"*1\rX$4\r\nPING\r\n",
    b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n\x80\r\n",
    b"*1\r\n\r\n",
    b"*1\r\n\n$4\r\n",
    b"*1\r\n$4 \r\nPING\r\n",
    b"*3\r\n$3\r\nSET\r\n$-1\r\n",
    b"*1\r\n$536870913\r\n",
    *[b"*%s\r\n" % count for count in (b"", b" 1", b"+1", b"01", b"x", b"2147483648")],
    b"x" * 70_000,
    b"*" + b"1" * 70_000,
    b"*1\r\n$" + b"1" * 70_000,
]
LISTENS: list[list[bytes | str | int]] = [
    ["SUBSCRIBE", "news"],
    ["PSUBSCRIBE", "__key*", "news*"],
    ["SSUBSCRIBE", "news"],
]
"""What one of the connections is told before the others begin."""
ELSEWHERE = {
    "bgsave": "test_resp_server::test_saves_go_to_the_data_folder",
    "client|no-touch": "test_resp::test_clients_tell_what_they_are",
    "client|setinfo": "test_resp::test_clients_tell_what_they_are",
    "debug": "test_resp_limits::test_commands_that_take_long_leave_room_for_others",
    # The real server refuses them before it queues them.
    "module|load": "test_resp_server::test_there_are_no_modules",
    "module|unload": "test_resp_server::test_there_are_no_modules",
    "monitor": "test_resp::test_a_monitor_sees_commands_and_no_secret",
    "quit": "test_resp_differential::test_requests_that_are_cut_or_wrong_get_the_same_bytes",
    "psync": "test_resp_server::test_nobody_replicates_from_here",
    "replconf": "test_resp_server::test_nobody_replicates_from_here",
    "shutdown": "test_serve::test_shutdown_nosave_saves_nothing",
    "sync": "test_resp_server::test_nobody_replicates_from_here",
    # The real server of this version would do it.
    "acl|deluser": "test_resp_server::test_there_is_one_user",
    "acl|getuser": "test_resp_server::test_there_is_one_user",
    "acl|list": "test_resp_server::test_there_is_one_user",
    "acl|setuser": "test_resp_server::test_there_is_one_user",
}
"""Commands that are not sent here, and the tests that send them."""


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
        self.ran: set[str] = set()
        both = self.connections[0]
        for args in (["FLUSHALL"], ["CONFIG", "SET", "notify-keyspace-events", "KEAn"]):
            assert [wire.call(*args) for wire in both] == [b"+OK\r\n"] * 2
        listener = self.connections[3]
        for args in LISTENS:
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

    def story(self, step: Step, ours: bytes = b"", theirs: bytes = b"") -> str:
        """Say what led to a step, and the answers from where they part."""
        pairs = enumerate(zip(ours, theirs, strict=False))
        part = next((at for at, (one, other) in pairs if one != other), 0)
        ends = [answer[max(part - 200, 0) : part + 100] for answer in (ours, theirs)]
        return "\n".join(map(str, [*self.history[-12:], step, *ends]))

    def note_what_ran(self) -> None:
        """Remember the commands that our server has run since it counts them."""
        with Wire(self.ports[0]) as wire:
            lines = wire.call("INFO", "commandstats").decode().split("\r\n")
        rows = [line.partition(":") for line in lines if line.startswith("cmdstat_")]
        self.ran |= {name.removeprefix("cmdstat_") for name, _, _ in rows}

    def run(self, step: Step) -> None:
        """Tell both servers one command and compare what they say."""
        which = self.steps.random.randrange(3)
        pair = self.connections[which]
        if [str(part).upper() for part in step.args[:2]] == ["CONFIG", "RESETSTAT"]:
            self.note_what_ran()
        ours, theirs = (wire.call(*step.args) for wire in pair)
        self.history.append((which, step, ours[:200], theirs[:200]))
        name = str(step.args[0]).upper()
        if ours == theirs == b"+QUEUED\r\n":
            self.queues.setdefault(which, []).append(step.same)
        elif name == "EXEC" and ours != theirs:
            # Some of its commands are compared loosely.
            queued = self.queues.get(which, [])
            assert ours[:1] == theirs[:1], self.story(step)
            assert any(same != "exactly" for same in queued), self.story(step, ours, theirs)
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
def atbr_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with Store().serve(http=None, resp=0, data_dir=tmp_path_factory.mktemp("atbr")) as server:
        assert server.resp_port
        yield server.resp_port


def run(ours: int, theirs: int, seed: int, resp3: bool, steps: int) -> Pair:
    pair = Pair(ours, theirs, seed, resp3)
    try:
        for name in MAKERS:
            pair.run(pair.steps.of(name))
        for _ in range(steps):
            pair.run(pair.steps.step())
        pair.note_what_ran()
    finally:
        pair.close()
    return pair


def test_requests_that_are_cut_or_wrong_get_the_same_bytes(atbr_port: int, redis_port: int) -> None:
    quits = encode("QUIT")
    for request in WRONG_REQUESTS:
        replies = []
        for port in (atbr_port, redis_port):
            with Wire(port) as wire:
                wire.socket.sendall(request if len(request) > 1000 else request + quits)
                replies.append(wire.ends())
        assert replies[0] == replies[1], request[:80]


def rows(port: int) -> set[str]:
    """Return the names of all rows of the command table but those of containers, which only their subcommands run."""
    with Wire(port) as wire:
        reply = wire.call("COMMAND", "LIST", "FILTERBY", "PATTERN", "*")
    names = set(reply.decode().split("\r\n")[2::2])
    return names - {name.partition("|")[0] for name in names if "|" in name}


def test_every_command_is_told_to_both_servers_or_elsewhere(atbr_port: int) -> None:
    made = {name.lower().replace(" ", "|") for name in MAKERS}
    made |= {str(args[0]).lower() for args in LISTENS}
    assert rows(atbr_port) - made == ELSEWHERE.keys()
    for command, test in ELSEWHERE.items():
        module, _, name = test.partition("::")
        source = (Path(__file__).parent / f"{module}.py").read_text()
        found = [
            ast.get_source_segment(source, node) or ""
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        assert found, test
        for word in command.split("|"):
            assert word in found[0].lower(), (command, test)


@pytest.mark.parametrize("resp3", [False, True], ids=["resp2", "resp3"])
def test_replies_are_the_bytes_of_a_real_server(
    atbr_port: int, redis_port: int, resp3: bool
) -> None:
    ran = set()
    for seed in range(2):
        ran |= run(atbr_port, redis_port, seed, resp3, STEPS).ran
    assert rows(atbr_port) - ran <= ELSEWHERE.keys()


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(1_000, 1_000 + PARTS))
@pytest.mark.parametrize("resp3", [False, True], ids=["resp2", "resp3"])
def test_replies_are_the_bytes_of_a_real_server_for_long(
    atbr_port: int, redis_port: int, resp3: bool, seed: int
) -> None:
    run(atbr_port, redis_port, seed, resp3, MORE_STEPS // PARTS)
