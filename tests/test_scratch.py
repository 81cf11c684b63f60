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
    here = os.stat("/proc/self/ns/pid").st_ino
    dead = tmp_path / f"tuner-load-{here}-{gone}-abc"
    living = tmp_path / f"tuner-load-{here}-{os.getppid()}-abc"
    other = tmp_path / f"tuner-triton-{here}-{gone}-abc"
    elsewhere = tmp_path / f"tuner-load-{here + 1}-{gone}-abc"
    for folder in (dead, living, other, elsewhere):
        folder.mkdir()
        (folder / "file").write_text("x")
    with scratch_folder("load", tmp_path) as new:
        assert Path(new).parent == tmp_path
        assert f"-{os.getpid()}-" in new
        assert not dead.exists()
        assert living.exists()
        assert other.exists()
        assert elsewhere.exists()
    assert not Path(new).exists()
