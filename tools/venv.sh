#!/usr/bin/env bash
# venv.sh FOLDER GROUP...: a virtualenv of $PYTHON with these dependency groups of pyproject.toml.
set -euo pipefail

python=${PYTHON:-python3}
folder=$1
shift
groups=()
for group in "$@"; do groups+=(--group "$group"); done

if ! "$folder/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  rm -rf "$folder"
  "$python" -m venv "$folder"
fi
# --group arrived with pip 25.1.
"$folder/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
"$folder/bin/python" -m pip install --quiet "${groups[@]}"
