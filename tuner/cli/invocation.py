"""The command line as it was given: its options as an experiment, and its words for the record."""

import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from tuner.cli import options


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Options as fields of the experiment."""
    renamed = {
        "server_arg": "server_args",
        "constraint": "constraints",
        "shape": "shapes",
        "header": "headers",
    }
    return {renamed.get(name, name): value for name, value in values.items()}


def plan_of(
    asked: dict[str, Any], sla_p99: str | None, sla: str | None, config: Path | None
) -> Any:
    """A ``session.Plan``; UsageError where something does not fit."""
    from tuner.commands.session import Plan
    from tuner.experiment import Experiment, resolve

    fields = {name: asked[name] for name in Experiment.model_fields if name in asked}
    fields["sla"] = options.promise(sla_p99, sla)
    return Plan.of(resolve(fields, config))


def command_line() -> str:
    """The command line, with passwords of storage URLs and values of headers left out."""
    from tuner.security import hide_value

    words = ["tuner"]
    for before, word in pairwise(sys.argv):
        if before == "--header":
            word = hide_value(word)
        elif word.startswith("--header="):
            word = "--header=" + hide_value(word.removeprefix("--header="))
        words.append(_without_password(word))
    return shlex.join(words)


def _without_password(word: str) -> str:
    from tuner.search.storage import hide_password

    option, separator, url = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + separator + (hide_password(url) if "://" in url else url)
