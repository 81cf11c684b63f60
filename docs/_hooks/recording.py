"""Draws the recording of the terminal that README shows: ``python docs/_hooks/recording.py``.

It is the output that ``docs/get-started.md`` has after ``<!-- recording -->``, line by line,
thirty times as fast as the clock of its lines says; without animation, all of it.
"""

import re
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "get-started.md"
PICTURE = DOCS / "images" / "search.svg"
COMMAND = "tuner search emulated_gpu --sla-p99 40ms"
_COLUMNS = 78
_CHARACTER, _LINE, _MARGIN, _BAR = 7.8, 18, 18, 34
"""Pixels: a character of the font, a line, around the text, and the window's bar."""
_FASTER = 30
_START = 0.4
"""Seconds until the first line: the command is read meanwhile."""
_CLOCK = re.compile(r"\[(\d+):(\d\d)\] ")
_COLORS = {"met": "good", "violated": "bad", "inconclusive": "open"}
_STYLE = """
  text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
  text { fill: #d6dde6 }
  .command { fill: #fff; font-weight: 700 }
  .clock { fill: #7d8a99 }
  .good { fill: #74d08a } .bad { fill: #f08b86 } .open { fill: #e3c567 }
  .result { fill: #8fc8f0; font-weight: 700 }
  text { animation: appear 0.05s linear backwards }
  @keyframes appear { from { opacity: 0 } }
  @media (prefers-reduced-motion: reduce) { text { animation: none } }
"""


@dataclass(frozen=True)
class Line:
    """``seconds`` is when it appears in the recording."""

    text: str
    seconds: float


def recorded(page: str) -> list[Line]:
    """The lines of the page's block; those without a clock come with the one before."""
    block = page.split("<!-- recording -->\n```\n", 1)[1].split("\n```", 1)[0]
    lines, now = [], _START
    for text in block.splitlines():
        clock = _CLOCK.match(text)
        if clock:
            now = _START + (60 * int(clock[1]) + int(clock[2])) / _FASTER
        indent = " " * len(clock[0]) if clock else ""
        wrapped = textwrap.wrap(text, _COLUMNS, subsequent_indent=indent)
        parts = wrapped if len(text) > _COLUMNS else [text]
        lines += [Line(part, now) for part in parts]
    return lines


def draw(lines: list[Line]) -> str:
    width = round(_COLUMNS * _CHARACTER) + 2 * _MARGIN
    height = _BAR + _LINE * (len(lines) + 2) + _MARGIN
    dots = "".join(
        f'<circle cx="{20 + 18 * n}" cy="17" r="5.5" fill="{color}"/>'
        for n, color in enumerate(("#e0645c", "#e3b341", "#57ab5a"))
    )
    body = [_text(0, f'<tspan class="good">$</tspan> {escape(COMMAND)}', "command", 0.0)]
    body += [_text(n + 1, *_painted(line.text), line.seconds) for n, line in enumerate(lines)]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="{escape(COMMAND)}">',
            f"<style>{_STYLE}</style>",
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="9" fill="#151b23" '
            'stroke="#39424e"/>',
            dots,
            *body,
            "</svg>\n",
        )
    )


def _text(row: int, marked: str, kind: str, seconds: float) -> str:
    if not marked:
        return ""
    y = _BAR + _LINE * (row + 1)
    name = f' class="{kind}"' if kind else ""
    delay = f' style="animation-delay:{seconds:.1f}s"' if seconds else ' style="animation:none"'
    return f'<text xml:space="preserve" x="{_MARGIN}" y="{y}"{name}{delay}>{marked}</text>'


def _painted(text: str) -> tuple[str, str]:
    """The line with its parts marked, and its class."""
    clock = _CLOCK.match(text)
    rest = escape(text[clock.end() :] if clock else text, quote=False)
    for word, name in _COLORS.items():
        rest = re.sub(rf"\b{word}\b", f'<tspan class="{name}">{word}</tspan>', rest)
    if clock is None:
        return rest, "result" if re.match(r"[\d.]+ × ", text) else ""
    return f'<tspan class="clock">{clock[0]}</tspan>{rest}', ""


if __name__ == "__main__":
    PICTURE.write_text(draw(recorded(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
    print(PICTURE)
