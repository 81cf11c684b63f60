#!/usr/bin/env bash
# Makes sure that a Docker engine answers. Where none does, on a Debian machine and as root, it
# installs what is missing and starts dockerd by hand (no systemd), detached from this script.
#
#   tests/image/engine.sh         start an engine unless one answers
#   tests/image/engine.sh stop    stop the engine that an earlier call started
set -euo pipefail

state="${TMPDIR:-/tmp}"
pid_file="$state/tuner-dockerd.pid"
log_file="$state/tuner-dockerd.log"

answers() {
    # The engine's own client or, before any is installed, nothing.
    command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1
}

started_here() {
    [[ -s "$pid_file" ]] && [[ "$(cat "/proc/$(<"$pid_file")/comm" 2>/dev/null)" == dockerd ]]
}

fail() {
    echo "engine.sh: $*" >&2
    exit 1
}

stop() {
    if ! started_here; then
        echo "no engine that this script started is running"
        return
    fi
    local pid
    pid="$(<"$pid_file")"
    kill "$pid"
    for _ in $(seq 150); do
        kill -0 "$pid" 2>/dev/null || { rm -f "$pid_file"; echo "engine stopped"; return; }
        sleep 0.2
    done
    fail "dockerd (process $pid) did not stop within 30 s; see $log_file"
}

install_missing() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v iptables >/dev/null || missing+=(iptables)
    (( ${#missing[@]} )) || return 0
    command -v apt-get >/dev/null || fail "install ${missing[*]} with this machine's package manager"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

start() {
    [[ $EUID -eq 0 ]] || fail "no engine answers; start one, or run this script as root"
    if [[ -n "${DOCKER_HOST:-}" ]]; then
        fail "nothing answers at DOCKER_HOST=$DOCKER_HOST; unset it to have an engine started here"
    fi
    install_missing
    if ! started_here; then
        (
            # A daemon would hold the caller's locks and pipes for good.
            for descriptor in "/proc/$BASHPID/fd/"*; do
                descriptor="${descriptor##*/}"
                (( descriptor <= 2 )) || exec {descriptor}>&-
            done
            exec setsid nohup dockerd --pidfile "$pid_file" >"$log_file" 2>&1 </dev/null
        ) &
        local starter=$!
    fi
    for _ in $(seq 120); do
        answers && return
        if [[ -n "${starter:-}" ]] && ! kill -0 "$starter" 2>/dev/null; then
            break
        fi
        sleep 0.5
    done
    tail -n 20 "$log_file" >&2 || true
    fail "dockerd does not answer; its log is $log_file"
}

if [[ "${1:-}" == stop ]]; then
    stop
    exit
fi
if ! answers; then
    start
fi
echo "A Docker engine answers: $(docker version --format '{{.Server.Version}}')"
if started_here; then
    echo "Stop it with: $0 stop   (process $(<"$pid_file"), log $log_file)"
fi
