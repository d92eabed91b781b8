"""Takes each guard that no option opens out of the source, and looks whether the tests notice.

    python tools/mutants.py [WORD...]

A mutant is a copy of the tree with one change; it is killed where the tests that are named with it fail, as they
should. With words, only mutants whose names have one of them are tried. Exit status 1: a mutant survived.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPY = ROOT / "build" / "mutants"


class Mutant(NamedTuple):
    """One change of a file, and the unit tests that have to notice it."""

    name: str
    file: str
    old: str
    new: str
    tests: str


GUARD = "src/server/http/guard.rs"
FILES = "src/server/files.rs"
PARSER = "src/server/resp/parser.rs"

MUTANTS = (
    Mutant(
        "any Host is allowed",
        GUARD,
        "host.is_address\n",
        "true || host.is_address\n",
        "http::guard",
    ),
    Mutant(
        "an address names another host",
        GUARD,
        "Some(_) => Err(refused())",
        "Some(_) => Ok(host)",
        "http::guard",
    ),
    Mutant(
        "another Origin is allowed",
        GUARD,
        "origin.is_some() && cors",
        "false && cors",
        "http::guard",
    ),
    Mutant(
        "an image of another site fires",
        GUARD,
        "Some(_) => cors.is_some(),",
        "Some(_) => true,",
        "http::guard",
    ),
    Mutant(
        "a browser that says nothing passes",
        GUARD,
        "!is_browser(headers))",
        "true)",
        "http::guard",
    ),
    Mutant(
        "a secret in a subprotocol of no socket",
        GUARD,
        "if exposure != Exposure::Socket {\n        return None;",
        "if false {\n        return None;",
        "http::guard",
    ),
    Mutant(
        "the beginning of a secret is enough",
        "src/server/secrets.rs",
        "let mut difference = secret.len() ^ given.len();",
        "let mut difference = 0;",
        "secrets::",
    ),
    Mutant(
        "guessing is free",
        "src/server/strangers.rs",
        "now.duration_since(since) >= WINDOW || count < MOST_FAILURES",
        "true || now.duration_since(since) >= WINDOW || count < MOST_FAILURES",
        "strangers::",
    ),
    Mutant(
        "each address of a network guesses",
        "src/server/strangers.rs",
        "(u128::from(address) >> 64 << 64).into()",
        "address",
        "strangers::",
    ),
    Mutant('".." leads out', FILES, '| b".."))', "))", "server::files"),
    Mutant(
        "an absolute path is said to be empty",
        FILES,
        "if name[0] == b'/' {",
        "if false {",
        "server::files",
    ),
    Mutant(
        "links are followed",
        FILES,
        "libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS",
        "0",
        "server::files",
    ),
    Mutant(
        "links are followed step by step",
        FILES,
        "flags | libc::O_NOFOLLOW, 0)",
        "flags, 0)",
        "server::files",
    ),
    Mutant(
        "pipes are opened",
        FILES,
        "if must_be_regular(metadata).is_err() {",
        "if false {",
        "server::files",
    ),
    Mutant(
        "secrets are served",
        FILES,
        ".any(|secret| std",
        ".any(|secret| false && std",
        "server::files",
    ),
    Mutant(
        "frames of any length",
        "src/server/http/socket/frame.rs",
        "if !is_control && len > room {",
        "if false {",
        "socket::frame",
    ),
    Mutant(
        "frames without a mask",
        "src/server/http/socket/frame.rs",
        "|| second & MASKED == 0\n",
        "",
        "socket::frame",
    ),
    Mutant(
        "the largest connection stays",
        "src/server/http/consumers.rs",
        "largest.has_to_end.store(true",
        "largest.has_to_end.store(false",
        "http::consumers",
    ),
    Mutant(
        "HTTP on the Redis port is taken for commands",
        PARSER,
        "!self.is_later && ends_as_http(line)",
        "false && ends_as_http(line)",
        "resp::parser",
    ),
    Mutant(
        "strangers send arguments of any length",
        PARSER,
        "(i64, i64) = (16 << 10, 10);",
        "(i64, i64) = (16 << 30, 10);",
        "resp::parser",
    ),
    Mutant(
        "strangers send any number of arguments",
        PARSER,
        "(i64, i64) = (16 << 10, 10);",
        "(i64, i64) = (16 << 10, 1 << 40);",
        "resp::parser",
    ),
)


def copy_tree() -> None:
    """Bring the copy up to date; files that did not change keep their times, so that little is built again."""
    COPY.mkdir(parents=True, exist_ok=True)
    listed = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
    wanted = {name for name in map(os.fsdecode, filter(None, names)) if (ROOT / name).is_file()}
    for file in filter(Path.is_file, [*COPY.rglob("*")]):
        if str(file.relative_to(COPY)) not in wanted:
            file.unlink()
    for name in wanted:
        source, target = ROOT / name, COPY / name
        content = source.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    # It is no part of another workspace.
    manifest = COPY / "Cargo.toml"
    manifest.write_text((ROOT / "Cargo.toml").read_text() + "\n[workspace]\n")


def tests(filter_: str) -> tuple[bool, str]:
    """Run unit tests of the copy; whether they passed, and what they said."""
    environment = {**os.environ, "CARGO_PROFILE_TEST_OPT_LEVEL": "0", "PROPTEST_CASES": "32"}
    environment["CARGO_TARGET_DIR"] = str(ROOT / "build" / "mutants-target")
    words = ["cargo", "test", "--quiet", "--lib", "--features", "server", filter_]
    done = subprocess.run(
        words, cwd=COPY, env=environment, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    if "test result:" not in said:
        raise SystemExit(f"mutants: the tests could not be run:\n{said}")
    return done.returncode == 0, said


def main() -> int:
    """Try all mutants, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="*")
    words = parser.parse_args().word
    chosen = [each for each in MUTANTS if not words or any(word in each.name for word in words)]
    copy_tree()
    for filter_ in sorted({each.tests for each in chosen}):
        passed, said = tests(filter_)
        if not passed or " 0 passed" in said:
            raise SystemExit(f"mutants: {filter_} does not pass unchanged:\n{said}")
    survived = []
    for mutant in chosen:
        file = COPY / mutant.file
        whole = file.read_text()
        if whole.count(mutant.old) != 1:
            raise SystemExit(f"mutants: {mutant.name}: {mutant.old!r} is not once in {mutant.file}")
        file.write_text(whole.replace(mutant.old, mutant.new))
        try:
            passed, _ = tests(mutant.tests)
        finally:
            file.write_text(whole)
        print(f"{'SURVIVED' if passed else 'killed':9} {mutant.name}", flush=True)
        survived += [mutant.name] * passed
    print(f"{len(chosen) - len(survived)} of {len(chosen)} mutants killed")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
