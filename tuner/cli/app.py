"""The command ``tuner``: parse, call, print, exit code."""

import atexit
import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tuner.cli.exit_codes import MISSING, NOT_MET, OK
from tuner.cli.invocation import command_began, command_line
from tuner.cli.options import (
    Config,
    DryRun,
    Json,
    OlderThan,
    Output,
    Quiet,
    RunFolder,
    RunFolders,
    Yes,
)
from tuner.cli.parameters import command
from tuner.cli.serve import serve
from tuner.commands.options import (
    COMPARE_WITHOUT,
    MEASURE_WITHOUT,
    CompareOptions,
    GateOptions,
    InitOptions,
    JobOptions,
    MeasureOptions,
    SearchOptions,
    SimulateOptions,
)
from tuner.experiment.model import DEFAULT_IMAGE, Experiment
from tuner.interrupts import Interrupted, hear_no_more, listen
from tuner.text import printable
from tuner.version import __version__

if TYPE_CHECKING:
    from tuner.cli.view import LiveView, PlainView

_CODES = (
    "\n\nExit codes: 0 the SLA is met (of a search: a winner was found), 1 it is not, 2 wrong "
    "usage, 3 something is missing on this machine (server, engine, disk), 130 interrupted."
)
_YOUNG = 200_000
"""New objects until garbage is collected: importing makes half a million, and all of them stay."""
_TABLE_WIDTH = 110
"""Columns of a summary where there is no terminal."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Find the Triton configuration that serves the most requests within a latency SLA, and "
    "whether FastAPI, Triton, or FastAPI in front of Triton serves your model best.",
    epilog=_CODES.strip(),
)


def main() -> None:
    """Entry point of the console script; a polite end is handled as Ctrl-C is."""
    gc.set_threshold(_YOUNG)
    atexit.register(gc.freeze)  # else the end takes a second to collect what goes anyway
    listen()
    try:
        app()
    finally:
        hear_no_more()


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"tuner {__version__}")
        raise typer.Exit


@command(app, "Example: tuner search text_classifier --sla-p99 20ms" + _CODES)
def search(
    experiment: Experiment,
    options: SearchOptions,
    config: Config = None,
    as_json: Json = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> int:
    """Find the configuration that serves the most requests within a latency SLA; or, with
    --minimize, the cheapest configuration at a given rate.

    Launches Triton with one candidate after another, measures each under load, and writes the
    winner's config.pbtxt, a repository to serve, and a report. The same command resumes an
    interrupted search.
    """
    from tuner import api
    from tuner.cli import summary

    if dry_run:
        return _show_plan(experiment, as_json)
    try:
        with _view(experiment, as_json, quiet, experiment.timeout) as view:
            result = api.search(
                experiment,
                progress=view,
                command=command_line(),
                began=command_began(),
                **dict(options),
            )
    except Interrupted as interrupt:
        summary.show_so_far(interrupt.folder, Console(stderr=True))
        raise
    return summary.show(result.run, result.reason, as_json, _wide_console())


@command(
    app,
    "Example: tuner measure text_classifier --sla-p99 20ms --set max_batch_size=8 --rate 300"
    + _CODES,
)
def measure(
    experiment: Annotated[Experiment, MEASURE_WITHOUT],
    options: MeasureOptions,
    config: Config = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure one configuration: your current one, or with some fields changed."""
    from tuner import api
    from tuner.cli import summary

    with _view(experiment, as_json, quiet, None) as view:
        result = api.measure(
            experiment,
            progress=view,
            command=command_line(),
            began=command_began(),
            **dict(options),
        )
    return summary.show(result.run, None, as_json, _wide_console())


@command(
    app,
    "Examples: tuner init model.onnx --to models; tuner init model.pt2; tuner init bert/; "
    "tuner init service.py:predict --input x:FP32:4",
)
def init(
    source: Annotated[
        str,
        typer.Argument(
            help="A file of ONNX, a PyTorch program (.pt2), TorchScript (.pt), a folder of "
            "transformers, or a Python function: service.py:predict."
        ),
    ],
    options: InitOptions,
    as_json: Json = False,
) -> None:
    """Make a model repository of a model: config.pbtxt and sample inputs from the model's own
    signature. Serves it once, and holds its answers against the model's own runtime.
    """
    from tuner.commands.init import create

    made = create(source, options)
    if as_json:
        typer.echo(json.dumps(vars(made), default=str))
        return
    typer.echo(f"wrote {made.folder}")
    if made.served is not None:
        typer.echo(f"served by {made.served}: its answers are those of the model's own runtime")
    for note in made.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"next: {made.command}")


@command(
    app,
    "Example: tuner gate models/detector --sla-p99 20ms --against origin/main"
    "\n\nExit codes: 0 pass, 1 fail, 4 inconclusive, 2 wrong usage, 3 something is missing on this "
    "machine (server, engine, disk), 130 interrupted.",
)
def gate(
    experiment: Annotated[Experiment, MEASURE_WITHOUT],
    options: GateOptions,
    config: Config = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Fail a change that makes a model slower: compare it with a git revision, within the SLA.

    Measures both versions in interleaved rounds until the verdict is clear. Inconclusive, with an
    exit code of its own, where what was measured does not tell: never a pass for lack of data.
    """
    from tuner import api
    from tuner.cli import gate_summary
    from tuner.cli.compare_view import CompareView
    from tuner.report.gate_formats import tell_github

    result = api.gate(
        experiment,
        progress=CompareView(Console(stderr=True), experiment.sla, quiet or as_json),
        command=command_line(),
        began=command_began(),
        **dict(options),
    )
    code = gate_summary.show(result.run, result.record, as_json, _wide_console())
    for line in tell_github(result.run):
        typer.echo(line, err=as_json)
    return code


@command(
    app,
    "Example: tuner simulate reports/RUN --set max_batch_size=32 --set instance_count=2 "
    "--rate 2000" + _CODES,
)
def simulate(
    run: RunFolder,
    options: SimulateOptions,
    as_json: Json = False,
) -> int:
    """Predict latency and capacity of a configuration by simulation: no server, no load.

    Service times come from a run, and so do SLA and load unless you give them.
    """
    from tuner import api

    forecast = api.simulate(run, **dict(options))
    if as_json:
        typer.echo(json.dumps(vars(forecast)))
    else:
        typer.echo(f"{forecast.label} (simulated, not measured)")
        for name, value in forecast.lines():
            typer.echo(f"  {name:<24}{value}")
    return OK if forecast.kept else NOT_MET


app.add_typer(serve, name="serve")


@command(app, "Example: tuner compare text_classifier --sla-p99 20ms" + _CODES)
def compare(
    experiment: Annotated[Experiment, COMPARE_WITHOUT],
    options: CompareOptions,
    config: Config = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Compare FastAPI, Triton, and FastAPI in front of Triton for your model.

    Runs each on this machine under the same load, measures them in interleaved rounds, and says
    which one to use, up to which rate, and what it costs. Writes a report.
    """
    from tuner import api
    from tuner.cli import compare_summary
    from tuner.cli.compare_view import CompareView

    view = CompareView(Console(stderr=True), experiment.sla, quiet or as_json)
    try:
        result = api.compare(experiment, progress=view, command=command_line(), **dict(options))
    except Interrupted as interrupt:
        compare_summary.show_so_far(interrupt.folder, Console(stderr=True))
        raise
    return compare_summary.show(result.run, as_json, _wide_console())


@command(app)
def report(run: RunFolder) -> None:
    """Write a run's report again from its records."""
    from tuner.records.run import Run
    from tuner.report.page import write_report

    typer.echo(write_report(Run.open(run)))


@command(app)
def export(
    run: RunFolder,
    destination: Annotated[Path, typer.Option("--to", help="New folder for the model repository.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="The model's folder, if it was moved.")
    ] = None,
    kubernetes: Annotated[
        Path | None,
        typer.Option(
            "--kubernetes", help="New folder for manifests and a Helm chart.", metavar="FOLDER"
        ),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            "--uri",
            help="Where pods find the repository: pvc://CLAIM/PATH, s3://…, gs://…",
            metavar="URI",
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Triton's image; default: the run's.")
    ] = None,
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=1, help="Cores of a pod; default: as measured.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="Memory of a pod, such as 4GiB; default: as measured."),
    ] = None,
) -> None:
    """Write the winner as a model repository that Triton can serve; with --kubernetes also what
    deploys and scales it on a cluster.
    """
    from tuner.analysis.search_findings import SearchFindings
    from tuner.commands.export import export_winner
    from tuner.commands.kubernetes import write_serving
    from tuner.errors import UsageError
    from tuner.records.run import Run
    from tuner.report.wording import NO_GAIN_EXPORTED
    from tuner.units import parse_size

    opened = Run.open(run)
    if kubernetes is not None and uri is None:
        raise UsageError("--kubernetes needs --uri: say where pods find the repository")
    typer.echo(export_winner(opened, model, destination))
    if kubernetes is not None and uri is not None:
        size = None if memory is None else parse_size(memory)
        for path in write_serving(opened, kubernetes, uri, image, cpus, size):
            typer.echo(path)
    if SearchFindings.of(opened).exports_unproven_winner:
        typer.echo(f"note: {NO_GAIN_EXPORTED}", err=True)


@command(
    app,
    "Example: tuner job models/detector --sla-p99 20ms --job-image registry/tuner:1 --to k8s",
)
def job(experiment: Experiment, options: JobOptions, config: Config = None) -> None:
    """Write a Kubernetes Job that runs a search, with Triton in the same pod."""
    from tuner.commands.kubernetes import write_job

    for path in write_job(experiment, options):
        typer.echo(path)


@command(app, "Example: tuner import analyzer.yaml --to tuning")
def import_(
    file: Annotated[Path, typer.Argument(help="Configuration file of Model Analyzer.")],
    folder: Annotated[
        Path, typer.Option("--to", help="Where the experiment goes.", metavar="FOLDER")
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Make an experiment of a Model Analyzer configuration, and say what became of each entry."""
    from tuner.cli.import_summary import show_import
    from tuner.commands.importing import import_configuration

    show_import(import_configuration(file, folder), as_json, _wide_console())


@command(app, "Example: tuner metrics reports/RUN --grafana dashboard.json > tuner.prom")
def metrics(
    run: RunFolder,
    grafana: Annotated[
        Path | None,
        typer.Option("--grafana", help="Also write a Grafana dashboard to import.", metavar="FILE"),
    ] = None,
) -> None:
    """Print what a run found as Prometheus metrics: capacity, recommended rate, SLA, latency."""
    from tuner.errors import StorageError
    from tuner.monitoring.grafana import dashboard
    from tuner.monitoring.metrics import metrics_text
    from tuner.records.run import Run, write_text

    opened = Run.open(run)
    typer.echo(metrics_text(opened), nl=False)
    if grafana is not None:
        try:
            write_text(grafana, dashboard(opened))
        except OSError as error:
            raise StorageError(f"cannot write {grafana}: {error.strerror or error}") from error


@command(app, "Example: tuner mlflow reports/RUN --tracking-uri http://HOST:5000")
def mlflow(
    run: RunFolder,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            "--tracking-uri", help="MLflow's server.", metavar="URI", envvar="MLFLOW_TRACKING_URI"
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            "--experiment-name",
            help="MLflow experiment. Default: the model's name.",
            metavar="NAME",
            envvar="MLFLOW_EXPERIMENT_NAME",
        ),
    ] = None,
) -> None:
    """Log a run to MLflow: a parent run, a child for each evaluation, report and winner."""
    from tuner.commands.tracking import track
    from tuner.errors import UsageError
    from tuner.records.run import Run

    opened = Run.open(run)
    if not tracking_uri:
        raise UsageError("say where MLflow is: --tracking-uri URI, or MLFLOW_TRACKING_URI")
    typer.echo(track(opened, tracking_uri, experiment))


@command(app, "Example: tuner dashboard reports/RUN")
def dashboard(
    run: RunFolder,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Its port.")] = 8080,
) -> None:
    """Show a search in Optuna's dashboard: trials, constraints, attributes and artifacts."""
    from tuner.commands.dashboard import serve_dashboard
    from tuner.records.run import Run

    opened = Run.open(run)
    typer.echo(f"http://{host}:{port}/  (Ctrl-C ends it)", err=True)
    serve_dashboard(opened, host, port)


@command(app, "Example: tuner list --json")
def list_(
    output: Output = Path("reports"),
    as_json: Json = False,
) -> None:
    """List runs: the newest first, with what each found."""
    from tuner.cli.runs_table import show_runs
    from tuner.commands.listing import list_runs

    listed = list_runs(output)
    if as_json:
        typer.echo(json.dumps([vars(each) for each in listed], indent=2, default=str))
    elif listed:
        show_runs(listed, Console())
    else:
        typer.echo(f"no runs in {output}; 'tuner search' makes one, --output names another folder")


@command(app, "Example: tuner remove --older-than 30d")
def remove(
    runs: RunFolders = None,
    older_than: OlderThan = None,
    output: Output = Path("reports"),
    yes: Yes = False,
) -> None:
    """Remove runs, with their reports and records. Asks first."""
    from tuner.cli.runs_table import show_runs
    from tuner.commands.listing import chosen_runs, remove_runs

    chosen = chosen_runs(runs or [], older_than, output)
    if not chosen:
        typer.echo("nothing to remove")
        return
    show_runs(chosen, Console())
    if yes or typer.confirm(f"Remove {len(chosen)} run{'s' * (len(chosen) != 1)}?"):
        remove_runs([each.folder for each in chosen])


@command(app)
def doctor(
    image: Annotated[
        str, typer.Option("--image", help="The Docker image to look for.")
    ] = DEFAULT_IMAGE,
    as_json: Json = False,
) -> int:
    """Show what this machine has, what is missing, and how to get it."""
    from tuner.commands.doctor import can_launch, examine

    findings = examine(image)
    if as_json:
        typer.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for each in findings:
            mark = "ok      " if each.there else "missing " if each.needed else "optional"
            hint = f"  -> {each.remedy}" if each.remedy and not each.there else ""
            typer.echo(printable(f"{mark}  {each.name}: {each.detail}{hint}".rstrip(": ")))
        if not can_launch(findings):
            typer.echo("Nothing here starts Triton. Follow one of the remedies above.")
    return OK if can_launch(findings) else MISSING


def _show_plan(experiment: Experiment, as_json: bool) -> int:
    from tuner.commands.dry_run import describe_plan
    from tuner.commands.plan import Plan

    rows = describe_plan(Plan.of(experiment))
    if as_json:
        grouped: dict[str, str] = {}
        name = ""
        for key, text in rows:
            name = key or name
            grouped[name] = f"{grouped[name]}; {text}" if name in grouped else text
        typer.echo(json.dumps(grouped, ensure_ascii=False))
    else:
        for key, text in rows:
            typer.echo(printable(f"{key:<10}  {text}"))
    return OK


def _view(
    experiment: Experiment, as_json: bool, quiet: bool, budget: float | None
) -> "LiveView | PlainView":
    """``budget`` is a search's, in seconds."""
    from tuner.cli.view import LiveView, PlainView

    console, sla = Console(stderr=True), experiment.sla
    if console.is_terminal and not quiet and not as_json:
        title = f"{experiment.model.name}, {sla}"
        objective = None if budget is None else experiment.minimize  # measure has none
        return LiveView(console, sla, title, budget, objective)
    return PlainView(console, sla, quiet)


def _wide_console() -> Console:
    """A terminal as it is; anything else wide enough for the tables of summaries."""
    console = Console()
    return console if console.is_terminal else Console(width=_TABLE_WIDTH)
