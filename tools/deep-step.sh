#!/usr/bin/env bash
# deep-step.sh STEP: one of the long tests that deep.sh orders. Exit status 77: left out, for want of a tool.
set -uo pipefail

venv=${VENV:-.venv}
work=build/deep
fuzz_seconds=${ATBR_FUZZ_SECONDS:-40}
tarball=${ATBR_FREETHREADED_TARBALL:-}

lacks() {
  echo "left out: $1"
  return 77
}

host() { rustc -vV | sed -n 's/^host: //p'; }

nightly() { cargo +nightly --version >/dev/null 2>&1 || lacks 'no nightly Rust (rustup toolchain install nightly)'; }

crate() {
  # Tests named child_... are run by other tests, in processes of their own.
  cargo test --release --features server -- --include-ignored --skip child_
}

# These take over signals, limit threads or leave their process in the middle: the sanitizers' runtimes do so too.
not_sanitized=(--skip faults:: --skip full_disk_is_an_error)

sanitized() { # sanitized KIND FLAGS...: the tests, C++ included, under a sanitizer
  local kind=$1 target upper
  shift
  nightly || return
  target=$(host)
  upper=$(tr 'a-z-' 'A-Z_' <<<"$target")
  env "CARGO_TARGET_${upper}_RUSTFLAGS=-Zsanitizer=$kind $*" \
    "CXXFLAGS_$(tr - _ <<<"$target")=-fsanitize=$kind -g" \
    CARGO_TARGET_DIR="$work/target-$kind" PROPTEST_CASES=32 \
    cargo +nightly test --target "$target" --features server --lib --tests -- "${not_sanitized[@]}"
}

address_sanitizer() { sanitized address; }

model_checker() { # what threads race for, under shuttle
  RUSTFLAGS='--cfg atbr_shuttle' CARGO_TARGET_DIR="$work/target-shuttle" cargo test --lib alarm_model
}

memory_check() {
  command -v valgrind >/dev/null || lacks 'no valgrind' || return
  local binary
  binary=$(cargo test --lib --no-run --message-format=json |
    sed -nE 's/.*"executable":"([^"]+)".*/\1/p' | tail -n 1)
  PROPTEST_CASES=2 valgrind --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite \
    "$binary" --test-threads=1
}

fuzzing() {
  [ -d fuzz ] || lacks 'no folder fuzz/' || return
  nightly || return
  cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz ||
    lacks 'no cargo-fuzz, and it cannot be installed' || return
  local target status=0
  for target in $(cargo +nightly fuzz list); do
    # Leaks are the address step's: threads that are just ending look like leaks here.
    cargo +nightly fuzz run "$target" -- -max_total_time="$fuzz_seconds" -detect_leaks=0 || status=1
  done
  return "$status"
}

# Clients that the server's tests need, which every interpreter has.
clients=('django>=5.2' httpx 'redis>=8,<9' selenium websockets)

mutants() { "$venv/bin/python" tools/mutants.py; } # guards taken out of the source, one after the other

package() { "$venv/bin/python" -m pytest -m deep; }

suite() { # suite VENV ARGUMENT...: the smoke test and these tests
  local python=$1/bin/python
  shift
  "$python" tools/smoke.py && "$python" -m pytest -p no:cacheprovider tests/python "$@"
}

# Of the tests, what may differ from one CPython to the next; the smoke test touches the doors.
own=(--ignore tests/python/server --ignore tests/python/tables)

# What their drivers do is theirs on a free-threaded CPython, and their servers take long.
remote=(--ignore tests/python/tables/test_faults.py --ignore tests/python/tables/test_logins.py)
for engine in Postgresql Redis RedisCluster Cassandra; do
  remote+=(--deselect "tests/python/tables/test_conformance.py::Test$engine")
done

install_into() { # install_into VENV SOURCE TARGET PACKAGE...: this tree's package and what its tests need
  local into=$1 source=$2 target=$3 maturin
  maturin=$(realpath "$venv/bin/maturin")
  shift 3
  rm -rf "$into-wheel"
  (cd "$source" && CARGO_TARGET_DIR=$target "$maturin" build --quiet --profile dev \
    --interpreter "$into/bin/python" --out "$into-wheel") &&
    "$into/bin/python" -m pip install --quiet --force-reinstall --no-deps "$into-wheel"/*.whl &&
    "$into/bin/python" -m pip install --quiet "$@"
}

interpreters() { # each CPython 3.10 or newer that is not the virtualenv's, one of a version
  local candidate version seen
  seen=" $("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') "
  for candidate in ${ATBR_PYTHONS:-"$HOME"/.pyenv/versions/*/bin/python /usr/bin/python3.1[0-9]}; do
    version=$("$candidate" -c 'import sys, sysconfig
if sys.implementation.name == "cpython" and sys.version_info >= (3, 10):
    print("%d.%d%s" % (*sys.version_info[:2], "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED"))))' 2>/dev/null)
    if [ -z "$version" ] || [[ $seen == *" $version "* ]]; then continue; fi
    seen+="$version "
    printf '%s %s\n' "$version" "$candidate"
  done
}

other_pythons() {
  local version interpreter into found=0
  while read -r version interpreter; do
    case $version in *t) continue ;; esac
    found=1
    into=$PWD/$work/venv-$version
    echo "-- CPython $version"
    [ -x "$into/bin/python" ] || "$interpreter" -m venv "$into" || return
    install_into "$into" . "$PWD/$work/target-pythons" hypothesis 'pytest>=9,<10' "${clients[@]}" || return
    suite "$into" "${own[@]}" || return
  done < <(interpreters)
  [ "$found" -eq 1 ] || lacks 'no other CPython (ATBR_PYTHONS names some)'
}

free_threading() {
  local root=$HOME/.cache/atbr-python interpreter into copy
  [ -f "$tarball" ] || lacks "no free-threaded CPython at $tarball (ATBR_FREETHREADED_TARBALL)" || return
  if [ ! -d "$root/$(basename "$tarball" .tar.xz)" ]; then
    mkdir -p "$root" && tar xJf "$tarball" -C "$root" || return
  fi
  interpreter=$(echo "$root/$(basename "$tarball" .tar.xz)"/bin/python3.*t)
  into=$PWD/$work/venv-freethreaded
  copy=$PWD/$work/freethreaded
  [ -x "$into/bin/python" ] || "$interpreter" -m venv "$into" || return
  rm -rf "$copy"
  mkdir -p "$copy"
  git ls-files -z -co --exclude-standard | tar c --null -T - | tar x -C "$copy" || return
  printf '\n[workspace]\n' >>"$copy/Cargo.toml"
  # PyO3 0.29 and newer take free-threaded builds from 3.14 only.
  (cd "$copy" && cargo update --quiet -p pyo3 --precise 0.28.3) || return
  install_into "$into" "$copy" "$PWD/$work/target-freethreaded" \
    'hypothesis<=6.155.7' 'pytest>=9,<10' "${clients[@]}" || return
  "$into/bin/python" -W error -c 'import sys, atbr; sys.exit(sys._is_gil_enabled())' || {
    echo 'importing atbr turned the GIL on'
    return 1
  }
  suite "$into" "${remote[@]}"
}

cd "$(dirname "$0")/.." || exit
# maturin names the interpreter of each build itself.
unset PYO3_PYTHON
case $1 in
  python) package ;;
  pythons) other_pythons ;;
  freethreaded) free_threading ;;
  rust) crate ;;
  races) model_checker ;;
  address) address_sanitizer ;;
  memcheck) memory_check ;;
  fuzz) fuzzing ;;
  mutants) mutants ;;
  *) exit 2 ;;
esac
