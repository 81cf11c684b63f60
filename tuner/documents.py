"""Text, YAML and JSON that others wrote, read within limits of size, depth and repetition.

All files of users and of runs are read here. A DocumentError says why a document cannot be read or
is invalid; the caller adds which document it is.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, AnyStr

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError, SafeConstructor

from tuner.errors import DocumentError
from tuner.text import shortened, shown

if TYPE_CHECKING:
    from pydantic import ValidationError  # slow to import, where all there is to read is JSON


@dataclass(frozen=True)
class DocumentLimits:
    """What a document may take; far more than people write."""

    text: int = 1 << 20
    """Bytes of a text file: PyYAML and protobuf's text format read so much in a few seconds."""
    record: int = 64 << 20
    """Bytes of a record that tuner wrote; the largest known have 1 MB."""
    depth: int = 64
    """Levels of nesting: everything that follows a document down is a recursion."""
    expanded: int = 1 << 20
    """Characters of a YAML document whose aliases are all written out: they make gigabytes of a
    kilobyte, and whatever looks at all of it would be lost."""
    node: int = 64
    """Characters that a node counts for besides its text: PyYAML takes 0.1 ms to build one."""
    number: int = 100
    """Characters of a number in YAML: long ones take time that grows as the square."""


LIMITS = DocumentLimits()
_DEEP = f"it is nested more than {LIMITS.depth} levels deep"
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What is raised where content of another form than expected is looked into, and by PyYAML where a
text does not hold what its tag says, as in ``!!int x``."""


def read_text(path: Path, most: int = LIMITS.text) -> str:
    """The content of a file in UTF-8 of at most so many bytes, with ``\\n`` at the end of lines."""
    try:
        text = read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError("it is not UTF-8 text") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path, most: int = LIMITS.record) -> bytes:
    """The content of a file of at most so many bytes; it may be a pipe."""
    with opened(path) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:  # a folder, or a disk that fails
            raise _unreadable(error) from error
    if len(content) > most:
        raise DocumentError(f"it is larger than {most:,} bytes")
    return content


def opened(path: Path) -> IO[bytes]:
    """The file, opened to be read."""
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> DocumentError:
    reason = getattr(error, "strerror", None)
    return DocumentError(str(reason or "this is not a valid file name"))


def lines_of(file: IO[AnyStr], most: int) -> Iterator[AnyStr]:
    """The lines of a file with their ends, one at a time; DocumentError for one that is longer than
    ``most``: a file need not have any ends.
    """
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(most + 1)
        except UnicodeDecodeError as error:
            raise DocumentError("it is not UTF-8 text", number) from error
        except OSError as error:
            raise _unreadable(error) from error
        if not line:
            return
        if len(line) > most:
            raise DocumentError(f"line {number:,} is longer than {most:,}", number)
        yield line


def parse_json(content: bytes | str) -> Any:
    """What a JSON text holds."""
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise DocumentError(f"not JSON: {shortened(str(error))}") from error
    level = [value]
    for _ in range(LIMITS.depth + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return value
    raise _too_deep()


def _parts(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> DocumentError:
    return DocumentError(_DEEP)


def fault(error: "ValidationError", *within: str) -> str:
    """The first thing that is wrong with what a document holds, or a part ``within`` it, as
    ``place: why``.
    """
    first = error.errors()[0]
    place = shortened(".".join(map(str, (*within, *first["loc"]))))
    why = shortened(str(first["msg"]).removeprefix("Value error, "))
    return f"{place}: {why}" if place else why


@dataclass(frozen=True)
class YamlDocument:
    """``content`` is of JSON's types, but keys may be numbers, too; ``root`` knows the lines, None
    if there is nothing.
    """

    content: Any
    root: yaml.Node | None


def parse_yaml(text: str, expanded: int = LIMITS.expanded) -> YamlDocument:
    """What a YAML text of one document holds; DocumentError also for a key that is there twice, and
    for types that JSON does not have. ``expanded`` is in characters.
    """
    try:
        loader = _Loader(text, expanded)
        root = loader.get_single_node()
        return YamlDocument(None if root is None else loader.construct_document(root), root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or error
        line = None if mark is None else mark.line + 1
        raise DocumentError(f"not YAML: {shortened(str(problem))}", line) from error
    except MALFORMED as error:
        raise DocumentError(f"not YAML: {shortened(str(error))}") from error


@dataclass(frozen=True)
class _Extent:
    """Of a node with all that its aliases stand for: characters, and levels."""

    size: int
    levels: int


class _Loader(yaml.SafeLoader):
    """Makes JSON's types alone, and keeps the limits while nodes are still being composed."""

    def __init__(self, text: str, expanded: int) -> None:
        super().__init__(text)
        self._most = expanded
        self._level = self._size = 0
        self._extents: dict[int, _Extent] = {}

    def fetch_flow_collection_start(self, kind: Any) -> None:
        """The scanner looks a line ahead, in time that grows as the square of its nesting."""
        if self.flow_level >= LIMITS.depth:
            raise _limit(self.get_mark(), _DEEP)
        super().fetch_flow_collection_start(kind)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self._level += 1
        if self._level > LIMITS.depth:
            raise _limit(event.start_mark, _DEEP)
        before = self._size
        node: Any = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(event, yaml.AliasEvent):
            known = self._extents.get(id(node))
            if known is None:
                raise _limit(event.start_mark, "an alias refers to a node that contains it")
            if self._level + known.levels > LIMITS.depth:
                raise _limit(event.start_mark, _DEEP)
            self._grow(known.size, event)
            return node
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            parts = [part for pair in node.value for part in pair]
        else:
            parts = node.value if isinstance(node, yaml.SequenceNode) else []
        text = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        self._grow(LIMITS.node + text, event)
        levels = 1 + max((self._extents[id(part)].levels for part in parts), default=0)
        self._extents[id(node)] = _Extent(self._size - before, levels)
        return node

    def _grow(self, size: int, event: Any) -> None:
        self._size += size
        if self._size > self._most:
            large = f"it has more than {self._most:,} characters with all aliases expanded"
            raise _limit(event.start_mark, large)


def _limit(mark: Any, message: str) -> ComposerError:
    return ComposerError(None, None, message, mark)


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        if (key.tag, key.value) in seen:
            raise _limit(key.start_mark, f"duplicate key {shown(key.value)}")
        seen.add((key.tag, key.value))


def _number(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def checked(loader: Any, node: Any) -> Any:
        if len(node.value) > LIMITS.number:
            raise ConstructorError(None, None, "a number has too many digits", node.start_mark)
        return construct(loader, node)

    return checked


def _refuse(what: str) -> Callable[[Any, Any], Any]:
    def refuse(loader: Any, node: Any) -> Any:
        raise ConstructorError(
            None, None, f"{what} is not allowed here; put text in quotes", node.start_mark
        )

    return refuse


_Loader.add_constructor(f"{_TAG}int", _number(SafeConstructor.construct_yaml_int))
_Loader.add_constructor(f"{_TAG}float", _number(SafeConstructor.construct_yaml_float))
for _name, _what in (
    ("timestamp", "a date"),
    ("binary", "binary data"),
    ("set", "a set"),
    ("omap", "an ordered mapping"),
    ("pairs", "a list of pairs"),
):
    _Loader.add_constructor(_TAG + _name, _refuse(_what))
