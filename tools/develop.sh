#!/usr/bin/env bash
# develop.sh PROFILE STAMP: builds the extension into python/atbr and the virtualenv, then touches STAMP.
# One profile is installed at a time, so the stamps of the others go.
set -euo pipefail

profile=$1
stamp=$2
venv=${VENV:-.venv}

mkdir -p "$(dirname "$stamp")"
rm -f "$(dirname "$stamp")"/installed-*.stamp
venv=$(realpath "$venv")
PATH="$venv/bin:$PATH" PIP_QUIET=1 VIRTUAL_ENV=$venv maturin develop --quiet --profile "$profile"
touch "$stamp"
