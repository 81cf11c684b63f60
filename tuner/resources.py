"""Files that come with tuner: presets of search spaces and sample models.

In a checkout they lie beside the package, in a wheel inside it.
"""

from pathlib import Path

from tuner.errors import RepositoryError

_PACKAGE = Path(__file__).resolve().parent


def bundled(folder: str) -> Path:
    """The folder ``search_spaces`` or ``model_repository`` that came with this installation."""
    for place in (_PACKAGE / "data" / folder, _PACKAGE.parent / folder):
        if place.is_dir():
            return place
    raise RepositoryError(f"this installation of tuner lacks its folder {folder}; reinstall it")
