"""A model as it was at a revision of the git repository that it is kept in."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tuner.errors import RepositoryError
from tuner.model.weights import link_or_copy
from tuner.text import shortened, shown

_POINTER = b"version https://git-lfs"
_POINTER_SIZE = 1024
"""Bytes; Git LFS keeps its pointers below."""
_SECONDS = 600.0
"""Of one call of git, which may have to fetch large files."""


class RevisionMissing(RepositoryError):
    """The revision has no such model: there is nothing to compare with."""


def commit_of(folder: Path, revision: str) -> str | None:
    """The commit that a revision names in the git repository of the folder; None if it is none."""
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    try:
        return _git(folder, *words).decode().strip() or None
    except RepositoryError:
        return None


def check_out(model: Path, commit: str, destination: Path) -> tuple[Path, list[str]]:
    """Write the model repository of ``model``, a model's folder or a repository, as it was at the
    commit, below ``destination``: the model's folder there, and the files that git does not keep,
    which are those of today.

    Neither the working tree nor git's own index changes. RevisionMissing if the model was not there
    then; RepositoryError if git cannot give its files.
    """
    top = Path(os.path.realpath(_git(model, "rev-parse", "--show-toplevel").decode().rstrip("\n")))
    here = Path(os.path.realpath(model))
    own = here.relative_to(top)
    scope = own if _is_repository(here) else own.parent
    index = {"GIT_INDEX_FILE": str(destination / "index")}
    destination.mkdir(parents=True, exist_ok=True)
    _git(top, "read-tree", commit, env=index)
    kept = [name for name in _names(top, "ls-files", "-z", "--", str(scope), env=index) if name]
    if not any(Path(name).is_relative_to(own) for name in kept):
        raise RevisionMissing(f"{own} is not in {shown(commit[:12])}: nothing to compare with")
    files = destination / "files"
    listed = "\0".join(kept).encode("utf-8", "surrogateescape")
    _git(top, "checkout-index", "-z", "--stdin", f"--prefix={files}/", env=index, given=listed)
    _refuse_pointers(files, kept, commit)
    unkept = []
    for name in _names(top, "ls-files", "-z", "--others", "--", str(scope)):
        copy = files / name
        if name and "__pycache__" not in Path(name).parts and not copy.exists():
            _refuse_changed_pointer(files, top, name, commit)
            copy.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(str(top / name), str(copy))
            unkept.append(name)
    return files / own, unkept


def _is_repository(folder: Path) -> bool:
    from tuner.model.repository import is_repository

    return is_repository(folder)


def _refuse_pointers(files: Path, names: list[str], commit: str) -> None:
    """Where git-lfs is not installed, git writes its pointers in the place of files."""
    for name in names:
        path = files / name
        is_small = path.is_file() and path.stat().st_size < _POINTER_SIZE
        if is_small and path.read_bytes().startswith(_POINTER):
            raise RepositoryError(
                f"{name} of {commit[:12]} is kept by Git LFS, which gave no more than a pointer: "
                f"install git-lfs, run 'git lfs install' and 'git lfs fetch origin {commit[:12]}'"
            )


def _refuse_changed_pointer(files: Path, top: Path, name: str, commit: str) -> None:
    """DVC keeps what a file holds beside it, in a file that git knows."""
    then, now = files / f"{name}.dvc", top / f"{name}.dvc"
    if then.is_file() and now.is_file() and then.read_bytes() != now.read_bytes():
        raise RepositoryError(
            f"{name} is kept by DVC, and was another file at {commit[:12]}: check the model out "
            "into a folder of its own, and give that folder"
        )


def _names(folder: Path, *words: str, env: dict[str, str] | None = None) -> Iterator[str]:
    text = _git(folder, *words, env=env).decode("utf-8", "surrogateescape")
    yield from text.split("\0")


def _git(
    folder: Path, *words: str, env: dict[str, str] | None = None, given: bytes | None = None
) -> bytes:
    """What git prints; RepositoryError if it fails, or there is none."""
    program = shutil.which("git")
    if program is None:
        raise RepositoryError("git is not installed, and a revision needs it")
    try:
        done = subprocess.run(
            [program, "-C", str(folder), *words],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", **(env or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise RepositoryError(f"git {words[0]} did not end in {_SECONDS:g} s") from error
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise RepositoryError(f"git {words[0]} failed in {folder}: {shortened(why[-1])}")
    return done.stdout
