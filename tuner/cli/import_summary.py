"""What became of each entry of a Model Analyzer configuration."""

from rich.console import Console

from tuner.cli.output import plain, say, table, write_json
from tuner.commands.importing import Imported

_FATES = {"taken": "taken over", "needless": "not needed", "not taken": "NOT taken over"}


def show_import(imported: Imported, as_json: bool, console: Console) -> None:
    translation = imported.translation
    if as_json:
        write_json(
            console,
            {
                "files": [str(file) for file in imported.files],
                "commands": list(imported.commands),
                "entries": [vars(note) for note in translation.notes.found],
                "lacks_sla": [each.name for each in translation.experiments if each.lacks_sla],
            },
        )
        return
    shown = table()
    shown.add_column("entry", overflow="fold")
    shown.add_column("")
    shown.add_column("", overflow="fold")
    for fate, words in _FATES.items():
        for note in translation.notes.of(fate):  # type: ignore[arg-type]
            shown.add_row(plain(note.place), words, plain(note.text))
    console.print(shown)
    say(console, *(f"wrote {file}" for file in imported.files))
    if any(each.lacks_sla for each in translation.experiments):
        say(
            console,
            "The file has no bound on latency, and tuner maximizes the capacity within one:",
        )
    say(console, *(f"next: {command}" for command in imported.commands))
