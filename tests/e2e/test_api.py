"""The Python API in a process of its own, as a script of a user's calls it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = f"""\
import tuner

result = tuner.measure(
    "{ROOT / "model_repository/emulated_gpu"}",
    sla="p50<2s",
    changes={{"instance_count": 2}},
    rate=40,
    launcher="local",
    output="runs",
)
print("met", result.evaluation.capacity, len(result.to_dataframe()), result.folder.parent)
"""


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
def test_a_plain_script_measures(tmp_path: Path) -> None:
    """Without a guard round what it does: load processes do not run the script again."""
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["met 40.0 1 runs"]
    assert done.stderr == ""
    assert len(list((tmp_path / "runs").iterdir())) == 1
