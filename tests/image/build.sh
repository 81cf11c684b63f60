#!/usr/bin/env bash
# Builds the local test image: a small Debian with the embedded Triton of the wheel nvidia-pytriton,
# its Python backend, and the project's Python-based onnxruntime backend. No image registry is used.
# The command line of the official Triton image works on it unchanged.
#
#   tests/image/build.sh PYTHON    PYTHON: an interpreter whose environment has the extra `local`
#
# Needs root, mmdebstrap and an engine (tests/image/engine.sh). Prints the image's name at the end;
# does nothing more where that image is there already and was built from the same parts.
set -euo pipefail
umask 022

suite=bookworm
suite_python=3.11
triton_version=2.51.0
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
backend="$here/../../tuner/servers/backends/onnxruntime"
image="tuner-test-triton:$triton_version"
label=io.tuner.test-image.parts

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

(( $# == 1 )) || fail "name the Python interpreter of an environment with nvidia-pytriton"
python="$1"
packages="$("$python" -c "
import importlib.util, pathlib
print(pathlib.Path(importlib.util.find_spec('pytriton').origin).parents[1])" 2>/dev/null)" \
    || fail "$python has no nvidia-pytriton; pip install it together with onnxruntime"

version_of() {
    "$python" -c "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))" "$1"
}

pytriton="$(version_of nvidia-pytriton)"
onnxruntime="$(version_of onnxruntime)"
parts="$({
    echo "$pytriton $onnxruntime"
    cat "${BASH_SOURCE[0]}"
    find "$backend" -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 cat
} | sha256sum | cut -d' ' -f1)"

found="$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$image" 2>/dev/null)" || true
if [[ "$found" == "$parts" ]]; then
    echo "$image"
    exit
fi
[[ $EUID -eq 0 ]] || fail "mmdebstrap needs root"
command -v mmdebstrap >/dev/null || fail "apt-get install mmdebstrap debian-archive-keyring"

scratch="$(mktemp -d "${TMPDIR:-/tmp}/tuner-test-image.XXXXXX")"
root="$scratch/root"
trap 'rm -rf --one-file-system "$scratch"' EXIT

debian() {
    local log="$scratch/mmdebstrap.log" mirror
    # The mirror that this machine's apt uses for the suite; without one, mmdebstrap knows Debian's.
    mirror="$(apt-get indextargets --format '$(CODENAME) $(LABEL) $(REPO_URI)' "Created-By: Packages" \
        2>/dev/null | awk -v suite="$suite" '$1 == suite && $2 == "Debian" { print $3; exit }')" || true
    mmdebstrap --variant=minbase --include=python3,libpython3.11,libexpat1,zlib1g \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --dpkgopt=force-unsafe-io \
        "$suite" "$root" ${mirror:+"$mirror"} >"$log" 2>&1 \
        || { tail -n 20 "$log" >&2; fail "mmdebstrap failed"; }
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
}

server() {
    local from="$packages/pytriton/tritonserver" to="$root/opt/tritonserver"
    mkdir -p "$to/lib" "$to/backends/python" "$to/backends/onnxruntime"
    cp -r "$from/bin" "$from/caches" "$to/"
    cp "$packages"/nvidia_pytriton.libs/* "$to/lib/"
    cp "$from"/backends/python/*.{so,py} "$to/backends/python/"
    cp "$from/python_backend_stubs/$suite_python/triton_python_backend_stub" "$to/backends/python/"
    cp "$backend"/*.py "$to/backends/onnxruntime/"
    cat >"$root/usr/local/bin/tritonserver" <<'WRAPPER'
#!/bin/sh
export LD_LIBRARY_PATH="/opt/tritonserver/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec /opt/tritonserver/bin/tritonserver --backend-directory=/opt/tritonserver/backends \
    --cache-directory=/opt/tritonserver/caches "$@"
WRAPPER
    chmod 755 "$root/usr/local/bin/tritonserver"
}

runtime() {
    "$python" -m pip install --quiet --no-compile --only-binary=:all: \
        --python-version "$suite_python" --implementation cp \
        --target "$scratch/runtime" \
        "onnxruntime==$onnxruntime" "numpy<2"
}

runtime &
debian
server
wait $! || fail "pip cannot install onnxruntime for Python $suite_python"
mv "$scratch/runtime"/* "$root/usr/local/lib/python$suite_python/dist-packages/"
superseded="$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null)" || true
tar -C "$root" --numeric-owner --exclude=./proc --exclude=./sys -c . | docker import \
    --change 'WORKDIR /opt/tritonserver' \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV PYTHONDONTWRITEBYTECODE=1' \
    --change 'EXPOSE 8000 8001 8002' \
    --change "LABEL $label=$parts" \
    --change 'CMD ["tritonserver", "--model-repository=/models"]' \
    - "$image" >/dev/null
if [[ -n "$superseded" ]]; then
    docker image rm "$superseded" >/dev/null || true  # in use by a container
fi
echo "$image"
