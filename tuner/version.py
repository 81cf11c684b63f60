"""The version, below all that records it: that of the package, as ``pyproject.toml`` has it."""

import tomllib
from importlib import metadata
from pathlib import Path


def _version() -> str:
    try:
        return metadata.version("triton-tuner")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        project = Path(__file__).parents[1] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


__version__ = _version()
