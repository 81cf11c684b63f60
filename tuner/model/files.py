"""Where the files of a model repository really are: models and files in them may be links."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def models_of(repository: Path) -> dict[str, Path]:
    """The real folder of everything in a repository that may be a model, by its name there."""
    return {
        entry.name: entry.resolve()
        for entry in sorted(repository.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }


def links_out(model: Path) -> Iterator[Path]:
    """Links in a model's folder to what lies neither in it nor in its repository, nor nowhere.

    Whoever copies a model, or lets a container see it, is not to give away what such a link leads
    to: the repository may come from somebody else.
    """
    inside = (model.resolve(), model.parent.resolve())
    for folder, folders, files in os.walk(model.resolve()):
        for name in (*folders, *files):
            path = Path(folder) / name
            if path.is_symlink():
                target = path.resolve()
                if target.exists() and not any(target.is_relative_to(place) for place in inside):
                    yield path


def is_public(model: Path) -> bool:
    """Whether every user may read all that is in a model's folder, however deep."""
    for folder, _, files in os.walk(model, followlinks=True):
        mode = Path(folder).stat().st_mode
        if not (mode & stat.S_IROTH and mode & stat.S_IXOTH):
            return False
        for name in files:
            path = Path(folder) / name
            if path.exists() and not path.stat().st_mode & stat.S_IROTH:
                return False
    return True
