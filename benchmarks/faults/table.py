"""The table of faults in docs/benchmarks.md."""

from typing import Any

_HEADS = (
    *("", "what is done", "times", "trials lost", "wrong reasons", "left behind", "hung"),
    *("s until it ended", "at most"),
)


def render(result: dict[str, Any]) -> str:
    """A row for each fault."""
    about = result["machine"]
    lines = [
        f"{about['processor']} with {about['cores']} cores, {result['date']}; "
        f"`{result['command']}`.",
        "",
        _line(_HEADS),
        _line(("---", "---", *["---:"] * (len(_HEADS) - 2))),
    ]
    for name, row in result["rows"].items():
        counts = (row[each] for each in ("repetitions", "lost", "wrong", "left", "hung"))
        seconds = f"{row['seconds']['median']:.1f} (to {row['seconds']['most']:.1f})"
        lines.append(_line((name, row["does"], *map(str, counts), seconds, f"{row['limit']:.0f}")))
    lines += ["", *(f"- {note[:1].upper()}{note[1:]}." for note in result["notes"])]
    return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
