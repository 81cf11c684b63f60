"""What a command or process imports before it needs it, it waits for: seconds, all in all."""

import subprocess
import sys
import time

import pytest

from tuner.cli.invocation import process_began

HEAVY = {"pandas", "plotly", "optuna", "scipy", "numba", "docker", "sqlalchemy"}


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("tuner.cli.app", {*HEAVY, "grpc", "tritonclient", "requests"}),
        ("tuner.load.worker", {*HEAVY, "grpc", "tritonclient", "google.protobuf", "pydantic"}),
        ("tuner.commands.measure", HEAVY),
        ("tuner.commands.search", HEAVY - {"optuna", "sqlalchemy"}),
    ],
)
def test_nothing_slow_is_imported_early(module: str, without: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not without & set(done.stdout.split())


def test_the_command_line_of_a_local_storage_needs_no_optuna() -> None:
    code = (
        "import sys; sys.argv = ['tuner', 'search', 'm']; import tuner.cli.invocation as i; "
        "i.command_line(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "optuna" not in done.stdout.split()


def test_a_process_knows_when_it_began() -> None:
    before = time.monotonic()
    code = "from tuner.cli.invocation import process_began; print(process_began())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert before - 0.05 <= float(done.stdout) <= time.monotonic()
    assert process_began() < before
