"""Workloads of several models: mixes that share a device, and pipelines, all of emulated models.

They are sized for a machine of two cores: below 600 requests a second in all, since each execution
of a Python backend costs the processor about a millisecond.
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads import emulated

SPACE = """\
name: several
description: Of each model; together with those of the others, hundreds or thousands of candidates.
parameters:
  max_batch_size: [4, 8, 16]
  dynamic_batching.max_queue_delay_microseconds: [0, 2000]
  instance_group.count: {range: [1, 3]}
"""
LARGEST_REQUEST = 4
"""Items; Triton loads no ensemble that allows more than one of its steps, so the least of
``SPACE``."""
TENSOR = "data_type: TYPE_FP32 dims: [ 16 ]"
"""Of emulated models, in and out."""


@dataclass(frozen=True)
class EmulatedModel:
    """Sleeps ``base`` and ``per_item`` milliseconds for a batch, the share ``exclusive`` of it on
    the device of all models of the repository. ``jitter`` is the coefficient of variation of an
    execution.
    """

    name: str
    base: float
    per_item: float
    exclusive: float
    jitter: float = 0.0

    def write(self, repository: Path) -> None:
        values = {
            "base_us": 1e3 * self.base,
            "per_item_us": 1e3 * self.per_item,
            "exclusive_share": self.exclusive,
            "jitter": self.jitter,
            "shared_device": 1,
        }
        emulated(repository / self.name, values)


@dataclass(frozen=True)
class Mix:
    """Models that are asked independently, each with its share of all requests and its SLA; the
    ``shares`` add up to 1.
    """

    name: str
    models: tuple[EmulatedModel, ...]
    shares: tuple[float, ...]
    slas: tuple[str, ...]

    def repository(self, folder: Path) -> Path:
        """A model repository with these models, made in ``folder``."""
        for model in self.models:
            model.write(folder)
        return folder


@dataclass(frozen=True)
class EmulatedPipeline:
    """An ensemble of this name whose ``steps`` follow each other; the SLA is that of the whole."""

    name: str
    steps: tuple[EmulatedModel, ...]
    sla: str

    def repository(self, folder: Path) -> Path:
        """A model repository with the steps and the ensemble, made in ``folder``."""
        for step in self.steps:
            step.write(folder)
        (folder / self.name / "1").mkdir(parents=True)
        (folder / self.name / "config.pbtxt").write_text(self._config(), encoding="utf-8")
        return folder

    def _config(self) -> str:
        """Its tensors are INPUT, what each step gives, and OUTPUT."""
        between = (f"after_{step.name}" for step in self.steps[:-1])
        tensors = ("INPUT", *between, "OUTPUT")
        steps = ",\n".join(
            f'    {{ model_name: "{step.name}" model_version: -1\n'
            f'      input_map {{ key: "INPUT" value: "{tensors[place]}" }}\n'
            f'      output_map {{ key: "OUTPUT" value: "{tensors[place + 1]}" }} }}'
            for place, step in enumerate(self.steps)
        )
        return (
            f'name: "{self.name}"\nplatform: "ensemble"\nmax_batch_size: {LARGEST_REQUEST}\n'
            f'input [ {{ name: "INPUT" {TENSOR} }} ]\n'
            f'output [ {{ name: "OUTPUT" {TENSOR} }} ]\n'
            f"ensemble_scheduling {{\n  step [\n{steps}\n  ]\n}}\n"
        )


MIXES = (
    # Large batches serve more, but the fast model waits for each of the slow one on the device.
    Mix(
        "fast and slow",
        (EmulatedModel("fast", 3.0, 1.0, 0.7), EmulatedModel("slow", 15.0, 3.0, 0.7)),
        (0.75, 0.25),
        ("p99<60ms", "p99<80ms"),
    ),
    # The SLA of the shortest executions breaks first: it waits for the others' batches.
    Mix(
        "three kinds",
        (
            EmulatedModel("embed", 3.0, 0.8, 0.7, 0.1),
            EmulatedModel("detect", 10.0, 2.0, 0.8, 0.1),
            EmulatedModel("rerank", 25.0, 1.5, 0.4, 0.1),
        ),
        (0.6, 0.25, 0.15),
        ("p99<60ms", "p99<75ms", "p99<110ms"),
    ),
)
PIPELINES = (
    # The second step is the bottleneck, and half of it overlaps: its instances and batches matter.
    EmulatedPipeline(
        "encode_score",
        (EmulatedModel("encode", 3.0, 0.8, 0.5), EmulatedModel("score", 12.0, 2.0, 0.5)),
        "p99<100ms",
    ),
    # Up to batches of 8 the last step is the bottleneck, with 16 the first one.
    EmulatedPipeline(
        "detect_embed_rank",
        (
            EmulatedModel("detect", 10.0, 2.0, 0.25, 0.1),
            EmulatedModel("embed", 4.0, 0.8, 0.5, 0.1),
            EmulatedModel("rank", 25.0, 0.8, 0.15, 0.1),
        ),
        "p99<150ms",
    ),
)
