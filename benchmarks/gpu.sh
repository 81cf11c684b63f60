#!/usr/bin/env bash
# Measures tuner on a GPU machine that needs no network: unpacks the kit that `make gpu-kit` packed
# and runs the stages of benchmarks/gpu. `benchmarks/gpu.sh --help` lists them.
#
#   PYTHON  a Python with PyTorch, numpy, pandas, grpcio and typer (default: python3)
#   KIT     the kit (default: build/gpu-kit.tar.xz); empty: run with what is installed
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
KIT=${KIT-build/gpu-kit.tar.xz}

if [ -n "$KIT" ]; then
  [ -f "$KIT" ] || { echo "there is no $KIT; make one with: make gpu-kit" >&2; exit 3; }
  site=$(mktemp -d "${TMPDIR:-/tmp}/tuner-kit.XXXXXX")
  trap 'rm -rf "$site"' EXIT
  "$PYTHON" - "$KIT" "$site" <<'UNPACK'
import sys, tarfile
kit = tarfile.open(sys.argv[1])
kit.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later
kit.extractall(sys.argv[2])
UNPACK
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
  if [ -d "$site/libpython" ]; then
    export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$site/libpython"
  fi
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
"$PYTHON" -m benchmarks.gpu "$@"
