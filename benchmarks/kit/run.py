"""On the machine: takes from the kit what is not installed, and runs the stages with it.

``benchmarks/gpu.sh`` calls it. It needs the standard library alone, and writes nothing outside a
temporary folder.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from types import FrameType

from benchmarks.kit.manifest import FIRST, INTERPRETER, PACKAGES, Manifest
from benchmarks.kit.resolve import Choice, Source, resolve

STUB_ENVIRONMENT = "GPU_STUB_ENVIRONMENT"
"""Variable for the stages: a JSON object of what the server's Python stub needs to be told."""
FORCED = "KIT_INTERPRETER"
"""Variable: if it is 1, the interpreter of the kit is used even if the machine's would do."""
BYTECODE = "bytecode"
"""Folder beside the kit's packages: what one process compiled, the next ones read."""
_SERVER = f"{PACKAGES}/nvidia-pytriton/pytriton/tritonserver"
_UNRESOLVED = 127
"""What the loader exits with where a library is missing."""


def main() -> None:
    kit, words = Path(sys.argv[1]), sys.argv[2:]
    for number in _ENDING:  # the scratch folder goes, too
        signal.signal(number, _end)
    with tempfile.TemporaryDirectory(prefix="tuner-kit-") as scratch:
        folder = Path(scratch)
        try:
            choices, manifest = unpack(kit, folder)
        except (OSError, tarfile.TarError, ValueError) as error:
            sys.exit(_refuse(f"{kit} cannot be unpacked: {error}"))
        environment = _environment(folder, choices, manifest)
        sys.exit(run_stages([sys.executable, "-m", "benchmarks.gpu", *words], environment))


def unpack(kit: Path, folder: Path) -> tuple[list[Choice], Manifest]:
    """Unpack what is to be taken from the kit. Exits where the machine lacks something else."""
    with tarfile.open(kit, "r|xz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later
        members = iter(archive)
        head = archive.extractfile(next(members))
        assert head is not None
        manifest = Manifest.parse(head.read())
        check_python(manifest)
        choices: list[Choice] = []
        taken: tuple[str, ...] = (f"{PACKAGES}/{FIRST}/",)
        for member in members:
            if not choices and not member.name.startswith(taken):
                choices = _choose(manifest, folder)
                taken = _prefixes(choices)
            if member.name.startswith(taken):
                archive.extract(member, folder)
    return choices, manifest


def check_python(manifest: Manifest) -> None:
    """Exit with 3 unless the kit is for this Python."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if manifest.python != here:
        hint = f"make gpu-kit ARGS='--python {here}'"
        sys.exit(_refuse(f"the kit is for Python {manifest.python}, and this is {here}: {hint}"))


def _choose(manifest: Manifest, folder: Path) -> list[Choice]:
    """Decide for each package, and say so."""
    rules = str(folder / PACKAGES / FIRST)
    sys.path.insert(0, rules)
    try:
        choices = resolve(manifest)
    finally:
        sys.path.remove(rules)
    lines = [choice.row() for choice in choices]
    print("\n".join(["package              from     version", *lines]), flush=True)
    missing = [line for choice, line in zip(choices, lines, strict=True) if choice.is_missing]
    if missing:
        listed = "\n  ".join(missing)
        sys.exit(
            _refuse(f"neither installed in a version that will do, nor in the kit:\n  {listed}")
        )
    return choices


def _prefixes(choices: list[Choice]) -> tuple[str, ...]:
    names = [choice.name for choice in choices if choice.source is Source.KIT]
    return (*(f"{PACKAGES}/{name}/" for name in names), f"{INTERPRETER}/")


def _environment(folder: Path, choices: list[Choice], manifest: Manifest) -> dict[str, str]:
    """What the stages run in: the checkout, then the kit's packages, then the machine's."""
    inherited = os.environ.get("PYTHONPATH", "")
    taken = [folder / PACKAGES / c.name for c in choices if c.source is Source.KIT]
    path = _joined(os.getcwd(), *map(str, taken), inherited)
    found = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(folder / BYTECODE)}
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    problem = _stub_problem(folder, manifest)
    if problem is None:
        print("Python stub: uses the machine's libpython")
        return found
    home = folder / INTERPRETER
    if manifest.libpython is None:
        print(f"Python stub: {problem}, and the kit has no libpython; no server will load a model")
        return found
    print(f"Python stub: {problem}; uses the kit's {manifest.libpython}")
    found["LD_LIBRARY_PATH"] = _joined(os.environ.get("LD_LIBRARY_PATH", ""), str(home / "lib"))
    _furnish(home, manifest.python)
    return {**found, STUB_ENVIRONMENT: json.dumps({"PATH": _path_to(home)})}


def _furnish(home: Path, python: str) -> None:
    """Give the kit's interpreter the machine's packages.

    The stub heeds neither PYTHONHOME nor PYTHONPATH: it takes the Python that is first on the PATH
    for its own, and looks for modules around that.
    """
    program = home / "bin" / "python3"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    site = home / "lib" / f"python{python}" / "site-packages"
    site.mkdir()
    folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    lines = [f"import site; site.addsitedir({folder!r})" for folder in folders]
    (site / "machine.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _path_to(home: Path) -> str:
    return _joined(str(home / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", ""))


def _stub_problem(folder: Path, manifest: Manifest) -> str | None:
    """Why the stub does not start with this machine's libpython; None where it does."""
    if os.environ.get(FORCED) == "1":
        return f"{FORCED} is 1"
    stubs = folder / _SERVER / "python_backend_stubs"
    if not stubs.is_dir():  # another Triton is installed here, and has been used before
        return None
    stub = stubs / manifest.python / "triton_python_backend_stub"
    libdir = sysconfig.get_config_var("LIBDIR") or ""
    path = _joined(os.environ.get("LD_LIBRARY_PATH", ""), libdir)
    done = subprocess.run(
        [stub], env={**os.environ, "LD_LIBRARY_PATH": path}, capture_output=True, text=True
    )
    if done.returncode != _UNRESOLVED:
        return None
    return done.stderr.strip().rpartition("shared libraries: ")[2] or "a library is missing"


def _joined(*parts: str) -> str:
    return os.pathsep.join(filter(None, parts))


def run_stages(command: list[str], environment: dict[str, str]) -> int:
    """Run it to its end, in a session of its own: what would end this program is handed on to it,
    once.
    """
    sys.stdout.flush()
    waiting: list[int] = []
    for number in _ENDING:
        signal.signal(number, lambda number, _: waiting.append(number))
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        for number in _ENDING:
            signal.signal(number, lambda number, _: process.send_signal(number))
        for number in waiting:
            process.send_signal(number)
        return process.wait()


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 3


if __name__ == "__main__":
    main()
