#!/usr/bin/env bash
# Builds the image of the project's Dockerfile on top of the test image, without a network.
#
#   tests/image/tuner.sh PYTHON    PYTHON: an interpreter with pip
#
# Needs the test image (tests/image/build.sh). Prints the image's name at the end; does nothing more
# where that image is there already and was built from the same parts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

base="${TUNER_TEST_IMAGE:-tuner-test-triton:2.51.0}"
image=tuner-test:latest
label=io.tuner.image.parts

fail() {
    echo "tuner.sh: $*" >&2
    exit 1
}

(( $# == 1 )) || fail "name a Python interpreter with pip"
base_id="$(docker image inspect --format '{{.Id}}' "$base" 2>/dev/null)" \
    || fail "no image $base; run tests/image/build.sh"
wheels="$(tests/image/wheels.sh "$1")" || fail "no wheels to build with"
exec {lock}>build/image.lock
flock "$lock"

parts="$({
    echo "$base_id"
    find Dockerfile .dockerignore pyproject.toml README.md LICENSE tuner search_spaces model_repository \
        "$wheels.parts" -name __pycache__ -prune -o -type f -print0 \
        | LC_ALL=C sort -z | xargs -0 sha256sum
} | sha256sum | cut -d' ' -f1)"
found="$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$image" 2>/dev/null)" || true
if [[ "$found" == "$parts" ]]; then
    echo "$image"
    exit
fi
build() {
    docker build --network none --build-arg "BASE=$base" --build-arg PIP_NO_INDEX=1 "$@" . \
        >build/image.log 2>&1 || { tail -n 20 build/image.log >&2; fail "docker build failed"; }
}

# A tag keeps the stage that takes long; the rest of what nobody names is removed.
build --target packages --tag "${image%:*}:packages"
build --label "$label=$parts" --tag "$image"
docker image prune --force --filter label=io.tuner.test-image.parts >/dev/null
echo "$image"
