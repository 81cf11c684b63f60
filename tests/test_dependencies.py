"""What the package imports is what it declares: else it works only where others bring it along."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PROVIDED = {"triton_python_backend_utils"}
"""By Triton's Python backend."""
BROUGHT = {"starlette": "fastapi"}
"""Packages that are part of another's interface."""


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)


def test_every_import_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    names = {name for file in (ROOT / "tuner").rglob("*.py") for name in imported(file)}
    tops = {name.partition(".")[0] for name in names} - {"tuner"} - set(sys.stdlib_module_names)
    distributions = metadata.packages_distributions()
    missing = {
        top
        for top in tops - PROVIDED
        if not declared
        & {canonicalize_name(BROUGHT.get(name, name)) for name in distributions.get(top, [top])}
    }
    assert not missing
