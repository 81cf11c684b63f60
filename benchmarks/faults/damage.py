"""Records that are damaged, cut short, locked or missing when a search is to go on with them."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.fault import MISSING, OK, USAGE, Fault, Scene, Strike

_JUNK = 64
"""Bytes that are overwritten in a file of lines: within one of them."""
_PAGE = 4096
"""Of SQLite."""


def _run(scene: Scene) -> Path:
    (run,) = scene.place.runs
    return run


def _junk(scene: Scene, length: int) -> bytes:
    return scene.rng.randbytes(length).replace(b"\n", b" ")


def _overwrite(scene: Scene, file: Path, at: int, length: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(_junk(scene, length))


@contextmanager
def _study_damaged(scene: Scene) -> Iterator[None]:
    """A page of the database holds something else. What tuner says to do is done: it is removed."""
    file = _run(scene) / "study.db"
    page = scene.rng.randrange(file.stat().st_size // _PAGE)
    _overwrite(scene, file, page * _PAGE, _PAGE)
    yield
    file.unlink(missing_ok=True)


@contextmanager
def _study_cut(scene: Scene) -> Iterator[None]:
    file = _run(scene) / "study.db"
    with file.open("r+b") as opened:
        opened.truncate(scene.rng.randrange(file.stat().st_size))
    yield
    file.unlink(missing_ok=True)


@contextmanager
def _study_locked(scene: Scene) -> Iterator[None]:
    """Another program holds the database."""
    with contextlib.closing(sqlite3.connect(_run(scene) / "study.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.rollback()


def _missing(*names: str) -> Strike:
    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        for name in names:
            path = _run(scene) / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        yield

    return strike


@contextmanager
def _evaluations_cut(scene: Scene) -> Iterator[None]:
    """The end of the last line is missing."""
    file = _run(scene) / "evaluations.jsonl"
    last = len(file.read_bytes().splitlines(keepends=True)[-1])
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - scene.rng.randrange(1, last))
    yield


def _line_damaged(name: str) -> Strike:
    """A line cannot be read. What tuner says to do is done: it is removed."""

    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        file = _run(scene) / name
        lines = file.read_bytes().splitlines(keepends=True)
        number = scene.rng.randrange(len(lines))
        begin = sum(map(len, lines[:number]))
        _overwrite(scene, file, begin + scene.rng.randrange(len(lines[number]) - _JUNK), _JUNK)
        yield
        file.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))

    return strike


def _garbled(name: str) -> Strike:
    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        (_run(scene) / name).write_bytes(_junk(scene, scene.rng.choice((0, 10, 1000))))
        yield

    return strike


@contextmanager
def _neighbor_damaged(scene: Scene) -> Iterator[None]:
    """Another run in the same folder cannot be read."""
    other = scene.place.output / "other"
    other.mkdir()
    (other / "experiment.yaml").write_bytes(_junk(scene, 1000))
    yield


def _stays(name: str, does: str, strike: Strike) -> Fault:
    return Fault(name, does, strike, (), (OK,))


def _refused(name: str, does: str, strike: Strike, code: int, says: str) -> Fault:
    """It may also not be noticed."""
    return Fault(name, does, strike, (), (code, OK), says)


_REMOVE = "damaged. Remove it"

DAMAGE = (
    _refused("study-damaged", "a page of study.db is garbage", _study_damaged, MISSING, _REMOVE),
    _refused("study-cut", "study.db is cut short", _study_cut, MISSING, _REMOVE),
    Fault(
        "study-locked",
        "another program holds study.db",
        _study_locked,
        (),
        (MISSING,),
        "locked",
    ),
    _stays("study-missing", "study.db is gone", _missing("study.db")),
    _stays("evaluations-cut", "evaluations.jsonl is cut short", _evaluations_cut),
    _refused(
        "evaluations-damaged",
        "a line of evaluations.jsonl is garbage",
        _line_damaged("evaluations.jsonl"),
        USAGE,
        r"evaluations\.jsonl:\d+: .*remove the line",
    ),
    _stays("evaluations-missing", "evaluations.jsonl is gone", _missing("evaluations.jsonl")),
    _refused(
        "windows-damaged",
        "a line of windows.jsonl is garbage",
        _line_damaged("windows.jsonl"),
        USAGE,
        r"windows\.jsonl:\d+: .*remove the line",
    ),
    _refused(
        "times-damaged",
        "a line of times.jsonl is garbage",
        _line_damaged("times.jsonl"),
        USAGE,
        r"times\.jsonl:\d+: .*remove the line",
    ),
    _stays("manifest-damaged", "experiment.yaml is garbage", _garbled("experiment.yaml")),
    _stays("neighbor-damaged", "that of another run is garbage", _neighbor_damaged),
    _stays("outcome-damaged", "outcome.json is garbage", _garbled("outcome.json")),
    _stays("folders-missing", "logs and samples are gone", _missing("logs", "probes")),
)
