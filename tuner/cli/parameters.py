"""Command-line parameters out of the fields of models.

A command asks for models; each of their fields that has an ``Option`` becomes a parameter, and the
command is called with the models made of what was given:

    @command(app)
    def search(experiment: Experiment, options: SearchOptions, quiet: Quiet = False) -> int: ...
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Protocol, get_args, get_origin, get_type_hints

import annotated_types
import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tuner.cli.exit_codes import exit_codes
from tuner.cli.foreign import Command
from tuner.commands.options import Without
from tuner.experiment.model import Experiment
from tuner.experiment.options import (
    Option,
    Written,
    option_of,
    takes_several,
    usage_error,
    written_out,
)
from tuner.experiment.resolve import resolve


class Function(Protocol):
    """Returns the exit code; None is 0."""

    __name__: str

    def __call__(self, *args: Any, **values: Any) -> int | None: ...


def command(app: typer.Typer, epilog: str | None = None) -> Callable[[Function], Function]:
    """Register a function as the command of its name. Errors end it with a message and a code."""

    def register(function: Function) -> Function:
        groups, parameters = _expand(function)

        def run(**values: Any) -> None:
            with exit_codes():
                made = {name: group.make(values) for name, group in groups.items()}
                taken = {name for group in groups.values() for name in group.parameters}
                rest = {name: value for name, value in values.items() if name not in taken}
                offered = inspect.signature(function).parameters
                code = function(**made, **{n: v for n, v in rest.items() if n in offered})
            raise typer.Exit(code or 0)

        run.__doc__ = _flowing(function.__doc__ or "")
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        name = function.__name__.rstrip("_")
        app.command(name=name, cls=Command, epilog=_flowing(epilog or "") or None)(run)
        return function

    return register


def _flowing(text: str) -> str:
    """Paragraphs without line breaks: a terminal has its own width."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


class _Group:
    """A model whose fields are parameters; ``values`` of the experiment may come from elsewhere."""

    def __init__(self, model: type[BaseModel], without: Without) -> None:
        self._model, self._without = model, without
        self.parameters = {each.name: each for each in self._made()}

    def make(self, values: dict[str, Any]) -> BaseModel:
        """UsageError where the values are none."""
        given = {n: v for n in self.parameters if (v := values[n]) not in (None, [])}
        if self._model is Experiment:
            return resolve(given, values.get("config"), self._without.no_use)
        try:
            return self._model.model_validate(written_out(self._model, given))
        except ValidationError as error:
            raise usage_error(error) from error

    def _made(self) -> Iterator[inspect.Parameter]:
        for name, field in self._model.model_fields.items():
            option = option_of(field)
            if option is None or name in self._without.names:
                continue
            if option.shorthand is not None:
                short = option.shorthand
                spelt = Option(short.help, short.metavar, option.panel)
                yield _parameter(short.name, str | None, None, _typer_option(short.name, spelt))
            kind = str if option.argument else _type_of(field)
            is_required = field.is_required() and self._model is not Experiment
            default = inspect.Parameter.empty if is_required else None  # the model has its own
            yield _parameter(name, kind | None, default, _typer_option(name, option, field))


def _expand(function: Function) -> tuple[dict[str, _Group], list[inspect.Parameter]]:
    """The models that the function asks for, and all parameters. The panels of a command's own
    options go before those of the experiment.
    """
    groups: dict[str, _Group] = {}
    explicit = []
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        model, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if isinstance(model, type) and issubclass(model, BaseModel):
            without = next((each for each in metadata if isinstance(each, Without)), Without())
            groups[name] = _Group(model, without)
        else:
            explicit.append(_parameter(name, hint, parameter.default))
    parameters = [each for group in groups.values() for each in group.parameters.values()]
    own = [p for g in list(groups.values())[1:] for p in g.parameters.values()]
    plain = [each for each in (*parameters, *explicit) if _panel(each) is None]
    panelled = [each for each in parameters if _panel(each) is not None]
    return groups, [*plain, *sorted(panelled, key=lambda each: each not in own)]


def _panel(parameter: inspect.Parameter) -> Any:
    (*_, info) = get_args(parameter.annotation)
    return getattr(info, "rich_help_panel", None)


def _parameter(name: str, kind: Any, default: Any, info: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=kind if info is None else Annotated[kind, info],
    )


def _typer_option(name: str, option: Option, field: FieldInfo | None = None) -> Any:
    low, high = _bounds(field) if field is not None else (None, None)
    default = _shown_default(field, option) if field is not None else None
    settings: dict[str, Any] = {
        "help": option.help + (f" [dim]\\[default: {default}][/dim]" if default else ""),
        "metavar": option.metavar,
        "rich_help_panel": option.panel,
        "show_default": False,
        "min": low,
        "max": high,
    }
    suggestions = option.suggestions or (_choices(field.annotation) if field is not None else ())
    if suggestions:
        settings["autocompletion"] = _completion(suggestions)
    if option.argument:
        return typer.Argument(**settings)
    return typer.Option(*(option.flags or (f"--{name.replace('_', '-')}",)), **settings)


def _shown_default(field: FieldInfo, option: Option) -> str | None:
    """As a user would write it; None where there is nothing to show."""
    default = field.get_default(call_default_factory=True)
    if field.is_required() or default is False or default in (None, (), {}):
        return None
    if default is True:
        return option.flags[0].partition("/")[0].lstrip("-")
    written = next((each for each in field.metadata if isinstance(each, Written)), None)
    return str(default) if written is None else written.text(default)


def _completion(
    suggestions: tuple[str, ...] | Callable[[], Iterable[str]],
) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        known = suggestions() if callable(suggestions) else suggestions
        return [each for each in known if each.startswith(incomplete)]

    return complete


def _type_of(field: FieldInfo) -> Any:
    """What typer is to make of the text; what has a form of its own is parsed by the model."""
    if takes_several(field):
        return list[str]
    kinds = [each for each in get_args(field.annotation) if each is not NoneType]
    kind = kinds[0] if kinds and NoneType in get_args(field.annotation) else field.annotation
    is_written = any(isinstance(each, Written) for each in field.metadata)
    return kind if kind in (bool, int, float, Path) and not is_written else str


def _bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    low = [each.ge for each in field.metadata if isinstance(each, annotated_types.Ge)]
    high = [each.le for each in field.metadata if isinstance(each, annotated_types.Le)]
    if _type_of(field) not in (int, float):
        return None, None
    return next(iter(low), None), next(iter(high), None)  # type: ignore[return-value]


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    is_enum = isinstance(annotation, type) and issubclass(annotation, Enum)
    return tuple(str(member.value) for member in annotation) if is_enum else ()
