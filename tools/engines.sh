#!/usr/bin/env bash
# Installs what tests run against: engines.sh [cassandra] [browser] [redis-py]
# PostgreSQL, Redis and Chromium come from the system's packages; into ~/.cache/atbr go Cassandra's jars, by Maven, and
# redis-py's own tests, from its source distribution, with the plugins of pytest that they need.
set -euo pipefail

version=5.0.9
redis_py=8.1.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/atbr
wanted=$*
missing=()

has() { command -v "$1" >/dev/null 2>&1; }
asked_for() { case " $wanted " in *" $1 "*) ;; *) return 1 ;; esac; }

has redis-server || missing+=(redis-server)
has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
if asked_for cassandra; then
  has java || missing+=(default-jre-headless)
  has mvn || missing+=(maven)
fi

if asked_for browser; then
  has chromium || missing+=(chromium)
  has chromedriver || missing+=(chromium-driver)
fi

if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
  if ! has apt-get || { [ ${#as_root[@]} -gt 0 ] && ! has sudo; }; then
    printf 'atbr: not installed, so that tests are left out (Debian names): %s\n' "${missing[*]}" >&2
    exit 0
  fi
  printf 'atbr: installing %s\n' "${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

tests=$cache/redis-py-$redis_py
if asked_for redis-py && [ ! -f "$tests/complete" ]; then
  printf 'atbr: fetching the tests of redis-py %s\n' "$redis_py"
  rm -rf "$tests"
  mkdir -p "$tests"
  pip=("${VENV:-.venv}/bin/python" -m pip --quiet --disable-pip-version-check)
  # Without the network these tests are left out, with that reason.
  if "${pip[@]}" download --no-binary :all: --no-deps --dest "$tests" "redis==$redis_py" >&2 &&
    "${pip[@]}" install --no-deps --target "$tests/plugins" 'pytest-asyncio==1.5.0' 'pytest-timeout==2.4.0' >&2; then
    tar xzf "$tests/redis-$redis_py.tar.gz" -C "$tests" --strip-components 1 \
      "redis-$redis_py/redis" "redis-$redis_py/tests" "redis-$redis_py/pyproject.toml"
    touch "$tests/complete"
  else
    printf "atbr: redis-py's tests cannot be fetched, they are left out\n" >&2
  fi
fi

jars=$cache/cassandra-$version
if asked_for cassandra && [ ! -f "$jars/complete" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  if [ -f "$jars/complete" ]; then exit 0; fi
  printf 'atbr: fetching Cassandra %s\n' "$version"
  rm -rf "$jars"
  mkdir -p "$jars"
  cat >"$jars/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion>
<groupId>atbr</groupId><artifactId>engines</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>org.apache.cassandra</groupId>
<artifactId>cassandra-all</artifactId><version>$version</version></dependency></dependencies></project>
POM
  # Without the network the tests of Cassandra are left out, with that reason.
  if ! mvn -q -B -f "$jars/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DexcludeClassifiers=osx-x86_64,osx-aarch_64,windows-x86_64,linux-riscv64 \
    "-DoutputDirectory=$jars" </dev/null >&2; then
    printf 'atbr: Cassandra cannot be fetched, its tests are left out\n' >&2
    exit 0
  fi
  touch "$jars/complete"
fi
