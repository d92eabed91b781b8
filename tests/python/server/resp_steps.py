"""Random commands for two servers at once, and how their replies are compared."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import NamedTuple

KEYS = ["a", "b", "{t}c", "d", "e:1", "e:2", b"\x00\xff"]
VALUES: list[bytes | str | int] = [
    *[
        "",
        "x",
        "hello world",
        "0",
        "1",
        "-1",
        "10",
        "3.5",
        "007",
        " 1",
        "1e3",
        "9223372036854775807",
    ],
    *[
        "-9223372036854775808",
        "9223372036854775808",
        "nan",
        "inf",
        b"\xff\x00\x7f",
        b"\r\n",
        "foobar",
    ],
    *["a" * 44, "a" * 45, "ab" * 40, bytes(range(256)), "z" * 5000],
]
NUMBERS: list[bytes | str | int] = [
    *[
        0,
        1,
        -1,
        2,
        5,
        7,
        8,
        -8,
        100,
        1000,
        -100,
        "x",
        "",
        "1.5",
        "+1",
        2**31,
        2**63 - 1,
        -(2**63),
        2**64,
    ],
]
SMALL: list[bytes | str | int] = [0, 1, -1, 2, 3, 7, 8, -2, -5, 20, 63, 100, -100, "x"]

# Replies that are numbers of a clock's, and how far they may be apart.
WITHIN_3_S = "within three seconds"
WITHIN_3_S_IN_MS = "within three seconds, told in milliseconds"
MOST_APART = {WITHIN_3_S: 3, WITHIN_3_S_IN_MS: 3_000}
FAR = [1_000, 5_000, 100_000, 4_000_000_000]
SOON_OR_NEVER: list[bytes | str | int] = [0, -1, -100, "x", 2**63 - 1, -(2**63), 9223372036854775]
ABSOLUTE = [1, 1_000, 33_177_117_420, 33_177_117_420_000, 9_000_000_000_000]

Args = list[bytes | str | int]


class Step(NamedTuple):
    """A command, and how to compare its replies."""

    args: Args
    same: str = "exactly"


class Steps:
    """Random commands; every one of them is made again and again."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.made: set[str] = set()

    def key(self) -> bytes | str:
        return self.random.choice(KEYS)

    def keys(self) -> Args:
        return [self.key() for _ in range(self.random.randint(1, 4))]

    def value(self) -> bytes | str | int:
        return self.random.choice(VALUES)

    def number(self) -> bytes | str | int:
        return self.random.choice(NUMBERS)

    def small(self) -> bytes | str | int:
        return self.random.choice(SMALL)

    def some(self, *options: Args) -> Args:
        chosen = [option for option in options if self.random.random() < 0.3]
        self.random.shuffle(chosen)
        return [part for option in chosen for part in option]

    def lifetime(self) -> bytes | str | int:
        return self.random.choice([*FAR, *FAR, *SOON_OR_NEVER])

    def moment(self) -> bytes | str | int:
        return self.random.choice([*ABSOLUTE, *SOON_OR_NEVER])

    def case(self, word: str) -> str:
        return self.random.choice([word, word.lower(), word.capitalize()])

    def expiry(self) -> Args:
        kind = self.random.choice(["EX", "PX", "EXAT", "PXAT"])
        if kind.endswith("AT"):
            moment = 33_177_117_420 if kind == "EXAT" else 33_177_117_420_000
            return [self.case(kind), self.random.choice([moment, *SOON_OR_NEVER])]
        lifetime = self.random.choice([*FAR, *SOON_OR_NEVER])
        if kind == "PX" and isinstance(lifetime, int) and 0 < lifetime < 2**40:
            lifetime *= 1_000
        return [self.case(kind), lifetime]

    def step(self) -> Step:
        """Return the next command."""
        name = self.random.choice(NAMES)
        return self.of(name)

    def of(self, name: str) -> Step:
        """Return a command by its name."""
        made = MAKERS[name](self)
        step = made if isinstance(made, Step) else Step(made)
        shown = [self.case(word) for word in name.split()]
        # As many replies come to these as they have arguments.
        if self.random.random() < 0.02 and not name.endswith("SUBSCRIBE"):
            # Too many or too few arguments.
            args = (
                step.args[:-1]
                if step.args and self.random.random() < 0.5
                else [*step.args, "extra"]
            )
            # Without names these tell of all commands, and the servers have not the same.
            tells_all = name in ("COMMAND INFO", "COMMAND DOCS") and not args
            step = Step(args, "in kind" if tells_all else step.same)
        self.made.add(name)
        return Step([*shown, *step.args], step.same)


def _set(s: Steps) -> Args:
    options = s.some(["NX"], ["XX"], ["GET"], ["KEEPTTL"], s.expiry(), ["bogus"])
    return [s.key(), s.value(), *(options if s.random.random() < 0.5 else [])]


def _pairs(s: Steps) -> Args:
    return [part for key in s.keys() for part in (key, s.value())]  # noqa: SIM118


def _bitfield(s: Steps) -> Args:
    steps: Args = []
    for _ in range(s.random.randint(0, 4)):
        kind = s.random.choice(["u1", "u8", "i8", "u63", "i64", "u64", "i5", "x", "u0"])
        at = s.random.choice([0, 1, 7, 8, 31, "#0", "#1", "#3", -1, "#x", 100])
        action = s.random.choice(["GET", "SET", "INCRBY", "OVERFLOW"])
        if action == "GET":
            steps += [action, kind, at]
        elif action == "OVERFLOW":
            steps += [action, s.random.choice(["WRAP", "SAT", "FAIL", "x"])]
        else:
            steps += [action, kind, at, s.number()]
    return steps


def _range(s: Steps) -> Args:
    unit = s.random.choice(["BYTE", "BIT", "bit", "x"])
    parts: Args = [s.small(), s.small(), unit]
    return parts[: s.random.choice([0, 2, 3])]


MAKERS: dict[str, Callable[[Steps], Args | Step]] = {
    "GET": lambda s: [s.key()],
    "SET": _set,
    "SETNX": lambda s: [s.key(), s.value()],
    "SETEX": lambda s: [s.key(), s.lifetime(), s.value()],
    "PSETEX": lambda s: [s.key(), s.random.choice([10_000_000, 0, -1, "x", 2**63 - 1]), s.value()],
    "GETSET": lambda s: [s.key(), s.value()],
    "GETDEL": lambda s: [s.key()],
    "GETEX": lambda s: [s.key(), *s.some(["PERSIST"], s.expiry(), ["bogus"])],
    "MGET": lambda s: s.keys(),
    "MSET": _pairs,
    "MSETNX": _pairs,
    "INCR": lambda s: [s.key()],
    "DECR": lambda s: [s.key()],
    "INCRBY": lambda s: [s.key(), s.number()],
    "DECRBY": lambda s: [s.key(), s.number()],
    "INCRBYFLOAT": lambda s: [
        s.key(),
        s.random.choice(
            ["0.1", "1e10", "-3.25", "x", "inf", "nan", "", "1e4000", " 1", "5", "1.0e-5"]
        ),
    ],
    "APPEND": lambda s: [s.key(), s.value()],
    "STRLEN": lambda s: [s.key()],
    "GETRANGE": lambda s: [s.key(), s.small(), s.small()],
    "SUBSTR": lambda s: [s.key(), s.small(), s.small()],
    "SETRANGE": lambda s: [
        s.key(),
        s.random.choice([0, 1, 5, 300, -1, "x", 2**29, 2**62]),
        s.value(),
    ],
    "LCS": lambda s: [
        s.key(),
        s.key(),
        *s.some(["IDX"], ["LEN"], ["WITHMATCHLEN"], ["MINMATCHLEN", s.small()]),
    ],
    "SETBIT": lambda s: [
        s.key(),
        s.random.choice([0, 1, 7, 8, 100, 2000, -1, "x", 2**32]),
        s.random.choice([0, 1, 2, "x"]),
    ],
    "GETBIT": lambda s: [s.key(), s.random.choice([0, 1, 7, 8, 100, 2000, -1, "x", 2**32])],
    "BITCOUNT": lambda s: [s.key(), *_range(s)],
    "BITPOS": lambda s: [s.key(), s.random.choice([0, 1, 2, "x"]), *_range(s)],
    "BITOP": lambda s: [s.random.choice(["AND", "OR", "XOR", "NOT", "x"]), s.key(), *s.keys()],
    "BITFIELD": lambda s: [s.key(), *_bitfield(s)],
    "BITFIELD_RO": lambda s: [s.key(), *_bitfield(s)],
    "DEL": lambda s: s.keys(),
    "UNLINK": lambda s: s.keys(),
    "EXISTS": lambda s: s.keys(),
    "TOUCH": lambda s: s.keys(),
    "TYPE": lambda s: [s.key()],
    "TTL": lambda s: Step([s.key()], WITHIN_3_S),
    "PTTL": lambda s: Step([s.key()], WITHIN_3_S_IN_MS),
    "EXPIRETIME": lambda s: Step([s.key()], WITHIN_3_S),
    "PEXPIRETIME": lambda s: Step([s.key()], WITHIN_3_S_IN_MS),
    "EXPIRE": lambda s: [s.key(), s.lifetime(), *s.some(["NX"], ["XX"], ["GT"], ["LT"], ["bogus"])],
    "PEXPIRE": lambda s: [
        s.key(),
        s.random.choice([10_000_000, 20_000_000, 0, -5, "x", 2**63 - 1]),
        *s.some(["NX"], ["XX"], ["GT"], ["LT"]),
    ],
    "EXPIREAT": lambda s: [s.key(), s.moment(), *s.some(["NX"], ["XX"], ["GT"], ["LT"])],
    "PEXPIREAT": lambda s: [s.key(), s.moment(), *s.some(["NX"], ["XX"], ["GT"], ["LT"])],
    "PERSIST": lambda s: [s.key()],
    "RENAME": lambda s: [s.key(), s.key()],
    "RENAMENX": lambda s: [s.key(), s.key()],
    "COPY": lambda s: [
        s.key(),
        s.key(),
        *s.some(["REPLACE"], ["DB", s.random.choice([0, 1, 2, 16, -1, "x"])]),
    ],
    "MOVE": lambda s: [s.key(), s.random.choice([0, 1, 2, 16, -1, "x"])],
    "RANDOMKEY": lambda s: Step([], "in kind"),
    "KEYS": lambda s: Step(
        [s.random.choice(["*", "e:*", "?", "[ab]", "nothing", "[^a]", "\\a"])], "in any order"
    ),
    "SCAN": lambda s: Step(
        [0, *s.some(["MATCH", "*"], ["COUNT", 10_000], ["TYPE", "string"])], "in kind"
    ),
    "DBSIZE": lambda s: [],
    "OBJECT ENCODING": lambda s: Step([s.key()], "in kind"),
    "OBJECT REFCOUNT": lambda s: Step([s.key()], "in kind"),
    "OBJECT IDLETIME": lambda s: Step([s.key()], "in kind"),
    "OBJECT FREQ": lambda s: [s.key()],
    "DUMP": lambda s: Step([s.key()], "in kind"),
    "FLUSHDB": lambda s: s.some(["SYNC"], ["bogus"]),
    "FLUSHALL": lambda s: s.some(["SYNC"], ["bogus"]),
    "SELECT": lambda s: [s.random.choice([0, 0, 0, 1, 2, 15, 16, -1, "x"])],
    "SWAPDB": lambda s: [s.random.choice([0, 1, 2, 16, "x"]), s.random.choice([0, 1, 2, -1, "x"])],
    "MULTI": lambda s: [],
    "EXEC": lambda s: [],
    "DISCARD": lambda s: [],
    "WATCH": lambda s: s.keys(),
    "UNWATCH": lambda s: [],
    "PING": lambda s: s.some(["hello"]),
    "ECHO": lambda s: [s.value()],
    "PUBLISH": lambda s: [s.random.choice(["news", "news.1", "other"]), s.value()],
    "SPUBLISH": lambda s: [s.random.choice(["news", "other"]), s.value()],
    "PUBSUB NUMPAT": lambda s: [],
    "PUBSUB NUMSUB": lambda s: ["news", "other"],
    "PUBSUB CHANNELS": lambda s: Step(s.some(["news*"]), "in any order"),
    "PUBSUB SHARDNUMSUB": lambda s: ["news"],
    "PUBSUB SHARDCHANNELS": lambda s: Step([], "in any order"),
    "CLIENT ID": lambda s: Step([], "in kind"),
    "CLIENT INFO": lambda s: Step([], "in kind"),
    "CLIENT LIST": lambda s: Step(s.some(["TYPE", "normal"], ["bogus"]), "in kind"),
    "CLIENT SETNAME": lambda s: [s.random.choice(["me", "", "two words", "\n"])],
    "CLIENT GETNAME": lambda s: [],
    "CLIENT KILL": lambda s: [s.random.choice(["1.2.3.4:5", "nobody"])],
    "CLIENT PAUSE": lambda s: [s.random.choice(["x", -1]), "ALL"],
    "CLIENT UNPAUSE": lambda s: [],
    "CLIENT NO-EVICT": lambda s: [s.random.choice(["ON", "OFF", "x"])],
    "CLIENT UNBLOCK": lambda s: [s.random.choice([999_999, "x"]), *s.some(["ERROR"])],
    "CLIENT TRACKING": lambda s: ["OFF"],
    "CLIENT TRACKINGINFO": lambda s: [],
    "CLIENT GETREDIR": lambda s: [],
    "CLIENT CACHING": lambda s: ["YES"],
    "CLIENT REPLY": lambda s: [s.random.choice(["ON", "x"])],
    "WAIT": lambda s: [0, s.random.choice([1, "x", -1])],
    "ROLE": lambda s: [],
    "TIME": lambda s: Step([], "in kind"),
    "LASTSAVE": lambda s: Step([], "in kind"),
    "INFO": lambda s: Step(s.some(["server"]), "in kind"),
    "MEMORY USAGE": lambda s: Step([s.key()], "in kind"),
    "SLOWLOG LEN": lambda s: Step([], "in kind"),
    "SLOWLOG GET": lambda s: Step([0], "in kind"),
    "SLOWLOG RESET": lambda s: [],
    "LATENCY LATEST": lambda s: [],
    "LATENCY HISTORY": lambda s: ["command"],
    "LATENCY RESET": lambda s: [],
    "LATENCY HISTOGRAM": lambda s: Step([], "in kind"),
    "CONFIG GET": lambda s: [
        s.random.choice(["save", "appendonly", "databases", "slowlog-max-len", "nothing"])
    ],
    "CONFIG SET": lambda s: [
        s.random.choice(["slowlog-max-len", "nothing", "latency-monitor-threshold", "databases"]),
        # As milliseconds more than any command takes, on whatever machine.
        s.random.choice([1_000_000, 0]),
    ],
    "CONFIG RESETSTAT": lambda s: [],
    "COMMAND COUNT": lambda s: Step([], "in kind"),
    "COMMAND GETKEYS": lambda s: s.random.choice(
        [
            ["GET", "a"],
            ["MSET", "a", 1, "b", 2],
            ["PING"],
            ["nothing"],
            ["EVAL", "x", 2, "a", "b"],
            ["GET"],
        ]
    ),
    "COMMAND GETKEYSANDFLAGS": lambda s: s.random.choice(
        [["GET", "a"], ["RENAME", "a", "b"], ["SET", "a", 1]]
    ),
    "COMMAND LIST": lambda s: Step([], "in kind"),
    "COMMAND INFO": lambda s: [s.random.choice(["get", "nothing", "mset", "del"])],
    "COMMAND DOCS": lambda s: Step(["nothing"], "exactly"),
    "ACL WHOAMI": lambda s: [],
    "ACL USERS": lambda s: [],
    "SCRIPT EXISTS": lambda s: ["da39a3ee5e6b4b0d3255bfef95601890afd80709", "x"],
    "SCRIPT FLUSH": lambda s: s.some(["SYNC"], ["x"]),
    "SCRIPT KILL": lambda s: [],
    "SCRIPT LOAD": lambda s: [UNLOCK],
    "EVAL": lambda s: [UNLOCK, s.random.choice([1, 1, -1, 9, "x"]), s.key(), s.value()],
    "EVALSHA": lambda s: [
        s.random.choice(["c3f8721cbb97f72bc19e972846bd7aaf91901658", "0" * 40, "short"]),
        1,
        s.key(),
        s.value(),
    ],
    "CLUSTER INFO": lambda s: [],
    "CLUSTER NODES": lambda s: [],
    "CLUSTER SLOTS": lambda s: [],
    "CLUSTER SHARDS": lambda s: [],
    "CLUSTER MYID": lambda s: [],
    "CLUSTER KEYSLOT": lambda s: [s.key()],
    "CLUSTER COUNTKEYSINSLOT": lambda s: [1],
    "CLUSTER GETKEYSINSLOT": lambda s: [1, 1],
    "CLUSTER RESET": lambda s: [],
    "CLUSTER MEET": lambda s: ["127.0.0.1", 1],
    "CLUSTER HELP": lambda s: Step([], "in kind"),
    "ASKING": lambda s: [],
    "SLAVEOF": lambda s: ["NO", "ONE"],
    "HELLO": lambda s: Step(
        s.some([s.random.choice([2, 3, 4, "x"])], ["SETNAME", "me"]), "in kind"
    ),
    "RESET": lambda s: [],
    "UNSUBSCRIBE": lambda s: s.some(["news"]),
    "PUNSUBSCRIBE": lambda s: s.some(["news*"]),
    "SUNSUBSCRIBE": lambda s: s.some(["news"]),
    "RESTORE": lambda s: [
        s.key(),
        s.random.choice([0, 0, 10_000_000, -1, "x"]),
        s.random.choice(PAYLOADS),
        *s.some(["REPLACE"], ["IDLETIME", 1], ["FREQ", 256], ["bogus"]),
    ],
    "SCRIPT DEBUG": lambda s: [s.random.choice(["NO", "x"])],
    "EVAL_RO": lambda s: Step(["no script", s.random.choice([0, -1, 9, "x"])], "in kind"),
    "EVALSHA_RO": lambda s: Step(["0" * 40, s.random.choice([0, -1, 9, "x"])], "in kind"),
    "CONFIG REWRITE": lambda s: [],
    "MEMORY STATS": lambda s: Step([], "in kind"),
    "MEMORY DOCTOR": lambda s: Step([], "in kind"),
    "MEMORY PURGE": lambda s: [],
    "MEMORY MALLOC-STATS": lambda s: Step([], "in kind"),
    "LATENCY DOCTOR": lambda s: Step([], "in kind"),
    "LATENCY GRAPH": lambda s: ["command"],
    "ACL CAT": lambda s: Step(["string"], "in any order"),
    "SAVE": lambda s: [],
    "OBJECT HELP": lambda s: Step([], "in kind"),
    "CLIENT HELP": lambda s: Step([], "in kind"),
    "PUBSUB HELP": lambda s: Step([], "in kind"),
    "SCRIPT HELP": lambda s: Step([], "in kind"),
    "COMMAND HELP": lambda s: Step([], "in kind"),
    "CONFIG HELP": lambda s: Step([], "in kind"),
    "MEMORY HELP": lambda s: Step([], "in kind"),
    "SLOWLOG HELP": lambda s: Step([], "in kind"),
    "LATENCY HELP": lambda s: Step([], "in kind"),
    "MODULE HELP": lambda s: Step([], "in kind"),
    "ACL HELP": lambda s: Step([], "in kind"),
    "LOLWUT": lambda s: Step([], "in kind"),
    "READONLY": lambda s: [],
    "READWRITE": lambda s: [],
    "MODULE LIST": lambda s: [],
    "REPLICAOF": lambda s: ["NO", "ONE"],
    # No wrong name: unlike Redis, the server ends connections of an address that guesses again and again.
    "AUTH": lambda s: s.random.choice([["x"], ["default", "x"], ["a", "b", "c"]]),
    "NOTHING": lambda s: [s.value() for _ in range(s.random.randint(0, 3))],
    "CLIENT NOTHING": lambda s: [],
    "LPUSH2": lambda s: [s.key()],
}
PAYLOADS: list[bytes | str | int] = [
    # What a real server's DUMP returns for "hello", for 12345 and for 100 times "a".
    b"\x00\x05hello\n\x00cr\xdfve4 \n",
    b"\x00\xc190\n\x00\x9d\x94\xea'\x93\xfc\x08\xb9",
    b"\x00\xc3\t@d\x01aa\xe0W\x00\x01aa\n\x00\xe8\xa3\xb5\x07\xb0m\xf2q",
    # With a wrong checksum.
    b"\x00\x05hello\n\x00cr\xdfve4 \x0b",
    "nothing",
    "",
]
UNLOCK = """
        local token = redis.call('get', KEYS[1])
        if not token or token ~= ARGV[1] then
            return 0
        end
        redis.call('del', KEYS[1])
        return 1
    """
"""What redis-py's Lock sends to release a lock."""
RARE = {
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB",
    "SELECT",
    "CLIENT LIST",
    "LATENCY HISTOGRAM",
    "COMMAND LIST",
    "INFO",
    "HELLO",
    "RESET",
    "SAVE",
    "MEMORY STATS",
    "MEMORY MALLOC-STATS",
    *(name for name in MAKERS if name.endswith(" HELP") or name.startswith("CLUSTER ")),
}
COMMON = [
    "SET",
    "SET",
    "GET",
    "APPEND",
    "EXPIRE",
    "MULTI",
    "EXEC",
    "EXEC",
    "WATCH",
    "COPY",
    "RENAME",
    "PUBLISH",
]
NAMES = [name for name in MAKERS for _ in range(1 if name in RARE else 4)] + [*COMMON] * 6


def comparable(reply: bytes, same: str) -> object:
    """Return what has to be equal of a reply."""
    if same == "in kind":
        return reply[:1]
    if same == "in any order":
        return sorted(re.split(rb"\r\n", reply))
    return reply


def are_same(ours: bytes, theirs: bytes, same: str) -> bool:
    """Whether two replies are what one server would say."""
    if same in MOST_APART and ours[:1] == theirs[:1] == b":":
        a, b = int(ours[1:]), int(theirs[1:])
        return (a < 0) == (b < 0) and abs(a - b) <= MOST_APART[same]
    return comparable(ours, same) == comparable(theirs, same)
