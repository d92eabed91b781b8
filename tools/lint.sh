#!/usr/bin/env bash
# Every check that reads the code without running it. Goes on after a failure and names each one at the end.
set -uo pipefail

bin=${VENV:-.venv}/bin
failed=()

check() {
  local name=$1
  shift
  printf -- '-- %s\n' "$name"
  "$@" || failed+=("$name")
}

tracked() { git ls-files -co --exclude-standard -- "$@"; }

for component in rustfmt clippy; do
  cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 && continue
  rustup component add "$component" || failed+=("$component is not installed")
done

check 'cargo fmt' cargo fmt --check
for features in "" python failpoints server python,tls; do
  check "cargo clippy, features: ${features:-none}" \
    cargo clippy --quiet --all-targets --features "$features" -- -D warnings
done
check 'cargo doc' env RUSTDOCFLAGS='-D warnings' cargo doc --quiet --no-deps --document-private-items

check 'ruff check' "$bin/ruff" check --quiet .
check 'ruff format' "$bin/ruff" format --check --quiet .
mapfile -t typed < <(tracked 'tests/python/*typing*.py' 'tests/python/*typed*.py')
check 'mypy' "$bin/mypy" python "${typed[@]}"
check 'mypy, tools' "$bin/mypy" tools benches
check 'stubtest' "$bin/python" -m mypy.stubtest --mypy-config-file pyproject.toml atbr._core

mapfile -t cxx < <(tracked 'cpp/*.h' 'cpp/*.cc')
if [ ${#cxx[@]} -gt 0 ]; then
  check 'clang-format' "$bin/clang-format" --dry-run -Werror "${cxx[@]}"
fi
mapfile -t scripts < <(tracked 'tools/*.sh' .ci/run)
if command -v shellcheck >/dev/null; then
  check 'shellcheck' shellcheck "${scripts[@]}"
else
  echo '-- shellcheck is not installed: left out'
fi

if [ ${#failed[@]} -gt 0 ]; then
  printf 'lint failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo 'lint: all checks passed'
