"""Which packages tuner needs, in which versions, and which of them a kit carries."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Set
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.kit.machines import OPTIONAL, Machine
from benchmarks.kit.manifest import FIRST, Package

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
SERVER = "nvidia-pytriton"
"""Carried for the Triton in it; what its Python code asks for is not needed."""
EXTRAS = {"tritonclient": {"grpc"}}
"""In place of all extras: tuner has HTTP clients of its own."""
GLIBC = ("2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17", "2_12", "2_5")


def choose(python: str, machine: Machine) -> tuple[tuple[str, ...], tuple[Package, ...]]:
    """What tuner asks for, and the packages that this comes to, of the versions in constraints.txt.

    What the machine has is not carried, nor what that needs in turn.
    """
    there = (machine.has - machine.spares - {FIRST}) | OPTIONAL.keys()
    pins = _pins()
    wants = [*_requirements(), Requirement(f"{SERVER}=={pins[SERVER]}")]
    packages = [
        Package(
            name,
            None if name in there else pins[name],
            tuple(sorted(map(str, needs))),
            OPTIONAL.get(name, ""),
        )
        for name, needs in sorted(_closure(wants, python, there | {SERVER}).items())
    ]
    return tuple(map(str, wants)), tuple(packages)


def install(packages: Iterable[Package], python: str, site: Path) -> None:
    """Those that are carried, into a folder, as pip would on the machine."""
    choices = [f"{p.name}=={p.version}" for p in packages if p.version is not None]
    _pip("install", "--no-deps", "--no-compile", *_platform(python, site), *choices)


def _requirements() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["serve"], *extras["torch"], FIRST):
        requirement = Requirement(line)
        requirement.extras = EXTRAS.get(requirement.name, requirement.extras)
        yield requirement


def _closure(wants: list[Requirement], python: str, ends: Set[str]) -> dict[str, set[Requirement]]:
    """The packages that are asked for, and what each asks for in turn; ``ends`` ask for nothing."""
    found: dict[str, set[Requirement]] = {}
    waiting = list(wants)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        known = found.setdefault(name, set())
        lines = () if name in ends else metadata.requires(name) or ()
        needs = {
            _bare(need)
            for need in map(Requirement, lines)
            if _applies(need, requirement.extras, python)
        }
        waiting.extend(needs - known)
        known |= needs
    return found


def _bare(requirement: Requirement) -> Requirement:
    """Without its marker, which was heeded."""
    bare = Requirement(str(requirement))
    bare.marker = None
    return bare


def _applies(requirement: Requirement, extras: Set[str], python: str) -> bool:
    if requirement.marker is None:
        return True
    where = {"python_version": python, "python_full_version": f"{python}.0"}
    return any(requirement.marker.evaluate({**where, "extra": extra}) for extra in {"", *extras})


def _pins() -> dict[str, str]:
    lines = re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def _platform(python: str, target: Path) -> list[str]:
    """Options for another machine; pip takes them only with a folder to install into."""
    names = [f"manylinux_{version}_x86_64" for version in GLIBC]
    names += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    return [
        "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
        *(f"--platform={name}" for name in names), "--target", str(target),
    ]  # fmt: skip


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
