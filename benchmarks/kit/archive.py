"""From a folder as pip fills it to the archive: a folder for each package, the manifest first."""

import io
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO

from packaging.utils import canonicalize_name

from benchmarks.kit.manifest import FIRST, INTERPRETER, MANIFEST, PACKAGES, Manifest
from benchmarks.kit.trim import is_unread

# Programs for x86 compress by a tenth better when their jumps are told apart (--x86). More memory
# than this to unpack would be asked of the machine.
_XZ = ("--x86", "--lzma2=preset={level},dict=64MiB", "-T1", "-c")


def split(site: Path, python: str, folder: Path) -> None:
    """Move each package's files into ``folder``/<package>, as far as somebody reads them."""
    for distribution in metadata.distributions(path=[str(site)]):
        target = folder / PACKAGES / canonicalize_name(distribution.metadata["Name"])
        for file in map(str, distribution.files or []):
            if not file.startswith("../") and not is_unread(file, python):
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).rename(target / file)


def pack(folder: Path, manifest: Manifest, file: Path, level: str) -> None:
    """Write the archive, compressed at xz's ``level``, as in ``6`` or ``9e``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    program = shutil.which("xz")
    with file.open("wb") as out:
        if program is None:
            with lzma.open(out, "wb", preset=int(level[0])) as packed:
                _write(folder, manifest, packed)
            return
        command = [program, *(word.format(level=level) for word in _XZ)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out) as xz:
            assert xz.stdin is not None
            _write(folder, manifest, xz.stdin)
            xz.stdin.close()
        if xz.returncode != 0:
            raise OSError(f"xz ended with {xz.returncode}")


def _write(folder: Path, manifest: Manifest, out: IO[bytes]) -> None:
    with tarfile.open(fileobj=out, mode="w|") as archive:
        text = manifest.to_json().encode()
        head = tarfile.TarInfo(MANIFEST)
        head.size = len(text)
        archive.addfile(head, io.BytesIO(text))
        for path in _in_order(folder):
            archive.add(path, path.relative_to(folder).as_posix())


def _in_order(folder: Path) -> Iterator[Path]:
    """The files: what decides first, then the programs together, then texts of a kind together."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    first = folder / PACKAGES / FIRST

    def key(path: Path) -> tuple[bool, bool, bool, str, str]:
        return (
            not path.is_relative_to(first),
            not path.is_relative_to(folder / PACKAGES / "nvidia-pytriton"),
            path.is_relative_to(folder / INTERPRETER),
            path.suffix,
            path.as_posix(),
        )

    return iter(sorted(files, key=key))
