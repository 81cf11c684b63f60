"""Where the files of a model repository really are: models and files in them may be links."""

import os
import shutil
import stat
from collections.abc import Callable, Container, Iterator
from pathlib import Path

_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", ".git*")


def models_of(repository: Path) -> dict[str, Path]:
    """The real folder of each entry of a repository that may be a model, by its name there. A link
    that leads out of the repository counts only if there is a model: whoever wrote the repository
    is not to have any other folder of this machine shown or copied.
    """
    root = os.path.realpath(repository)
    found = {}
    for entry in sorted(repository.iterdir()):
        place = Path(os.path.realpath(entry))
        if entry.name.startswith(".") or not place.is_dir():
            continue
        if place.is_relative_to(root) or _is_model(place):
            found[entry.name] = place
    return found


def _is_model(folder: Path) -> bool:
    return os.path.isfile(folder / "config.pbtxt") or any(folder.glob("[0-9]*/model*"))


def links_out(model: Path) -> Iterator[Path]:
    """Links in a model's folder to what lies neither in it nor in its repository, nor nowhere.

    Whoever copies a model, or lets a container see it, is not to give away what such a link leads
    to: the repository may come from somebody else.
    """
    for folder, folders, files in os.walk(os.path.realpath(model)):
        for name in (*folders, *files):
            path = Path(folder) / name
            if path.is_symlink() and os.path.exists(path) and not is_inside(path, model):
                yield path


def is_inside(path: Path, model: Path) -> bool:
    """Whether a file really lies in the model's folder, or in its repository."""
    target = Path(os.path.realpath(path))
    places = (os.path.realpath(model), os.path.realpath(model.parent))
    return any(target.is_relative_to(place) for place in places)


def copy_model(
    model: Path, target: Path, copy_file: Callable[[str, str], object] = shutil.copy2
) -> None:
    """All files of the model. What a link in it leads to outside of the repository is not copied:
    the copy has a link to the same place.
    """
    links = {str(link): link.resolve() for link in links_out(model)}
    folder = model.resolve()

    def left_out(inside: str, names: list[str]) -> set[str]:
        outward = {name for name in names if str(Path(inside).resolve() / name) in links}
        return outward | _NOT_COPIED(inside, names)

    shutil.copytree(model, target, ignore=left_out, copy_function=copy_file)
    for link, place in links.items():
        copy = target / Path(link).relative_to(folder)
        if copy.parent.is_dir():  # else it lies in what is left out
            copy.symlink_to(place)


def files_beside(repository: Path) -> list[Path]:
    """Files in the repository's own folder, which its models may read; none that really lies
    elsewhere.
    """
    root = os.path.realpath(repository)
    return [
        entry
        for entry in sorted(repository.iterdir())
        if not entry.name.startswith(".")
        and entry.is_file()
        and Path(os.path.realpath(entry)).is_relative_to(root)
    ]


def copy_beside(
    repository: Path,
    models: Container[str],
    target: Path,
    copy_file: Callable[[str, str], object] = shutil.copy2,
) -> list[Path]:
    """What the models of a repository may read beside their own folders: files, and folders that
    are no models; as ``copy_model``. Returns the models that are not among ``models``, which are
    not copied.
    """
    others, root = [], os.path.realpath(repository)
    for entry in sorted(repository.iterdir()):
        copy = target / entry.name
        if entry.name in models or entry.name.startswith(".") or not entry.exists():
            continue
        if entry.is_dir() and _is_model(entry):
            others.append(entry)
        elif not Path(os.path.realpath(entry)).is_relative_to(root):
            copy.symlink_to(entry.resolve())
        elif entry.is_dir():
            copy_model(entry, copy, copy_file)
        else:
            copy_file(str(entry), str(copy))
    return others


def is_public(repository: Path) -> bool:
    """Whether every user may read all models of a repository, however deep."""
    mode = repository.stat().st_mode
    if not (mode & stat.S_IROTH and mode & stat.S_IXOTH):
        return False
    seen: set[str] = set()
    return all(_is_public(place, seen) for place in models_of(repository).values())


def _is_public(model: Path, seen: set[str]) -> bool:
    for folder, folders, files in os.walk(model, followlinks=True):
        seen.add(os.path.realpath(folder))
        folders[:] = [f for f in folders if os.path.realpath(f"{folder}/{f}") not in seen]
        mode = os.stat(folder).st_mode
        if not (mode & stat.S_IROTH and mode & stat.S_IXOTH):
            return False
        for name in files:
            path = f"{folder}/{name}"
            if os.path.exists(path) and not os.stat(path).st_mode & stat.S_IROTH:
                return False
    return True
