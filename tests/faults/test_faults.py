"""Faults, each once: nothing is lost, nothing is left, what is said is true, and all of it ends.

``python -m benchmarks.faults`` does all of them twenty times, at other moments.
"""

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.faults.attempts import attempt, begun_search
from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.fault import Fault
from benchmarks.faults.means import missing_for
from benchmarks.faults.place import LOCAL, Place
from tests.conftest import ROOT, need

ELSEWHERE = {
    "tuner-killed": "tests/e2e/test_search.py",
    "interrupted": "tests/e2e/test_search.py",
    "interrupted-twice": "interrupted-often",
    "hung-up": "tests/test_interrupts.py",
    "gateway-killed": "server-killed",
    "container-killed": "container-removed",
    "docker-tuner-killed": "tests/contracts/test_docker.py",
    "disk-full": "read-only-at-start",
    "disk-fills": "disk-full-at-report",
    "read-only": "disk-full-at-report",
    "study-cut": "study-damaged",
    "study-missing": "study-damaged",
    "evaluations-cut": "tests/optimizer/test_study.py",
    "windows-damaged": "evaluations-damaged",
    "manifest-damaged": "neighbor-damaged",
    "outcome-damaged": "tests/records/test_results.py",
    "inference-slows": "tests/measurement/test_failing_models.py",
    "stub-stopped": "server-stopped",
}
"""Faults of which another test, or another fault, shows as much: the benchmark does them."""
pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Place]:
    """The search to go on with; all workers of a test run share what the first of them made."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared if shared.name.startswith("pytest-") else shared.parent

    def make(launcher: tuple[str, ...]) -> Place:
        name = "begun-local" if launcher == LOCAL else "begun-docker"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                begun_search(shared / f"{name}-making", launcher).folder.rename(shared / name)
            return Place(shared / name, launcher)

    return make


def _marked(fault: Fault) -> object:
    marks = [pytest.mark.docker] if "docker" in fault.needs else []
    return pytest.param(fault, id=fault.name, marks=marks)


@pytest.mark.parametrize("fault", [_marked(f) for f in FAULTS.values() if f.name not in ELSEWHERE])
def test_nothing_is_lost_or_left_and_what_is_said_is_true(
    fault: Fault, begun: Callable[[tuple[str, ...]], Place], tmp_path: Path
) -> None:
    missing = missing_for(fault.needs)
    need(missing is None, str(missing))
    came = attempt(fault, 0, tmp_path / "place", begun(fault.launcher), further=0)
    assert came.findings == ()


def test_what_is_left_to_others_is_there() -> None:
    assert set(ELSEWHERE) <= set(FAULTS)
    for other in ELSEWHERE.values():
        assert other in FAULTS.keys() - ELSEWHERE.keys() or (ROOT / other).is_file()
