"""Workloads of many kinds, emulated and real, for the search to be measured on."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.bench import ROOT

SPACE = """\
name: truth
description: A space that can be measured whole.
parameters:
  max_batch_size: [4, 8, 16, 32, 64]
  dynamic_batching.max_queue_delay_microseconds: [0, 2000]
  instance_group.count: {range: [1, 4]}
"""


@dataclass(frozen=True)
class Workload:
    """A model that sleeps ``base`` and ``per_item`` milliseconds, the share ``exclusive`` of it on
    a device that instances share; or, without these, the sample model of that name as it is.

    ``jitter`` is the coefficient of variation of an execution. Batches times instances of more than
    ``fits`` items do not load (0: all do).
    """

    name: str
    base: float | None = None
    per_item: float = 0.0
    exclusive: float = 1.0
    jitter: float = 0.0
    fits: int = 0
    sla: str = "p99<40ms"
    load: str = "poisson"
    batch: str = "1"

    def model(self, folder: Path) -> Path:
        """The model's folder, made below ``folder``."""
        if self.base is None:
            source = ROOT / "model_repository" / self.name
            return Path(shutil.copytree(source, folder / self.name))
        values = {
            "base_us": 1e3 * self.base,
            "per_item_us": 1e3 * self.per_item,
            "exclusive_share": self.exclusive,
            "jitter": self.jitter,
            "most_items": self.fits,
        }
        return emulated(folder / "emulated_gpu", values)


def emulated(model: Path, values: Mapping[str, float]) -> Path:
    """A copy of the emulated model with these parameters, in the folder ``model`` and of its
    name.
    """
    pythonless = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "model_repository/emulated_gpu", model, ignore=pythonless)
    text = (model / "config.pbtxt").read_text(encoding="utf-8")
    text = text.replace('name: "emulated_gpu"', f'name: "{model.name}"')
    for key, value in values.items():
        entry = f'{{ key: "{key}" value: {{ string_value: "{value:g}" }} }}'
        pattern = re.compile(r'\{ key: "' + key + r'" value: \{ string_value: "[^"]*" \} \}')
        if pattern.search(text):
            text = pattern.sub(entry, text)
        else:
            text = text.replace("parameters [\n", f"parameters [\n  {entry},\n", 1)
    (model / "config.pbtxt").write_text(text, encoding="utf-8")
    return model


WORKLOADS = (
    Workload("gpu", 4.0, 0.35, 0.7),
    Workload("flat", 30.0, 0.05, 0.9, sla="p99<120ms"),
    Workload("steep", 0.5, 0.7, 0.9),
    Workload("one instance is enough", 4.0, 0.3, 1.0),
    Workload("four instances help", 20.0, 1.0, 0.2, sla="p99<100ms"),
    Workload("memory cliff", 4.0, 0.35, 0.7, fits=64),
    Workload("jitter", 4.0, 0.35, 0.7, jitter=0.3),
    Workload("bursts", 4.0, 0.35, 0.7, load="gamma:3"),
    Workload("mixed batches", 4.0, 0.2, 0.7, batch="1:0.7,2:0.2,4:0.1"),
    Workload("text_classifier", sla="p99<20ms"),
    Workload("ranking", sla="p99<100ms"),
)


def named(name: str) -> Workload:
    return next(each for each in WORKLOADS if each.name == name)
