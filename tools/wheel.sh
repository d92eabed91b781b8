#!/usr/bin/env bash
# A wheel for Linux machines with glibc 2.17 or newer: zig links, auditwheel judges, an empty virtualenv tries it.
set -euo pipefail

python=${PYTHON:-python3}
venv=build/venv-wheel
out=dist
# maturin names the interpreter itself.
unset PYO3_PYTHON

VENV=$venv tools/venv.sh "$venv" wheel
interpreter=$("$python" -c 'import sys; print(sys.executable)')
rm -rf build/wheel
PATH="$PWD/$venv/bin:$PATH" maturin build --release --zig --compatibility manylinux_2_17 \
  --interpreter "$interpreter" --out build/wheel
wheel=$(echo build/wheel/*.whl)

shown=$(PATH="$PWD/$venv/bin:$PATH" auditwheel show "$wheel")
printf '%s\n' "$shown"
if ! tr '\n' ' ' <<<"$shown" | grep -qE 'platform tag: +"manylinux_2_(5|12|17)_'; then
  echo "wheel: auditwheel does not find $wheel fit for manylinux_2_17" >&2
  exit 1
fi
tools/try-wheel.sh "$wheel"
mkdir -p "$out"
mv "$wheel" "$out/"
echo "wheel: $out/$(basename "$wheel")"
