import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.scratch import has_died, left_behind, owned_name, owner, scratch_folder


@pytest.fixture(scope="module")
def gone() -> str:
    """A process that has ended."""
    code = "from tuner.scratch import owner; print(owner())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_folders_of_dead_processes_are_swept_and_those_of_living_ones_kept(
    tmp_path: Path, gone: str
) -> None:
    namespace, _, rest = gone.partition("-")
    dead = tmp_path / f"tuner-load-{gone}-abc"
    living = tmp_path / f"tuner-load-{owner()}-abc"
    other = tmp_path / f"tuner-triton-{gone}-abc"
    elsewhere = tmp_path / f"tuner-load-{int(namespace) + 1}-{rest}-abc"
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


def test_a_process_id_that_came_again_is_another_process() -> None:
    namespace, pid, start = owner().split("-")
    assert not has_died(owner())
    assert has_died(f"{namespace}-{pid}-{int(start) + 1}")
    assert not has_died("nonsense")


def test_a_process_of_which_only_the_exit_code_is_left_has_died() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    namespace = owner().partition("-")[0]
    stat = Path(f"/proc/{child.pid}/stat").read_text()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_died(f"{namespace}-{child.pid}-{stat.rpartition(')')[2].split()[19]}")
    child.wait()


def test_names_tell_their_owner(tmp_path: Path, gone: str) -> None:
    mine, dead = tmp_path / owned_name("shm"), tmp_path / f"tuner-shm-{gone}-1-region"
    mine.touch()
    dead.touch()
    assert list(left_behind(tmp_path, "shm")) == [dead]
