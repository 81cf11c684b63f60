"""A Model Analyzer file as experiments: what each entry becomes, and what is left out and why."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuner.documents import fault
from tuner.errors import UsageError
from tuner.experiment.model import Experiment
from tuner.model_analyzer.flags import load_fields, server_fields
from tuner.model_analyzer.notes import Notes
from tuner.model_analyzer.spaces import Parameters, bounded_space, is_valid, parameters_of
from tuner.model_analyzer.values import mapping, names, numbers
from tuner.text import shown

_LATENCY = "perf_latency_p"
_NEEDLESS = {
    **dict.fromkeys(
        ("concurrency", "request_rate", "request_rate_search_enable", "use_concurrency_formula"),
        "tuner finds the highest rate of each candidate",
    ),
    **dict.fromkeys(
        (
            *("run_config_search_min_concurrency", "run_config_search_max_concurrency"),
            *("run_config_search_min_request_rate", "run_config_search_max_request_rate"),
            *("run_config_search_max_binary_search_steps", "concurrency_sweep_disable"),
        ),
        "tuner finds the highest rate of each candidate",
    ),
    **dict.fromkeys(
        ("checkpoint_directory", "export_path", "output_model_repository_path"),
        "runs, reports and the winner are kept in --output",
    ),
    **dict.fromkeys(
        (
            *("override_output_model_repository", "num_configs_per_model", "num_top_model_configs"),
            *("filename_model_inference", "filename_model_gpu", "filename_server_only"),
            *("inference_output_fields", "gpu_output_fields", "server_output_fields", "plots"),
            *("skip_summary_reports", "skip_detailed_reports", "always_report_gpu_metrics"),
            *("report_model_configs", "summarize", "perf_output", "perf_output_path"),
        ),
        "each run has one report, with all records beside it",
    ),
    **dict.fromkeys(
        ("duration_seconds", "monitoring_interval", "collect_cpu_metrics", "dcgm_disable"),
        "CPU, memory and GPU are read in each probe",
    ),
    **dict.fromkeys(
        (
            *("perf_analyzer_path", "perf_analyzer_timeout", "perf_analyzer_cpu_util"),
            *("perf_analyzer_max_auto_adjusts", "client_max_retries", "triton_metrics_url"),
            *("genai_perf_path", "triton_install_path", "triton_output_path"),
        ),
        "tuner's own load generator sends the requests, and logs are kept with the run",
    ),
    **dict.fromkeys(
        (
            *("run_config_search_mode", "run_config_search_disable"),
            *("min_percentage_of_search_space", "max_percentage_of_search_space"),
            *("optuna_min_trials", "optuna_early_exit_threshold"),
        ),
        "tuner simulates every candidate, and measures the most promising ones until nothing is to "
        "be gained",
    ),
}
_REFUSED = {
    "triton_docker_mounts": "tuner shows the container the model repository alone; put files there",
    "triton_docker_args": "tuner starts containers with the GPUs, cores and memory that it needs",
    "triton_docker_labels": "tuner labels its containers itself",
    "triton_server_path": "put tritonserver on the PATH",
    "cpu_only": "write KIND_CPU in config.pbtxt",
    "cpu_only_composing_models": "write KIND_CPU in config.pbtxt",
    "reload_model_disable": "an attached server needs explicit model control",
    "genai_perf_flags": "tuner does not measure LLM endpoints",
    "model_type": "tuner does not measure LLM endpoints",
    "min_throughput": "a search states what is served; 'tuner gate --against RATE' tests a rate",
}
_SPACES = ("model_batch_size", "instance_count")


@dataclass
class Translated:
    """One experiment: ``fields`` as in ``tuner.yaml``, and its search space (None: a preset).
    ``lacks_sla`` says that the file has no bound on latency.
    """

    name: str
    fields: dict[str, Any]
    space: Parameters | None = None

    @property
    def lacks_sla(self) -> bool:
        return "sla" not in self.fields


@dataclass
class Translation:
    experiments: list[Translated]
    notes: Notes = field(default_factory=Notes)


def translate(content: Any) -> Translation:
    """UsageError where it is no configuration of Model Analyzer, or contradicts itself."""
    settings = mapping(content, "the file")
    models = _models(settings)
    notes = Notes()
    common = _common(settings, notes)
    if settings.get("run_config_profile_models_concurrently_enable") and len(models) > 1:
        notes.taken("run_config_profile_models_concurrently_enable", "one search of all models")
        made = [_together(settings, models, common, notes)]
    else:
        made = [_single(settings, name, own, common, notes) for name, own in models.items()]
    for each in made:
        _drop_invalid(each, notes)
    return Translation(made, notes)


def _models(settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    raw = settings.get("profile_models")
    if raw is None:
        raise UsageError("profile_models is missing: this is no configuration of Model Analyzer")
    if isinstance(raw, Mapping):
        return {name: mapping(own, f"profile_models.{name}") for name, own in raw.items()}
    found: dict[str, Mapping[str, Any]] = {}
    for each in raw if isinstance(raw, list) else names(raw, "profile_models"):
        if isinstance(each, Mapping):
            found |= {n: mapping(own, f"profile_models.{n}") for n, own in each.items()}
        else:
            found |= {name: {} for name in names(each, "profile_models")}
    return found


def _common(settings: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Fields of all experiments, and a note on each entry that none of them looks at."""
    fields = server_fields(settings, notes)
    trials = settings.get("optuna_max_trials")
    if trials is not None:
        (fields["trials"],) = numbers(trials, "optuna_max_trials")[:1]
        notes.taken("optuna_max_trials", f"trials: {fields['trials']}")
    if "client_protocol" in settings:
        fields["protocol"] = str(settings["client_protocol"])
        notes.taken("client_protocol", f"protocol: {fields['protocol']}")
    for name in settings:
        _note_rest(name, name, notes)
    return fields


_ELSEWHERE = {
    *("model_repository", "profile_models", "constraints", "objectives", "latency_budget"),
    *("batch_sizes", "perf_analyzer_flags", "weighting", "bls_composing_models", "parameters"),
    *("ensemble_composing_models", "model_config_parameters", "config_file"),
    *("run_config_profile_models_concurrently_enable", "client_protocol", "optuna_max_trials"),
    *("triton_launch_mode", "triton_docker_image", "triton_docker_shm_size", "triton_server_flags"),
    *("triton_server_environment", "triton_http_endpoint", "triton_grpc_endpoint", "gpus"),
    *(f"run_config_search_{end}_{what}" for end in ("min", "max") for what in _SPACES),
}


def _note_rest(name: str, place: str, notes: Notes) -> None:
    if name in _NEEDLESS:
        notes.needless(place, _NEEDLESS[name])
    elif name in _REFUSED:
        notes.missing(place, _REFUSED[name])
    elif name not in _ELSEWHERE:
        notes.missing(place, "Model Analyzer's documentation has no such entry")


def _single(
    settings: Mapping[str, Any],
    name: str,
    own: Mapping[str, Any],
    common: dict[str, Any],
    notes: Notes,
) -> Translated:
    place = f"profile_models.{name}"
    fields = {"model": _folder(settings, name), **common}
    fields |= server_fields(own, notes, place)
    fields |= _goal(settings, own, place, notes)
    fields |= _load(settings, own, place, notes)
    space: Parameters = {}
    if "model_config_parameters" in own:
        where = f"{place}.model_config_parameters"
        space |= parameters_of(own["model_config_parameters"], where, notes)
    for kind in ("bls_composing_models", "ensemble_composing_models"):
        called, theirs = _composing({**settings, **own}.get(kind), kind, notes)
        space |= theirs
        if kind == "bls_composing_models" and called:
            fields[kind] = called
            notes.taken(kind, f"{kind}: {', '.join(called)}")
    for each in own:
        _note_rest(each, f"{place}.{each}", notes)
    if "weighting" in own:
        notes.missing(f"{place}.weighting", "it goes with several models at once")
    return Translated(name, fields, _space(settings, space, notes))


def _together(
    settings: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    common: dict[str, Any],
    notes: Notes,
) -> Translated:
    """All models at once, each with its bounds."""
    fields = {"model": _folder(settings, ""), **common}
    bounds: list[str] = []
    space: Parameters = {}
    for name, own in models.items():
        place = f"profile_models.{name}"
        goal = _goal(settings, own, place, notes)
        bounds += [f"{name}:{bound}" for bound in goal.pop("sla", "").split(",") if bound]
        fields |= goal | _load(settings, own, place, notes)
        if "model_config_parameters" in own:
            where = f"{place}.model_config_parameters"
            space |= parameters_of(own["model_config_parameters"], where, notes, name)
        if "weighting" in own:
            notes.missing(f"{place}.weighting", "--mix says how often each model is asked")
        for each in own:
            _note_rest(each, f"{place}.{each}", notes)
    if bounds:
        fields["sla"] = ",".join(bounds)
    fields["mix"] = ",".join(f"{name}=1" for name in models)
    return Translated("models", fields, _space(settings, space, notes, together=True))


def _space(
    settings: Mapping[str, Any], space: Parameters, notes: Notes, together: bool = False
) -> Parameters | None:
    """The one that is written out or, of a single model, what the bounds of a search come to."""
    if not space and not together:
        return bounded_space(settings, notes)
    for end, what in itertools.product(("min", "max"), _SPACES):
        name = f"run_config_search_{end}_{what}"
        if name in settings:
            notes.missing(name, "write the values in the search space")
    return space or None


def _folder(settings: Mapping[str, Any], name: str) -> str:
    repository = settings.get("model_repository")
    if not isinstance(repository, str):
        repository = "model_repository"
    return str(Path(repository) / name)


def _goal(
    settings: Mapping[str, Any], own: Mapping[str, Any], place: str, notes: Notes
) -> dict[str, Any]:
    """SLA and constraints; a model's own entries count in place of those for all."""
    bounds: dict[str, float] = {}
    limits: list[str] = []
    where = f"{place}.constraints" if "constraints" in own else "constraints"
    raw = own.get("constraints", settings.get("constraints"))
    for name, ends in mapping(raw, where).items():
        known = mapping(ends, f"{where}.{name}")
        if name.startswith(_LATENCY) and _is_number(known.get("max")):
            bounds[f"p{name.removeprefix(_LATENCY)}"] = float(known["max"])
            notes.taken(f"{where}.{name}", f"sla: p{name.removeprefix(_LATENCY)}<{known['max']}ms")
        elif name == "gpu_used_memory" and _is_number(known.get("max")):
            limits.append(f"gpu_memory<{known['max']}MB")
            notes.taken(f"{where}.{name}", f"constraints: {limits[-1]}")
        elif name == "perf_throughput":
            notes.missing(f"{where}.{name}", _REFUSED["min_throughput"])
        else:
            notes.missing(f"{where}.{name}", "tuner limits latencies, gpu_memory, memory and cpu")
    budget = own.get("latency_budget", settings.get("latency_budget"))
    if _is_number(budget):
        bounds["p99"] = float(budget)
        notes.taken("latency_budget", f"sla: p99<{budget}ms")
    _note_objectives(own.get("objectives", settings.get("objectives")), place, notes)
    fields: dict[str, Any] = {"constraints": limits} if limits else {}
    if bounds:
        fields["sla"] = ",".join(f"{name}<{limit:g}ms" for name, limit in bounds.items())
    return fields


def _is_number(raw: Any) -> bool:
    return isinstance(raw, int | float) and not isinstance(raw, bool) and raw > 0


def _note_objectives(raw: Any, place: str, notes: Notes) -> None:
    for name in names(list(raw) if isinstance(raw, Mapping) else raw or [], "objectives"):
        if name == "perf_throughput":
            notes.taken("objectives.perf_throughput", "the default: the capacity is maximized")
        elif name.startswith(_LATENCY):
            percentile = f"p{name.removeprefix(_LATENCY)}"
            text = f"at a given rate: --minimize {percentile} --rate RATE"
            notes.missing(f"objectives.{name}", text)
        elif name == "gpu_used_memory":
            text = "at a given rate: --minimize gpu_memory --rate RATE"
            notes.missing(f"objectives.{name}", text)
        else:
            notes.missing(f"objectives.{name}", "tuner maximizes the capacity, or minimizes a cost")


def _load(
    settings: Mapping[str, Any], own: Mapping[str, Any], place: str, notes: Notes
) -> dict[str, Any]:
    parameters = mapping(own.get("parameters"), f"{place}.parameters")
    merged = {**settings, **own, **parameters}
    fields: dict[str, Any] = {}
    if "batch_sizes" in merged:
        sizes = numbers(merged["batch_sizes"], "batch_sizes")
        fields["batch"] = str(sizes[0])
        notes.taken("batch_sizes", f"batch: {sizes[0]}")
        if len(sizes) > 1:
            rest = ", ".join(map(str, sizes[1:]))
            notes.missing("batch_sizes", f"{rest}: another search of each, with --batch")
    for name in parameters:
        _note_rest(name, f"{place}.parameters.{name}", notes)
    flags = {
        **mapping(settings.get("perf_analyzer_flags"), "perf_analyzer_flags"),
        **mapping(own.get("perf_analyzer_flags"), f"{place}.perf_analyzer_flags"),
    }
    return fields | load_fields(flags, notes)


def _composing(raw: Any, kind: str, notes: Notes) -> tuple[list[str], Parameters]:
    """Names, and their parameters in the space."""
    if raw is None:
        return [], {}
    if not isinstance(raw, Mapping):
        listed: list[str] = []
        space: Parameters = {}
        for each in raw if isinstance(raw, list) else names(raw, kind):
            if isinstance(each, Mapping):
                more, theirs = _composing(each, kind, notes)
                listed, space = [*listed, *more], space | theirs
            else:
                listed += names(each, kind)
        return listed, space
    space = {}
    for name, own in raw.items():
        known = mapping(own, f"{kind}.{name}")
        if "model_config_parameters" in known:
            where = f"{kind}.{name}.model_config_parameters"
            space |= parameters_of(known["model_config_parameters"], where, notes, name)
        for each in known:
            _note_rest(each, f"{kind}.{name}.{each}", notes)
    return list(raw), space


def _drop_invalid(made: Translated, notes: Notes) -> None:
    """What tuner would refuse is left out, with its reason."""
    for path in [path for path, each in (made.space or {}).items() if not is_valid(each)]:
        assert made.space is not None
        notes.missing(path, f"{shown(made.space.pop(path))} is no parameter of a search space")
    if made.space == {}:
        made.space = None
    for name, value in list(made.fields.items()):
        entries = value if isinstance(value, list) else [value]
        kept = []
        for each in entries:
            why = _fault(name, [each] if isinstance(value, list) else each)
            if why is None:
                kept.append(each)
            else:
                notes.missing(f"{name}: {each}", why)
        made.fields[name] = kept if isinstance(value, list) else value
        if not kept:
            del made.fields[name]


def _fault(name: str, value: Any) -> str | None:
    """Why an experiment does not take the value; None if it does."""
    try:
        Experiment.model_validate({"model": "model", "sla": "p99<1s", name: value})
    except ValidationError as error:
        return fault(error)
    except UsageError as error:
        return str(error)
    return None
