"""Options of the command line alone: how a result is shown, and which file is read."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Experiment file; ./tuner.yaml if there is one.", metavar="FILE"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.")]
