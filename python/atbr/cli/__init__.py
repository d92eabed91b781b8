"""The command line: `atbr serve`."""

from __future__ import annotations

import argparse
import sys

from atbr._core import __version__
from atbr.cli.options import OptionsError, add_flags, read_options


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; what goes wrong is one line on stderr.

    0: it ended as it was told to. 1: it failed. 2: its arguments or its configuration are wrong.
    """
    parser = argparse.ArgumentParser(prog="atbr", description="A large-scale in-memory store.")
    parser.add_argument("--version", action="version", version=f"atbr {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve a store over HTTP, WebSocket and the Redis protocol",
        description="Serve a store over HTTP, WebSocket and the Redis protocol, with a console at /.",
        epilog="SIGTERM and SIGINT end the requests that run, save where asked, and exit with 0. "
        "SIGHUP reads the password, the token and the certificate again.",
        allow_abbrev=False,
    )
    add_flags(serve)
    given = parser.parse_args(arguments)
    try:
        options = read_options(given)
    except OptionsError as error:
        print(f"atbr serve: {error}", file=sys.stderr)
        return 2
    # After the arguments: --help starts no server's code.
    from atbr.cli.serve import run

    return run(options)
