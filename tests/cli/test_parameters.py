"""The command line is made of the models: what they hold, it offers, and no more."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

from tuner.cli.app import app
from tuner.commands.options import (
    CompareOptions,
    MeasureOptions,
    SearchOptions,
    SimulateOptions,
)
from tuner.experiment.model import Experiment
from tuner.experiment.options import option_of
from tuner.serving.settings import FastApiSettings, GatewaySettings

HEAVY = (
    "docker",
    "fastapi",
    "grpc",
    "numba",
    "optuna",
    "pandas",
    "plotly",
    "scipy",
    "tritonclient",
)
OWN = {"config", "as_json", "quiet", "run", "dry_run"}


def command_of(*words: str) -> click.Command:
    found = typer.main.get_command(app)
    for word in words:
        assert isinstance(found, click.Group) or hasattr(found, "commands")
        found = found.commands[word]
    return found


@pytest.mark.parametrize(
    ("words", "models"),
    [
        (("search",), (Experiment, SearchOptions)),
        (("measure",), (Experiment, MeasureOptions)),
        (("simulate",), (SimulateOptions,)),
        (("compare",), (Experiment, CompareOptions)),
        (("serve", "fastapi"), (FastApiSettings,)),
        (("serve", "gateway"), (GatewaySettings,)),
    ],
)
def test_the_fields_of_its_models_are_the_options_of_a_command(
    words: tuple[str, ...], models: tuple[type[BaseModel], ...]
) -> None:
    known = {}
    for model in models:
        for name, field in model.model_fields.items():
            option = option_of(field)
            if option is not None:
                known[name] = option
                if option.shorthand is not None:
                    known[option.shorthand.name] = option
    offered = {each.name: each for each in command_of(*words).params}
    assert set(offered) - OWN - {"help"} <= set(known)
    if words != ("measure",) and words != ("compare",):
        assert set(known) <= set(offered)
    for model in models:
        if model is not Experiment:
            fields = {n for n, f in model.model_fields.items() if option_of(f) is not None}
            assert fields <= set(offered)
    for name, parameter in offered.items():
        if name in known and known[name].shorthand is None:
            assert str(getattr(parameter, "help", "")).startswith(known[name].help)


def invoke(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    return done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search", "m", "--sla-p99", "9ms", "--sla", "p50<1ms"), "give --sla-p99 or --sla"),
        (("simulate", "r", "--sla-p99", "9ms", "--sla", "p50<1ms"), "give --sla-p99 or --sla"),
        (("simulate", "r", "--load", "gama:3"), "did you mean 'gamma'?"),
        (("search", "emulated_gpu", "--sla-p99", "9ms", "--trials", "0"), "--trials"),
        (("compare", "emulated_gpu", "--sla-p99", "9ms", "--rounds", "21"), "--rounds"),
        (("serve", "fastapi", "text_classifier", "--engine", "oven"), "engine: Input should be"),
        (("serve", "fastapi", "text_classifier", "--timeout", "5"), "did you mean 5s or 5m?"),
        (("serve", "fastapi"), "model"),
        (("serve", "gateway", "m", "--max-body", "12"), "size '12' needs a unit"),
        (("serve", "gateway", "./nowhere"), "there is no folder ./nowhere"),
    ],
)
def test_what_does_not_hold_is_refused_by_name(words: tuple[str, ...], message: str) -> None:
    assert message in invoke(*words)


def test_the_gateway_suggests_the_folder_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "my_clf").mkdir(parents=True)
    (tmp_path / "models" / "my_clf" / "config.pbtxt").touch()
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'models/my_clf'?" in invoke("serve", "gateway", "models/my_clff")


def test_deployments_that_are_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("compare", "text_classifier", "--sla-p99", "9ms")
    assert "did you mean 'fastapi'?" in invoke(*words, "--deployments", "fastpi, triton")
    assert "triton-tuned needs a search" in invoke(
        *words, "--deployments", "triton-tuned", "--no-search"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "typed", "expected"),
    [("--sampler", "s", ["simulation"]), ("--load", "p", ["poisson", "piecewise:"])],
)
def test_a_shell_completes_the_values_of_an_option(
    option: str, typed: str, expected: list[str]
) -> None:
    done = CliRunner().invoke(
        app,
        [],
        prog_name="tuner",
        env={
            "_TUNER_COMPLETE": "complete_bash",
            "COMP_WORDS": f"tuner search {option} {typed}",
            "COMP_CWORD": "3",
        },
    )
    assert done.stdout.split() == expected


def test_help_needs_no_heavy_package() -> None:
    words = f"import sys, tuner.cli.app; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
