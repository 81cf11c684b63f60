"""A server behind TLS and tokens: the embedded Triton behind a relay, and its own restrictions."""

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import trustme

from tests.e2e.conftest import Outcome
from tests.load.http2_servers import relay, served
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.errors import LauncherUnavailable
from tuner.goals.sla import Sla
from tuner.load.arrivals import Arrivals
from tuner.load.clients import ask_once
from tuner.load.generator import LoadGenerator
from tuner.load.target import Target, Transport
from tuner.measurement.probe import Prober
from tuner.measurement.watch import Thoroughness
from tuner.model.config import read_config
from tuner.records.run import Run
from tuner.security import Security
from tuner.servers.address import attach
from tuner.servers.attached import AttachedLauncher
from tuner.servers.base import ServerSpec
from tuner.servers.connection import fault
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]
MODEL = "emulated_gpu"
AT_EASE = ("--sla", "p90<150ms", "--rate", "100")
KEY, TOKEN = "sesame-4711", "eyJhbGciOi.token-0815"
SHORT = Thoroughness(seconds=0.5, least_seconds=0.2, most_seconds=0.5, confidence=0.95)
RESTRICTED = (
    f"--http-restricted-api=model-repository,inference:x-key={KEY}",
    f"--grpc-restricted-protocol=inference:x-key={KEY}",
)
"""Triton asks for X-Key over HTTP, and for triton-grpc-protocol-x-key over gRPC."""
GRPC_KEY = f"triton-grpc-protocol-x-key: {KEY}"


@dataclass
class Behind:
    """A Triton and the ports of relays to it that speak TLS; ``taken`` is what they were sent."""

    http: str
    grpc: str
    spec: ServerSpec
    ca: Path
    taken: dict[str, bytearray] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)

    def url(self, service: str, host: str = "localhost") -> str:
        return f"{service}s://{host}:{self.ports[service]}"

    def deployment(self, protocol: Transport, security: Security) -> TritonDeployment:
        endpoints = attach(self.url("http"), self.url("grpc"), security)
        model = self.spec.repository / MODEL
        launcher = AttachedLauncher(endpoints)
        return TritonDeployment(launcher, model, read_config(model), protocol, Inputs())

    def why_not(self, url: str, security: Security) -> str:
        """What the attached launcher says."""
        launcher = AttachedLauncher(attach(url, None, security))
        with pytest.raises(LauncherUnavailable) as caught, launcher.launch(self.spec):
            pass
        return str(caught.value)


@pytest.fixture(scope="module")
def behind(
    embedded_triton: None, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("behind")
    spec = ServerSpec(repository, MODEL, folder / "server.log", opens="all")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = ca.issue_cert("localhost")
    contexts = {}
    for name, protocol in (("http", "http/1.1"), ("grpc", "h2")):
        contexts[name] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        contexts[name].set_alpn_protocols([protocol])
        certificate.configure_cert(contexts[name])
    with ExitStack() as stack:
        launcher = stack.enter_context(LocalLauncher(RESTRICTED))
        server = stack.enter_context(launcher.launch(spec))
        assert server.endpoints.grpc is not None
        found = Behind(server.endpoints.http, server.endpoints.grpc, spec, folder / "ca.pem")
        relays = []
        for name, address in (("http", found.http), ("grpc", found.grpc)):
            found.taken[name] = bytearray()
            relays.append((name, relay(address, found.taken[name]), contexts[name]))
        found.ports = stack.enter_context(served(*relays))
        yield found


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_measure_over_tls_with_a_token(tuner: Tuner, behind: Behind, tmp_path: Path) -> None:
    """Control by HTTP, inferences by gRPC, and both behind TLS; tensors pass the relay by."""
    begun = {name: len(taken) for name, taken in behind.taken.items()}
    done = tuner(
        *("measure", MODEL, *AT_EASE, "--protocol", "grpc", "--shared-memory", "system"),
        *("--url", behind.url("http"), "--grpc-url", behind.url("grpc"), "--token-env", "MY_TOKEN"),
        *("--header", f"X-Key: {KEY}", f"--header={GRPC_KEY}"),
        env={"TUNER_TLS_CA": str(behind.ca), "MY_TOKEN": TOKEN},
    )
    assert done.code == 0, done.err
    http, grpc = (bytes(behind.taken[name][begun[name] :]) for name in ("http", "grpc"))
    requests = http.count(b" HTTP/1.1\r\n")
    assert requests > 10
    for header in (f"Authorization: Bearer {TOKEN}", f"X-Key: {KEY}"):
        assert http.count(f"\r\n{header}\r\n".encode()) == requests
    calls = grpc.count(b"/inference.GRPCInferenceService/ModelInfer")
    assert calls > 300
    assert grpc.count(b"authorization") == grpc.count(f"Bearer {TOKEN}".encode()) == calls
    (folder,) = (tmp_path / "reports").iterdir()
    recorded = Run.open(folder).manifest()
    assert recorded.headers == ("X-Key", "triton-grpc-protocol-x-key", "Authorization")
    assert recorded.experiment.token_env == "MY_TOKEN"
    assert "--header 'X-Key: ***' '--header=triton-grpc-protocol-x-key: ***'" in str(
        recorded.command
    )
    assert str(recorded.environment.server).endswith(f" at {behind.url('http')}")
    for secret in (TOKEN, KEY):
        assert secret not in done.out + done.err
        assert secret.encode() not in contents(tmp_path)


def test_load_over_https_until_the_token_expires(behind: Behind, tmp_path: Path) -> None:
    async def expired(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            words = f"expired: {TOKEN}".encode()
            head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(words)
            writer.write(head + words)

    token = f"Bearer {TOKEN}"
    security = Security((("X-Key", KEY), ("Authorization", token)), str(behind.ca))
    begun = len(behind.taken["http"])
    with (
        LoadGenerator() as generator,
        behind.deployment(Transport.HTTP, security).start(None, behind.spec.log) as running,
        served(("http", expired, None)) as ports,
    ):
        sla, seeds = Sla.parse("p90<150ms"), np.random.default_rng(0)
        prober = Prober(running, generator, sla, tmp_path, "0", seeds)
        assert prober.warm_up(4, rounds=1) > 50
        taken = bytes(behind.taken["http"][begun:])
        sent = taken.count(b"/infer HTTP/1.1\r\n")
        assert sent > 10
        assert taken.count(f"Authorization: {token}\r\n".encode()) >= sent
        requests = running.target.requests
        address = f"127.0.0.1:{ports['http']}"
        generator.aim(Target(Transport.HTTP, address, requests, security=security))
        for probe in (
            lambda: prober.warm_up(4, rounds=1),
            lambda: prober.open_loop(Arrivals.parse("poisson"), 50.0, SHORT, "capacity"),
        ):
            with pytest.raises(
                LauncherUnavailable,
                match=r"authentication at the server failed \(HTTP status 401: expired: \*\*\*\)",
            ):
                probe()
    assert prober.records == []


def test_without_the_certificate_the_command_says_what_to_give(
    tuner: Tuner, behind: Behind
) -> None:
    done = tuner("measure", MODEL, *AT_EASE, "--url", behind.url("http"))
    assert done.code == 3
    assert "its certificate is not trusted; use --tls-ca FILE" in done.err
    assert "--tls-insecure" in done.err


def test_why_a_server_cannot_be_reached(behind: Behind) -> None:
    key = (("X-Key", KEY),)
    trusting = Security(key, str(behind.ca))
    said = behind.why_not(behind.url("http", "127.0.0.1"), trusting)
    assert "certificate is for another host name" in said
    said = behind.why_not(f"https://{behind.http}", trusting)
    assert "it does not use TLS on this port; write http://" in said
    said = behind.why_not(f"http://localhost:{behind.ports['http']}", Security(key))
    assert "it uses TLS on this port; write https://" in said
    said = behind.why_not("https://localhost:1", trusting)
    assert "no Triton server answers at https://localhost:1: check the address" in said


def test_any_certificate_is_taken_where_the_user_says_so(behind: Behind) -> None:
    security = Security((("X-Key", KEY),), insecure=True)
    launcher = AttachedLauncher(attach(behind.url("http", "127.0.0.1"), None, security))
    with launcher.launch(behind.spec) as server:
        assert server.exit_reason() is None


@pytest.mark.parametrize("value", [None, "wrong-one"])
def test_who_is_not_let_in_is_told_how(behind: Behind, value: str | None) -> None:
    headers = () if value is None else (("X-Key", value),)
    launcher = AttachedLauncher(attach(behind.http, None, Security(headers)))
    with (
        pytest.raises(
            LauncherUnavailable,
            match=r"authentication at the server failed \(HTTP status 403: .*--h",
        ),
        launcher.launch(behind.spec) as server,
        Control(server) as control,
    ):
        control.load(MODEL, None, 60)


@pytest.mark.parametrize(
    ("address", "tls", "words"),
    [
        ("localhost:{tls}", False, r"it uses TLS on this port; .*grpcs://"),
        ("{plain}", True, r"it does not use TLS on this port; .*grpc://"),
        ("127.0.0.1:{tls}", True, "its certificate is for another host name"),
        ("localhost:1", True, "None"),
        ("localhost:{http}", True, "None"),
    ],
)
def test_why_grpc_cannot_be_used(behind: Behind, address: str, tls: bool, words: str) -> None:
    ports = {"tls": behind.ports["grpc"], "http": behind.ports["http"], "plain": behind.grpc}
    address = address.format_map(ports)
    security = Security(ca=str(behind.ca))
    said = ask_once(Target(Transport.GRPC, address, (b"",), tls=tls, security=security), 10)
    assert said is not None
    assert re.search(words, str(fault(said, address, tls)))


def test_grpc_is_tried_before_anything_is_measured(behind: Behind) -> None:
    """Triton lets the header of its HTTP service in there alone."""
    deployment = behind.deployment(Transport.GRPC, Security((("X-Key", KEY),), str(behind.ca)))
    words = r"inference failed at grpcs://localhost.*header 'triton-grpc-protocol-x-key'.*--header"
    with (
        pytest.raises(LauncherUnavailable, match=words),
        deployment.start(None, behind.spec.log),
    ):
        pass
