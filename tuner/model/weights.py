"""Weights that are generated from a seed at first use, since they are too large to ship with a
model.

A model says so in ``weights.yaml`` in its folder. The complete model, its files and the weights, is
then put together in the user's cache, once, and used from there.
"""

import fcntl
import hashlib
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from tuner.documents import fault, parse_yaml, read_text
from tuner.errors import DocumentError, RepositoryError, StorageError, write_remedy

WEIGHTS_FILE = "weights.yaml"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".git*")
_LARGEST = 8 << 30  # bytes of all weights of a model, as far as they are made here
_CHUNK = 1 << 20  # values in memory at a time; even, since two are drawn at once


class Weights(BaseModel):
    """Dense layers: of each two neighboring sizes a matrix [inputs, outputs] of float32, one after
    another in ``file``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=r"^\w[\w.-]{0,99}/\w[\w.-]{0,99}$")
    seed: int = Field(ge=0)
    layers: tuple[PositiveInt, ...] = Field(min_length=2, max_length=1000)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        """A repository may come from somebody else, and the cache is on the user's disk."""
        if 4 * sum(inputs * outputs for inputs, outputs in pairwise(self.layers)) > _LARGEST:
            raise ValueError(f"the weights exceed {_LARGEST >> 30} GiB")
        return self

    def write(self, file: IO[bytes]) -> None:
        """Little-endian values, uniform in ±sqrt(6 / inputs), by which a ReLU network keeps the
        size of what passes (He et al., 2015). The same seed gives the same bytes everywhere: numpy
        guarantees stable output only for the raw bits of its generators.
        """
        bits = np.random.PCG64(self.seed)
        for inputs, outputs in pairwise(self.layers):
            bound = np.float32(math.sqrt(6 / inputs))
            left = inputs * outputs
            while left > 0:
                count = min(left, _CHUNK)
                file.write((bound * _uniform(bits, count)).astype("<f4").tobytes())
                left -= count


def _uniform(bits: np.random.PCG64, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """``count`` values in [-1, 1), of 24 random bits each."""
    words = bits.random_raw((count + 1) // 2).astype("<u8").view("<u4")[:count]
    return (words >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def read_weights(model: Path) -> Weights | None:
    """What the model's folder says of its weights; None if it says nothing."""
    file = model / WEIGHTS_FILE
    if not os.path.isfile(file):
        return None
    try:
        return Weights.model_validate(parse_yaml(read_text(file)).content)
    except DocumentError as error:
        raise RepositoryError(f"{file} is not a valid description of weights: {error}") from error
    except ValidationError as error:
        raise RepositoryError(
            f"{file} is not a valid description of weights: {fault(error)}"
        ) from error


def complete_model(model: Path) -> Path:
    """The folder of the model with its weights: itself, unless they are still to be made. Then it
    is a copy in the user's cache; of several processes that ask at once, one makes it.

    RepositoryError if ``weights.yaml`` is invalid, StorageError if the cache cannot be written.
    """
    weights = read_weights(model)
    if weights is None or os.path.isfile(model / weights.file):
        return model
    cache = cache_folder()
    try:
        copy = cache / f"{model.name}-{_digest_of_files(model)}" / model.name
        if not copy.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(cache / "lock"):
                if not copy.is_dir():
                    _assemble(model, copy, weights, cache)
    except OSError as error:
        raise StorageError(
            f"cannot write the weights of {model.name} to {cache}: {error.strerror or error}; "
            f"{write_remedy(error, 'set XDG_CACHE_HOME to a writable folder')}"
        ) from error
    return copy


def cache_folder() -> Path:
    """Where completed models lie: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if named else Path("~/.cache").expanduser()) / "triton-tuner"


def _assemble(model: Path, copy: Path, weights: Weights, cache: Path) -> None:
    """The copy appears whole or not at all. A model that was edited gets a copy of its own, which
    shares the weights.
    """
    stored = cache / f"weights-{_digest(weights.model_dump_json().encode())}.bin"
    if not stored.is_file():
        partial = stored.with_suffix(".partial")
        with partial.open("wb") as file:
            weights.write(file)
        partial.replace(stored)
    staged = cache / "staged"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(model, staged / model.name, ignore=_LEFT_OUT)
    target = staged / model.name / weights.file
    target.parent.chmod(0o755)  # a copy of a read-only folder is read-only, too
    link_or_copy(str(stored), str(target))
    staged.replace(copy.parent)


def link_or_copy(source: str, target: str) -> str:
    """A hard link where the file system allows it, else a copy; for ``shutil.copytree``, too."""
    try:
        os.link(os.path.realpath(source), target)  # what a link leads to, wherever that lies
    except OSError:
        return str(shutil.copy2(source, target))
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one at a time, of all processes and threads; free again when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest_of_files(model: Path) -> str:
    """Of the names and contents of all files that a copy gets."""
    whole = hashlib.sha256()
    for folder, names, files in os.walk(model):
        left_out = _LEFT_OUT(folder, [*names, *files])
        names[:] = sorted(set(names) - left_out)
        for name in sorted(set(files) - left_out):
            path = Path(folder) / name
            content = path.read_bytes()
            whole.update(f"{path.relative_to(model)} {len(content)}\n".encode() + content)
    return whole.hexdigest()[:12]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
