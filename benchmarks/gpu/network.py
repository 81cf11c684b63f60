"""A model's PyTorch network in this process: as it is served, and as a reference for what is."""

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.models import Workbench


def modules(folder: Path) -> tuple[Any, Any]:
    """A model's ``network`` and ``execution``; every PyTorch model has modules of these names."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("network"), importlib.import_module("execution")
    finally:
        sys.path.remove(str(folder))
        for name in ("network", "execution"):
            sys.modules.pop(name, None)


@dataclass(frozen=True)
class Reference:
    """Texts [rows, length] with their masks, and the logits [rows, labels] that belong to them."""

    ids: np.ndarray
    mask: np.ndarray
    logits: np.ndarray

    def first(self, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.ids[:rows], self.mask[:rows], self.logits[:rows]


def reference(bench: Workbench, model: str, rows: int) -> Reference:
    """The texts that are sent, computed on the processor in single precision."""
    network, _ = modules(bench.repository / model / "1")
    built = network.build(bench.options(model), bench.outputs(model), None).eval()
    data = json.loads(bench.texts.read_text(encoding="utf-8"))["data"][:rows]
    ids = np.array([entry["input_ids"] for entry in data])
    mask = np.array([entry["attention_mask"] for entry in data])
    with torch.inference_mode():
        logits = built(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()
    return Reference(ids, mask, logits)
