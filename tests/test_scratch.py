import os
import subprocess
import sys
from pathlib import Path

from tuner.scratch import scratch_folder


def test_folders_of_dead_processes_are_swept_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    dead = tmp_path / f"tuner-load-{gone}-abc"
    living = tmp_path / f"tuner-load-{os.getppid()}-abc"
    other = tmp_path / f"tuner-triton-{gone}-abc"
    for folder in (dead, living, other):
        folder.mkdir()
        (folder / "file").write_text("x")
    with scratch_folder("load", tmp_path) as new:
        assert Path(new).parent == tmp_path
        assert f"-{os.getpid()}-" in new
        assert not dead.exists()
        assert living.exists()
        assert other.exists()
    assert not Path(new).exists()
