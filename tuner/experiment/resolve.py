"""Builds an experiment from options, environment variables and a YAML file."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuner.documents import parse_yaml, read_text
from tuner.errors import DocumentError, UsageError
from tuner.experiment.find import find_model
from tuner.experiment.model import Experiment
from tuner.experiment.options import takes_several, usage_error, written_out
from tuner.model.space import did_you_mean
from tuner.text import shortened, shown

FILE = Path("tuner.yaml")
PREFIX = "TUNER_"


def resolve(
    options: Mapping[str, Any], file: Path | None = None, without: Collection[str] = ()
) -> Experiment:
    """The experiment from a YAML file (by default ``tuner.yaml``), environment variables
    (``TUNER_TIMEOUT=5m``) and options, later ones first; None and empty lists mean not given.

    Fields in ``without`` are not read and keep their defaults. UsageError if a value is invalid.
    """
    values = {**_from_file(file), **_from_environment()}
    given = {name: value for name, value in options.items() if value not in (None, (), [])}
    values.update(written_out(Experiment, given))
    for name in without:
        values.pop(name, None)
    if "sla" not in values:
        raise UsageError("no SLA is given; set one, such as --sla-p99 20ms")
    values["model"] = find_model(values.get("model"), several=True)
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise usage_error(error) from error


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None and not FILE.is_file():
        return {}
    path = file or FILE
    name = shortened(str(path))
    try:
        text = read_text(path)
    except DocumentError as error:
        raise UsageError(f"cannot read {name}: {error}") from error
    try:
        content = parse_yaml(text).content
    except DocumentError as error:
        raise UsageError(f"{name}{error.place}: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{name}: an experiment must be a mapping, such as 'sla: p99<20ms'")
    for key in content:
        if key not in Experiment.model_fields:
            hint = did_you_mean(str(key), list(Experiment.model_fields))
            raise UsageError(f"{name}: unknown field {shown(key)}{hint}")
    for key in ("model", "input_data", "tls_ca"):
        value = content.get(key)
        if isinstance(value, str) and os.path.exists(path.parent / value):
            content[key] = path.parent / value
    kind, _, trace = str(content.get("load", "")).partition(":")
    if kind == "trace" and trace and os.path.exists(path.parent / trace):
        content["load"] = f"trace:{path.parent / trace}"
    return content


def _from_environment() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in Experiment.model_fields.items():
        text = os.environ.get(PREFIX + name.upper())
        if text is not None:
            many = takes_several(field)
            parts = text.splitlines() if name == "headers" else text.split()
            values[name] = tuple(part for part in parts if part.strip()) if many else text
    return values
