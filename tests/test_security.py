"""Headers, tokens and certificates as a user gives them, and that their values stay secret."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from tuner.cli.app import app
from tuner.cli.invocation import command_line
from tuner.commands.plan import Plan
from tuner.errors import UsageError
from tuner.experiment.model import Experiment
from tuner.experiment.resolve import resolve
from tuner.records.manifest import SearchManifest
from tuner.records.run import Run
from tuner.security import Security, hide_value, parse_header

SECRET = "sesame-4711"
ATTACHED = {"model": "emulated_gpu", "sla": "p99<20ms", "url": "http://127.0.0.1:1"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in Experiment.model_fields:
        monkeypatch.delenv(f"TUNER_{name.upper()}", raising=False)
    return tmp_path


@pytest.fixture
def refusal() -> Callable[..., str]:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2, done.output
        assert SECRET not in done.output
        return done.stderr

    return run


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("X-Key: a b", ("X-Key", "a b")),
        ("X-Key:a:b", ("X-Key", "a:b")),
        ("  Authorization :Basic eA==  ", ("Authorization", "Basic eA==")),
        ("X-Empty:", ("X-Empty", "")),
    ],
)
def test_headers_parse(text: str, pair: tuple[str, str]) -> None:
    assert parse_header(text) == pair


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SECRET, "needs a colon"),
        (f"X Key: {SECRET}", "'X Key' contains characters"),
        (f": {SECRET}", "'' contains characters"),
        (f"X-Key: {SECRET}\r\nHost: evil", "'X-Key' contains characters"),
        (f"X-Key: {SECRET}é", "'X-Key' contains characters"),
        (f"Host: {SECRET}", "tuner sets it itself"),
    ],
)
def test_a_header_that_is_none_is_refused_without_its_value(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_header(text)
    assert SECRET not in str(caught.value)


def test_a_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", f" {SECRET}\n")
    security = Security.of([("X-Key", "1")], "MY_TOKEN")
    assert security.headers == (("X-Key", "1"), ("Authorization", f"Bearer {SECRET}"))
    assert security.names == ("X-Key", "Authorization")
    assert SECRET not in repr(security)
    with pytest.raises(UsageError, match="not both"):
        Security.of([("authorization", "Basic eA==")], "MY_TOKEN")
    monkeypatch.setenv("MY_TOKEN", " ")
    with pytest.raises(UsageError, match=r"variable MY_TOKEN is not set or empty.*export MY_TOKEN"):
        Security.of([], "MY_TOKEN")


def test_what_a_server_repeats_of_a_secret_is_hidden() -> None:
    security = Security((("Authorization", f"Bearer {SECRET}"), ("X-Env", "qa")))
    said = f"no user has the token {SECRET} (Bearer {SECRET}) in qa"
    assert security.hide(said) == "no user has the token *** (***) in qa"


def test_headers_are_given_once() -> None:
    with pytest.raises(UsageError, match="'x-key' appears twice"):
        Security.of([("X-Key", "1"), ("x-key", "2")])


class TestExperiment:
    @pytest.mark.parametrize(
        "yaml",
        [
            f"headers: ['X-Key: {SECRET}', 'X-Other: 1']",
            f"headers: [X-Key: {SECRET}, X-Other: 1]",
            f"headers: {{X-Key: {SECRET}, X-Other: 1}}",
        ],
    )
    def test_a_file_may_hold_headers_as_yaml_likes(self, here: Path, yaml: str) -> None:
        (here / "tuner.yaml").write_text(yaml)
        experiment = resolve(ATTACHED, None)
        assert experiment.headers == (("X-Key", SECRET), ("X-Other", "1"))
        assert SECRET not in f"{experiment!r}{experiment.model_dump()}{experiment.identity()}"
        assert experiment.security().names == ("X-Key", "X-Other")

    def test_one_header_a_line_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNER_HEADERS", f"X-Key: {SECRET}\nX-Other: 1\n")
        monkeypatch.setenv("TUNER_TOKEN_ENV", "MY_TOKEN")
        monkeypatch.setenv("TUNER_TLS_INSECURE", "1")
        monkeypatch.setenv("MY_TOKEN", SECRET)
        experiment = resolve(ATTACHED, None)
        security = experiment.security()
        assert security.names == ("X-Key", "X-Other", "Authorization")
        assert security.insecure

    def test_how_tuner_is_let_in_makes_no_other_run(self, here: Path) -> None:
        trustme.CA().cert_pem.write_to_path(str(here / "ca.pem"))
        plain = resolve(ATTACHED, None)
        secured = resolve({**ATTACHED, "headers": ["X-Key: 1"], "tls_ca": "ca.pem"}, None)
        assert plain.identity() == secured.identity()

    def test_a_certificate_lies_beside_the_file_that_names_it(self, here: Path) -> None:
        (here / "project").mkdir()
        trustme.CA().cert_pem.write_to_path(str(here / "project/ca.pem"))
        (here / "project/my.yaml").write_text("tls_ca: ca.pem\n")
        found = resolve(ATTACHED, here / "project/my.yaml")
        assert found.security().ca == str(here / "project/ca.pem")

    @pytest.mark.parametrize("headers", [SECRET, 4711, [SECRET], [[SECRET]], {"X Key": SECRET}])
    def test_headers_that_are_none_are_not_shown(self, here: Path, headers: object) -> None:
        with pytest.raises(UsageError) as caught:
            resolve({**ATTACHED, "headers": headers}, None)
        assert SECRET not in str(caught.value)


SEARCH = ("search", "emulated_gpu", "--sla-p99", "20ms")
HTTPS = (*SEARCH, "--url", "https://localhost:1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SEARCH, "--header", f"X-Key: {SECRET}"), "--header needs a running server"),
        (
            (*SEARCH, "--launcher", "local", "--tls-insecure"),
            "--tls-insecure needs a running server",
        ),
        (
            (*SEARCH, "--launcher", "docker", "--token-env", "X"),
            "--token-env needs a running server",
        ),
        ((*HTTPS, "--token-env", "NO_SUCH_NAME"), "NO_SUCH_NAME is not set or empty"),
        ((*HTTPS, "--token-env", f"eyJ.{SECRET}"), "needs the name of an environment variable"),
        ((*HTTPS, "--tls-ca", "nowhere.pem"), "cannot read --tls-ca nowhere.pem: No such file"),
        ((*HTTPS, "--tls-ca", __file__), "it contains no certificate in PEM format"),
        ((*HTTPS, "--tls-ca", __file__, "--tls-insecure"), "not both"),
        ((*HTTPS, "--header", SECRET), "write it like 'Name: value'"),
        ((*HTTPS, "--load-engine", "perf_analyzer"), "go with --load-engine tuner"),
        (
            (*SEARCH, "--url", "h:1", "--header", "A: b", "--load-engine", "perf_analyzer"),
            "could be seen by all users",
        ),
        ((*SEARCH, "--url", "h:1", "--tls-insecure"), "write --url https://h:1"),
        ((*SEARCH, "--url", f"https://me:{SECRET}@h:1"), "use --header 'Authorization: Basic"),
        ((*SEARCH, "--url", f"https://h:1/?key={SECRET}"), "'https://h:1/' is not a valid address"),
    ],
)
def test_usage(refusal: Callable[..., str], words: tuple[str, ...], message: str) -> None:
    assert message in refusal(*words)


@pytest.mark.parametrize("words", [["--header", f"X-Key: {SECRET}"], [f"--header=X-Key: {SECRET}"]])
def test_the_command_is_recorded_without_values(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["tuner", "search", *words, "--url", "https://h:1"])
    assert SECRET not in command_line()
    assert "X-Key: ***" in command_line()
    assert "https://h:1" in command_line()


def test_without_a_name_nothing_of_a_header_is_shown() -> None:
    assert hide_value(SECRET) == "***"


def test_a_run_is_resumed_with_the_headers_that_it_had(
    refusal: Callable[..., str], here: Path
) -> None:
    experiment = resolve(ATTACHED, None)
    recorded = Plan.of(experiment).recorded
    Run.create(here / "reports/mine", SearchManifest(**recorded, headers=("X-Key",)))
    words = (*SEARCH, "--url", ATTACHED["url"], "--run", "mine")
    said = refusal(*words, "--header", f"X-Other: {SECRET}")
    assert "reports/mine sent the header X-Key" in said
    assert "--header 'X-Key: ...'" in said
    done = CliRunner().invoke(app, (*words, "--header", f"x-key: {SECRET}"))
    assert done.exit_code == 3, "the run goes on, but no server answers"
    assert "no Triton server answers at http://127.0.0.1:1" in done.stderr
