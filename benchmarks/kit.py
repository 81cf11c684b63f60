"""Packs what a GPU machine without a network lacks to run tuner: one file to carry there.

The machine has Python, PyTorch with CUDA, numpy, pandas and typer; the kit holds the other
packages of tuner and the embedded Triton, unpacked as Python finds them, less what is never read.
``choices.txt`` inside says which versions.
"""

import argparse
import fnmatch
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
# Where it has grpcio, too: tritonclient refuses to be imported with one that is not recent.
PRESENT = ("torch", "numpy", "pandas", "typer")
# Too large to carry: without numba nothing is simulated, and Optuna's TPE chooses candidates. The
# models there are PyTorch's, and take no text.
LEFT_OUT = ("numba", "llvmlite", "onnxruntime", "tokenizers")
SERVER = "nvidia-pytriton"
MOST_BYTES = 60_000_000
GLIBC = ("2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17", "2_12", "2_5")
# tuner uses the messages of tritonclient alone, none of its clients, and of SciPy the binomial law.
EXTRAS = {"tritonclient": {"grpc"}}
KEPT_OF_SCIPY = ("special", "_lib")
UNREAD = (
    "*/tests/*",
    "*.pyi",
    "bin/*",
    "share/*",
    "etc/*",
    "plotly/package_data/datasets/*",
    "nvidia_pytriton.libs/libpython3*",
)


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        choices = choose(arguments.python)
        install(choices, arguments.python, site)
        trim(site, arguments.python)
        (site / "choices.txt").write_text("\n".join(choices) + "\n", encoding="utf-8")
        if arguments.libpython is not None:
            add_libpython(arguments.libpython, site)
        strip(site)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        pack(site, arguments.out, arguments.level)
    size = arguments.out.stat().st_size
    print(f"{arguments.out}: {size / 1e6:.1f} MB, {len(choices)} packages")
    if size > MOST_BYTES:
        sys.exit(f"that is more than {MOST_BYTES / 1e6:.0f} MB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="3.12", help="Python of the GPU machine: %(default)s")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-kit.tar.xz")
    parser.add_argument("--level", type=int, default=6, help="xz's level: %(default)s")
    parser.add_argument(
        "--libpython",
        type=Path,
        help="libpython3.X.so.1.0 to pack, for a machine whose Python comes without one",
    )
    return parser.parse_args()


def choose(python: str) -> list[str]:
    """The packages to carry, as ``name==version``, sorted."""
    found = {canonicalize_name(p["metadata"]["name"]): p["metadata"] for p in _resolve(python)}
    lines = [f"{name}=={found[name]['version']}" for name in _needed(found, python)]
    return sorted([*lines, f"{SERVER}=={_pinned(SERVER)}"])


def _resolve(python: str) -> list[dict[str, Any]]:
    """What pip would install there for tuner, without downloading it."""
    report = _pip(
        "install", "--dry-run", "--ignore-installed", "--report", "-",
        "-c", str(CONSTRAINTS), *_platform(python, Path(tempfile.gettempdir())), *_requirements(),
    )  # fmt: skip
    installed: list[dict[str, Any]] = json.loads(report)["install"]
    return installed


def _requirements() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in (*project["dependencies"], *project["optional-dependencies"]["serve"]):
        requirement = Requirement(line)
        if requirement.name in EXTRAS:
            requirement.extras = EXTRAS[requirement.name]
        yield str(requirement)


def _needed(found: dict[str, dict[str, Any]], python: str) -> set[str]:
    """What tuner asks for, and what that asks for in turn, as far as it is not there."""
    needed: set[str] = set()
    waiting = [Requirement(line) for line in _requirements()]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in found or name in {*needed, *PRESENT, *LEFT_OUT}:
            continue
        needed.add(name)
        for line in found[name].get("requires_dist", []):
            wanted = Requirement(line)
            if wanted.marker is None or any(
                wanted.marker.evaluate({"extra": extra, "python_version": python})
                for extra in {"", *requirement.extras}
            ):
                waiting.append(wanted)
    return needed


def _pinned(name: str) -> str:
    pattern = re.compile(rf"^{re.escape(name)}==(\S+)$", re.MULTILINE | re.IGNORECASE)
    match = pattern.search(CONSTRAINTS.read_text(encoding="utf-8"))
    if match is None:
        raise LookupError(f"{CONSTRAINTS.name} does not pin {name}")
    return match[1]


def install(choices: list[str], python: str, site: Path) -> None:
    _pip("install", "--no-deps", "--no-compile", *_platform(python, site), *choices)


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


def trim(site: Path, python: str) -> None:
    """Remove files that nothing reads there."""
    for path in sorted(site.rglob("*"), reverse=True):
        name = path.relative_to(site).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif _is_unread(name, python):
            path.unlink()


def _is_unread(name: str, python: str) -> bool:
    if any(fnmatch.fnmatch(name, pattern) for pattern in UNREAD):
        return True
    parts = name.split("/")
    if parts[0] == "scipy" and len(parts) > 2:
        return parts[1] not in KEPT_OF_SCIPY
    return "python_backend_stubs" in parts and python not in parts


def add_libpython(library: Path, site: Path) -> None:
    """Carry an interpreter's shared library under its soname."""
    (site / "libpython").mkdir()
    shutil.copy2(library.resolve(), site / "libpython" / library.name)


def strip(site: Path) -> None:
    """Leave out what only debuggers read. Libraries beside a package were patched: not those."""
    program = shutil.which("strip")
    modules = [path for path in site.rglob("*.so*") if ".libs" not in path.parts[len(site.parts)]]
    if program is not None:
        subprocess.run([program, "--strip-debug", *map(str, modules)], check=True)


def pack(site: Path, file: Path, level: int) -> None:
    """A tar.xz of the folder's content, all cores at work where there is an xz program."""
    program = shutil.which("xz")
    with file.open("wb") as out:
        if program is None:
            with lzma.open(out, "wb", preset=level) as packed:
                _tar(site, packed)
            return
        command = [program, f"-{level}", "-T0", "--memlimit-compress=2GiB", "-c"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out) as xz:
            assert xz.stdin is not None
            _tar(site, xz.stdin)
            xz.stdin.close()
        if xz.returncode != 0:
            raise OSError(f"xz ended with {xz.returncode}")


def _tar(site: Path, out: Any) -> None:
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for path in sorted(site.rglob("*")):
            if path.is_file():
                archive.add(path, path.relative_to(site).as_posix())


if __name__ == "__main__":
    main()
