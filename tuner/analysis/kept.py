"""``comparison.json`` in the folder of a run: what its evaluations do not say."""

from pydantic import ValidationError

from tuner.analysis.records import Comparison
from tuner.errors import RunError, StorageError
from tuner.records.run import Run, write_text

FILE = "comparison.json"


def write_comparison(run: Run, comparison: Comparison) -> None:
    """Whole or not at all; StorageError where it cannot be written."""
    path = run.folder / FILE
    try:
        write_text(path, comparison.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def read_comparison(run: Run) -> Comparison:
    """RunError where there is none, or this version cannot read it."""
    path = run.folder / FILE
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(f"{path}: not a comparison of format 1: {where}: {first['msg']}") from error
    except OSError as error:
        raise RunError(
            f"cannot read {path}: {error.strerror}; 'tuner compare' writes it when it begins"
        ) from error
