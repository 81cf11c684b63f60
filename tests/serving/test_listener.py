"""Where services listen, and what is said where they cannot."""

import socket

import pytest
from typer.testing import CliRunner

from tests.conftest import ROOT
from tuner.cli.serve import serve
from tuner.errors import UsageError
from tuner.serving.listener import bind

CLASSIFIER = str(ROOT / "model_repository/text_classifier")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("fastapi", CLASSIFIER), "--port"),
        (("gateway", CLASSIFIER), "--port"),
        (("triton", CLASSIFIER), "--http-port"),
        (("triton", CLASSIFIER, "--http-port", "0"), "--grpc-port"),
        (("triton", CLASSIFIER, "--http-port", "0", "--grpc-port", "0"), "--metrics-port"),
    ],
)
def test_a_port_that_is_taken_is_one_line_with_a_remedy(
    words: tuple[str, ...], option: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(serve, [*words, option, str(port)])
    assert done.exit_code == 2
    assert caplog.records == []
    said = f"127.0.0.1:{port}: Address already in use; choose another {option}, or 0 for a free one"
    assert said in done.output


def test_any_other_failure_names_the_host() -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1:0: .*; check --host"):
        bind("192.0.2.1", 0)


def test_a_host_may_be_an_address_of_ip_version_6() -> None:
    with bind("::", 0) as listener:
        assert listener.family is socket.AF_INET6
        assert listener.get_inheritable()
