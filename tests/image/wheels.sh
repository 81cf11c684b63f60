#!/usr/bin/env bash
# Fetches what tuner needs, and what its build needs, to build/wheels: the wheels for the Python of the
# test image and for another PYTHON. Whatever installs tuner in a test takes them, and no network.
#
#   tests/image/wheels.sh PYTHON    PYTHON: an interpreter with pip
#
# Prints the folder at the end; does nothing more where it holds them already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
wheels="$PWD/build/wheels"

(( $# == 1 )) || { echo "wheels.sh: name a Python interpreter with pip" >&2; exit 1; }
python="$1"
mkdir -p build
exec {lock}>build/wheels.lock
flock "$lock"

needs="$("$python" -c '
import pathlib, tomllib
of = tomllib.loads(pathlib.Path("pyproject.toml").read_text("utf-8"))
print("pip", *of["build-system"]["requires"], *of["project"]["dependencies"], sep="\n")')"
versions="$({ echo 3.11; "$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; } | sort -u)"
parts="$(echo "$versions" "$needs" | cat - constraints.txt | sha256sum | cut -d' ' -f1)"
if [[ "$(cat build/wheels.parts 2>/dev/null)" != "$parts" ]]; then
    rm -rf "$wheels" build/wheels.parts
    for version in $versions; do
        "$python" -m pip download --quiet --disable-pip-version-check --progress-bar off \
            --only-binary=:all: --implementation cp --python-version "$version" \
            -c constraints.txt -r <(echo "$needs") --dest "$wheels" 2>build/wheels.log \
            || { tail -n 20 build/wheels.log >&2; exit 1; }
    done
    echo "$parts" >build/wheels.parts
fi
echo "$wheels"
