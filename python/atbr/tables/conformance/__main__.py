"""`python -m atbr.tables.conformance URL`: run the suite against an engine."""

from __future__ import annotations

import sys

from atbr.tables.conformance import Conformance


def main(arguments: list[str]) -> int:
    """Print each failure; the exit status says whether there is one."""
    if len(arguments) != 1:
        print("usage: python -m atbr.tables.conformance URL", file=sys.stderr)
        return 2
    Conformance.url = arguments[0]
    count, failed = Conformance.run_all()
    for text in failed:
        print(text)
    print(f"conformance: {count} tests, {len(failed)} failed")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
