"""What is published: complete, with metadata that an index takes, and run by its package's name."""

import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tuner.version import __version__

pytestmark = pytest.mark.slow
DATA = ("search_spaces", "model_repository")


@dataclass(frozen=True)
class Distributions:
    wheel: Path
    sdist: Path


def run(*words: str | Path, folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """As for a release: the wheel out of the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = ("-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    run(sys.executable, *build, folder=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Distributions(wheel, sdist)


def sources(*folders: str) -> set[str]:
    files = (path for name in folders for path in (ROOT / name).rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT).as_posix() for path in files if path.parent.name != "__pycache__"
    }


def test_the_wheel_holds_the_package_and_its_data(built: Distributions) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        contents = {name: wheel.read(name) for name in wheel.namelist()}
    about = f"triton_tuner-{__version__}.dist-info/"
    files = {name for name in contents if not name.startswith(about)}
    assert files == sources("tuner") | {f"tuner/data/{name}" for name in sources(*DATA)}
    assert "tuner/py.typed" in files
    assert {f"{about}METADATA", f"{about}licenses/LICENSE"} <= set(contents)
    assert not [name for name, content in contents.items() if str(ROOT).encode() in content]


def test_the_sdist_holds_what_the_wheel_is_made_of(built: Distributions) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    about = {"pyproject.toml", "PKG-INFO", ".gitignore", "LICENSE", "README.md", "CHANGELOG.md"}
    assert names == sources("tuner", *DATA) | about


def test_an_index_takes_the_metadata(built: Distributions) -> None:
    twine = ("-m", "twine", "check", "--strict", built.wheel, built.sdist)
    run(sys.executable, *twine, folder=built.wheel.parent)


def test_a_package_runner_finds_the_command(
    built: Distributions, wheels: Path, tmp_path: Path
) -> None:
    """In an environment of its own, with the packages that the wheel asks for."""
    packages = ("--offline", "--no-config", "--no-cache", "--no-index", "--find-links", wheels)
    versions = ("--python", sys.executable, "--constraints", ROOT / "constraints.txt")
    command = ("--from", built.wheel, "triton-tuner", "--version")
    runner = (sys.executable, "-m", "uv", "tool", "run", *packages, *versions)
    assert run(*runner, *command, folder=tmp_path) == f"tuner {__version__}\n"


def test_a_checkout_that_is_not_installed_knows_its_version(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tuner; print(tuner.__version__)"
    isolated = (sys.executable, "-I", "-S", "-c", code)
    assert run(*isolated, folder=tmp_path) == f"{__version__}\n"
