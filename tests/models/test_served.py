"""The PyTorch models on a real Triton: what they answer, and what they refuse."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.models.conftest import DIMS, ROOT, SMALL, imported
from tuner.errors import ServerFailed
from tuner.model.config import read_config, to_json
from tuner.servers.base import Server, ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
SECONDS = 120.0
OUTPUTS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server, into which each test loads what it needs."""
    log = tmp_path_factory.mktemp("logs") / "server.log"
    with (
        LocalLauncher(environment={"OMP_NUM_THREADS": "1"}) as launcher,
        launcher.launch(ServerSpec(ROOT, "bert_base", log, SECONDS, opens="model")) as server,
    ):
        yield server


def small_config(model: str, **options: str) -> str:
    config = read_config(ROOT / model)
    for entry, dims in zip(config.input, DIMS[model], strict=True):
        entry.dims[:] = dims
    config.output[0].dims[:] = [OUTPUTS]
    config.max_batch_size = 8
    for key, value in {**SMALL[model], **options}.items():
        config.parameters[key].string_value = value
    return to_json(config)


Infer = Callable[[list[np.ndarray]], np.ndarray]


@contextmanager
def served(server: Server, model: str, **options: str) -> Iterator[Infer]:
    """A function that sends one request and returns its logits; threads may share it."""
    config = read_config(ROOT / model)
    assert server.endpoints.grpc is not None
    with Control(server) as control, triton.InferenceServerClient(server.endpoints.grpc) as client:
        control.load(model, small_config(model, **options), SECONDS)

        def infer(arrays: list[np.ndarray]) -> np.ndarray:
            return client.infer(model, as_inputs(config, arrays)).as_numpy("logits")

        yield infer
        control.unload(model, SECONDS)


def as_inputs(config, arrays: list[np.ndarray]) -> list[triton.InferInput]:
    inputs = []
    for entry, array in zip(config.input, arrays, strict=True):
        inputs.append(triton.InferInput(entry.name, array.shape, np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    return inputs


@pytest.mark.parametrize(
    ("model", "pipeline"), [("bert_base", "1"), ("bert_base", "2"), ("resnet50", "2")]
)
def test_concurrent_requests_of_several_sizes_get_their_own_answers(model, server, pipeline):
    import torch

    sizes = [1, 3, 1, 8, 2, 1, 5, 1] * 3
    with imported(model) as (network, execution):
        generator = torch.Generator().manual_seed(6)
        batches = [network.example(n, DIMS[model], generator) for n in sizes]
        runner = execution.Runner(
            network.build(SMALL[model], OUTPUTS, None),
            lambda rows, g: network.example(rows, DIMS[model], g),
            8,
            torch.device("cpu"),
        )
        slot = runner.slot()
        expected = []
        for n, batch in zip(sizes, batches, strict=True):
            for room, x in zip(slot.inputs, batch, strict=True):
                room[:n] = x.numpy()
            expected.append(runner.run(slot, n).copy())
    arrays = [[x.numpy() for x in batch] for batch in batches]
    with served(server, model, pipeline=pipeline) as infer, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(infer, arrays))
    for answer, rows in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer, rows, atol=1e-4, rtol=1e-3)


def test_an_id_outside_the_vocabulary_fails_its_own_request_alone(server):
    good = np.ones((1, 16), dtype=np.int64)
    bad = np.full((1, 16), 120, dtype=np.int64)
    with served(server, "bert_base", pipeline="2") as infer, ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(infer, [ids, np.ones_like(ids)]) for ids in [good, bad] * 6]
        for number, future in enumerate(waiting):
            if number % 2:
                with pytest.raises(InferenceServerException, match="input_ids"):
                    future.result()
            else:
                assert np.isfinite(future.result()).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"execution": "cuda_graphs"}, "needs a GPU"),
        ({"checkpoint": "/no/such/folder"}, "No such file"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(server, options, words):
    with pytest.raises(ServerFailed, match=words), served(server, "bert_base", **options):
        pass
