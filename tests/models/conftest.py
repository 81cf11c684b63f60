"""The PyTorch models of the repository, imported as their Triton instances import them."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2] / "model_repository"
MODULES = ("network", "execution")
PYTORCH_MODELS = ("bert_base", "resnet50")

SMALL = {
    "bert_base": {
        "layers": "2",
        "hidden": "32",
        "heads": "4",
        "intermediate": "64",
        "vocabulary": "120",
    },
    "resnet50": {"blocks": "1,1,1,1", "width": "8"},
}
DIMS = {"bert_base": [[16], [16]], "resnet50": [[48, 48, 3]]}


@contextmanager
def imported(model: str) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Its ``network`` and ``execution``: names that every PyTorch model has, so not for long."""
    folder = str(ROOT / model / "1")
    sys.path.insert(0, folder)
    try:
        yield tuple(importlib.import_module(name) for name in MODULES)  # type: ignore[misc]
    finally:
        sys.path.remove(folder)
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(params=PYTORCH_MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_runner(model: str) -> Iterator[Callable[..., object]]:
    """Makes a small Runner of the model, for batches of up to ``most`` rows."""
    import torch

    with imported(model) as (network, execution):

        def make(most: int, how: str = "eager", device: str = "cpu") -> object:
            return execution.Runner(
                network.build(SMALL[model], 2, None),
                lambda rows, generator: network.example(rows, DIMS[model], generator),
                most,
                torch.device(device),
                how,
            )

        yield make
