"""Options of the command line alone: how a result is shown, and which file is read."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Experiment file; ./tuner.yaml if there is one.", metavar="FILE"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and print the plan; launch nothing.")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Where runs are kept.", metavar="FOLDER")
]
OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", help="All runs of --output older than this.", metavar="DURATION"),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]


def _known_runs(incomplete: str) -> list[str]:
    output = Path(incomplete).parent if "/" in incomplete else Path("reports")
    found = [str(path.parent) for path in output.glob("*/experiment.yaml")]
    return sorted(path for path in found if path.startswith(incomplete))


RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", autocompletion=_known_runs)]
RunFolders = Annotated[
    list[Path] | None, typer.Argument(help="Folders of runs.", autocompletion=_known_runs)
]
