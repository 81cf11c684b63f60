"""The commands as Python functions, which the command line calls too.

    import tuner

    result = tuner.search("text_classifier", sla_p99="20ms", timeout="3m")
    result.winner.capacity, result.config, result.to_dataframe(), result.figure("pareto")

Every option of a command is a keyword of its function, with underscores for dashes, and accepts
text as on the command line, or the value itself: ``timeout="3m"`` or ``timeout=180``. ``help``
shows them. Nothing is printed; errors are subclasses of ``tuner.errors.TunerError``.
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel, ValidationError

from tuner.commands.audience import Audience, Silent, Watcher
from tuner.commands.options import (
    COMPARE_WITHOUT,
    MEASURE_WITHOUT,
    CompareOptions,
    GateOptions,
    MeasureOptions,
    SearchOptions,
    SimulateOptions,
    Without,
)
from tuner.commands.results import CompareResult, GateResult, MeasureResult, SearchResult
from tuner.commands.simulate import SimulateResult
from tuner.errors import UsageError
from tuner.experiment.model import Experiment
from tuner.experiment.options import option_of, usage_error, written_out
from tuner.experiment.resolve import resolve
from tuner.model.space import did_you_mean
from tuner.records.run import Run

P = ParamSpec("P")
R = TypeVar("R")
Chosen = TypeVar("Chosen", bound=BaseModel)
Model = str | Path | Experiment | None
"""A model's folder or name, as on the command line; or an Experiment."""
NOTHING = Without()


def _parameters(model: type[BaseModel], without: Without) -> Iterator[inspect.Parameter]:
    """A keyword for each field that is an option, and for its shorthand; the model itself is
    positional.
    """
    for name, field in model.model_fields.items():
        option = option_of(field)
        is_hidden = model is Experiment and name in without.names
        if option is None or option.argument or is_hidden:
            continue
        if option.shorthand is not None:
            yield inspect.Parameter(
                option.shorthand.name, inspect.Parameter.KEYWORD_ONLY, default=None
            )
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        yield inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.annotation
        )


def _help(models: tuple[type[BaseModel], ...], name: str) -> str:
    for model in reversed(models):  # a command's own option goes before the experiment's
        for field_name, field in model.model_fields.items():
            option = option_of(field)
            if option is not None and field_name == name:
                return option.help
            if option is not None and option.shorthand and option.shorthand.name == name:
                return option.shorthand.help
    raise KeyError(name)


def _takes(
    *models: type[BaseModel], without: Without = NOTHING
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Show the fields of these models in the function's signature and documentation."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function).parameters.values()
        kept = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [p for model in models for p in _parameters(model, without)]
        lines = [f"    {each.name}: {_help(models, each.name)}" for each in options]
        function.__signature__ = inspect.Signature([*kept, *options])  # type: ignore[attr-defined]
        function.__doc__ = f"{inspect.getdoc(function)}\n\nOptions:\n" + "\n".join(lines)
        return function

    return decorate


@_takes(Experiment, SearchOptions)
def search(
    model: Model = None,
    *,
    config: Path | None = None,
    progress: Audience | None = None,
    command: str | None = None,
    began: float | None = None,
    **options: Any,
) -> SearchResult:
    """Find the configuration that serves the most requests within an SLA, or the cheapest one at a
    given rate.

    Runs or resumes a search as ``tuner search`` does, and leaves the same run folder. ``config`` is
    an experiment file, ``progress`` receives events, ``command`` is recorded, and ``began`` is when
    the run started (monotonic clock; default: now).
    """
    from tuner.commands.plan import Plan
    from tuner.commands.search import search

    experiment, chosen = _made(model, config, SearchOptions, options)
    return search(Plan.of(experiment), chosen, progress or Silent(), command, began)


@_takes(Experiment, MeasureOptions, without=MEASURE_WITHOUT)
def measure(
    model: Model = None,
    *,
    config: Path | None = None,
    progress: Audience | None = None,
    command: str | None = None,
    began: float | None = None,
    **options: Any,
) -> MeasureResult:
    """Measure one configuration: the model's own, or with some fields changed.

    ``changes`` are such fields, ``{"max_batch_size": 8}``; ``config``, ``progress``, ``command``
    and ``began`` are as in ``search``.
    """
    from tuner.commands.measure import measure
    from tuner.commands.plan import Plan

    experiment, chosen = _made(model, config, MeasureOptions, options, MEASURE_WITHOUT)
    return measure(Plan.of(experiment, tunes=False), chosen, progress or Silent(), command, began)


@_takes(Experiment, GateOptions, without=MEASURE_WITHOUT)
def gate(
    model: Model = None,
    *,
    config: Path | None = None,
    progress: Audience | None = None,
    command: str | None = None,
    began: float | None = None,
    **options: Any,
) -> GateResult:
    """Whether a change makes a model serve less within its SLA than another version of it.

    ``config``, ``progress``, ``command`` and ``began`` are as in ``search``.
    """
    from tuner.commands.gate import gate
    from tuner.commands.plan import Plan

    experiment, chosen = _made(model, config, GateOptions, options, MEASURE_WITHOUT)
    return gate(Plan.of(experiment, tunes=False), chosen, progress or Silent(), command, began)


@_takes(SimulateOptions)
def simulate(run: str | Path, **options: Any) -> SimulateResult:
    """Predict what a configuration would do, from the profile in ``run``; no server and no load."""
    from tuner.commands.simulate import simulate
    from tuner.simulator import is_available

    if not is_available():
        raise UsageError("simulation needs numba, which is not installed: pip install numba")
    chosen = _options(SimulateOptions, options)
    return simulate(Run.open(Path(run)), chosen)


@_takes(Experiment, CompareOptions, without=COMPARE_WITHOUT)
def compare(
    model: Model = None,
    *,
    config: Path | None = None,
    progress: Watcher | None = None,
    command: str | None = None,
    **options: Any,
) -> CompareResult:
    """Compare ways to serve a model: FastAPI, Triton, and FastAPI in front of Triton.

    ``config``, ``progress`` and ``command`` are as in ``search``. Needs the extra ``serve``.
    """
    from tuner.serving.supervise import require_packages

    require_packages()
    from tuner.commands.compare import compare
    from tuner.commands.plan import Plan

    experiment, chosen = _made(model, config, CompareOptions, options, COMPARE_WITHOUT)
    return compare(Plan.of(experiment), chosen, progress or Silent(), command)


def _made(
    model: Model,
    config: Path | None,
    kind: type[Chosen],
    options: dict[str, Any],
    without: Without = NOTHING,
) -> tuple[Experiment, Chosen]:
    """The experiment and the command's own options; UsageError names what is wrong."""
    own = {name: options[name] for name in kind.model_fields if name in options}
    rest = {name: value for name, value in options.items() if name not in own}
    if isinstance(model, Experiment):
        _refuse_unknown(rest, kind)
        return model, _options(kind, own)
    _refuse_unknown(rest, Experiment, kind, without=without)
    experiment = resolve({"model": model, **rest}, config, without.no_use)
    return experiment, _options(kind, own)


def _options(kind: type[Chosen], values: dict[str, Any]) -> Chosen:
    given = {name: value for name, value in values.items() if value is not None}
    _refuse_unknown(given, kind)
    try:
        return kind.model_validate(written_out(kind, given))
    except ValidationError as error:
        raise usage_error(error) from error


def _refuse_unknown(
    names: dict[str, Any], *models: type[BaseModel], without: Without = NOTHING
) -> None:
    known = [each.name for model in models for each in _parameters(model, without)]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown option {name!r}{did_you_mean(name, known)}")
