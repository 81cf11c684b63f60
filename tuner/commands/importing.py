"""Experiments out of a Model Analyzer file, written where a search reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tuner.documents import parse_yaml, read_text
from tuner.errors import DocumentError, StorageError, UsageError
from tuner.model_analyzer.translate import Translated, Translation, translate


@dataclass(frozen=True)
class Imported:
    """``files`` that were written, and the ``commands`` that search with them."""

    translation: Translation
    files: tuple[Path, ...]
    commands: tuple[str, ...]


def import_configuration(file: Path, folder: Path) -> Imported:
    """An experiment for each model, with its search space beside it; UsageError where the file is
    no configuration of Model Analyzer, or a file would be overwritten.
    """
    try:
        content = parse_yaml(read_text(file)).content
        translation = translate(content)
    except DocumentError as error:
        raise UsageError(f"{file}{error.place}: {error}") from error
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    texts: dict[Path, str] = {}
    commands = []
    alone = len(translation.experiments) == 1
    for each in translation.experiments:
        path = folder / ("tuner.yaml" if alone else f"{each.name}.yaml")
        space = folder / ("space.yaml" if alone else f"{each.name}-space.yaml")
        texts |= _texts(each, path, space, file.name)
        commands.append(_command(each, path))
    for path in texts:
        if path.exists():
            raise UsageError(f"{path} exists; choose another folder with --to")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error
    return Imported(translation, tuple(texts), tuple(commands))


def _texts(made: Translated, path: Path, space: Path, source: str) -> dict[Path, str]:
    fields = dict(made.fields)
    found: dict[Path, str] = {}
    if made.space is not None:
        fields["space"] = str(space)
        found[space] = _yaml({"name": made.name, "parameters": made.space}, source)
    return {path: _yaml(fields, source), **found}


def _yaml(content: dict[str, Any], source: str) -> str:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return f"# From {source}.\n{text}"


def _command(made: Translated, path: Path) -> str:
    config = "" if path == Path("tuner.yaml") else f" --config {path}"
    return f"tuner search{config}" + (" --sla-p99 DURATION" if made.lacks_sla else "")
