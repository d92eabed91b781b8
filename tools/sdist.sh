#!/usr/bin/env bash
# The source distribution, a wheel built from it in a folder that holds nothing else, and a try of that wheel.
set -euo pipefail

venv=${VENV:-.venv}
unset PYO3_PYTHON CARGO_TARGET_DIR
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$venv/bin/maturin" sdist --out "$folder"
sdist=$(echo "$folder"/*.tar.gz)
tar tzf "$sdist" | sed 's|^[^/]*/||' | cut -d/ -f1 | sort | uniq -c
"$venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$folder/wheel" "$sdist"
tools/try-wheel.sh "$folder"/wheel/*.whl
mkdir -p dist
mv "$sdist" dist/
echo "sdist: dist/$(basename "$sdist")"
