"""Runs batches through a network: eager, as CUDA graphs, or compiled. Knows nothing of Triton.

This file and model.py are the same in every PyTorch model of this repository; network.py differs.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

EXECUTIONS = ("eager", "cuda_graphs", "compiled")
TOLERANCE = {torch.float16: 2e-2, torch.float32: 1e-3}
"""How far an execution may be from eager: ||out - eager|| / ||eager||, by precision."""

Example = Callable[[int, torch.Generator], list[Tensor]]


class Slot:
    """Room on the host for one batch; pinned, where it goes to a GPU.

    ``inputs`` are arrays [most, ...] to write rows into.
    """

    def __init__(self, like: list[Tensor], most: int, pinned: bool) -> None:
        self.tensors = [
            torch.zeros((most, *x.shape[1:]), dtype=x.dtype, pin_memory=pinned) for x in like
        ]
        self.inputs = [x.numpy() for x in self.tensors]
        self.output: Tensor | None = None


class Runner:
    """A network on a device, ready for batches of 1 to ``most`` rows.

    ``example(rows, generator)`` makes inputs. ``network.regions()`` are the parts that
    torch.compile gets, each on its own: compiling one of many equal layers is enough. Every
    execution but eager is held against eager here, on random inputs, at each batch size that is
    captured; ValueError where they differ.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Example,
        most: int,
        device: torch.device,
        execution: str = "eager",
        precision: str = "auto",
    ) -> None:
        if execution not in EXECUTIONS:
            raise ValueError(f"execution is {execution!r}; it is one of {', '.join(EXECUTIONS)}")
        if execution == "cuda_graphs" and device.type != "cuda":
            raise ValueError("execution cuda_graphs needs a GPU; this instance is on a processor")
        self._most = most
        self._device = device
        self.dtype = _dtype(precision, device)
        self.network = network.eval().requires_grad_(False).to(device, self.dtype)
        if device.type == "cuda":
            # cuDNN's attention plans anew for every batch size that it meets: stalls under load.
            torch.backends.cuda.enable_cudnn_sdp(False)
        self._generator = torch.Generator().manual_seed(0)
        self._example = example
        like = example(1, self._generator)
        self._like = like
        self._inputs = [
            torch.zeros((most, *x.shape[1:]), dtype=x.dtype, device=device) for x in like
        ]
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.sizes = batch_sizes(most)
        if execution != "eager":
            with torch.inference_mode():
                self._prepare(self.network.regions() if execution == "compiled" else [])
        if self._stream is not None:
            torch.cuda.synchronize(device)  # weights and inputs were made on another stream
            slot = self.slot()
            for size in self.sizes:  # kernels are loaded when they are first met
                self.run(slot, size)

    def slot(self) -> Slot:
        return Slot(self._like, self._most, pinned=self._device.type == "cuda")

    def run(self, slot: Slot, rows: int) -> np.ndarray:
        """The output [rows, ...] as float32, in the slot's own memory; returns when it is there."""
        with torch.inference_mode():
            if self._stream is None:
                return self.network(*(x[:rows] for x in slot.tensors)).float().numpy()
            with torch.cuda.stream(self._stream):
                for host, there in zip(slot.tensors, self._inputs, strict=True):
                    there[:rows].copy_(host[:rows], non_blocking=True)
                output = self._forward(rows)
                if slot.output is None:
                    size = (self._most, *output.shape[1:])
                    slot.output = torch.empty(size, dtype=torch.float32, pin_memory=True)
                slot.output[:rows].copy_(output[:rows], non_blocking=True)
            self._stream.synchronize()
        return slot.output[:rows].numpy()

    def _forward(self, rows: int) -> Tensor:
        if not self._graphs:
            return self.network(*(x[:rows] for x in self._inputs)).float()
        size = next(size for size in self.sizes if size >= rows)
        graph, output = self._graphs[size]
        graph.replay()
        return output

    def _prepare(self, regions: list[nn.Module]) -> None:
        """Compile and capture what serves each batch size, and hold it against eager."""
        sizes = self.sizes if self._stream is not None else sorted({1, self._most})
        cases = [(rows, self._example(rows, self._generator)) for rows in sizes]
        eager = [self.network(*(x.to(self._device) for x in x_s)).float() for _, x_s in cases]
        for region in regions:
            region.compile(dynamic=True, fullgraph=True)
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                self._capture(sizes)
        slot = self.slot()
        for (rows, inputs), expected in zip(cases, eager, strict=True):
            for room, x in zip(slot.inputs, inputs, strict=True):
                room[:rows] = x.numpy()
            got = torch.from_numpy(self.run(slot, rows)).to(self._device)
            error = float((got - expected).norm() / expected.norm())
            if not error <= TOLERANCE[self.dtype]:
                raise ValueError(
                    f"a batch of {rows} differs from eager by {error:.2g} of its norm; "
                    f"the tolerance is {TOLERANCE[self.dtype]:g}"
                )

    def _capture(self, sizes: list[int]) -> None:
        pool = torch.cuda.graph_pool_handle()
        for size in sorted(sizes, reverse=True):  # the largest makes the pool that all share
            inputs = [x[:size] for x in self._inputs]
            for _ in range(2):
                self.network(*inputs)
            torch.cuda.synchronize(self._device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=self._stream):
                output = self.network(*inputs).float()
            self._graphs[size] = (graph, output)


def batch_sizes(most: int) -> list[int]:
    """Sizes to capture, up to ``most``: at least three quarters of each above 4 get used."""
    sizes = {1, 2, 4, most}
    size, step = 4, 4
    while size < most:
        sizes.add(size)
        size += step
        step = max(4, size // 4 // 4 * 4)
    return sorted(s for s in sizes if s <= most)


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Tensors by name, of model.safetensors or pytorch_model.bin; OSError if neither is there."""
    tensors = checkpoint / "model.safetensors"
    if tensors.is_file():
        from safetensors.torch import load_file

        return load_file(tensors)
    return torch.load(checkpoint / "pytorch_model.bin", map_location="cpu", weights_only=True)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    match precision:
        case "half":
            return torch.float16
        case "float":
            return torch.float32
        case "auto":
            return torch.float16 if device.type == "cuda" else torch.float32
    raise ValueError(f"precision is {precision!r}; it is one of auto, half, float")
