"""A model of PyTorch: a network.py as the models of this repository have it, or TorchScript."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.errors import ModelConfigError, RepositoryError
from tuner.model.config import read_config
from tuner.model.signature import Arrays, Signature
from tuner.serving.engine import EngineRefused
from tuner.serving.loading import load_file
from tuner.serving.local import newest_version, share_of_cores, zero_inputs

_PRECISIONS = {"half": torch.float16, "float": torch.float32}


class TorchModel:
    """``network.py`` of the newest version, built as Triton's Python backend builds it here; else
    ``model.pt`` as TorchScript. Half precision on a GPU and full on a processor, where the model's
    parameters do not say otherwise; computed eagerly.
    """

    def __init__(self, folder: Path, threads: int | None = 1, workers: int = 1) -> None:
        config = read_config(folder)
        self.signature = Signature.of_config(config)
        if len(self.signature.outputs) != 1 or any(
            spec.datatype in ("BYTES", "BF16") for spec in self.signature.inputs
        ):
            raise ModelConfigError(
                f"{folder}: PyTorch is served with one output and inputs of numbers; "
                "export the model to ONNX and take --engine onnx"
            )
        self._device = _device(config)
        if threads is not None:
            torch.set_num_threads(threads)
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            # cuDNN's attention plans anew for every batch size that it meets: stalls under load.
            torch.backends.cuda.enable_cudnn_sdp(False)
        self.concurrency = 1 if on_gpu else share_of_cores(workers, threads)
        self._illegal: Callable[..., Any] | None = None
        self._dtype = torch.float32
        self._network = self._load(newest_version(folder), config)
        self._warm_up()

    def compute(self, inputs: Arrays) -> Arrays:
        arrays = [inputs[spec.name] for spec in self.signature.inputs]
        if self._illegal is not None and self._illegal(*arrays).any():
            first = self.signature.inputs[0].name
            raise EngineRefused(f"{first} holds values out of range for {self.signature.model}")
        with torch.inference_mode():
            output = self._network(*map(self._tensor, arrays))
            full = output.float() if output.is_floating_point() else output
            return {self.signature.outputs[0].name: full.cpu().numpy()}

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        dtype = self._dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self._device, dtype)

    def _load(self, version: Path, config: Any) -> Any:
        source = version / "network.py"
        if not source.is_file():
            name = config.default_model_filename or "model.pt"
            return _torchscript(version / name, self._device)
        options = {name: value.string_value for name, value in config.parameters.items()}
        labels = self.signature.outputs[0].dims[-1]
        try:
            network = load_file(source).build(options, labels, _weights(version, options))
            self._dtype = _dtype(options.get("precision", "auto"), self._device)
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            raise ModelConfigError(f"{source} cannot be built: {error!r}") from error
        self._illegal = getattr(network, "illegal", None)
        return network.eval().requires_grad_(False).to(self._device, self._dtype)

    def _warm_up(self) -> None:
        """Kernels are loaded when they are first met; better now than for a client."""
        zeros = zero_inputs(self.signature, self.signature.inputs)
        if zeros is not None:
            self.compute(zeros)


def _torchscript(path: Path, device: torch.device) -> Any:
    if not path.is_file():
        raise RepositoryError(
            f"{path.parent} holds neither network.py nor {path.name}; PyTorch needs one of them"
        )
    try:
        return torch.jit.load(str(path), device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as error:
        raise ModelConfigError(f"{path} is not TorchScript: {str(error)[:300]}") from error


def _weights(version: Path, options: dict[str, str]) -> Any:
    checkpoint = options.get("checkpoint")
    if not checkpoint:
        return None
    return load_file(version / "execution.py").read_weights(Path(checkpoint))


def _device(config: Any) -> torch.device:
    """A GPU if there is one, and if config.pbtxt does not ask for the processor."""
    cpu = any(group.kind == group.KIND_CPU for group in config.instance_group)
    return torch.device("cpu" if cpu or not torch.cuda.is_available() else "cuda")


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in _PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it is one of auto, half, float")
    return _PRECISIONS[precision]
