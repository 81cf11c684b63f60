"""What MkDocs makes of the rest of the checkout: reference tables out of the code, in place of
``<!-- tuner:… -->``; README and CONTRIBUTING as pages; links to files beside ``docs/``.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.main import get_command

import tuner.errors
from tuner.cli.app import app
from tuner.experiment.model import Experiment
from tuner.experiment.options import option_of, takes_several

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the checkout that are pages of the site, too."""
_ALONE = ("index.md", "get-started.md", "benchmarks.md")
"""Pages that are a section by themselves: there is nothing to navigate beside them."""
_FILES = ("LICENSE", "reports/*/report.html", "search_spaces/*.yaml")
"""Files that pages link to."""
_LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_MARKER = re.compile(r"<!-- tuner:(\w+)(?: (\w+))? -->")
_DEFAULT = re.compile(r" *\[dim\]\\?\[default: (.*)\]\[/dim\]$")
_FIRST_PANEL = "What to find"
_COMMAND_OF = {
    "SearchOptions": ("search", ("output", "run")),
    "MeasureOptions": ("measure", ("output", "changes", "rate")),
    "GateOptions": ("gate", ("output", "against", "margin", "timeout", "write")),
    "InitOptions": (
        "init",
        ("repository", "name", "shapes", "inputs", "max_batch_size", "serve", "launcher", "image"),
    ),
    "JobOptions": (
        "job",
        ("folder", "job_image", "models_claim", "runs_claim", "cpus", "memory", "gpu_count"),
    ),
    "SimulateOptions": ("simulate", ("changes", "rate", "sla", "load", "batch", "seed")),
    "CompareOptions": (
        "compare",
        (
            *("output", "deployments", "target_rate", "tuned", "search_timeout", "search"),
            *("requests", "processing", "fastapi_workers", "gateway_workers", "rounds", "swaps"),
        ),
    ),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies beside ``docs/``."""
    for source, place in {**PAGES, **_published()}.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Fill in the tables, and let links lead to where the site has their files."""
    place = page.file.src_uri
    if place in _ALONE:
        page.meta["hide"] = ["navigation"]
    origin = next((source for source, its in PAGES.items() if its == place), f"docs/{place}")
    return _with_links(_MARKER.sub(_filled, markdown), origin, place)


def commands() -> str:
    """A section for each command: what it does, an example, and its options."""
    return "\n".join(_section(name, command) for name, command in _commands())


def configuration() -> str:
    """A table for each group of the experiment's fields."""
    search = dict(_commands())["tuner search"]
    parameters = {each.name: each for each in search.params}
    groups: dict[str, list[list[str]]] = {}
    for name, field in Experiment.model_fields.items():
        option = option_of(field)
        if option is None:
            continue
        text, default = _help(parameters[name])
        flag = max(parameters[name].opts, key=len)
        if not option.argument and flag != f"--{name.replace('_', '-')}":
            text += f" Option: `{flag}`."
        row = [f"`{name}`", _values(field, option.metavar), text, default]
        groups.setdefault(option.panel or _FIRST_PANEL, []).append(row)
    heads = ["field", "value", "meaning", "default"]
    return "\n".join(f"### {panel}\n\n{_table(heads, rows)}" for panel, rows in groups.items())


def options(model: str) -> str:
    """A table of a function's own keywords."""
    command, names = _COMMAND_OF[model]
    parameters = {each.name: each for each in dict(_commands())[f"tuner {command}"].params}
    rows = [[f"`{name}`", *_help(parameters[name])] for name in names]
    return _table(["keyword", "meaning", "default"], rows)


def _filled(marker: re.Match[str]) -> str:
    match marker[1]:
        case "commands":
            return commands()
        case "configuration":
            return configuration()
        case "options":
            return options(marker[2])
        case "errors":
            _, tree = (tuner.errors.__doc__ or "").split("\n\n", 1)
            return f"```\n{tree}```"
    raise ValueError(f"nothing fills {marker[0]}")


def _published() -> dict[str, str]:
    """Where the site has files of the checkout."""
    found = [path for pattern in _FILES for path in sorted(ROOT.glob(pattern))]
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return {name: name if "." in name else f"{name}.txt" for name in names}


def _with_links(markdown: str, origin: str, place: str) -> str:
    """Links as seen from ``place`` in the site; ``origin`` is where the checkout has the page."""
    places = {**PAGES, **_published()}

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link[1]))
        in_site = places.get(target, target.removeprefix("docs/"))
        if in_site == target and not target.startswith("docs/") and target not in places:
            return link[0]
        path = posixpath.relpath(in_site, posixpath.dirname(place) or ".")
        return f"]({path}{link[2] or ''})"

    return _LINK.sub(moved, markdown)


def _commands() -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, groups left out."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        for each, child in (inner or {}).items():
            yield from walk(f"{name} {each}", child)

    yield from walk("tuner", get_command(app))


def _section(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join(
        f"{a.name.upper()}" if a.required else f"[{a.name.upper()}]" for a in arguments
    )
    lines = [f"## {name}", "", _plain(command.help or ""), "", "```sh"]
    example = re.search(r"Example: (.*)", command.epilog or "")
    lines += [example[1] if example else f"{name} {usage}".strip(), "```", ""]
    panels: dict[str, list[list[str]]] = {}
    for each in arguments:
        panels.setdefault("", []).append([f"`{each.name.upper()}`", *_help(each)])
    for each in command.params:
        if each.param_type_name == "option" and each.name != "help":
            panel = getattr(each, "rich_help_panel", None) or ""
            panels.setdefault(panel, []).append([_spelling(each), *_help(each)])
    for panel, rows in panels.items():
        lines += [f"**{panel}**", ""] if panel else []
        lines.append(_table(["option", "meaning", "default"], rows))
    return "\n".join(lines)


def _spelling(option: Any) -> str:
    metavar = f" {option.metavar}" if option.metavar and not option.is_flag else ""
    names = [f"`{each}{metavar}`" for each in sorted(option.opts, key=len, reverse=True)]
    return ", ".join([*names, *(f"`{each}`" for each in option.secondary_opts)])


def _help(parameter: Any) -> tuple[str, str]:
    """What it means, and its default; both fit for a cell."""
    text = parameter.help or ""
    shown = _DEFAULT.search(text)
    if shown:
        return _plain(text[: shown.start()]), f"`{shown[1]}`"
    own = parameter.default
    is_shown = isinstance(own, str | int | float) and not isinstance(own, bool)
    return _plain(text), f"`{own}`" if is_shown else ""


def _values(field: Any, metavar: str | None) -> str:
    annotation = field.annotation
    if annotation is bool:
        return "`true`, `false`"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    kind = (metavar or "path").lower()
    return f"list of {kind}" if takes_several(field) and not field.is_required() else kind


def _table(heads: list[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _plain(text: str) -> str:
    """Help texts hold no Markdown."""
    paragraphs = [" ".join(each.split()) for each in text.split("\n\n")]
    return re.sub(r"([*<|_])", r"\\\1", "\n\n".join(paragraphs)).replace("\\<", "&lt;")
