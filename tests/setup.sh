#!/usr/bin/env bash
# Get ready what the tests need besides Python packages: a browser, a Docker engine, and an image of
# Triton made on this machine. On a Debian machine with root, what is missing is installed; elsewhere
# it is left, and the tests that need it are skipped (or fail, where CI=true).
# Usage: tests/setup.sh /path/to/python
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends chromium chromium-driver
  else
    echo "no chromium and chromedriver: browser tests will be skipped"
  fi
fi

if "$here/image/engine.sh"; then
  "$here/image/build.sh" "$1" || echo "no test image: its tests will be skipped"
else
  echo "no Docker engine: its tests will be skipped"
fi
