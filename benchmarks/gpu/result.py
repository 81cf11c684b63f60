"""Result files: one per stage, written anew after every row, so that a stage cut short keeps all.

A row is planned before it is measured, so that a file says what is missing and why.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuner.records.run import write_text

AWAITS = "awaits a GPU"
UNREACHED = "not reached in the stage's time"
MEASURED = "measured"
CUT_SHORT = "cut short"
FAILED = "failed"


class Result:
    """The file of one stage: rows by name, each with its state and its figures."""

    def __init__(self, file: Path, stage: str, what: str, machine: dict[str, Any], dry: bool):
        self._file = file
        self._began = time.monotonic()
        self._content: dict[str, Any] = {
            "stage": stage,
            "what": what,
            "dry_run": dry,
            "machine": machine,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "state": UNREACHED,
            "seconds": 0.0,
            "rows": {},
        }

    @property
    def setting(self) -> tuple[Any, bool]:
        """The GPU and whether this is a dry run: what two results must share to be compared."""
        return _setting(self._content)

    def plan(self, names: list[str], state: str = UNREACHED) -> None:
        self._content["rows"] = {name: {"state": state} for name in names}
        self._write()

    def record(self, name: str, **figures: Any) -> None:
        self._content["rows"][name] = {"state": MEASURED, **figures}
        self._write()

    @contextmanager
    def row(self, name: str) -> Iterator[dict[str, Any]]:
        """Figures to fill; where this raises, the row says so, and the stage goes on."""
        figures: dict[str, Any] = {}
        try:
            yield figures
        except KeyboardInterrupt:
            self._content["rows"][name] = {"state": CUT_SHORT, **figures}
            self._write()
            raise
        except Exception as error:  # noqa: BLE001  one row ends, and its record says why
            self._content["rows"][name] = {"state": f"{FAILED}: {error}"[:600], **figures}
            self._write()
        else:
            self.record(name, **figures)

    @property
    def planned(self) -> list[str]:
        return list(self._content["rows"])

    @property
    def failed(self) -> list[str]:
        """The rows that failed."""
        rows = self._content["rows"]
        return [name for name, row in rows.items() if row["state"].startswith(FAILED)]

    def summary(self, name: str) -> str:
        """A row on a line."""
        row = dict(self._content["rows"][name])
        state = row.pop("state")
        figures = ", ".join(f"{key} {value}" for key, value in row.items() if value is not None)
        return state if state != MEASURED else figures

    def note(self, **facts: Any) -> None:
        """Facts about the stage as a whole."""
        self._content.update(facts)
        self._write()

    def end(self, state: str) -> None:
        self._content["state"] = state
        self._write()

    def _write(self) -> None:
        self._content["seconds"] = round(time.monotonic() - self._began, 1)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._file, json.dumps(self._content, indent=1) + "\n")


def read(file: Path) -> dict[str, Any] | None:
    """A stage's result; None where there is none yet."""
    if not file.is_file():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def comparable(file: Path, to: Result) -> dict[str, Any]:
    """The rows of a stage that was measured on the same GPU; empty where there are none."""
    content = read(file)
    if content is None or _setting(content) != to.setting:
        return {}
    rows: dict[str, Any] = content["rows"]
    return rows


def _setting(content: dict[str, Any]) -> tuple[Any, bool]:
    return content["machine"].get("gpu"), content["dry_run"]


def set_state(file: Path, state: str) -> None:
    """Say how a stage ended that could not say it itself."""
    content = read(file)
    if content is not None:
        content["state"] = state
        write_text(file, json.dumps(content, indent=1) + "\n")
