"""Models of the embedded server under numpy 2, for which its Python stub was not built."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
TYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT16": "int16",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        assert np.__version__.startswith("2."), np.__version__
        outputs = []
        for tensor in request.inputs():
            array = tensor.as_numpy()
            array += np.zeros(1, array.dtype)  # a model may write into its inputs
            outputs.append(pb_utils.Tensor(tensor.name() + "_OUT", array))
        return pb_utils.InferenceResponse(outputs)
"""
ASK = """
import sys, numpy as np
from pathlib import Path
from tuner.client import TritonClient
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

path, repository = sys.argv[1], Path(sys.argv[2])
types = dict(pair.split("=") for pair in sys.argv[3:])
spec = ServerSpec(repository, "types", repository.parent / "log", 60.0, opens="model")
with (
    LocalLauncher(environment={"PATH": path}) as launcher,
    launcher.launch(spec) as server,
    Control(server) as control,
):
    control.load("types", None, 60.0)
    with TritonClient(server.endpoints.grpc, "types", timeout=20) as client:
        for name, kind in types.items():
            sent = np.arange(12).reshape(4, 3).astype(kind)
            assert np.array_equal(client.infer({name: sent})[f"{name}_OUT"], sent), name
assert "incorrect name" not in spec.log.read_text()
"""


@pytest.fixture(scope="module")
def numpy_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with numpy 2. Of what the stub's environment says, PATH alone tells it
    which Python is its own.
    """
    folder = tmp_path_factory.mktemp("numpy")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    words = ["--no-deps", "--only-binary=:all:", "--target", str(site), "numpy>=2,<3"]
    subprocess.run([*pip, *words], check=True, timeout=200, stderr=subprocess.DEVNULL)
    return folder / "bin"


def test_tensors_of_all_numeric_types_go_in_and_out(numpy_two: Path, tmp_path: Path) -> None:
    model = tmp_path / "models" / "types"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(MODEL)
    tensor = "{{ name: '{0}' data_type: TYPE_{1} dims: [ 3 ] {2} }}"
    inputs = ", ".join(tensor.format(name, name, "optional: true") for name in TYPES)
    outputs = ", ".join(tensor.format(f"{name}_OUT", name, "") for name in TYPES)
    config = f"name: 'types' backend: 'python' max_batch_size: 4 input [ {inputs} ] "
    config += f"output [ {outputs} ] instance_group [ {{ kind: KIND_CPU }} ]"
    (model / "config.pbtxt").write_text(config.replace("'", '"'))
    path = os.pathsep.join((str(numpy_two), os.environ["PATH"]))
    words = [f"{name}={kind}" for name, kind in TYPES.items()]
    done = subprocess.run(
        [sys.executable, "-c", ASK, path, str(model.parent), *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
