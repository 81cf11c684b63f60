"""A run's winner, or a search, as manifests for Kubernetes."""

from pathlib import Path

import yaml

from tuner.commands.options import JobOptions
from tuner.documents import read_text
from tuner.errors import DocumentError, RunError, StorageError, UsageError
from tuner.experiment.model import Experiment
from tuner.kubernetes.chart import chart, yaml_of
from tuner.kubernetes.job import CONFIG, MODELS, SearchJob
from tuner.kubernetes.parts import Resources
from tuner.kubernetes.serving import Serving
from tuner.model.repository import server_flags
from tuner.model.space_file import load_space
from tuner.records.results import best
from tuner.records.run import Run

_MOST_TIMES, _STARTING = 3.0, 1800.0
"""Times the search's own limit, and seconds for images to come and GPUs to be free, after which a
Job is ended with all its attempts."""
_MOST_BYTES = 900_000
"""Of a file in a ConfigMap, which holds a mebibyte in all."""


def write_serving(
    run: Run,
    folder: Path,
    uri: str,
    image: str | None,
    cpus: int | None = None,
    memory: int | None = None,
) -> list[Path]:
    """Manifests and a Helm chart of the winner; what pods need is what its server used near its
    capacity, unless ``cpus`` and ``memory`` (bytes) say otherwise. RunError where the run has no
    winner, or did not see its server.
    """
    winner = best(run.evaluations())
    if winner is None or winner.capacity is None:
        raise RunError(f"{run.folder} has no winner to serve")
    manifest = run.manifest()
    experiment, environment = manifest.experiment, manifest.environment
    probe = winner.at_capacity()
    host = None if probe is None else probe.host
    cores = None if host is None else host.cpu
    peak = None if host is None else host.memory
    if (cores is None and cpus is None) or (peak is None and memory is None):
        raise UsageError(
            f"{run.folder} did not see what its server uses; say what a pod gets, with --cpus and "
            "--memory"
        )
    gpus = environment.gpu_count or 0
    resources = Resources.for_use(cores or 0.0, peak or 0, gpus)
    if cpus is not None:
        resources = Resources(cpus, resources.memory, gpus)
    if memory is not None:
        resources = Resources(resources.cpus, memory, gpus)
    mix = experiment.mix
    serving = Serving(
        manifest.model_name,
        mix.models if mix else (manifest.model_name,),
        image or environment.image or experiment.image,
        uri,
        winner.recommended or winner.capacity,
        resources,
        tuple(server_flags(winner.candidate)),
    )
    texts = {name: yaml_of(made) for name, made in serving.manifests().items()}
    texts |= {f"chart/{name}": text for name, text in chart(serving).items()}
    return _write(folder, texts)


def write_job(experiment: Experiment, options: JobOptions) -> list[Path]:
    """A Job that runs a search of this experiment; UsageError where a pod could not run it."""
    if experiment.attaches:
        raise UsageError("the Job starts Triton itself: leave --url and --launcher attached")
    model = experiment.model
    fields = experiment.model_dump(mode="json", exclude_defaults=True)
    for name in ("launcher", "image", "gpus", "storage", "warm_start"):
        fields.pop(name, None)
    fields["model"] = f"{MODELS}/{model.name}"
    files: dict[str, str] = {}
    if Path(experiment.space).suffix in (".yaml", ".yml"):
        load_space(experiment.space)
        fields["space"] = _add(files, "space.yaml", Path(experiment.space))
    if experiment.input_data is not None:
        fields["input_data"] = _input(files, experiment.input_data, model)
    files["tuner.yaml"] = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    job = SearchJob(
        model.name,
        options.job_image,
        files,
        Resources(options.cpus, options.memory, options.gpu_count),
        options.models_claim,
        options.runs_claim,
        deadline=_MOST_TIMES * experiment.timeout + _STARTING,
    )
    return _write(options.folder, {n: yaml_of(made) for n, made in job.manifests().items()})


def _input(files: dict[str, str], data: Path, model: Path) -> str:
    """Where the pod has the input file: beside the model, or in the experiment's ConfigMap."""
    repository = model.resolve().parent
    if data.resolve().is_relative_to(repository):
        return f"{MODELS}/{data.resolve().relative_to(repository)}"
    return _add(files, "inputs.json", data)


def _add(files: dict[str, str], name: str, path: Path) -> str:
    try:
        text = read_text(path, _MOST_BYTES)
    except DocumentError as error:
        raise UsageError(
            f"{path}: {error}; a ConfigMap holds a megabyte at most, so put the file into the "
            "model repository"
        ) from error
    files[name] = text
    return f"{CONFIG}/{name}"


def _write(folder: Path, texts: dict[str, str]) -> list[Path]:
    """StorageError if a file cannot be written, UsageError if one would be overwritten."""
    paths = {folder / name: text for name, text in texts.items()}
    for path in paths:
        if path.exists():
            raise UsageError(f"{path} exists; choose another folder")
    try:
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error
    return list(paths)
