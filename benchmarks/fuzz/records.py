"""Readers of the folder of a run, whose files may be cut, edited, or of another version."""

from pathlib import Path

from tuner.records.comparison import FILE, read_comparison
from tuner.records.costs import describe_cost, objective_of
from tuner.records.results import baseline, best, closest
from tuner.records.run import Run

_ROOT = Path(__file__).parents[2]
_SAMPLE, _COMPARED = _ROOT / "reports" / "sample", _ROOT / "reports" / "sample-compare"
_SHORT = 4000
"""Bytes of a line or file to begin with: what is longer takes longer, and has nothing else."""


def _run(folder: Path, name: str, raw: bytes) -> Run:
    (folder / name).write_bytes(raw)
    return Run(folder)


def _manifest(raw: bytes, folder: Path) -> object:
    manifest = _run(folder, "experiment.yaml", raw).manifest()
    return manifest.identity()


def _evaluations(raw: bytes, folder: Path) -> object:
    found = _run(folder, "evaluations.jsonl", raw).evaluations()
    objective_of(found)
    for each in found:
        describe_cost(each.cost) if each.cost is not None else each.label
        each.at_capacity()
    return best(found), baseline(found), closest(found)


def _windows(raw: bytes, folder: Path) -> object:
    return [window.candidate for window in _run(folder, "windows.jsonl", raw).windows()]


def _times(raw: bytes, folder: Path) -> object:
    return _run(folder, "times.jsonl", raw).time_budget()


def _outcome(raw: bytes, folder: Path) -> object:
    return _run(folder, "outcome.json", raw).outcome()


def _comparison(raw: bytes, folder: Path) -> object:
    return read_comparison(_run(folder, FILE, raw))


def _lines(file: Path) -> list[bytes]:
    """The shortest lines of a file of records, each with its end."""
    lines = sorted(file.read_bytes().splitlines(keepends=True), key=len)
    return [line for line in lines if len(line) <= _SHORT] or lines[:1]


_COST = (
    b'"cost":{"objective":"p99/10ms + 0.5*instances","rate":100.0,"value":1.5,"low":1.4,'
    b'"high":1.6,"by_round":[[1.5,0.01]]},'
)

READERS = {
    "manifests": (
        _manifest,
        [
            (_SAMPLE / "experiment.yaml").read_bytes(),
            (_COMPARED / "experiment.yaml").read_bytes(),
            *(each.read_bytes() for each in (_ROOT / "tests/records/old").glob("*.yaml")),
        ],
        [b"format: 1\n", b"format: 3\n", b"kind: compare\n", b"experiment:", b"space:", b"null"],
    ),
    "evaluations": (
        _evaluations,
        [
            each.replace(b'"started"', _COST + b'"started"', 1)
            for each in _lines(_COMPARED / "evaluations.jsonl")[:3]
        ],
        [b'"format":', b'"settings":{', b'"probes":[', b'"margin":1', b'"deployment":"x"', _COST],
    ),
    "windows": (_windows, _lines(_SAMPLE / "windows.jsonl")[:3], [b'"settings":{', b'"Infinity"']),
    "times": (_times, [b'{"start":1.5,"trials":20.0}\n{"report":0.5}\n'], [b'"NaN"', b"\n"]),
    "outcome": (_outcome, [(_SAMPLE / "outcome.json").read_bytes()], [b'"alike":[', b'"near":']),
    "comparison": (_comparison, [(_COMPARED / FILE).read_bytes()], [b'"swap":', b'"format":2']),
}
