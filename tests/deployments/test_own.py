"""Services of the user's: how they are described, and that they are started, asked and stopped."""

import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tuner.deployments.own import OwnService, own_deployment, read_services
from tuner.deployments.payload import Payload, fill
from tuner.errors import InputDataError, ServerFailed, UsageError
from tuner.load.generator import LoadGenerator
from tuner.servers.gpu import Gpus

SERVER = str(Path(__file__).with_name("own_server.py"))
TEXTS = Payload(({"text": "很好"}, {"text": "不好, 真的"}), (), True, 1e-4)
BODY = {"inputs": ["$text"]}
COMMAND = (sys.executable, SERVER, "{port}")


def service(**changes: Any) -> OwnService:
    return OwnService(**{"command": COMMAND, "path": "/classify", "body": BODY, **changes})


def written(folder: Path, text: str) -> Path:
    file = folder / "services.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_template_takes_fields_of_the_request() -> None:
    body = {"text": "a", "max_length": 3}
    template = {"inputs": ["$text", {"all": "$request"}], "price": "$$5", "n": 1, "to": "text"}
    assert fill(template, body) == {
        "inputs": ["a", {"all": body}],
        "price": "$5",
        "n": 1,
        "to": "text",
    }


def test_a_field_that_no_request_has_is_named() -> None:
    with pytest.raises(InputDataError, match=r"\$txt; a request has \$text, \$request"):
        fill({"inputs": "$txt"}, {"text": "a"})


def test_services_are_read(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "mine: {command: [serve, '{port}'], path: /classify, startup_timeout: 5s}\n"
        "theirs: {url: 'https://[::1]/x?y=1', headers: ['X-Key: abc'], title: Theirs}\n",
    )
    found = read_services(file)
    assert list(found) == ["mine", "theirs"]
    assert found["mine"].startup_timeout == 5.0
    assert found["theirs"].title == "Theirs"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mine: {}", "either url, for a running service, or command"),
        ("mine: {url: 'http://a/b', command: [x, '{port}']}", "either url"),
        ("mine: {command: [serve]}", "must contain {port}"),
        ("mine: {url: 'localhost:80/x'}", "write http://HOST:PORT/PATH"),
        ("mine: {url: 'http://a/b', methd: GET}", "mine.methd"),
        ("mine: {url: 'http://a:99999/b'}", "mine"),
        ("mine: {url: 'http://me:pw@a/b'}", "must not contain a password"),
        ("mine: {url: 'http://a/b', method: GET}", "mine.method"),
        ("[1, 2]", "must map names of services"),
        ("mine: {", "not YAML"),
        ("mine: {command: ['{port}']}\nmine: {}", ":2: not YAML: duplicate key 'mine'"),
        ("mine: {command: ['{port}'], body: 2020-01-01}", "a date is not allowed here"),
        ("mine: {command: ['{port}', \"a\\0b\"]}", "null character"),
        ("mine: {command: ['{port}'], env: {A=B: c}}", "not be empty or contain an equals sign"),
        ("mine: {command: ['{port}'], path: no slash}", "path 'no slash' is not the path of a URL"),
        ("mine: {command: ['{port}'], ready: \"/a\\r\\nX: y\"}", "is not the path of a URL"),
        ("mine: {command: ['{port}'], content_type: \"a\\r\\nX: y\"}", "content_type"),
        ("mine: {command: ['{port}'], startup_timeout: .inf}", "mine.startup_timeout"),
        ("mine: {url: 'http://a..b/'}", "write http://HOST:PORT/PATH"),
        ("mine: {url: 'http://[::1/'}", "mine"),
        ("mine: {url: 'http://" + "a" * 300 + "/'}", "write http://HOST:PORT/PATH"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, words: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        read_services(file)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_services(tmp_path / "none.yaml")


@pytest.mark.slow
def test_a_service_is_started_asked_and_stopped(tmp_path: Path, generator: LoadGenerator) -> None:
    made = own_deployment(service(), TEXTS, Gpus("none"))
    with made.start(tmp_path / "log") as running:
        generator.aim(running.target)
        result = generator.closed_loop(2, 0.5, 2.0)
        assert len(result.samples) > 20
        assert result.samples.errors == 0, result.messages
        before = running.statistics()
        assert running.times_since(before) is None
        assert running.stages_since(before) is None
        with running.watch_host() as watch:
            assert len(generator.closed_loop(4, 1.0, 2.0).samples) > 100
        reading = watch.reading(0.0)
        assert reading is not None
        assert reading.cpu is not None
        assert reading.cpu > 0
        address = running.target.address
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0, "it still listens"


def test_a_service_that_fails_at_the_first_request_says_so(tmp_path: Path) -> None:
    broken = own_deployment(service(command=(*COMMAND, "broken")), TEXTS, Gpus("none"))
    with pytest.raises(ServerFailed, match="no such form"), broken.start(tmp_path / "log"):
        pytest.fail("it was taken for good")


def test_a_service_that_ends_says_why(tmp_path: Path) -> None:
    words = (sys.executable, "-c", "raise SystemExit('no weights')", "{port}")
    with (
        pytest.raises(ServerFailed, match=r"exit code 1\nno weights"),
        own_deployment(service(command=words), TEXTS, Gpus("none")).start(tmp_path / "log"),
    ):
        pytest.fail("it ran")


def test_a_service_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    words = (sys.executable, "-c", "import time; time.sleep(60)", "{port}")
    made = own_deployment(service(command=words, startup_timeout=0.5), TEXTS, Gpus("none"))
    with pytest.raises(ServerFailed, match=r"not ready within 0\.5 s"), made.start(tmp_path / "l"):
        pytest.fail("it ran")


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    made = own_deployment(service(command=("no-such-program", "{port}")), TEXTS, Gpus("none"))
    with pytest.raises(ServerFailed, match="no-such-program"), made.start(tmp_path / "l"):
        pytest.fail("it ran")


def test_one_that_runs_already_is_asked_where_it_is(
    tmp_path: Path, generator: LoadGenerator
) -> None:
    with own_deployment(service(), TEXTS, Gpus("none")).start(tmp_path / "log") as running:
        url = f"http://{running.target.address}/classify"
        theirs = own_deployment(service(command=(), url=url), TEXTS, Gpus("none"))
        with theirs.start(tmp_path / "other") as other:
            generator.aim(other.target)
            assert generator.closed_loop(1, 0.3, 2.0).samples.errors == 0
            other.raise_if_gone()
            with other.watch_host() as watch:
                pass
            reading = watch.reading(0.0)
            assert reading is None or reading.cpu is None
        running.raise_if_gone()


def test_what_it_is_started_with_is_its_own(tmp_path: Path) -> None:
    script = "import os; open('seen', 'w').write(os.environ['MODE']); raise SystemExit(3)"
    made = own_deployment(
        service(
            command=(sys.executable, "-c", script, "{port}"), folder=tmp_path, env={"MODE": "x"}
        ),
        TEXTS,
        Gpus("none"),
    )
    with pytest.raises(ServerFailed, match="exit code 3"), made.start(tmp_path / "log"):
        pytest.fail("it ran")
    assert (tmp_path / "seen").read_text() == "x"
    assert "MODE" not in os.environ


def test_a_folder_is_told_from_where_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file = written(tmp_path, "mine: {command: [serve, '{port}'], folder: there}\n")
    assert read_services(file)["mine"].folder == tmp_path / "there"
    file = written(tmp_path, "mine: {command: [serve, '{port}'], folder: gone}\n")
    with pytest.raises(UsageError, match=r"mine\.folder: the folder .* does not exist"):
        read_services(file)


def test_secrets_are_neither_recorded_nor_shown() -> None:
    theirs = service(command=(), url="http://a:80/b?key=s3cret", headers=("X-Key: s3cret",))
    mine = service(env={"TOKEN": "s3cret"})
    for each in (theirs, mine):
        assert "s3cret" not in str(each.recorded())
        assert "s3cret" not in each.shown
    assert mine.recorded()["env"] == ["TOKEN"]
