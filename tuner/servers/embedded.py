"""The embedded Triton of the extra ``local``: a real tritonserver from a Python package.

The wheel of nvidia-pytriton carries the server with its Python backend. What it lacks as a plain
server is put together here, in a folder of its own: the stub of the running Python, and a
Python-based ``onnxruntime`` backend.
"""

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tuner.cores import listed
from tuner.errors import LauncherUnavailable

_BACKENDS = Path(__file__).parent / "backends"
_NEEDS_PYTHON = (
    "the embedded server needs Python 3.11 or 3.12; use --launcher docker, or attach to a running "
    "server with --url"
)


@dataclass(frozen=True)
class Binary:
    """A tritonserver to run: its path, arguments it needs, and changes to the environment."""

    path: Path
    args: tuple[str, ...]
    environment: dict[str, str]


def is_supported() -> bool:
    """Whether the embedded server has a stub for this Python."""
    return sys.version_info < (3, 13)


def is_installed() -> bool:
    """Whether the extra ``local`` is, on a Python that it works with."""
    return is_supported() and importlib.util.find_spec("pytriton") is not None


def remedy() -> str:
    """How to get it, or what to use instead."""
    return "pip install 'triton-tuner[local]'" if is_supported() else _NEEDS_PYTHON


def assemble(folder: Path, stub_cores: frozenset[int] = frozenset()) -> Binary:
    """The embedded server with its backends copied into ``folder``.

    The Python backend's stubs run on ``stub_cores``; on the server's if there are none.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise LauncherUnavailable(f"the embedded Triton is not installed; {remedy()}")
    package = Path(next(iter(spec.submodule_search_locations)))
    server = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise LauncherUnavailable(
            f"the embedded Triton does not support Python {version}; {_NEEDS_PYTHON}"
        )
    backends = folder / "backends"
    # Copies, not links: the server refuses a backend library whose real path lies elsewhere.
    pythonless = shutil.ignore_patterns("__pycache__")
    shutil.copytree(server / "backends" / "python", backends / "python", ignore=pythonless)
    _support_numpy_two(backends / "python" / "triton_python_backend_utils.py")
    _install_stub(stub, backends / "python" / stub.name, stub_cores)
    if importlib.util.find_spec("onnxruntime") is not None:
        shutil.copytree(_BACKENDS / "onnxruntime", backends / "onnxruntime", ignore=pythonless)
    site_packages = package.parent
    libraries = str(site_packages / "nvidia_pytriton.libs")
    # The stub needs this interpreter's libpython, which may lie where no loader looks.
    libdir = sysconfig.get_config_var("LIBDIR") or ""
    return Binary(
        server / "bin" / "tritonserver",
        (
            f"--backend-directory={backends}",
            f"--cache-directory={server / 'caches'}",
        ),
        {
            "PATH": str(Path(sys.executable).parent),  # the stub takes the first Python there
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (libraries, libdir))),
            "PYTHONPATH": str(site_packages),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


def _support_numpy_two(utilities: Path) -> None:
    """Let models with numpy 2 answer: the stub was built for numpy 1, which its wheel asks for."""
    more = (_BACKENDS / "python" / "numpy_two.py").read_text(encoding="utf-8")
    utilities.write_text(utilities.read_text(encoding="utf-8") + more, encoding="utf-8")


def _install_stub(stub: Path, target: Path, cores: frozenset[int]) -> None:
    """The stub, or a script in its place that starts it on these cores: the server knows no other
    way to give it cores of its own.
    """
    if not cores:
        shutil.copy2(stub, target)
        return
    python = shlex.quote(sys.executable)
    code = "import os, sys; os.sched_setaffinity(0, {%s}); os.execv(sys.argv[1], sys.argv[1:])"
    command = f'{python} -S -E -c {shlex.quote(code % listed(cores))} {shlex.quote(str(stub))} "$@"'
    target.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
    target.chmod(0o755)
