"""Packs a kit: ``python -m benchmarks.kit``."""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.kit import archive, choose, interpreter, trim
from benchmarks.kit.machines import MACHINES
from benchmarks.kit.manifest import INTERPRETER, Manifest

OUT = choose.ROOT / "build" / "gpu-kit.tar.xz"
MOST_BYTES = {"scientific": 40_000_000, "pytorch": 60_000_000}
"""What may be carried to such a machine together with the tracked files."""


def main() -> None:
    arguments = _arguments()
    python: str = arguments.python
    copy = interpreter.find(python, arguments.interpreter)
    if copy is None:
        print(
            f"no Python {python} with a shared library was found here; --interpreter names one. "
            "Without it the machine's own Python must come with a shared library.",
            file=sys.stderr,
        )
    with tempfile.TemporaryDirectory() as scratch:
        site, folder = Path(scratch, "site"), Path(scratch, "kit")
        wants, packages = choose.choose(python, MACHINES[arguments.machine])
        choose.install(packages, python, site)
        archive.split(site, python, folder)
        if copy is not None:
            copy.copy(python, folder / INTERPRETER)
        trim.strip(folder)
        trim.blank_icu_data(folder)
        library = copy.library.name if copy else None
        manifest = Manifest(python, arguments.machine, wants, packages, library)
        archive.pack(folder, manifest, arguments.out, arguments.level)
    size = arguments.out.stat().st_size
    carried = sum(package.version is not None for package in packages)
    print(f"{arguments.out}: {size / 1e6:.1f} MB, {carried} packages")
    if size > MOST_BYTES[arguments.machine]:
        sys.exit(f"that is more than {MOST_BYTES[arguments.machine] / 1e6:.0f} MB")


def _arguments() -> argparse.Namespace:
    lines = [f"  {name:<11} {machine.what}" for name, machine in MACHINES.items()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kit",
        description=__doc__,
        epilog="machines:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", default="3.12", help="Python of the machine: %(default)s")
    parser.add_argument(
        "--machine",
        choices=MACHINES,
        default="scientific",
        help="what is installed there: %(default)s",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="build/gpu-kit.tar.xz")
    parser.add_argument("--level", default="9e", help="xz's level: %(default)s")
    parser.add_argument(
        "--interpreter",
        type=Path,
        help="a program of that Python with a shared library, to carry a copy of; by default one "
        "is looked for",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
