"""The command ``tuner``: parse, call, print, exit code."""

import json
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tuner import __version__
from tuner.cli import options
from tuner.cli.compare import compare
from tuner.cli.exit_codes import NOT_MET, OK, exit_codes
from tuner.cli.invocation import command_line, given, plan_of
from tuner.cli.serve import serve
from tuner.errors import UsageError

_REPORTS = Path("reports")
_CODES = """
Exit codes: 0 a winner was found, 1 nothing meets the promise, 2 usage, 3 something is missing on
this machine (server, engine, disk), 130 interrupted.
"""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Finds the Triton configuration that serves the most requests within a latency promise, "
    "and says which way to serve a model fits: FastAPI, Triton, or both.",
    epilog=_CODES,
)


def main() -> None:
    """Entry point of the console script; a polite end is handled as Ctrl-C is."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    app()


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"tuner {__version__}")
        raise typer.Exit


@app.command(
    epilog="Example: tuner search model_repository/text_classifier --sla-p99 20ms" + _CODES
)
def search(
    model: options.Model = None,
    sla_p99: options.SlaP99 = None,
    sla: options.SlaText = None,
    constraint: options.Constraints = None,
    minimize: options.Minimize = None,
    rate: options.AtRate = None,
    space: options.Space = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="At most so many candidates.")
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            help="At most so long, confirmation included; 3m by default.",
            metavar="DURATION",
        ),
    ] = None,
    until: options.Until = None,
    sampler: options.Sampler = None,
    relaunch: options.Relaunch = None,
    warm_start: options.WarmStart = None,
    seed: options.Seed = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", help="Any Optuna storage URL; SQLite in the run's folder if none."
        ),
    ] = None,
    output: options.Output = _REPORTS,
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run's folder.", metavar="NAME")
    ] = None,
    config: options.Config = None,
    launcher: options.LauncherKind = None,
    image: options.Image = None,
    gpus: options.Gpus = None,
    shm_size: options.ShmSize = None,
    env: options.Env = None,
    server_arg: options.ServerArgs = None,
    url: options.Url = None,
    grpc_url: options.GrpcUrl = None,
    header: options.Headers = None,
    token_env: options.TokenEnv = None,
    tls_ca: options.TlsCa = None,
    tls_insecure: options.TlsInsecure = None,
    startup_timeout: options.StartupTimeout = None,
    protocol: options.ProtocolKind = None,
    load: options.Load = None,
    batch: options.Batch = None,
    shared_memory: options.SharedMemory = None,
    load_engine: options.LoadEngine = None,
    workers: options.Workers = None,
    pin: options.Pin = None,
    input_data: options.InputData = None,
    shape: options.Shapes = None,
    confirm: options.Confirm = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the configuration that serves the most requests within a latency promise; or, with
    --minimize, the one that comes to least at a given rate.

    Launches Triton with one candidate after another, measures each under load, and leaves the
    winner's config.pbtxt, a repository to serve, and a report. The same command resumes a run that
    was interrupted.
    """
    asked = given(locals())
    with exit_codes():
        from tuner.cli import summary
        from tuner.commands import session

        plan = plan_of(asked, sla_p99, sla, config)
        with _view(plan, as_json, quiet, plan.experiment.timeout) as view:
            found, reason = session.search(plan, output, run, command_line(), view)
        code = summary.show(found, reason, as_json, Console())
    raise typer.Exit(code)


@app.command(
    epilog="Example: tuner measure text_classifier --sla-p99 20ms --set max_batch_size=8 --rate 300"
    + _CODES
)
def measure(
    model: options.Model = None,
    sla_p99: options.SlaP99 = None,
    sla: options.SlaText = None,
    constraint: options.Constraints = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a field, as in max_batch_size=8; may be repeated.",
            metavar="FIELD=VALUE",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            min=0.01,
            help="Judge this rate (requests/s); else find the capacity.",
            metavar="RATE",
        ),
    ] = None,
    seed: options.Seed = None,
    output: options.Output = _REPORTS,
    config: options.Config = None,
    launcher: options.LauncherKind = None,
    image: options.Image = None,
    gpus: options.Gpus = None,
    shm_size: options.ShmSize = None,
    env: options.Env = None,
    server_arg: options.ServerArgs = None,
    url: options.Url = None,
    grpc_url: options.GrpcUrl = None,
    header: options.Headers = None,
    token_env: options.TokenEnv = None,
    tls_ca: options.TlsCa = None,
    tls_insecure: options.TlsInsecure = None,
    startup_timeout: options.StartupTimeout = None,
    protocol: options.ProtocolKind = None,
    load: options.Load = None,
    batch: options.Batch = None,
    shared_memory: options.SharedMemory = None,
    load_engine: options.LoadEngine = None,
    workers: options.Workers = None,
    pin: options.Pin = None,
    input_data: options.InputData = None,
    shape: options.Shapes = None,
    confirm: options.Confirm = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure one configuration: the model as found, or with some fields changed."""
    asked = given(locals())
    with exit_codes():
        from tuner.cli import summary
        from tuner.commands import session

        changes = options.settings(assignments)
        plan = plan_of(asked, sla_p99, sla, config)
        with _view(plan, as_json, quiet, None) as view:
            found, _ = session.measure(plan, changes, rate, output, command_line(), view)
        code = summary.show(found, None, as_json, Console())
    raise typer.Exit(code)


@app.command(
    epilog="Example: tuner simulate reports/RUN --set max_batch_size=32 --set instance_count=2 "
    "--rate 2000" + _CODES
)
def simulate(
    run: Annotated[Path, typer.Argument(help="A run's folder: what it learned of the model.")],
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a field, as in max_batch_size=8; may be repeated.",
            metavar="FIELD=VALUE",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", min=0.01, help="Requests/s; at capacity if not given.", metavar="RATE"
        ),
    ] = None,
    sla_p99: options.SlaP99 = None,
    sla: options.SlaText = None,
    load: options.Load = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
) -> None:
    """Say what a configuration would do, by simulation: no server, no load.

    Service times come from a run; the promise and the load, too, unless they are given.
    """
    with exit_codes():
        from tuner.simulator import is_available

        if not is_available():
            raise UsageError("simulation needs numba, which is not installed: pip install numba")
        from tuner.commands.simulate import forecast
        from tuner.records.run import Run

        changes = options.settings(assignments)
        promise = options.promise(sla_p99, sla)
        found = forecast(Run.open(run), changes, rate, promise, load, batch, seed or 0)
        if as_json:
            typer.echo(json.dumps(vars(found)))
        else:
            typer.echo(f"{found.label} (simulated, not measured)")
            for name, value in found.lines():
                typer.echo(f"  {name:<24}{value}")
    raise typer.Exit(OK if found.kept else NOT_MET)


app.add_typer(serve, name="serve")
app.command(
    epilog="Example: tuner compare model_repository/text_classifier --sla-p99 20ms" + _CODES
)(compare)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
) -> None:
    """Write a run's report again, from its records."""
    with exit_codes():
        from tuner.records.run import Run
        from tuner.report.page import write_report

        typer.echo(write_report(Run.open(run)))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    destination: Annotated[Path, typer.Option("--to", help="New folder for the model repository.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="The model's folder, if it was moved.")
    ] = None,
) -> None:
    """Write the winner as a model repository that Triton serves as it is."""
    with exit_codes():
        from tuner.commands.export import export_winner
        from tuner.records.run import Run

        found = Run.open(run)
        source = model or Path(str(found.experiment().get("model")))
        typer.echo(export_winner(found, source, destination))


@app.command()
def doctor(
    image: Annotated[
        str | None, typer.Option("--image", help="The Docker image to look for.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show what is here, what is missing, and how to get it."""
    with exit_codes():
        from tuner.commands.doctor import can_launch, examine
        from tuner.experiment import DEFAULT_IMAGE

        findings = examine(image or DEFAULT_IMAGE)
        if as_json:
            typer.echo(json.dumps([vars(finding) for finding in findings], indent=2))
        else:
            for each in findings:
                mark = "ok     " if each.there else "missing"
                hint = f"  -> {each.remedy}" if each.remedy and not each.there else ""
                typer.echo(f"{mark}  {each.name}: {each.detail}{hint}".rstrip(": "))
    raise typer.Exit(OK if can_launch(findings) else 3)


def _view(plan: Any, as_json: bool, quiet: bool, budget: float | None) -> Any:
    from tuner.cli.view import LiveView, PlainView
    from tuner.goals.sla import Sla

    console = Console(stderr=True)
    sla = Sla.parse(plan.experiment.sla)
    if console.is_terminal and not quiet and not as_json:
        title = f"{plan.config.name}, {sla}"
        objective = None if budget is None else plan.experiment.objective()  # measure has none
        return LiveView(console, sla, title, budget, objective)
    return PlainView(console, sla, quiet)
