"""All errors of tuner.

TunerError
├── UsageError              an option, file or argument is invalid (exit code 2)
│   ├── UnitError           a duration, rate or size is invalid
│   ├── DocumentError       a file cannot be read, is too large, or is not YAML or JSON
│   ├── SpaceError          a search space is invalid, or no candidate of it is legal
│   ├── ModelConfigError    a config.pbtxt is missing, does not parse, or Triton would refuse it
│   ├── RepositoryError     a model repository or a model in it is missing
│   ├── InputDataError      inputs cannot be generated or read
│   ├── SimulationError     the simulator does not support the model or configuration
│   └── RunError            a run's folder is missing, foreign, or does not fit the command
├── InfrastructureError     something this machine or network lacks (exit code 3)
│   ├── LauncherUnavailable no engine, no image, no binary, no endpoint
│   ├── LoadProcessDied     a process of the load generator is gone
│   └── StorageError        records cannot be written or read
└── CandidateError          one candidate failed; the search goes on
    ├── ServerFailed        the server died, hung, or refused the model
    ├── LoadFailed          the server stopped answering under load
    ├── ConstraintBroken    it violates a constraint at every rate
    └── OutOfTime           the time limit was reached before it was measured
"""

import errno

from tuner.text import printable

_FULL = (errno.ENOSPC, errno.EDQUOT)


class TunerError(Exception):
    """Root of all errors that tuner raises on purpose; the message is fit for a user to read."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class UsageError(TunerError):
    exit_code = 2


class UnitError(UsageError):
    pass


class DocumentError(UsageError):
    """``place`` is ``:LINE`` where the line is known: it goes behind the name of the file."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.place = "" if line is None else f":{line}"


class SpaceError(UsageError):
    pass


class ModelConfigError(UsageError):
    pass


class RepositoryError(UsageError):
    pass


class InputDataError(UsageError):
    pass


class SimulationError(UsageError):
    pass


class RunError(UsageError):
    pass


class InfrastructureError(TunerError):
    exit_code = 3


class LauncherUnavailable(InfrastructureError):
    pass


class LoadProcessDied(InfrastructureError):
    pass


class StorageError(InfrastructureError):
    pass


class CandidateError(TunerError):
    pass


class ConstraintBroken(CandidateError):
    pass


class ServerFailed(CandidateError):
    pass


class LoadFailed(CandidateError):
    pass


class OutOfTime(CandidateError):
    pass


def write_remedy(error: OSError, *others: str) -> str:
    """What to do if a file cannot be written: free disk space if there is none, or one of
    ``others``.
    """
    remedies = ("free some disk space", *others) if error.errno in _FULL else others
    return ", or ".join(remedies) or "check the permissions"
