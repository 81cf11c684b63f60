"""The command ``tuner compare``."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tuner.cli import options
from tuner.cli.exit_codes import exit_codes
from tuner.cli.invocation import command_line, given, plan_of
from tuner.errors import UsageError

_WHAT = "What is compared"


def compare(
    model: options.Model = None,
    sla_p99: options.SlaP99 = None,
    sla: options.SlaText = None,
    deployments: Annotated[
        str | None,
        typer.Option(
            "--deployments",
            help="Which ones, as in 'fastapi,triton-tuned,hybrid,services.yaml': all of naive, "
            "fastapi, triton, triton-unbatched, triton-tuned and hybrid if none are named, and "
            "services of yours out of YAML files.",
            metavar="NAMES",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    target_rate: Annotated[
        float | None,
        typer.Option(
            "--target-rate",
            min=0.01,
            help="Also say what it takes to serve so many requests/s.",
            metavar="RATE",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(
            "--tuned",
            help="The search whose winner is Triton tuned; else one is made first.",
            metavar="RUN",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    search_timeout: Annotated[
        str | None,
        typer.Option(
            "--search-timeout",
            help="At most so long for that search; 90s by default.",
            metavar="DURATION",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    searches: Annotated[
        bool,
        typer.Option(
            "--search/--no-search",
            help="Whether to search for a better configuration of Triton first.",
            rich_help_panel=_WHAT,
        ),
    ] = True,
    requests: Annotated[
        Path | None,
        typer.Option(
            "--requests",
            help="What is asked, one text or JSON body of /predict a line; samples.txt of the "
            "model if not given.",
            metavar="FILE",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    processing: Annotated[
        str | None,
        typer.Option(
            "--processing",
            help="Pre- and post-processing; the model's own processing.py if not given.",
            metavar="FILE",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    fastapi_workers: Annotated[
        int | None,
        typer.Option(
            "--fastapi-workers",
            min=1,
            max=64,
            help="uvicorn workers of FastAPI; one for each core, at most 4, if not given.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    gateway_workers: Annotated[
        int | None,
        typer.Option(
            "--gateway-workers",
            min=1,
            max=64,
            help="uvicorn workers of the gateway; one for each two cores if not given.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds",
            min=1,
            max=20,
            help="Interleaved rounds; 1 for a quick look.",
            rich_help_panel=_WHAT,
        ),
    ] = 3,
    swaps: Annotated[
        bool,
        typer.Option(
            "--swaps/--no-swaps",
            help="Whether to replace the model while it serves.",
            rich_help_panel=_WHAT,
        ),
    ] = True,
    seed: options.Seed = None,
    output: options.Output = Path("reports"),
    config: options.Config = None,
    space: options.Space = None,
    launcher: options.LauncherKind = None,
    image: options.Image = None,
    gpus: options.Gpus = None,
    shm_size: options.ShmSize = None,
    env: options.Env = None,
    server_arg: options.ServerArgs = None,
    url: options.Url = None,
    grpc_url: options.GrpcUrl = None,
    startup_timeout: options.StartupTimeout = None,
    protocol: options.ProtocolKind = None,
    load: options.Load = None,
    workers: options.Workers = None,
    pin: options.Pin = None,
    input_data: options.InputData = None,
    shape: options.Shapes = None,
    confirm: options.Confirm = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say which way to serve a model fits: FastAPI, Triton, or FastAPI in front of Triton.

    Runs each of them on this machine under the same load, measures them in turns, and answers with
    figures: which one, up to which rate, and what it costs. Leaves a report.
    """
    asked = given(locals())
    with exit_codes():
        _require_services()
        from tuner.cli import compare_summary
        from tuner.cli.compare_view import CompareView
        from tuner.commands import compare as comparing
        from tuner.goals.sla import Sla

        plan = plan_of(asked, sla_p99, sla, config)
        choice = _choice(asked)
        view = CompareView(Console(stderr=True), Sla.parse(plan.experiment.sla), quiet or as_json)
        found = comparing.compare(plan, choice, output, command_line(), view)
        code = compare_summary.show(found, as_json, _wide_console())
    raise typer.Exit(code)


def _wide_console() -> Console:
    """A terminal as it is; anything else wide enough for the table."""
    console = Console()
    return console if console.is_terminal else Console(width=110)


def _require_services() -> None:
    from tuner.serving.supervise import require_packages

    require_packages()


def _choice(asked: dict[str, Any]) -> Any:
    from tuner.commands.compare import Choice
    from tuner.deployments.lineup import NAMES
    from tuner.deployments.own import read_services
    from tuner.model.space import did_you_mean
    from tuner.units import parse_duration

    names, services = [], {}
    for word in (asked["deployments"] or "").split(","):
        name = word.strip()
        if name.endswith((".yaml", ".yml")):
            services.update(read_services(Path(name)))
        elif name in NAMES:
            names.append(name)
        elif name:
            hint = did_you_mean(name, list(NAMES))
            raise UsageError(
                f"there is no deployment {name!r}{hint}; services of yours are named in a YAML file"
            )
    if "triton-tuned" in names and not asked["searches"] and asked["tuned"] is None:
        raise UsageError("triton-tuned needs a search: give --tuned RUN, or leave --no-search out")
    clash = [name for name in services if name in NAMES]
    if clash:
        raise UsageError(
            f"a service of yours cannot be called {clash[0]!r}: that is one of tuner's"
        )
    seconds = asked["search_timeout"]
    cores = len(os.sched_getaffinity(0))
    return Choice(
        names=tuple(names) or NAMES,
        services=services,
        tuned=asked["tuned"],
        search_seconds=(parse_duration(seconds or "90s")) if asked["searches"] else None,
        target_rate=asked["target_rate"],
        processing=asked["processing"],
        requests=asked["requests"],
        workers=asked["fastapi_workers"] or min(4, cores),
        gateway_workers=asked["gateway_workers"] or max(1, cores // 2),
        rounds=asked["rounds"],
        swaps=asked["swaps"],
    )
