#!/usr/bin/env bash
# try-wheel.sh WHEEL: installs it into an empty virtualenv, with no compiler on PATH, and smoke-tests it there.
set -euo pipefail

wheel=$(realpath "$1")
smoke=$(realpath "$(dirname "$0")/smoke.py")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"${PYTHON:-python3}" -m venv "$folder/venv"
cd "$folder"
alone=(env -i "PATH=$folder/venv/bin" "HOME=$folder")
for tool in cc c++ gcc g++ clang rustc cargo; do
  if "${alone[@]}" "$folder/venv/bin/python" -c "import shutil, sys; sys.exit(not shutil.which('$tool'))"; then
    echo "try-wheel: $tool is on the PATH that should have no compiler" >&2
    exit 1
  fi
done
"${alone[@]}" "$folder/venv/bin/python" -m pip install --quiet --no-index --no-deps "$wheel"
"${alone[@]}" "$folder/venv/bin/python" -W error "$smoke"
