"""What a search would do, from what can be known before anything is started."""

from collections.abc import Iterator

from tuner.commands.plan import Plan
from tuner.commands.preflight import check_gpus
from tuner.commands.search import checked
from tuner.experiment.model import Experiment
from tuner.model.config import is_complete
from tuner.model.parameter import Parameter
from tuner.model.signature import Signature, TensorSpec
from tuner.model.space import Candidate, format_value, short_name
from tuner.optimizer.stopping import SETTINGS, Budget, StoppingPolicy
from tuner.report.wording import describe_mix
from tuner.servers.choose import choose
from tuner.servers.gpu import Gpus
from tuner.units import exact_duration, format_clock

_COUNTED = 10_000
"""Candidates: of a larger space, only that it is larger is said."""


def describe_plan(plan: Plan) -> list[tuple[str, str]]:
    """Rows of name and text; raises what the search itself would raise before its first launch."""
    experiment = plan.experiment
    checked(plan)
    kind = choose(experiment.launcher, experiment.image, experiment.url)
    with Gpus("none" if experiment.gpus == "none" else "all") as gpus:
        check_gpus(plan, gpus, kind)
        devices = ", ".join(gpu.name for gpu in gpus.devices) or "none seen"
    return [
        *_model(plan),
        ("baseline", str(Candidate.of(plan.own)) + " (your current configuration)"),
        *_space(plan),
        *_workload(plan),
        ("server", _server(kind, experiment)),
        ("GPUs", devices),
        *_time(plan),
    ]


def _model(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.repository is not None:
        yield from _models(plan)
        return
    config = plan.config
    backend = config.backend or config.platform or "chosen by Triton"
    yield "model", f"{config.name} ({backend}), {plan.experiment.model}"
    if not is_complete(config):
        yield "", "config.pbtxt leaves fields to Triton; a server is launched to ask for them"
        return
    signature = Signature.of_config(config)
    yield "inputs", ", ".join(map(_tensor, signature.inputs))
    yield "outputs", ", ".join(map(_tensor, signature.outputs))


def _models(plan: Plan) -> Iterator[tuple[str, str]]:
    repository = plan.repository
    assert repository is not None
    title = "pipeline" if repository.pipeline is not None else "models"
    names = ", ".join(repository.asked)
    yield title, f"{names}, in {repository.folder}"
    if repository.pipeline is not None:
        yield "steps", " > ".join(repository.pipeline.models)
    elif plan.mix is not None:
        yield "mix", describe_mix(plan.mix)
    if not plan.is_complete:
        yield "", "some leave fields to Triton; a server is launched to ask for them"


def _tensor(spec: TensorSpec) -> str:
    optional = " (optional)" if spec.optional else ""
    return f"{spec.name} {spec.datatype}[{','.join(map(str, spec.dims))}]{optional}"


def _space(plan: Plan) -> Iterator[tuple[str, str]]:
    size = plan.space.count(limit=_COUNTED)
    count = f"more than {_COUNTED:,}" if size is None else f"{size:,}"
    yield "space", f"{plan.experiment.space}: {count} candidates"
    for path, parameter in plan.space.parameters.items():
        yield "", f"{short_name(path)}: {_values(parameter)}"


def _values(parameter: Parameter) -> str:
    if parameter.range is None:
        listed = parameter.values or ()
        return ", ".join("as it is" if v is None else format_value(v) or "none" for v in listed)
    low, high = parameter.range
    return f"{low} to {high}" + (f", step {parameter.step}" if parameter.step else "")


def _workload(plan: Plan) -> Iterator[tuple[str, str]]:
    experiment = plan.experiment
    yield "SLA", ", ".join([str(experiment.sla), *map(str, experiment.constraints)])
    if experiment.minimize is not None:
        yield "objective", f"minimize {experiment.minimize.title}"
    load = f"{experiment.load}, over {experiment.protocol.value}"
    items = str(experiment.batch)
    yield "load", load + ("" if items == "1" else f", {items} items per request")
    if experiment.input_data is not None:
        yield "requests", f"from {experiment.input_data}"
    else:
        yield "requests", f"made up from seed {experiment.seed}"


def _server(kind: str, experiment: Experiment) -> str:
    match kind:
        case "docker":
            return f"Docker, {experiment.image}"
        case "attached":
            return f"attached, {experiment.url}"
    return "local, without Docker"


def _time(plan: Plan) -> Iterator[tuple[str, str]]:
    experiment = plan.experiment
    confirms = experiment.confirm != "none"
    policy = StoppingPolicy(
        Budget(experiment.trials, experiment.timeout, confirms, experiment.until),
        None,
        experiment.minimize is not None,
    )
    parts = [f"at most {format_clock(experiment.timeout)} (--timeout), report included"]
    if experiment.simulates:
        parts.append(f"calibration up to {format_clock(policy.seconds_to_calibrate())}")
    if confirms:
        parts.append(f"confirmation about {format_clock(policy.seconds_for_confirmation())}")
    if experiment.simulates:
        parts.append("it ends earlier once no candidate is expected to gain more than --until")
    yield "time", "; ".join(parts)
    least = policy.least_seconds_to_confirm()
    if confirms and experiment.timeout < least:
        yield "", _too_short(policy.seconds_for_confirmation(), least)


def _too_short(left: float, least: float) -> str:
    return (
        "--timeout is too short: a confirmation takes "
        f"{format_clock(SETTINGS.confirmation_seconds)} or more, and {format_clock(left)} is "
        "reserved for it; the search may measure your current configuration alone, and its result "
        "may stay unconfirmed; give --timeout "
        f"{exact_duration(least)} or more, or --confirm none"
    )
