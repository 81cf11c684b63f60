"""Leaves out of a kit what nobody reads on the machine."""

import fnmatch
import shutil
import struct
import subprocess
from pathlib import Path

_UNREAD = (
    "*/tests/*",
    "*.pyi",
    "*.dist-info/licenses/*",
    "plotly/labextension/*",
    "plotly/package_data/datasets/*",
    "plotly/package_data/widgetbundle.js",
    "nvidia_pytriton.libs/libpython3*",
)
# SciPy is carried where there is no numba either; without a simulation the rest is not imported.
_KEPT_OF_SCIPY = ("special", "_lib", "_external")
_ICU_DATA = "libicudata-*.so*"
_RODATA = b".rodata\0"
_SECTION = struct.Struct("<IIQQQQIIQQ")


def is_unread(name: str, python: str) -> bool:
    """Whether a file of this path in site-packages is of no use under this Python."""
    parts = name.split("/")
    if any(fnmatch.fnmatch(name, pattern) for pattern in _UNREAD):
        return True
    if parts[0] == "scipy" and len(parts) > 2:
        return parts[1] not in _KEPT_OF_SCIPY
    return "python_backend_stubs" in parts and python not in parts


def strip(folder: Path) -> None:
    """Leave out what only debuggers read. Libraries beside a package were patched: not those."""
    program = shutil.which("strip")
    found = [path for path in folder.rglob("*.so*") if ".libs" not in path.parent.name]
    modules = [path for path in found if path.is_file() and not path.is_symlink()]
    if program is not None and modules:
        subprocess.run([program, "--strip-debug", *map(str, modules)], check=True)


def blank_icu_data(folder: Path) -> None:
    """Blank the 29 MB of tables in ICU's data library, which no server of ours looks into.

    Triton links against it by way of libarchive and libxml2, for packed environments of models.
    The library must be there and have its symbol; ICU itself refuses a table of zeros.
    """
    for library in folder.rglob(_ICU_DATA):
        content = bytearray(library.read_bytes())
        for start, length in _read_only_data(content):
            content[start : start + length] = bytes(length)
        library.write_bytes(content)


def _read_only_data(elf: bytes | bytearray) -> list[tuple[int, int]]:
    """Offset and size of ``.rodata`` in a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", elf, 0x3A)
    sections = [_SECTION.unpack_from(elf, table + size * i) for i in range(count)]
    names = sections[names_at][4]
    return [
        (section[4], section[5])
        for section in sections
        if elf[names + section[0] : names + section[0] + len(_RODATA)] == _RODATA
    ]
