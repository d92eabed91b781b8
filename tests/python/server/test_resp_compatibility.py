"""The cases of the public project resp-compatibility, read from outside the repository (`ATBR_RESP_CTS`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from atbr import Store

CHECKOUT = Path(__file__).parents[3]
CASES = Path(os.environ.get("ATBR_RESP_CTS") or CHECKOUT / "../shared/resp-cts/cts.json")
NEWEST = (7, 0, 0)
TOLERANCE = 0.01
NO_INTERPRETER = {"eval", "eval_ro", "evalsha", "evalsha_ro", "script"}
"""Commands that are there for a fixed few scripts only, which are none of these cases."""
COUNT = 109


def version(case: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(part) for part in case["since"].split("."))


def words(line: str, binary: bool) -> list[bytes]:
    """Split at blanks, where double quotes do not hold them together."""
    text = line.encode()
    if binary:
        text = text.decode("unicode_escape").encode("latin-1")
    found = [b""]
    for number, part in enumerate(text.split(b'"')):
        first, *others = [part] if number % 2 else part.split(b" ")
        found[-1] += first
        found += others
    return found


def commands(case: dict[str, Any]) -> set[str]:
    return {line.split(" ", 1)[0].lower() for line in case["command"]}


def same(expected: object, reply: object, case: dict[str, Any]) -> bool:
    if isinstance(expected, list) and isinstance(reply, list):
        if case.get("sort_result"):
            expected, reply = sorted(expected, key=repr), sorted(reply, key=repr)
        pairs = zip(expected, reply, strict=False)
        return len(expected) == len(reply) and all(same(*pair, case) for pair in pairs)
    if case.get("float_result"):
        try:
            return abs(float(expected) - float(reply)) <= TOLERANCE  # type: ignore[arg-type]
        except (TypeError, ValueError):
            pass
    return type(expected) is type(reply) and expected == reply


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with Store(values=bytes).serve(http=None) as server:
        with redis.Redis(port=server.resp_port, protocol=2, decode_responses=True) as client:
            client.response_callbacks.clear()
            yield client


@pytest.fixture(scope="module")
def cases(client: redis.Redis) -> list[dict[str, Any]]:
    """Those of one server of that version that consist only of commands of ours."""
    if not CASES.exists():
        pytest.skip(f"{CASES} is not there; ATBR_RESP_CTS names it")
    ours = set(client.execute_command("COMMAND", "LIST")) - NO_INTERPRETER
    return [
        case
        for case in json.loads(CASES.read_text("utf-8"))
        if case.get("tags") != "cluster"
        and not case.get("skipped")
        and version(case) <= NEWEST
        and commands(case) <= ours
    ]


def test_all_cases_of_our_commands_pass(client: redis.Redis, cases: list[dict[str, Any]]) -> None:
    failures = []
    for case in cases:
        client.flushall()
        for line, expected in zip(case["command"], case["result"], strict=True):
            reply: object
            try:
                reply = client.execute_command(*words(line, bool(case.get("command_binary"))))
            except redis.RedisError as error:
                reply = error
            if not same(expected, reply, case):
                failures.append((case["name"], line, expected, reply))
    assert failures == []
    assert len(cases) == COUNT
