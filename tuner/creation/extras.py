"""Packages that only some model files need."""

from collections.abc import Iterator
from contextlib import contextmanager

from tuner.errors import UsageError


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """For imports: UsageError says what to install where a package is missing."""
    try:
        yield
    except ImportError as error:
        missing = error.name or str(error)
        raise UsageError(f"{what} needs {missing}: pip install 'triton-tuner[{extra}]'") from error
