"""The models that a request of an ensemble passes through, and in which order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import ModelConfigError
from tuner.model.config import read_config

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Step:
    """One call of a composing model. ``after`` are the indices of the steps whose outputs it reads;
    steps that do not wait for each other run at the same time.
    """

    model: str
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """The steps of an ensemble, each one after those that it waits for. A nested ensemble is
    replaced by its own steps.
    """

    name: str
    steps: tuple[Step, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Its composing models, each once, in the order of their first step."""
        return tuple(dict.fromkeys(step.model for step in self.steps))

    @classmethod
    def of(cls, folder: Path, config: Any) -> "Pipeline | None":
        """The pipeline of the ensemble in ``folder``, a model of a repository; None of another
        model. ModelConfigError if a step is missing, or ensembles contain each other.
        """
        if not config.HasField("ensemble_scheduling"):
            return None
        flat = _Flat(folder.parent)
        flat.add(config, {tensor.name: () for tensor in config.input}, (config.name,))
        return cls(config.name, tuple(flat.steps))


class _Flat:
    """Collects the steps of an ensemble and of those inside it."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self.steps: list[Step] = []

    def add(
        self, config: Any, known: Mapping[str, tuple[int, ...]], inside: tuple[str, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Add the ensemble's steps, of whose input tensors it is ``known`` by which steps they are
        made; the same of all its tensors.
        """
        makers = dict(known)
        for step in _ordered(config, set(makers)):
            inputs = {own: makers[tensor] for own, tensor in step.input_map.items()}
            made = self._call(step, inputs, inside)
            makers |= {tensor: made.get(own, ()) for own, tensor in step.output_map.items()}
        return makers

    def _call(
        self, step: Any, inputs: Mapping[str, tuple[int, ...]], inside: tuple[str, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Add what the step calls; by which steps each of its outputs is made."""
        model = step.model_name
        if model in inside:
            raise ModelConfigError(f"ensembles contain each other: {' > '.join([*inside, model])}")
        config = self._read(model, inside[-1])
        if config is not None and config.HasField("ensemble_scheduling"):
            own = {tensor.name: () for tensor in config.input}  # optional ones may get nothing
            return self.add(config, {**own, **inputs}, (*inside, model))
        before = sorted({index for indices in inputs.values() for index in indices})
        self.steps.append(Step(model, tuple(before)))
        return {own: (len(self.steps) - 1,) for own in step.output_map}

    def _read(self, model: str, ensemble: str) -> Any:
        """None of a model without config.pbtxt: Triton derives it from the model's file."""
        folder = self._repository / model
        if not folder.is_dir():
            raise ModelConfigError(
                f"{ensemble} calls the model {model}, which is not in {self._repository}"
            )
        return read_config(folder) if (folder / CONFIG).is_file() else None


def _ordered(config: Any, known: set[str]) -> Iterator[Any]:
    """The ensemble's own steps, each after those that make its inputs."""
    left = list(config.ensemble_scheduling.step)
    if not left:
        raise ModelConfigError(f"{config.name} is an ensemble without a step")
    while left:
        ready = [step for step in left if set(step.input_map.values()) <= known]
        if not ready:
            lacking = sorted(set(left[0].input_map.values()) - known)
            raise ModelConfigError(
                f"{config.name}: the step {left[0].model_name} reads {lacking[0]!r}, which no step "
                "before it makes and which is no input"
            )
        for step in ready:
            yield step
            known |= set(step.output_map.values())
        left = [step for step in left if not any(step is each for each in ready)]
