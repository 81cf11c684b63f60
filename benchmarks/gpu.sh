#!/usr/bin/env bash
# Measures tuner on a GPU machine that needs no network: takes from the kit that `make gpu-kit`
# packed what is not installed, and runs the stages of benchmarks/gpu. `benchmarks/gpu.sh --help`
# lists them.
#
#   PYTHON  a Python with PyTorch and numpy (default: python3)
#   KIT     the kit (default: build/gpu-kit.tar.xz); empty: run with what is installed
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
KIT=${KIT-build/gpu-kit.tar.xz}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1

[ -n "$KIT" ] || exec "$PYTHON" -m benchmarks.gpu "$@"
[ -f "$KIT" ] || { echo "there is no $KIT; make one with: make gpu-kit" >&2; exit 3; }
exec "$PYTHON" -m benchmarks.kit.run "$KIT" "$@"
