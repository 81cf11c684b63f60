"""What a kit says of itself. Read on the machine too, so it needs the standard library alone."""

import json
from dataclasses import asdict, dataclass

MANIFEST = "kit.json"
PACKAGES = "packages"
INTERPRETER = "python"
FIRST = "packaging"
"""Comes first in the archive: by its rules versions are held against each other."""


@dataclass(frozen=True)
class Package:
    """A package that tuner needs.

    ``version`` and ``needs`` (requirements, as in ``click>=7``) are those of what is carried;
    ``version`` is None where the machine must have it. ``without`` says what tuner does without a
    package that it can do without; empty: it needs the package.
    """

    name: str
    version: str | None
    needs: tuple[str, ...] = ()
    without: str = ""


@dataclass(frozen=True)
class Manifest:
    """``python`` is as in ``3.12``, ``wants`` are tuner's own requirements, and ``libpython`` is
    the name of the carried interpreter's shared library.
    """

    python: str
    machine: str
    wants: tuple[str, ...]
    packages: tuple[Package, ...]
    libpython: str | None

    @classmethod
    def parse(cls, text: str | bytes) -> "Manifest":
        content = json.loads(text)
        packages = [
            Package(**{**each, "needs": tuple(each["needs"])}) for each in content["packages"]
        ]
        return cls(**{**content, "wants": tuple(content["wants"]), "packages": tuple(packages)})

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"
