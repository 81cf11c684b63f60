"""A model replaced while it serves, on a real Triton."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tuner.deployments.payload import Payload
from tuner.deployments.subjects import ConfiguredTriton
from tuner.deployments.swap import add_version, measure_swap, swap_of
from tuner.deployments.triton import FixedInputs, RunningTriton, TritonDeployment
from tuner.errors import ServerFailed
from tuner.load.generator import LoadGenerator
from tuner.load.target import Transport
from tuner.model.config import read_config
from tuner.model.files import copy_model
from tuner.model.signature import Signature
from tuner.model.space import MAX_BATCH_SIZE, Candidate
from tuner.model.weights import link_or_copy
from tuner.servers.local import LocalLauncher

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
SOURCE = ROOT / "model_repository" / "emulated_gpu"
CANDIDATE = Candidate.of({MAX_BATCH_SIZE: 4})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    target = tmp_path / "copy" / SOURCE.name
    copy_model(SOURCE, target, link_or_copy)
    return target


@pytest.fixture
def running(model: Path, tmp_path: Path) -> Iterator[RunningTriton]:
    config = read_config(model)
    payload = Payload.of(model, Signature.of_config(config))
    with LocalLauncher() as launcher:
        triton = TritonDeployment(
            launcher, model, config, Transport.GRPC, FixedInputs(payload.pool)
        )
        with ConfiguredTriton(triton, CANDIDATE).start(tmp_path / "log") as found:
            assert isinstance(found, RunningTriton)
            yield found


def versions(running: RunningTriton) -> list[str]:
    return running.control.versions("emulated_gpu")


def test_a_copy_has_the_same_files_and_takes_a_version(model: Path) -> None:
    own = {path.relative_to(SOURCE) for path in SOURCE.rglob("*") if "__pycache__" not in str(path)}
    assert {path.relative_to(model) for path in model.rglob("*")} == own
    add_version(model)
    assert (model / "2/model.py").read_bytes() == (SOURCE / "1/model.py").read_bytes()
    assert not (SOURCE / "2").exists()


def test_a_model_without_versions_has_none_to_replace(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no version"):
        add_version(tmp_path)


def test_triton_takes_the_next_version_and_loses_nothing(
    running: RunningTriton, model: Path, generator: LoadGenerator
) -> None:
    config = read_config(model)
    config.max_batch_size = 4
    assert versions(running) == ["1"]
    swap = measure_swap(running, generator, 50.0, "load", swap_of("load", running, model, config))
    assert versions(running) == ["2"]
    assert running.control.config("emulated_gpu")["max_batch_size"] == 4
    assert swap.failure is None
    assert swap.lost == 0
    assert swap.requests > 50
    assert swap.seconds is not None
    assert swap.worst is not None
    assert swap.usual is not None


def test_a_version_that_does_not_load_leaves_the_old_one_in_place(
    running: RunningTriton, model: Path, generator: LoadGenerator
) -> None:
    code = model / "1/model.py"
    text = code.read_text()
    code.unlink()  # a link to the source: not to be written through
    code.write_text(
        text.replace("def initialize", "raise ValueError('no weights')\n    def initialize")
    )
    change = swap_of("load", running, model, read_config(model))
    swap = measure_swap(running, generator, 50.0, "load", change)
    assert "no weights" in (swap.failure or "")
    assert swap.seconds is None
    assert swap.lost == 0
    assert versions(running) == ["1"]
    assert "no weights" not in (SOURCE / "1/model.py").read_text()
