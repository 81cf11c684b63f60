"""Code that comes with a model: its pre- and post-processing, and its network."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from tuner.errors import ModelConfigError, UsageError
from tuner.model.signature import Signature
from tuner.serving.processing import Processing
from tuner.serving.schema import TensorProcessing

PROCESSING_FILE = "processing.py"
_EXAMPLE = "def create(folder, signature): ..., as model_repository/text_classifier has it"


def find_processing(folder: Path, named: str | None = None) -> Callable[[Signature], Processing]:
    """What makes the processing of the model in ``folder``.

    ``named`` is a file with a function ``create``, or ``module:function``; else it is the model's
    own ``processing.py``, and its plain tensors if there is none. UsageError if what is named
    is not there, ModelConfigError if it does not work.
    """
    if named is None:
        own = folder / PROCESSING_FILE
        return _maker(own, folder) if own.is_file() else TensorProcessing
    if Path(named).suffix == ".py" or Path(named).is_file():
        path = Path(named)
        if not path.is_file():
            raise UsageError(f"there is no file {named} for --processing")
        return _maker(path.resolve(), folder)
    return _of_module(named, folder)


def load_file(path: Path, name: str | None = None) -> Any:
    """A Python file as a module, outside ``sys.modules`` unless it gets a ``name``."""
    spec = importlib.util.spec_from_file_location(name or path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if name is not None:  # pydantic and pickle look for a class's module there
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file may raise
        sys.modules.pop(name or "", None)
        raise ModelConfigError(f"{path} cannot be loaded: {_message(error)}") from error
    return module


def _maker(path: Path, folder: Path) -> Callable[[Signature], Processing]:
    module = load_file(path, f"tuner_processing_{abs(hash(path)):x}")
    return _checked(module, "create", str(path), folder)


def _of_module(named: str, folder: Path) -> Callable[[Signature], Processing]:
    name, separator, function = named.partition(":")
    if not separator:
        raise UsageError(f"--processing {named!r} is no file; write FILE.py or module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"--processing {named}: {error}; is it installed here?") from error
    except Exception as error:  # whatever a user's module may raise
        raise ModelConfigError(f"{name} cannot be loaded: {_message(error)}") from error
    return _checked(module, function, name, folder)


def _checked(
    module: ModuleType, function: str, source: str, folder: Path
) -> Callable[[Signature], Processing]:
    create = getattr(module, function, None)
    if not callable(create):
        raise ModelConfigError(f"{source} has no function {function}; it needs {_EXAMPLE}")

    def make(signature: Signature) -> Processing:
        try:
            made: Processing = create(folder, signature)
        except Exception as error:  # whatever a user's function may raise
            raise ModelConfigError(f"{source}: {function} failed: {_message(error)}") from error
        check_processing(made, f"what {function} of {source} returned")
        return made

    return make


def check_processing(made: Any, what: str) -> None:
    """ModelConfigError if it lacks a part of ``Processing``, or takes a name of the service."""
    parts = ("Request", "Item", "Prediction", "encode", "decode")
    missing = [part for part in parts if not hasattr(made, part)]
    if missing:
        raise ModelConfigError(f"{what} has no {', '.join(missing)}; see tuner.serving.processing")
    for part in ("Request", "Prediction"):
        kind = getattr(made, part)
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            raise ModelConfigError(f"{what}: {part} must be a pydantic model, not {kind!r}")
    if "latency_ms" in made.Prediction.model_fields:
        raise ModelConfigError(f"{what}: Prediction has latency_ms, which the service adds itself")


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
