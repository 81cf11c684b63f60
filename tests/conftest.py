"""Real servers for the tests; what is missing is skipped here and an error where all must run."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tuner.load.generator import LoadGenerator
from tuner.servers import local
from tuner.servers.docker_engine import engine_answers, image_present

ROOT = Path(__file__).parents[1]
TEST_IMAGE = os.environ.get("TUNER_TEST_IMAGE", "tuner-test-triton:2.51.0")
_LONGEST = (
    "tests/benchmarks/test_gpu_kit.py",
    "tests/faults/test_faults.py",
    "tests/e2e/test_search.py",
    "tests/e2e/test_compare.py",
    "tests/e2e/test_edges.py",
    "tests/e2e/test_docker.py",
    "tests/serving/test_fastapi.py",
    "tests/e2e/test_local.py",
)
"""They begin first, so that no worker is left alone with one of them at the end."""
_UNSHARED = (
    "tests/faults/test_faults.py",
    "tests/e2e/test_docker.py",
    "tests/e2e/test_edges.py",
    "tests/e2e/test_local.py",
)
"""Their tests share no server: several workers may take them."""
_MUST_RUN = os.environ.get("CI") == "true" or os.environ.get("TUNER_REQUIRE_ALL") == "1"
# A busy machine may take long over any example.
settings.register_profile("patient", settings(), deadline=None)
settings.register_profile("fast", settings(), deadline=None, max_examples=20)
settings.load_profile("patient")


def need(there: bool, otherwise: str) -> None:
    """Skip the test where its means are missing; fail it in CI and under TUNER_REQUIRE_ALL=1."""
    if not there and _MUST_RUN:
        pytest.fail(otherwise)
    if not there:
        pytest.skip(otherwise)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {file: place for place, file in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(_file_of(item.nodeid), len(places)))


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker takes a file at a time, for the servers that its tests share."""
    from xdist.scheduler import LoadScopeScheduling

    class LoadShared(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = _file_of(nodeid)
            return nodeid if file in _UNSHARED else file

    config.option.loadscopereorder = False
    return LoadShared(config, log)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model repository with the model ``emulated_gpu`` alone."""
    folder = tmp_path_factory.mktemp("repository")
    model = "emulated_gpu"
    shutil.copytree(
        ROOT / "model_repository" / model,
        folder / model,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return folder


@pytest.fixture(scope="session")
def embedded_triton() -> None:
    need(local.is_available(), "no tritonserver here; pip install 'triton-tuner[local]'")


@pytest.fixture(scope="module")
def generator() -> Iterator[LoadGenerator]:
    with LoadGenerator() as generator:
        yield generator


@pytest.fixture(scope="session")
def engine() -> None:
    need(engine_answers(), "no Docker engine answers; run tests/image/engine.sh")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database of a PostgreSQL server, which ends with the session."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("postgres")
    home = programs[-1] if programs else Path(found).parent if found else None
    need(home is not None, "no PostgreSQL here; apt-get install postgresql")
    assert home is not None
    folder = tmp_path_factory.mktemp("postgres")
    user = {}
    if os.geteuid() == 0:  # as which PostgreSQL refuses to run
        user = {"user": "nobody", "group": "nogroup", "extra_groups": ()}
        shutil.chown(folder, "nobody", "nogroup")
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and Path(tempfile.gettempdir()) in parent.parents:
                parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"
    common: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, **user}
    made = [home / "initdb", "-D", data, "-U", "tuner", "--auth=trust", "--no-sync"]
    subprocess.run(made, check=True, **common)
    port = free_port()
    served = [home / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*served, "-F"], stderr=log, **common)
    try:
        ready = [home / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode != 0:
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql://tuner@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients
        server.wait(30)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def test_image(engine: None) -> str:
    need(image_present(TEST_IMAGE), f"no image {TEST_IMAGE}; run tests/image/build.sh")
    return TEST_IMAGE


@pytest.fixture(scope="session")
def tuner_image(test_image: str) -> str:
    """The Dockerfile's, on top of the test image, with tuner as it is now."""
    return _made_by("tuner.sh")


@pytest.fixture(scope="session")
def wheels() -> Path:
    """A folder with the packages that tuner needs."""
    return Path(_made_by("wheels.sh"))


def _made_by(script: str) -> str:
    """The last line of a script of ``tests/image``; workers that ask at a time wait for one."""
    command = (ROOT / "tests/image" / script, sys.executable)
    done = subprocess.run(command, capture_output=True, text=True)
    need(done.returncode == 0, done.stderr)
    return done.stdout.splitlines()[-1]
