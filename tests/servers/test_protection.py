"""What others on this machine can do to a server that tuner started: ask it for inferences."""

import http.client
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tuner.deployments.triton import Inputs, RunningTriton, TritonDeployment
from tuner.load.transport import Transport
from tuner.model.config import read_config
from tuner.servers.base import Endpoints
from tuner.servers.environment import server_environment
from tuner.servers.local import LocalLauncher

MODEL = "emulated_gpu"
NOBODY = 65534
FORBIDDEN = [
    ("POST", f"v2/repository/models/{MODEL}/load", {}),
    ("POST", f"v2/repository/models/{MODEL}/unload", {}),
    ("POST", "v2/repository/index", {}),
    ("GET", f"v2/models/{MODEL}", None),
    ("GET", f"v2/models/{MODEL}/config", None),
    ("GET", f"v2/models/{MODEL}/stats", None),
    ("GET", "v2/systemsharedmemory/status", None),
    ("POST", "v2/systemsharedmemory/region/r/register", {"key": "/r", "offset": 0, "byte_size": 1}),
    ("POST", "v2/cudasharedmemory/region/r/unregister", {}),
    ("GET", "v2/trace/setting", None),
    ("POST", "v2/logging", {"log_file": "/tmp/written"}),
]


@pytest.fixture(scope="module")
def running(
    embedded_triton: None, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningTriton]:
    config = read_config(repository / MODEL)
    log = tmp_path_factory.mktemp("protection") / "log"
    with LocalLauncher() as launcher:
        deployment = TritonDeployment(
            launcher, repository / MODEL, config, Transport.HTTP, Inputs()
        )
        with deployment.start(None, log) as found:
            yield found


def as_another(ask: Callable[[], object]) -> str:
    """What came of it in a process of another user, if this one may start such."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writer, str(ask()).encode())
        except BaseException as error:  # noqa: BLE001  told to the test
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


def status(endpoints: Endpoints, method: str, path: str, body: object, **headers: str) -> int:
    connection = http.client.HTTPConnection(endpoints.http, timeout=10)
    content = None if body is None else json.dumps(body)
    connection.request(method, f"/{path}", content, headers)
    return connection.getresponse().status


@pytest.mark.triton
@pytest.mark.parametrize(("method", "path", "body"), FORBIDDEN)
def test_nobody_else_controls_the_server(
    running: RunningTriton, method: str, path: str, body: object
) -> None:
    endpoints = running.server.endpoints
    for headers in ({}, {"Origin": "http://evil.example", "Content-Type": "text/plain"}):
        answer = as_another(lambda h=headers: status(endpoints, method, path, body, **h))
        assert answer == "403"


@pytest.mark.triton
def test_nobody_else_controls_it_over_grpc(running: RunningTriton) -> None:
    with grpc.insecure_channel(running.server.endpoints.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call, request in (
            (stub.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name=MODEL)),
            (stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest()),
            (stub.ModelConfig, service_pb2.ModelConfigRequest(name=MODEL)),
            (stub.ModelMetadata, service_pb2.ModelMetadataRequest(name=MODEL)),
            (stub.ModelStatistics, service_pb2.ModelStatisticsRequest(name=MODEL)),
            (stub.SystemSharedMemoryStatus, service_pb2.SystemSharedMemoryStatusRequest()),
            (stub.LogSettings, service_pb2.LogSettingsRequest()),
            (stub.TraceSetting, service_pb2.TraceSettingRequest()),
        ):
            with pytest.raises(grpc.RpcError, match="restricted"):
                call(request, timeout=10)


@pytest.mark.triton
def test_everybody_may_ask_for_inferences_and_health(running: RunningTriton) -> None:
    endpoints = running.server.endpoints
    for path in ("v2/health/live", "v2/health/ready"):
        assert as_another(lambda p=path: status(endpoints, "GET", p, None)) == "200"
    body = {"inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [1, 16], "data": [0.5] * 16}]}
    path = f"v2/models/{MODEL}/infer"
    assert as_another(lambda: status(endpoints, "POST", path, body)) == "200"


@pytest.mark.triton
def test_the_secret_is_seen_nowhere(running: RunningTriton) -> None:
    endpoints = running.server.endpoints
    assert endpoints.protection is not None
    secret = endpoints.protection.secret
    assert len(secret) >= 32
    (pid, *_) = running.server.pids()
    words = as_another(lambda: Path(f"/proc/{pid}/cmdline").read_text())
    assert "--model-control-mode=explicit" in words
    assert "tuner-secret=" in words
    assert secret not in words
    assert secret not in repr(endpoints)
    assert secret not in running.server.log_tail()
    assert all(secret.encode() not in request for request in running.target.requests)


def test_a_server_gets_few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OMP_NUM_THREADS": "2",
        "LD_LIBRARY_PATH": "/own",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "TRITON_API_KEY": "s3cret",
        "HF_TOKEN": "s3cret",
        "DATABASE_URL": "postgres://u:s3cret@h/d",
        "LC_ALL": "C",
    }.items():
        monkeypatch.setenv(name, value)
    found = server_environment({"LD_LIBRARY_PATH": "/triton"}, {"MY_TOKEN": "given"})
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["LD_LIBRARY_PATH"] == "/triton:/own"
    assert found["MY_TOKEN"] == "given"
    assert found["LC_ALL"] == "C"
    assert found["PATH"] == os.environ["PATH"]
    assert not [name for name, value in found.items() if "s3cret" in value]
