"""Programs of this machine: ports that are taken, ends, and what cannot be run."""

import os
import signal
import socket
import sys
from pathlib import Path

import docker
import pytest
import requests
from docker.errors import ContainerError

from tuner.errors import ServerFailed
from tuner.servers import program
from tuner.servers.base import Endpoints
from tuner.servers.program import Program, free_ports, start


def answers(endpoints: Endpoints) -> bool:
    try:
        return requests.get(f"http://{endpoints.http}", timeout=1).ok
    except requests.RequestException:
        return False


def web_server(log: Path, **changes: object) -> Program:
    def command(endpoints: Endpoints) -> tuple[str, ...]:
        host, _, port = endpoints.http.partition(":")
        return (sys.executable, "-m", "http.server", "--bind", host, port)

    usual = {"command": command, "ports": 1, "environment": os.environ, "is_up": answers}
    return Program(
        **{**usual, "log": log, "not_up": "it did not answer", "startup_timeout": 60.0, **changes}  # type: ignore[arg-type]
    )


def test_a_port_that_is_taken_meanwhile_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        offered = [[taken], free_ports(1)]
        monkeypatch.setattr(program, "free_ports", lambda _: offered.pop(0))
        server = start(web_server(tmp_path / "log", is_up=not_at(taken)))
    try:
        assert not offered
        assert answers(server.endpoints)
    finally:
        server.stop()
    assert not answers(server.endpoints)
    assert server.pids() == ()


def not_at(port: int) -> object:
    return lambda endpoints: not endpoints.http.endswith(f":{port}") and answers(endpoints)


def test_one_that_ends_at_once_fails_with_its_log(tmp_path: Path) -> None:
    fails = web_server(
        tmp_path / "log", command=lambda _: (sys.executable, "-c", "raise SystemExit('no luck')")
    )
    with pytest.raises(ServerFailed, match=r"ended with exit code 1\nno luck"):
        start(fails)


def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    silent = web_server(tmp_path / "log", is_up=lambda _: False, startup_timeout=0.3)
    with pytest.raises(ServerFailed, match=r"it did not answer within 0\.3 s"):
        start(silent)


def test_one_that_is_not_there_is_the_callers_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        start(web_server(tmp_path / "log", command=lambda _: (str(tmp_path / "none"),)))


@pytest.mark.docker
def test_memory_that_others_ran_out_of_did_not_end_it(test_image: str, tmp_path: Path) -> None:
    """The kernel counts that of the whole machine as well."""
    server = start(web_server(tmp_path / "log"))
    try:
        client = docker.from_env()
        try:
            hungry = ["python3", "-c", "bytearray(1 << 30)"]
            with pytest.raises(ContainerError):
                client.containers.run(test_image, hungry, mem_limit="64m", remove=True)
        finally:
            client.close()
        pid, *_ = server.pids()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert server.exit_reason() == "the server was ended by SIGKILL"
    finally:
        server.stop()
