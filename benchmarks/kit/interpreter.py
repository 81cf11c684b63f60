"""A copy of an interpreter with its shared library, for machines whose Python comes without one.

Triton's Python stub is linked against libpython. Many a system's Python holds the interpreter in
its program instead, and modules such as ``math`` with it: the library of another build would look
for these in files that are not there. So its standard library is carried along.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ASK = (
    "import json, sys, sysconfig; "
    "print(json.dumps([sysconfig.get_config_var('LIBDIR'), sysconfig.get_config_var('INSTSONAME'), "
    "sysconfig.get_path('stdlib'), 'math' in sys.builtin_module_names]))"
)
_UNREAD = (
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter",
    "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "config-*", "_test*.so", "_ctypes_test*.so",
    "_tkinter*.so", "xx*.so",
)  # fmt: skip


@dataclass(frozen=True)
class Interpreter:
    """``library`` is its libpython, ``modules`` the folder of its standard library."""

    library: Path
    modules: Path

    def copy(self, python: str, home: Path) -> None:
        """Lay it out below ``home`` as PYTHONHOME expects it."""
        unread = shutil.ignore_patterns(*_UNREAD)
        shutil.copytree(self.modules, home / "lib" / f"python{python}", ignore=unread)
        shutil.copy2(self.library, home / "lib" / self.library.name)


def find(python: str, program: Path | None = None) -> Interpreter | None:
    """An interpreter of that version with a library of its own; ``program``, if one is named."""
    programs = [program] if program is not None else _programs(python)
    return next(filter(None, map(_examine, programs)), None)


def _programs(python: str) -> Iterator[Path]:
    """Interpreters of that version, on the PATH and where pyenv and uv keep them."""
    name = f"python{python}"
    on_path = shutil.which(name)
    if on_path is not None:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = Path.home() / ".local" / "share" / "uv" / "python"
    for folder in (pyenv, uv):
        yield from sorted(folder.glob(f"*{python}*/bin/{name}"), reverse=True)


def _examine(program: Path) -> Interpreter | None:
    try:
        said = subprocess.run([program, "-c", _ASK], capture_output=True, text=True, timeout=20)
        folder, library, modules, builds_in = json.loads(said.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    path = Path(folder or "", library or "")
    if builds_in or not path.is_file() or ".so" not in path.name:
        return None
    return Interpreter(path, Path(modules))
