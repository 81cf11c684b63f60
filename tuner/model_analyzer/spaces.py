"""``model_config_parameters`` and the bounds of Model Analyzer's searches as a search space."""

from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

import yaml

from tuner.documents import parse_yaml
from tuner.model.parameter import Parameter
from tuner.model.space import (
    DYNAMIC_BATCHING,
    INSTANCE_COUNT,
    MAX_BATCH_SIZE,
    PREFERRED,
    of_model,
)
from tuner.model_analyzer.notes import Notes
from tuner.model_analyzer.values import mapping, numbers
from tuner.resources import bundled

_SEARCHED = "run_config_search_{}_{}"
_LARGEST_BATCH, _MOST_INSTANCES = 128, 5
"""Model Analyzer's own bounds where a file has none."""
Parameters = dict[str, Any]
"""By path, as in the YAML of a space."""


def parameters_of(raw: Any, place: str, notes: Notes, model: str = "") -> Parameters:
    """Of ``model_config_parameters``: a list is swept, any other value is set."""
    found: Parameters = {}
    for path, value, where in _flat(mapping(raw, place), "", place, notes):
        full = of_model(model, path)
        if path == PREFERRED:  # a list is one value of it
            found[full] = value if _is_nested(value) else [value]
        elif path == DYNAMIC_BATCHING:
            found[full] = [True]
        else:
            found[full] = value if isinstance(value, list) else [value]
        notes.taken(
            where, f"{full}: {yaml.safe_dump(found[full], default_flow_style=True).strip()}"
        )
    return found


def _flat(
    raw: Mapping[str, Any], prefix: str, place: str, notes: Notes
) -> Iterator[tuple[str, Any, str]]:
    """Paths, values and places of all leaves."""
    for name, value in raw.items():
        path, where = f"{prefix}{name}", f"{place}.{name}"
        if path == "instance_group":
            yield from _instances(value, where, notes)
        elif path == "parameters":
            for key, each in mapping(value, where).items():
                text = each.get("string_value") if isinstance(each, Mapping) else each
                yield f"parameters[{key}]", _texts(text), f"{where}.{key}"
        elif path == DYNAMIC_BATCHING and not value:
            yield path, value, where
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{path}.", where, notes)
        elif _holds_mappings(value):
            notes.missing(where, "lists of blocks cannot be searched; write it in config.pbtxt")
        else:
            yield path, value, where


def _instances(raw: Any, place: str, notes: Notes) -> Iterator[tuple[str, Any, str]]:
    """Counts of one group, which may be a list of groups with one each."""
    groups = raw if isinstance(raw, list) else [raw]
    swept = [each for each in groups if isinstance(each, list)]
    if len(groups) > 1 and not swept:
        notes.missing(place, "several instance groups of one model; write them in config.pbtxt")
        return
    flat = [group for each in groups for group in (each if isinstance(each, list) else [each])]
    counts: list[int] = []
    kinds = set()
    for group in flat:
        known = mapping(group, place)
        counts += numbers(known.get("count", 1), place)
        kinds |= {str(kind) for kind in _listed(known.get("kind"))}
        for name in set(known) - {"count", "kind"}:
            notes.missing(f"{place}.{name}", "write it in config.pbtxt")
    if kinds:
        notes.missing(
            f"{place}.kind",
            f"{', '.join(sorted(kinds))}: tuner keeps the kind that config.pbtxt has; set it there",
        )
    yield INSTANCE_COUNT, sorted(set(counts)), place


def _listed(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else [] if raw is None else [raw]


def _texts(raw: Any) -> Any:
    return [str(each) for each in raw] if isinstance(raw, list) else str(raw)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, list) for each in value)


def _holds_mappings(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, Mapping) for each in value)


def bounded_space(settings: Mapping[str, Any], notes: Notes) -> Parameters | None:
    """The preset, with the bounds that the file sets for Model Analyzer's own search; None where it
    sets none: then the preset is the space.
    """
    ends: dict[tuple[str, str], int] = {}
    for what in ("model_batch_size", "instance_count"):
        for end in ("min", "max"):
            name = _SEARCHED.format(end, what)
            if name in settings:
                (ends[what, end],) = numbers(settings[name], name)[:1]
    if not ends:
        return None
    preset = bundled("search_spaces").joinpath("default.yaml").read_text(encoding="utf-8")
    parameters: Parameters = parse_yaml(preset).content["parameters"]
    low, high = (
        ends.get(("model_batch_size", "min"), 1),
        ends.get(("model_batch_size", "max"), _LARGEST_BATCH),
    )
    powers = [2**n for n in takewhile(lambda n: 2**n <= high, range(31)) if 2**n >= low]
    parameters[MAX_BATCH_SIZE] = powers or [high]
    fewest, most = (
        ends.get(("instance_count", "min"), 1),
        ends.get(("instance_count", "max"), _MOST_INSTANCES),
    )
    parameters[INSTANCE_COUNT] = {"range": [fewest, most]}
    preferred = parameters[PREFERRED]
    parameters[PREFERRED] = [sizes for sizes in preferred if max(sizes, default=1) <= high]
    for what, end in ends:
        path = MAX_BATCH_SIZE if what == "model_batch_size" else INSTANCE_COUNT
        shown = yaml.safe_dump(parameters[path], default_flow_style=True).strip()
        notes.taken(_SEARCHED.format(end, what), f"{path}: {shown}")
    return parameters


def is_valid(parameter: Any) -> bool:
    """Whether tuner takes it as a parameter."""
    try:
        Parameter.model_validate(parameter)
    except ValueError:
        return False
    return True
