#!/usr/bin/env bash
# Get ready what the tests need besides Python packages: a C compiler, a browser, Redis, PostgreSQL,
# a Docker engine, and an image of Triton made on this machine. On a Debian machine with root, what is missing is
# installed, all at once; elsewhere it is left, and the tests that need it are skipped (or fail,
# where CI=true).
#
#   tests/setup.sh          what needs no Python environment: it can be installed meanwhile
#   tests/setup.sh PYTHON   all; PYTHON: an interpreter whose environment has the extra `local`
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

has() { command -v "$1" >/dev/null; }

missing=()
has cc || missing+=(gcc libc6-dev)
has chromium && has chromedriver || missing+=(chromium chromium-driver)
has docker || missing+=(docker.io iptables)
ldconfig -p | grep -q libb64 || missing+=(libb64-0d)
has redis-server || missing+=(redis-server)
has psql || missing+=(postgresql)
has mmdebstrap || missing+=(mmdebstrap debian-archive-keyring)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && has apt-get; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends "${missing[@]}"
  else
    echo "not here: ${missing[*]}; the tests that need them will be skipped"
  fi
fi

engine=true
"$here/image/engine.sh" || engine=false
[ $# -gt 0 ] || exit 0

(cd "$here/.." && "$1" -m benchmarks.load.program) ||
  echo "no perf_analyzer: its tests will be skipped"
"$here/image/wheels.sh" "$1" || echo "no wheels of what tuner needs: their tests will be skipped"
if $engine; then
  "$here/image/build.sh" "$1" && "$here/image/tuner.sh" "$1" ||
    echo "no test image: its tests will be skipped"
else
  echo "no Docker engine: its tests will be skipped"
fi
