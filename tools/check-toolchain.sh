#!/usr/bin/env bash
# Ends with one line of instruction for each tool that a person has to install by hand.
set -euo pipefail

python=${PYTHON:-python3}
missing=0

say() {
  printf 'atbr: %s\n' "$1" >&2
  missing=1
}

at_least() { # at_least FOUND WANTED, both as MAJOR.MINOR
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

if ! rust=$(rustc --version 2>/dev/null) || ! cargo --version >/dev/null 2>&1; then
  say 'Rust 1.88 or newer is needed and none is on PATH: install it from https://rustup.rs'
elif ! at_least "$(cut -d' ' -f2 <<<"$rust")" 1.88; then
  say "Rust 1.88 or newer is needed and this is ${rust}: run 'rustup update stable' (or install from https://rustup.rs)"
fi

if ! found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
  say "Python 3.10 or newer is needed and '$python' does not run: 'apt-get install python3', or name another by make PYTHON=..."
elif ! at_least "$found" 3.10; then
  say "Python 3.10 or newer is needed and '$python' is $found: name another by make PYTHON=..."
fi

exit "$missing"
