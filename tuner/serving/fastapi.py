"""The model of a FastAPI service, in the service's own process.

Nothing here imports FastAPI: the supervisor checks settings without it.
"""

import importlib.util
from pathlib import Path
from typing import Any, Literal

from tuner.errors import LauncherUnavailable, ModelConfigError
from tuner.model.config import read_config
from tuner.model.signature import Signature
from tuner.serving.loading import find_processing
from tuner.serving.local import LocalModel, newest_version
from tuner.serving.settings import EngineKind, FastApiSettings

_NEEDS = {"onnx": ("onnxruntime", "serve"), "torch": ("torch", "torch")}


def check(settings: FastApiSettings) -> None:
    """TunerError if the settings do not hold together, before any worker is started."""
    config = read_config(settings.model)
    kind = _kind(settings.model, settings.engine, config)
    package, extra = _NEEDS[kind]
    if importlib.util.find_spec(package) is None:
        raise LauncherUnavailable(
            f"{package} is not installed; pip install 'triton-tuner[{extra}]'"
        )
    find_processing(settings.model, settings.processing)(Signature.of_config(config))


def engine_title(settings: FastApiSettings) -> str:
    """The name of what computes."""
    kind = _kind(settings.model, settings.engine, read_config(settings.model))
    return {"onnx": "ONNX Runtime", "torch": "PyTorch"}[kind]


def load_model(settings: FastApiSettings, naive: bool = False) -> LocalModel:
    """Blocks; TunerError if it cannot be loaded. A ``naive`` one takes all threads there are."""
    folder, threads = settings.model, None if naive else settings.threads
    if _kind(folder, settings.engine, read_config(folder)) == "torch":
        from tuner.serving.pytorch import TorchModel

        return TorchModel(folder, threads, settings.workers)
    from tuner.serving.onnx import OnnxModel

    return OnnxModel(folder, threads, settings.workers)


def _kind(folder: Path, asked: EngineKind, config: Any) -> Literal["onnx", "torch"]:
    """What the files of the newest version are for."""
    if asked != "auto":
        return asked
    version = newest_version(folder)
    file = version / (config.default_model_filename or "model.onnx")
    if file.suffix == ".onnx" and file.is_file():
        return "onnx"
    if (version / "network.py").is_file() or (version / "model.pt").is_file():
        return "torch"
    raise ModelConfigError(
        f"{version} holds neither model.onnx, nor model.pt, nor network.py: FastAPI has nothing to "
        "serve it with"
    )
