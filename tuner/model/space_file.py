"""Search spaces from YAML: presets by name, files by path; errors name the line."""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tuner.documents import parse_yaml, read_text
from tuner.errors import DocumentError, SpaceError
from tuner.model.parameter import Parameter
from tuner.model.space import SearchSpace, did_you_mean, full_path
from tuner.resources import bundled
from tuner.text import shortened, shown

_MOST_ERRORS = 20
"""Errors that one message lists at most: thousands of values may be wrong."""


def load_space(name_or_path: str) -> SearchSpace:
    """A preset by its name (``default``) or a YAML file by its path."""
    presets = bundled("search_spaces")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = presets / f"{name_or_path}.yaml"
        if not os.path.isfile(path):  # Path.is_file raises where no file can have such a name
            known = sorted(p.stem for p in presets.glob("*.yaml"))
            raise SpaceError(
                f"there is no search space {shown(name_or_path)}; choose a preset "
                f"({', '.join(known)}) or the path of a .yaml file"
            )
    try:
        text = read_text(path)
    except DocumentError as error:
        raise SpaceError(f"cannot read the search space {shortened(str(path))}: {error}") from error
    return parse_space(text, shortened(str(path)))


def parse_space(text: str, source: str) -> SearchSpace:
    """A space from YAML text; an error names the source, the line and the field."""
    try:
        document = parse_yaml(text)
    except DocumentError as error:
        raise SpaceError(f"{source}{error.place}: {error}") from error
    root = document.root
    if not isinstance(document.content, dict):
        raise SpaceError(f"{source}: a search space must be a mapping with the key 'parameters'")
    try:
        space = SearchSpace.model_validate(document.content)
        for path in space.parameters:
            space._places[path] = f"{source}:{_line_of(root, ['parameters', path])}"
    except ValidationError as error:
        explained = [_explain(each, source, root) for each in error.errors()[:_MOST_ERRORS]]
        raise SpaceError("\n".join(explained)) from error
    if not space.parameters:
        raise SpaceError(
            f"{source}:{_line_of(root, ['parameters'])}: a search space needs at least one "
            "parameter"
        )
    return space


def _explain(error: Any, source: str, root: Any) -> str:
    location = [str(part) for part in error["loc"]]
    known = [part for part in location if not part.startswith(("tuple[", "function-", "union"))]
    message = str(error["msg"]).removeprefix("Value error, ")
    path, _, _ = message.partition(":")
    line = _line_of(root, known or ["parameters", path])
    if error["type"] == "extra_forbidden":
        fields = [*SearchSpace.model_fields, *Parameter.model_fields]
        message = f"unknown field{did_you_mean(known[-1], fields)}"
    field = shortened(".".join(known[:3])) or "space"
    return f"{source}:{line}: {field}: {shortened(message)}"


def _line_of(node: Any, location: list[str]) -> int:
    """The line (from 1) of the innermost node on the way that the text spells out."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if part == key.value or part == full_path(str(key.value)):
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line
