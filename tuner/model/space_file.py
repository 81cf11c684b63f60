"""Search spaces from YAML: presets by name, files by path; errors name the line."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tuner.errors import SpaceError
from tuner.model.space import SHORT_NAMES, Parameter, SearchSpace, did_you_mean
from tuner.resources import bundled


def load_space(name_or_path: str) -> SearchSpace:
    """A preset by its name (``default``) or a YAML file by its path."""
    presets = bundled("search_spaces")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = presets / f"{name_or_path}.yaml"
        if not path.is_file():
            known = sorted(p.stem for p in presets.glob("*.yaml"))
            raise SpaceError(
                f"no search space is named {name_or_path!r}; the presets are {', '.join(known)}, "
                "or give the path of a .yaml file"
            )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SpaceError(f"cannot read the search space {path}: {reason}") from error
    return parse_space(text, str(path))


def parse_space(text: str, source: str) -> SearchSpace:
    """A space from YAML text; an error names the source, the line and the field."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise SpaceError(f"{source}{line}: not YAML: {problem}") from error
    if not isinstance(raw, dict):
        raise SpaceError(f"{source}: a search space is a mapping with the key 'parameters'")
    try:
        space = SearchSpace.model_validate(raw)
        for path in space.parameters:
            space._places[path] = f"{source}:{_line_of(root, ['parameters', path])}"
    except ValidationError as error:
        raise SpaceError("\n".join(_explain(e, source, root) for e in error.errors())) from error
    if not space.parameters:
        raise SpaceError(
            f"{source}:{_line_of(root, ['parameters'])}: a space needs at least one parameter"
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
    return f"{source}:{line}: {'.'.join(known[:3]) or 'space'}: {message}"


def _line_of(node: Any, location: list[str]) -> int:
    """The line (from 1) of the innermost node on the way that the text spells out."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if part in (key.value, SHORT_NAMES.get(key.value)):
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line
