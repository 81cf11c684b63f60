"""Where Optuna keeps a search: opened, or made, with what goes wrong said as ``StorageError``."""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from tuner.errors import StorageError
from tuner.records.run import Run

STOPPED = "stopped"
"""The attribute of a study that says why the search ended."""


def is_finished(run: Run, storage: str | None) -> bool:
    """Whether the run's search came to its end, so that there is nothing to resume."""
    if storage is None and not run.study_file.exists():
        return False
    url = url_of(run, storage)
    with storage_errors(url):
        name = _name(run, url)
        if name not in optuna.get_all_study_names(storage=url):
            return False
        return STOPPED in optuna.load_study(study_name=name, storage=url).user_attrs


def url_of(run: Run, storage: str | None) -> str:
    return storage or f"sqlite:///{run.study_file.resolve()}"


def open_study(
    run: Run, url: str, sampler: optuna.samplers.BaseSampler, minimizes: bool
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storage_errors(url):
        return optuna.create_study(
            storage=url,
            sampler=sampler,
            study_name=_name(run, url),
            direction="minimize" if minimizes else "maximize",
            load_if_exists=True,
        )


def _name(run: Run, url: str) -> str:
    """The folder's name; a file of the run's own keeps its study's, also when the folder moves."""
    if url == url_of(run, None) and run.study_file.exists():
        known = optuna.get_all_study_names(storage=url)
        if known:
            return str(known[0])
    return run.folder.name


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OptunaError, ImportError, OSError, ValueError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(
            f"the storage {hide_password(url)} failed: {reason}; "
            "make room or choose another with --storage"
        ) from error


def hide_password(url: str) -> str:
    """A storage URL that may be shown and recorded."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url
