"""How a field of a model is spelt as an option, and how a quantity in it is written.

Declared on the field, as in ``timeout: Annotated[Duration, Option("At most so long.")] = 10.0``;
``tuner.cli.parameters`` makes command-line parameters of it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, Any

from annotated_types import Le
from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic.fields import FieldInfo

from tuner.errors import UsageError
from tuner.text import shortened, shown
from tuner.units import (
    LARGEST_NUMBER,
    LONGEST,
    exact_duration,
    exact_share,
    exact_size,
    parse_duration,
    parse_share,
    parse_size,
)

_MOST_LINES = 20
"""Errors that one message lists at most."""


@dataclass(frozen=True)
class Shorthand:
    """A second option for the same field: its text is inserted into ``template``."""

    name: str
    template: str
    help: str
    metavar: str


@dataclass(frozen=True)
class Option:
    """A field as an option: ``flags`` are its spellings, ``--field-name`` if none are given.

    ``panel`` is the heading in the help that it stands under. ``argument`` makes it positional.
    ``repeats`` says that texts of a field that holds one thing may be given one by one.
    ``suggestions`` are what a shell completes besides the values of a Literal or an enumeration; a
    function finds them when they are asked for.
    """

    help: str
    metavar: str | None = None
    panel: str | None = None
    flags: tuple[str, ...] = ()
    argument: bool = False
    shorthand: Shorthand | None = None
    repeats: bool = False
    suggestions: tuple[str, ...] | Callable[[], Iterable[str]] = ()


@dataclass(frozen=True)
class Written:
    """Metadata of a quantity: ``text`` prints what the field's validator parses."""

    text: Callable[[Any], str]


def _parsed(parse: Callable[[str], Any]) -> BeforeValidator:
    return BeforeValidator(lambda raw: parse(raw) if isinstance(raw, str) else raw)


Duration = Annotated[
    float,
    _parsed(partial(parse_duration, likely=("s", "m"))),
    Le(LONGEST),
    Written(exact_duration),
]
"""Seconds, at most a year. Accepts text such as ``90s`` and ``3m``, too. All such options take
seconds to minutes, so ``5`` is more likely ``5s`` or ``5m`` than ``5ms``."""
Size = Annotated[int, _parsed(parse_size), Le(LARGEST_NUMBER), Written(exact_size)]
"""Bytes. Accepts text such as ``2GiB``, too."""
Share = Annotated[float, _parsed(parse_share), Written(exact_share)]
"""A share from 0 to 1. Accepts text such as ``1%``, too."""


def option_of(field: FieldInfo) -> Option | None:
    """None if the field is not an option."""
    return next((each for each in field.metadata if isinstance(each, Option)), None)


def takes_several(field: FieldInfo) -> bool:
    """Whether the field holds any number of entries, each written as a text."""
    option = option_of(field)
    if option is not None and option.repeats:
        return True
    return isinstance(field.get_default(call_default_factory=True), tuple | dict)


def written_out(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with shorthands in the form of their fields; UsageError if both are given."""
    written = dict(values)
    for name, field in model.model_fields.items():
        option = option_of(field)
        short = option.shorthand if option is not None else None
        if short is None or short.name not in written:
            continue
        if name in written:
            raise UsageError(
                f"give --{short.name.replace('_', '-')} or --{name}, not both; --{name} accepts "
                "several bounds: 'p50<5ms,p99<20ms'"
            )
        written[name] = short.template.format(written.pop(short.name))
    return written


def usage_error(error: ValidationError, source: str = "") -> UsageError:
    """Each error on its own line, with the offending value."""
    lines = islice(_explained(error.errors()), _MOST_LINES)
    return UsageError("\n".join(source + line for line in lines))


def _explained(errors: Iterable[Any]) -> Iterable[str]:
    for error in errors:
        name = ".".join(str(part) for part in error["loc"]).replace("_", "-")
        message = str(error["msg"]).removeprefix("Value error, ")
        yield f"{shortened(name)}: {shortened(message)}, not {shown(error['input'])}"
