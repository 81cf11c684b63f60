"""``python -m tests.prose``: whether pages and the program's texts keep to plain words.

It holds what a tool can hold: words that only this project would use, one spelling, words that
stand twice, and sentences that are too long to be read once. ``make check`` runs it.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
MOST_WORDS = 45
"""Of a sentence of a page; what stands in a table is no sentence."""

PLAIN = {
    r"promis(e|es|ed)\b(?! (?:that|nothing|to))": "SLA",
    r"by turns": "interleaved",
    r"as found": "the baseline, your current configuration",
    r"put to the proof|proven": "verified at RATE",
    r"outdone|left behind": "eliminated",
    r"comes? to (less|least)": "costs less, the cheapest",
    r"in good order": "succeeded",
    r"let in": "authenticated",
    r"in the document": "naive",
    r"so many requests outstanding": "a closed loop at a fixed concurrency",
    r"as far as .{1,60} can tell": "say how it is estimated",
}
AMERICAN = {
    r"behaviour": "behavior",
    r"colour": "color",
    r"(min|max|optim|normal|summar|recogn|initial|real|util)is(e|es|ed|ing|ation)\b": "-ize",
    r"favour": "favor",
    r"catalogue": "catalog",
    r"programme\b": "program",
    r"analyse": "analyze",
}
NAMES = re.compile(
    r"FastAPI as in the document|Triton as found|`[^`]*`|https?://\S+|[\w.]+\.(?:py|md|pbtxt|yaml)|--[\w-]+"
)
"""What keeps its own spelling; two are titles in records of version 0.1."""
TWICE = re.compile(r"\b(the|a|an|of|to|is|in|and|it|for|on|with) \1\b", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


def faults_of_text(text: str, place: str) -> Iterator[Fault]:
    """Words and spelling."""
    bare = NAMES.sub(" ", text)
    for word, instead in (PLAIN | AMERICAN).items():
        for found in re.finditer(rf"\b(?:{word})", bare, re.IGNORECASE):
            yield Fault(place, f"{found[0]!r}: write {instead}")
    for found in TWICE.finditer(bare):
        yield Fault(place, f"{found[0]!r} stands twice")


def prose_of_page(text: str) -> str:
    """Without code, tables that benchmarks write, and comments; lines stay where they are."""

    def blank(found: re.Match[str]) -> str:
        return "\n" * found[0].count("\n")

    for pattern in (r"^```.*?^```", r"<!-- (?!end).*?<!-- end -->", r"<!--.*?-->"):
        text = re.sub(pattern, blank, text, flags=re.DOTALL | re.MULTILINE)
    return text


def faults_of_page(page: Path) -> Iterator[Fault]:
    name = page.relative_to(ROOT).as_posix()
    text = prose_of_page(page.read_text(encoding="utf-8"))
    for number, line in enumerate(text.splitlines(), 1):
        yield from faults_of_text(line, f"{name}:{number}")
    for paragraph in re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", text, flags=re.MULTILINE):
        if not paragraph.lstrip().startswith(("|", "#", "!!!", ":::")):
            yield from _long_sentences(paragraph, name)


def _long_sentences(paragraph: str, name: str) -> Iterator[Fault]:
    flat = re.sub(r"\]\([^)]*\)", "]", " ".join(paragraph.split()))
    for sentence in re.split(r"(?<=[.!?:;])\s", flat):
        if len(sentence.split()) > MOST_WORDS:
            yield Fault(name, f"a sentence of {len(sentence.split())} words: {sentence[:60]}…")


def faults_of_program(file: Path) -> Iterator[Fault]:
    """Of every text with a blank in it, docstrings included: users, or readers, meet them."""
    name = file.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from faults_of_text(node.value, f"{name}:{node.lineno}")


def faults() -> list[Fault]:
    found = [fault for page in PAGES for fault in faults_of_page(page)]
    for file in sorted((ROOT / "tuner").rglob("*.py")):
        found += faults_of_program(file)
    return found


if __name__ == "__main__":
    all_of_them = faults()
    for each in all_of_them:
        print(each, file=sys.stderr)
    print(f"prose: {len(all_of_them)} faults in {len(PAGES)} pages and the program")
    sys.exit(1 if all_of_them else 0)
