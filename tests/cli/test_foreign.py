"""What users of Model Analyzer and perf_analyzer type."""

import pytest
from typer.testing import CliRunner

from tuner.cli.app import app


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output + done.stderr


def test_flags_that_mean_the_same_are_taken() -> None:
    words = ("--latency-budget", "20", "--client-protocol", "grpc", "--batch-sizes=1")
    code, said = run("search", "emulated_gpu", *words, "--triton-launch-mode=local", "--dry-run")
    assert code == 0, said
    assert "20 ms" in said


def test_a_budget_with_a_unit_stays_as_it_is() -> None:
    code, said = run("search", "emulated_gpu", "--latency-budget=15ms", "--dry-run")
    assert code == 0, said
    assert "15 ms" in said


def test_remote_is_attached() -> None:
    code, said = run("search", "emulated_gpu", "--sla-p99", "9ms", "--triton-launch-mode", "remote")
    assert code == 2
    assert "--url" in said


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--model-repository", "name the model's folder"),
        ("--percentile", "p95<20ms"),
        ("--request-rate-range", "--rate 300"),
        ("--config-file", "tuner import FILE"),
    ],
)
def test_other_flags_are_explained(flag: str, said: str) -> None:
    code, output = run("search", "emulated_gpu", "--sla-p99", "9ms", flag, "x")
    assert code == 2
    assert said in " ".join(output.replace("│", " ").split())


def test_an_unknown_flag_is_still_unknown() -> None:
    code, output = run("search", "emulated_gpu", "--sla-p99", "9ms", "--nonsense")
    assert code == 2
    assert "No such option" in output
