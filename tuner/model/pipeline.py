"""The models that a request of an ensemble passes through, and in which order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.errors import ModelConfigError
from tuner.model.config import read_config
from tuner.model.space import did_you_mean

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Step:
    """One call of a composing model. ``after`` are the indices of the steps whose outputs it reads;
    steps that do not wait for each other run at the same time. ``reads`` and ``makes`` pair the
    model's own tensors with those of the pipeline, of which each has a name of its own.
    """

    model: str
    after: tuple[int, ...] = ()
    reads: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    makes: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Pipeline:
    """The steps of an ensemble, each one after those that it waits for. A nested ensemble is
    replaced by its own steps; ``nested`` names those, the innermost first. ``called`` are models
    that a step calls itself (BLS), which no configuration tells. A model that is no ensemble and
    calls others is the only step of its pipeline.
    """

    name: str
    steps: tuple[Step, ...]
    nested: tuple[str, ...] = ()
    called: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The models that work for it, each once, in the order of their first step; those that are
        called last.
        """
        return tuple(dict.fromkeys((*(step.model for step in self.steps), *self.called)))

    @property
    def loaded(self) -> tuple[str, ...]:
        """What has to be loaded before the pipeline itself, in that order."""
        steps = (step.model for step in self.steps if step.model != self.name)
        return tuple(dict.fromkeys((*self.called, *steps, *self.nested)))

    @classmethod
    def of(cls, folder: Path, config: Any, called: tuple[str, ...] = ()) -> "Pipeline | None":
        """The pipeline of the ensemble in ``folder``, a model of a repository, or of a model that
        calls others; None of another model. ModelConfigError if a step is missing or cannot be
        measured, or ensembles contain each other.
        """
        for model in called:
            _check_called(folder, model)
        if not config.HasField("ensemble_scheduling"):
            return cls(config.name, (Step(config.name),), called=called) if called else None
        flat = _Flat(folder.parent)
        known = {tensor.name: _Made(tensor.name) for tensor in config.input}
        flat.add(config, known, (config.name,))
        return cls(config.name, tuple(flat.steps), tuple(dict.fromkeys(flat.nested)), called)


@dataclass(frozen=True)
class _Made:
    """A tensor by its name in the pipeline, and the indices of the steps that make it."""

    name: str
    by: tuple[int, ...] = ()


class _Flat:
    """Collects the steps of an ensemble and of those inside it."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self.steps: list[Step] = []
        self.nested: list[str] = []
        self._calls = 0

    def add(
        self, config: Any, known: Mapping[str, _Made], inside: tuple[str, ...]
    ) -> dict[str, _Made]:
        """Add the ensemble's steps, of whose input tensors it is ``known`` what makes them; the
        same of all its tensors.
        """
        makers = dict(known)
        scope = "" if self._calls == 0 else f"{self._calls}:"
        self._calls += 1
        for step in _ordered(config, set(makers)):
            inputs = {own: makers[tensor] for own, tensor in step.input_map.items()}
            made = self._call(step, inputs, inside, scope)
            makers |= {
                tensor: made.get(own, _Made(f"{scope}{tensor}"))
                for own, tensor in step.output_map.items()
            }
        return makers

    def _call(
        self, step: Any, inputs: Mapping[str, _Made], inside: tuple[str, ...], scope: str
    ) -> dict[str, _Made]:
        """Add what the step calls; what makes each of its outputs."""
        model = step.model_name
        if model in inside:
            raise ModelConfigError(f"ensembles contain each other: {' > '.join([*inside, model])}")
        config = self._read(model, inside[-1])
        if config is not None and config.HasField("ensemble_scheduling"):
            own = {tensor.name: _Made("") for tensor in config.input}  # optional ones may be open
            made = self.add(config, {**own, **inputs}, (*inside, model))
            self.nested.append(model)
            return made
        if config is not None and config.model_transaction_policy.decoupled:
            raise ModelConfigError(
                f"{inside[-1]} calls {model}, which is decoupled: a request may have any number of "
                "responses, while tuner measures the time to a single one"
            )
        before = sorted({index for made in inputs.values() for index in made.by})
        self.steps.append(
            Step(
                model,
                tuple(before),
                tuple((own, made.name) for own, made in inputs.items() if made.name),
                tuple((own, f"{scope}{tensor}") for own, tensor in step.output_map.items()),
            )
        )
        by = (len(self.steps) - 1,)
        return {own: _Made(f"{scope}{tensor}", by) for own, tensor in step.output_map.items()}

    def _read(self, model: str, ensemble: str) -> Any:
        """None of a model without config.pbtxt: Triton derives it from the model's file."""
        folder = self._repository / model
        if not folder.is_dir():
            raise ModelConfigError(
                f"{ensemble} calls the model {model}, which is not in {self._repository}"
            )
        return read_config(folder) if (folder / CONFIG).is_file() else None


def _check_called(folder: Path, model: str) -> None:
    if model == folder.name or not (folder.parent / model).is_dir():
        others = sorted(p.parent.name for p in folder.parent.glob(f"*/{CONFIG}"))
        hint = did_you_mean(model, [each for each in others if each != folder.name])
        raise ModelConfigError(
            f"--bls-composing-models {model}: it is not another model of {folder.parent}{hint}"
        )


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
