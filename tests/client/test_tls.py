"""Clients over TLS, against a real Triton that speaks it (its HTTP does not)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import trustme

from tuner.client import AsyncTritonClient, Tls, TritonClient
from tuner.client.errors import Unavailable
from tuner.errors import UsageError
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

ROW = {"INPUT": np.ones((1, 16), np.float32)}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    own = authority.issue_cert("localhost", "127.0.0.1")
    own.private_key_pem.write_to_path(folder / "key.pem")
    own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return folder


@pytest.fixture(scope="module")
def address(embedded_triton: None, models: Path, files: Path) -> Iterator[str]:
    args = ("--grpc-use-ssl=true", f"--grpc-server-cert={files / 'cert.pem'}")
    args = (*args, f"--grpc-server-key={files / 'key.pem'}")
    spec = ServerSpec(models, "emulated_gpu", files / "log", 60.0, args, opens="model")
    with LocalLauncher() as launcher, launcher.launch(spec) as server, Control(server) as control:
        control.load("emulated_gpu", None, 60.0)
        yield f"grpcs://{server.endpoints.grpc}"


def ask(kind: str, address: str, tls: Tls | None) -> Any:
    if kind == "blocking":
        with TritonClient(address, "emulated_gpu", tls=tls, timeout=5) as client:
            return client.infer(ROW)["OUTPUT"]

    async def once(protocol: Literal["grpc", "lean"]) -> Any:
        async with AsyncTritonClient(
            address, "emulated_gpu", protocol=protocol, tls=tls, timeout=5
        ) as client:
            return (await client.infer(ROW))["OUTPUT"]

    return asyncio.run(once("lean" if kind == "lean" else "grpc"))


@pytest.mark.triton
@pytest.mark.parametrize("kind", ["blocking", "grpc", "lean"])
def test_a_server_is_asked_if_its_certificate_is_trusted(
    kind: str, address: str, files: Path
) -> None:
    assert ask(kind, address, Tls(ca=files / "ca.pem")).tolist() == [[1.0] * 16]
    for untrusted in (Tls(ca=files / "other.pem"), None):
        with pytest.raises(Unavailable):
            ask(kind, address, untrusted)
    with pytest.raises(Unavailable):
        ask(kind, address.removeprefix("grpcs://"), None)


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for path in (tmp_path / "no.pem", tmp_path / "missing.pem"):
        with pytest.raises(UsageError, match=path.name):
            Tls(ca=path).context()
