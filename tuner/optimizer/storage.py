"""Opens or creates the Optuna study of a search; translates errors into ``StorageError``."""

import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from tuner.errors import StorageError, UsageError
from tuner.optimizer.sharing import Sharing, open_storage
from tuner.records.run import Run

_DAMAGED = re.compile(r"malformed|not a database|corrupt|no such (table|column)", re.IGNORECASE)
_FULL = re.compile(r"disk is full|no space|quota|disk I/O", re.IGNORECASE)
_UNKNOWN = re.compile(r"Can't load plugin|Could not parse|Invalid SQLite URL|RedisStorage")
_NO_DRIVER = re.compile(r"No module named '([\w.]+)'")
_SCHEMES = "sqlite:///FILE, postgresql://HOST/DATABASE or mysql+pymysql://HOST/DATABASE"
_PACKAGES = {
    "MySQLdb": "mysqlclient",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
}
"""What is installed for a module."""
_PAUSES = (0.2, 1.0, 3.0)
"""Seconds: tables are made in tenths of one, by a busy machine in some."""
_T = TypeVar("_T")
STOPPED = "stopped"
"""The attribute of a study that says why the search ended."""


def is_finished(run: Run, storage: str | None, study_name: str | None = None) -> bool:
    """Whether the run's search has ended, so that there is nothing to resume."""
    if storage is None and not run.study_file.exists():
        return False
    url = url_of(run, storage)
    with storage_errors(url):
        name = _name(run, url, study_name)
        if name not in optuna.get_all_study_names(storage=url):
            return False
        sharing = sharing_of(run, storage, study_name)
        key = STOPPED if sharing is None else sharing.key(STOPPED)
        return key in optuna.load_study(study_name=name, storage=url).user_attrs


def check_storage(url: str) -> None:
    """StorageError if it cannot be opened: no such scheme, no driver, nobody who answers.
    UsageError if it is no URL. A file that is not there yet is not made.
    """
    if "://" not in url:
        raise UsageError(f"--storage {url} is no URL; write {_SCHEMES}")
    with storage_errors(url):
        file = _missing_file(url)
        if file is not None:
            if not os.access(file.parent, os.W_OK):
                raise OSError(f"cannot write a file in {file.parent}")
            return
        storage = _with_tables(lambda: optuna.storages.get_storage(url))
        storage.remove_session()


def _with_tables(connect: Callable[[], _T]) -> _T:
    """What connects to a database, which makes its tables: where another search makes them at the
    same moment, one of the two fails, and finds them there at its next attempt.
    """
    for pause in _PAUSES:
        try:
            return connect()
        except (IntegrityError, ProgrammingError):
            time.sleep(pause)
    return connect()


def _missing_file(url: str) -> Path | None:
    """The file of an SQLite storage that is still to be made."""
    if not url.startswith("sqlite:///"):
        return None
    name = make_url(url).database
    file = None if not name or name == ":memory:" else Path(name)
    return file if file is not None and not file.exists() else None


def sharing_of(run: Run, storage: str | None, study_name: str | None) -> Sharing | None:
    """The run's part in a study that others share; None where the study is its own."""
    if storage is None or study_name is None:
        return None
    return Sharing(run.manifest().id or run.folder.name, run.folder.name)


def url_of(run: Run, storage: str | None) -> str:
    return storage or f"sqlite:///{run.study_file.resolve()}"


def open_study(
    run: Run,
    url: str,
    sampler: optuna.samplers.BaseSampler,
    minimizes: bool,
    study_name: str | None = None,
    *,
    anew: bool = False,
) -> optuna.Study:
    """The run's study or, in a storage of the user's, the one of that name, which others may share;
    with ``anew``, the existing one is replaced by an empty one.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storage_errors(url):
        name = _name(run, url, study_name)
        shared = study_name is not None and url != url_of(run, None)
        if anew:
            optuna.delete_study(study_name=name, storage=url)
        study = optuna.create_study(
            storage=_with_tables(lambda: open_storage(url)) if shared else url,
            sampler=sampler,
            study_name=name,
            direction="minimize" if minimizes else "maximize",
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(["cost" if minimizes else "capacity, requests/s"])
        if run.study_file.exists():
            run.study_file.chmod(0o600)
        return study


def _name(run: Run, url: str, study_name: str | None) -> str:
    """The one that was asked for, else the folder's; a file of the run's own keeps that of its
    study, also when the folder moves.
    """
    if study_name is not None:
        return study_name
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
        message = f"the storage {hide_password(url)} failed: {reason}; {_remedy(reason)}"
        raise StorageError(message) from error


def _remedy(reason: str) -> str:
    if _DAMAGED.search(reason):
        return (
            "the file is damaged. Remove it and repeat the command: the search resumes from the "
            "run's own records, and nothing is lost"
        )
    if _FULL.search(reason):
        return "free some disk space, or choose another --storage"
    if _UNKNOWN.search(reason):
        return f"write --storage as {_SCHEMES}"
    driver = _NO_DRIVER.search(reason)
    if driver is not None:
        package = _PACKAGES.get(driver[1], driver[1])
        return f"install the Python driver of this database: pip install {package}"
    return "check that it is reachable and writable, or choose another --storage"


def hide_password(url: str) -> str:
    """A storage URL that may be shown and recorded: without its password, and without the values of
    its query, which may hold one as well. Of one that does not parse, the scheme is left.
    """
    try:
        parsed = make_url(url)
        shown = parsed.set(query={}).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return f"{url.partition('://')[0]}://***"
    if "@" in (parsed.host or "") + (parsed.database or ""):  # a part of an odd password
        return f"{parsed.drivername}://***"
    return shown + ("?" + "&".join(f"{name}=***" for name in parsed.query) if parsed.query else "")
