"""One Triton with the sample models and one that gives back what it takes, of many types."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.servers.base import Server, ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

ROOT = Path(__file__).parents[2]
MODELS = ("text_classifier", "emulated_gpu")
SECONDS = 60.0


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    pythonless = shutil.ignore_patterns("__pycache__")
    for model in MODELS:
        shutil.copytree(ROOT / "model_repository" / model, folder / model, ignore=pythonless)
    shutil.copytree(Path(__file__).parent / "models", folder, ignore=pythonless, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def triton(embedded_triton: None, models: Path) -> Iterator[Server]:
    with LocalLauncher() as launcher:
        spec = ServerSpec(models, MODELS[0], models / "server.log", SECONDS, opens="model")
        with launcher.launch(spec) as server, Control(server) as control:
            for model in (*MODELS, "kinds"):
                control.load(model, None, SECONDS)
            yield server
