#!/usr/bin/env bash
# Installs what the build needs from the system: a C++ compiler, sparsehash's headers, Python's venv.
# system-packages.sh [lint|server-bench] also installs shellcheck, or what asks and what is asked beside the server,
# where apt-get exists.
set -euo pipefail

python=${PYTHON:-python3}
missing=()

has_sparsehash() {
  local folder
  if [ -n "${SPARSEHASH_INCLUDE_DIR:-}" ]; then
    [ -f "$SPARSEHASH_INCLUDE_DIR/sparsehash/sparsetable" ]
    return
  fi
  for folder in /usr/include /usr/local/include /opt/homebrew/include; do
    if [ -f "$folder/sparsehash/sparsetable" ]; then return 0; fi
  done
  return 1
}

has() { command -v "$1" >/dev/null 2>&1; }

has_sparsehash || missing+=(libsparsehash-dev)
has "${CXX:-c++}" || missing+=(g++)
# Rust links through cc.
has cc || missing+=(gcc libc6-dev)
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  missing+=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv")
if [ "${1:-}" = lint ] && has apt-get; then
  has shellcheck || missing+=(shellcheck)
fi
if [ "${1:-}" = server-bench ] && has apt-get; then
  has redis-benchmark || missing+=(redis-tools)
  has redis-server || missing+=(redis-server)
  has wrk || missing+=(wrk)
fi

if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
if ! has apt-get || { [ ${#as_root[@]} -gt 0 ] && ! has sudo; }; then
  printf 'atbr: install these packages (Debian names; macOS: brew install google-sparsehash) and run make again: %s\n' \
    "${missing[*]}" >&2
  exit 1
fi
printf 'atbr: installing %s\n' "${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
