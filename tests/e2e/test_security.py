"""A server behind TLS and tokens: the embedded Triton behind a relay, and its own restrictions."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.e2e.conftest import Outcome
from tests.load.http2_servers import Talk, relay, tcp_server
from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.errors import LauncherUnavailable
from tuner.load.target import Protocol
from tuner.model_config import read_config
from tuner.results import Run
from tuner.security import Security
from tuner.servers.address import attach
from tuner.servers.attached import AttachedLauncher
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]
MODEL = "emulated_gpu"
AT_EASE = ("--sla", "p90<150ms", "--rate", "100")
KEY, TOKEN, VALUE = "sesame-4711", "eyJhbGciOi.token-0815", "sesame-2342"
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

    def why_not(self, url: str, security: Security, grpc_url: str | None = None) -> str:
        """What the attached launcher says."""
        launcher = AttachedLauncher(attach(url, grpc_url, security))
        with pytest.raises(LauncherUnavailable) as caught, launcher.launch(self.spec):
            pass
        return str(caught.value)


@contextmanager
def served(*servers: tuple[str, Talk, ssl.SSLContext | None]) -> Iterator[dict[str, str]]:
    """Ports by name of servers that run in a thread."""
    ports: dict[str, str] = {}
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for name, talk, context in servers:
                address = await stack.enter_async_context(tcp_server(talk, context))
                ports[name] = address.rpartition(":")[2]
            ready.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield ports
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="module")
def behind(
    embedded_triton: None, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("behind")
    spec = ServerSpec(repository, MODEL, folder / "server.log")
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


def test_measure_over_https_with_a_token(tuner: Tuner, behind: Behind, tmp_path: Path) -> None:
    begun = len(behind.taken["http"])
    done = tuner(
        *("measure", MODEL, *AT_EASE, "--url", behind.url("http"), "--tls-ca", str(behind.ca)),
        *("--token-env", "MY_TOKEN", "--header", f"X-Key: {KEY}", f"--header=X-Own: {VALUE}"),
        env={"MY_TOKEN": TOKEN},
    )
    assert done.code == 0, done.err
    taken = bytes(behind.taken["http"][begun:])
    requests = taken.count(b" HTTP/1.1\r\n")
    assert requests > 300
    assert taken.count(b"/infer HTTP/1.1\r\n") > 300
    for header in (f"Authorization: Bearer {TOKEN}", f"X-Key: {KEY}", f"X-Own: {VALUE}"):
        assert taken.count(f"\r\n{header}\r\n".encode()) == requests
    (folder,) = (tmp_path / "reports").iterdir()
    recorded = Run.open(folder).experiment()
    assert recorded["headers"] == ["X-Key", "X-Own", "Authorization"]
    assert recorded["token_env"] == "MY_TOKEN"
    assert "--header 'X-Key: ***' '--header=X-Own: ***'" in recorded["command"]
    assert recorded["environment"]["server"].endswith(f" at {behind.url('http')}")
    for secret in (TOKEN, KEY, VALUE):
        assert secret not in done.out + done.err
        assert secret.encode() not in contents(tmp_path)


def test_measure_over_grpc_with_tls_in_shared_memory(
    tuner: Tuner, behind: Behind, tmp_path: Path
) -> None:
    begun = len(behind.taken["grpc"])
    done = tuner(
        *("measure", MODEL, *AT_EASE, "--protocol", "grpc", "--shared-memory", "system"),
        *("--url", behind.url("http"), "--grpc-url", behind.url("grpc")),
        env={
            "TUNER_HEADERS": f"X-Key: {KEY}\n{GRPC_KEY}",
            "TUNER_TOKEN_ENV": "MY_TOKEN",
            "TUNER_TLS_CA": str(behind.ca),
            "MY_TOKEN": TOKEN,
        },
    )
    assert done.code == 0, done.err
    taken = bytes(behind.taken["grpc"][begun:])
    requests = taken.count(b"/inference.GRPCInferenceService/ModelInfer")
    assert requests > 300
    assert taken.count(b"authorization") == taken.count(f"Bearer {TOKEN}".encode()) == requests
    for secret in (TOKEN, KEY):
        assert secret not in done.out + done.err
        assert secret.encode() not in contents(tmp_path)


def test_without_the_certificate_the_command_says_what_to_give(
    tuner: Tuner, behind: Behind
) -> None:
    done = tuner("measure", MODEL, *AT_EASE, "--url", behind.url("http"))
    assert done.code == 3
    assert "its certificate is not trusted; give --tls-ca FILE" in done.err
    assert "--tls-insecure" in done.err


def test_why_a_server_cannot_be_reached(behind: Behind) -> None:
    key = (("X-Key", KEY),)
    trusting = Security(key, str(behind.ca))
    said = behind.why_not(behind.url("http", "127.0.0.1"), trusting)
    assert "certificate is for another host name" in said
    said = behind.why_not(f"https://{behind.http}", trusting)
    assert "it does not speak TLS there; write http://" in said
    said = behind.why_not(f"http://localhost:{behind.ports['http']}", Security(key))
    assert "it speaks TLS there; write https://" in said
    said = behind.why_not("https://localhost:1", trusting)
    assert "no Triton server answers at https://localhost:1: give the address" in said


def test_any_certificate_is_taken_where_the_user_says_so(behind: Behind) -> None:
    security = Security((("X-Key", KEY),), insecure=True)
    launcher = AttachedLauncher(attach(behind.url("http", "127.0.0.1"), None, security))
    with launcher.launch(behind.spec) as server, Control(server) as control:
        control.load(MODEL, None, 60)
        assert server.exit_reason() is None


@pytest.mark.parametrize("value", [None, "wrong-one"])
def test_who_is_not_let_in_is_told_how(behind: Behind, value: str | None) -> None:
    headers = () if value is None else (("X-Key", value),)
    launcher = AttachedLauncher(attach(behind.http, None, Security(headers)))
    with (
        pytest.raises(LauncherUnavailable, match=r"does not let tuner in \(HTTP status 403: .*--h"),
        launcher.launch(behind.spec) as server,
        Control(server) as control,
    ):
        control.load(MODEL, None, 60)


@pytest.mark.parametrize(
    ("grpc_url", "words"),
    [
        ("grpcs://localhost:{tls}", r"expecting header 'triton-grpc-protocol-x-key'.*--header"),
        ("localhost:{tls}", r"at grpc://localhost:\d+: it speaks TLS there; .*grpcs://"),
        ("grpcs://{plain}", r"it does not speak TLS there; .*grpc://"),
        ("grpcs://127.0.0.1:{tls}", "its certificate is for another host name"),
        ("grpcs://localhost:1", r"Connect call failed.*address of its gRPC service"),
        ("grpcs://localhost:{http}", "give the address of its gRPC service"),
    ],
)
def test_why_grpc_cannot_be_used(behind: Behind, grpc_url: str, words: str) -> None:
    ports = {"tls": behind.ports["grpc"], "http": behind.ports["http"], "plain": behind.grpc}
    security = Security((("X-Key", KEY),), str(behind.ca))
    launcher = AttachedLauncher(attach(behind.url("http"), grpc_url.format_map(ports), security))
    deployment = TritonDeployment(
        launcher,
        behind.spec.repository / MODEL,
        read_config(behind.spec.repository / MODEL),
        Protocol.GRPC,
        Inputs(),
    )
    with (
        pytest.raises(LauncherUnavailable, match=words),
        deployment.start(None, behind.spec.log),
    ):
        pass


def test_a_token_that_expires_ends_the_run_and_is_no_candidates_fault(
    tuner: Tuner, behind: Behind, tmp_path: Path
) -> None:
    taken = bytearray()
    through = relay(behind.http, taken)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if taken.count(b"/infer HTTP/1.1\r\n") < 20:
            await through(reader, writer)
            return
        while await reader.readuntil(b"\r\n\r\n"):
            words = f"expired: {TOKEN}".encode()
            head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(words)
            writer.write(head + words)

    with served(("http", talk, None)) as ports:
        done = tuner(
            *("measure", MODEL, *AT_EASE, "--url", f"localhost:{ports['http']}"),
            *("--header", f"X-Key: {KEY}", "--token-env", "MY_TOKEN"),
            env={"MY_TOKEN": TOKEN},
        )
    assert done.code == 3, done.out + done.err
    assert "does not let tuner in (HTTP status 401: expired: ***)" in done.err
    assert TOKEN not in done.out + done.err
    assert TOKEN.encode() not in contents(tmp_path)
