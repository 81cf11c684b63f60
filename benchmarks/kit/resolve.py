"""On the machine: what is taken as it is installed there, and what from the kit.

What is installed is preferred. A package asks for what the copy of it that is taken asks for: the
kit's pydantic for the kit's pydantic-core, the machine's for the machine's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata

from benchmarks.kit.manifest import FIRST, Manifest, Package


class Source(StrEnum):
    MACHINE = "machine"
    KIT = "kit"
    ABSENT = "absent"
    """Not there, and tuner can do without it."""
    MISSING = "missing"


@dataclass(frozen=True)
class Choice:
    """A package, the version that is installed (None: it is not), and where it is taken from.

    ``requires`` are the versions that will do, as in ``<2,>=1``.
    """

    package: Package
    installed: str | None
    requires: str
    source: Source

    @property
    def name(self) -> str:
        return self.package.name

    @property
    def is_missing(self) -> bool:
        return self.source is Source.MISSING

    def row(self) -> str:
        taken = self.package.version if self.source is Source.KIT else self.installed
        return f"{self.name:<20} {self.source:<8} {taken or '-':<14} {self._note()}".rstrip()

    def _note(self) -> str:
        if self.source is Source.MACHINE:
            return ""
        if self.source is Source.ABSENT:
            return self.package.without
        if self.installed is not None:
            return f"{self.installed} is installed; needed is {self.requires}"
        return f"needed is {self.requires or 'any version'}" if self.is_missing else ""


def resolve(manifest: Manifest) -> list[Choice]:
    """Where each package is taken from, sorted by name. Needs the package ``packaging``, which is
    the kit's own by now, and would be taken for the machine's.
    """
    known = {package.name: package for package in manifest.packages}
    from_kit = {FIRST} & {package.name for package in manifest.packages if package.version}
    while True:
        demands = _demands(manifest.wants, known, from_kit)
        worse = {name for name in demands if _is_to_change(name, demands, known, from_kit)}
        if not worse:
            return [
                _choice(known[name], demands[name], from_kit, known) for name in sorted(demands)
            ]
        from_kit |= worse


Demands = dict[str, list[tuple[str, str]]]
"""Of each package: the versions asked for, and by which package."""


def _demands(wants: tuple[str, ...], known: dict[str, Package], from_kit: set[str]) -> Demands:
    found: Demands = {}
    waiting = [(line, "") for line in wants]
    while waiting:
        line, asker = waiting.pop()
        name, versions = _parse(line)
        if name not in known:
            continue
        if name not in found:
            found[name] = []
            waiting.extend((need, name) for need in _needs(known[name], from_kit))
        found[name].append((versions, asker))
    return found


def _needs(package: Package, from_kit: set[str]) -> Iterator[str]:
    if package.name in from_kit or _installed(package.name) is None:
        yield from package.needs
        return
    from packaging.requirements import Requirement

    for line in metadata.requires(package.name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield line


def _is_to_change(
    name: str, demands: Demands, known: dict[str, Package], from_kit: set[str]
) -> bool:
    """Whether the kit's copy has to be taken of what was to be the machine's so far.

    So it is where the machine's is not what is asked for, or asks for what is not taken.
    """
    if name in from_kit or known[name].version is None:
        return False
    if not _suits(_installed(name), demands[name]):
        return True
    asked = [(n, v) for n in demands for v, asker in demands[n] if asker == name and n in from_kit]
    return any(not _suits(known[n].version, [(versions, name)]) for n, versions in asked)


def _choice(
    package: Package,
    asked: list[tuple[str, str]],
    from_kit: set[str],
    known: dict[str, Package],
) -> Choice:
    """Missing is also what packages that are taken do not agree upon, but for optional ones."""
    needed = [each for each in asked if not (each[1] and known[each[1]].without)]
    installed = _installed(package.name)
    requires = ",".join(dict.fromkeys(versions for versions, _ in asked if versions))
    if package.name in from_kit:
        source = Source.KIT if _suits(package.version, needed) else Source.MISSING
    elif _suits(installed, asked):
        source = Source.MACHINE
    else:
        source = Source.ABSENT if package.without else Source.MISSING
    return Choice(package, installed, requires, source)


def _suits(version: str | None, asked: list[tuple[str, str]]) -> bool:
    from packaging.specifiers import SpecifierSet

    if version is None:
        return False
    return all(SpecifierSet(text).contains(version, prereleases=True) for text, _ in asked)


def _parse(line: str) -> tuple[str, str]:
    """Name and versions of a requirement."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    requirement = Requirement(line)
    return canonicalize_name(requirement.name), str(requirement.specifier)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
