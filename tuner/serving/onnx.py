"""A model of ONNX Runtime: CUDA if ONNX Runtime has it, else the processor."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tuner.errors import ModelConfigError, RepositoryError
from tuner.model.config import read_config
from tuner.model.signature import Arrays, Signature
from tuner.serving.constants import WORKERS
from tuner.serving.engine import EngineRefused
from tuner.serving.local import check_names, newest_version, share_of_cores, zero_inputs

_ERRORS = onnxruntime.capi.onnxruntime_pybind11_state
_REFUSALS = (_ERRORS.InvalidArgument,)
_FAILURES = (
    *_REFUSALS,
    *(_ERRORS.Fail, _ERRORS.RuntimeException, _ERRORS.InvalidGraph, _ERRORS.InvalidProtobuf),
    *(_ERRORS.NotImplemented, _ERRORS.NoSuchFile, _ERRORS.NoModel, _ERRORS.EPFail),
)


class OnnxModel:
    """``model.onnx`` of the newest version in a model's folder, with its config.pbtxt.

    ``threads`` work on one computation; None leaves it to ONNX Runtime, which takes all cores.
    """

    def __init__(self, folder: Path, threads: int | None = 1, workers: int = 1) -> None:
        config = read_config(folder)
        self.signature = Signature.of_config(config)
        path = newest_version(folder) / (config.default_model_filename or "model.onnx")
        self._session = _session(path, threads)
        on_gpu = "CUDAExecutionProvider" in self._session.get_providers()
        on_cores = share_of_cores(workers, threads)
        self.concurrency = WORKERS.gpu_concurrency if on_gpu else on_cores
        self._texts = {s.name for s in self.signature.inputs if s.datatype == "BYTES"}
        self._names = [spec.name for spec in self.signature.outputs]
        self._check(path)
        self._warm_up()

    def compute(self, inputs: Arrays) -> Arrays:
        feeds = {name: self._feed(name, array) for name, array in inputs.items()}
        try:
            outputs = self._session.run(self._names, feeds)
        except _REFUSALS as error:
            raise EngineRefused(f"the model refuses these inputs: {_message(error)}") from error
        return dict(zip(self._names, outputs, strict=True))

    def _feed(self, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if name in self._texts:
            array = np.array(
                [e.decode() if isinstance(e, bytes) else e for e in array.flat], dtype=object
            ).reshape(array.shape)
        return array

    def _check(self, path: Path) -> None:
        inputs = {spec.name for spec in self.signature.inputs}
        check_names("input", inputs, {node.name for node in self._session.get_inputs()}, path)
        outputs = {node.name for node in self._session.get_outputs()}
        check_names("output", set(self._names), outputs, path)

    def _warm_up(self) -> None:
        """The first computation makes room and chooses kernels; better now than for a client."""
        specs = [spec for spec in self.signature.inputs if not spec.optional]
        zeros = zero_inputs(self.signature, specs)
        if zeros is not None:
            with contextlib.suppress(EngineRefused, *_FAILURES):  # zeros may be illegal inputs
                self.compute(zeros)


def _session(path: Path, threads: int | None) -> Any:
    if not path.is_file():
        raise RepositoryError(f"there is no {path}; ONNX Runtime needs the model in this file")
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads of one computation must not spin on cores that others need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    providers = [provider for provider in wanted if provider in available]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except _FAILURES as error:
        raise ModelConfigError(f"ONNX Runtime cannot load {path}: {_message(error)}") from error


def _message(error: Exception) -> str:
    """Without ONNX Runtime's own prefix of codes and source lines, and cut to a few lines."""
    return str(error).rpartition("] : ")[2].strip()[:500]
