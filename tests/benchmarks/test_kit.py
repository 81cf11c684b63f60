"""What is taken from a kit and what from the machine; packages here are metadata alone."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.kit import interpreter, run, trim
from benchmarks.kit.machines import MACHINES, OPTIONAL
from benchmarks.kit.manifest import Manifest, Package
from benchmarks.kit.resolve import Source, resolve
from tests.conftest import ROOT

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a package look installed, with what it asks for."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, version: str, *needs: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {need}" for need in needs]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")

    return make


def sources(wants: tuple[str, ...], *packages: Package) -> dict[str, Source]:
    manifest = Manifest("3.12", "scientific", wants, packages, None)
    return {choice.name: choice.source for choice in resolve(manifest)}


def test_what_is_installed_and_will_do_is_preferred(install: Install) -> None:
    install("kit-a", "2.5")
    install("kit-b", "1.0")
    packages = Package("kit-a", "2.6"), Package("kit-b", "2.0"), Package("kit-c", "1.0")
    found = sources(("kit-a>=2", "kit-b>=2", "kit-c"), *packages)
    assert found == {"kit-a": Source.MACHINE, "kit-b": Source.KIT, "kit-c": Source.KIT}


def test_a_package_brings_its_own_requirements_along(install: Install) -> None:
    """The machine's pydantic goes with its pydantic-core, though the kit's would want another."""
    install("kit-model", "2.14.4", "kit-core==2.50.5", 'kit-far; extra == "more"')
    install("kit-core", "2.50.5")
    packages = (
        Package("kit-model", "2.14.3", ("kit-core==2.50.4",)),
        Package("kit-core", "2.50.4"),
        Package("kit-far", "1.0"),
    )
    found = sources(("kit-model>=2",), *packages)
    assert found == {"kit-model": Source.MACHINE, "kit-core": Source.MACHINE}


def test_what_asks_for_what_is_not_taken_is_taken_from_the_kit_too(install: Install) -> None:
    install("kit-model", "2.14.4", "kit-core==2.50.5")
    install("kit-core", "2.50.5")
    packages = (
        Package("kit-model", "2.14.3", ("kit-core==2.50.4",)),
        Package("kit-core", "2.50.4"),
        Package("kit-other", "1.0", ("kit-core<2.50.5",)),
    )
    assert set(sources(("kit-model>=2", "kit-other"), *packages).values()) == {Source.KIT}


def test_what_is_nowhere_in_a_version_that_will_do_is_named(install: Install) -> None:
    install("kit-old", "0.9")
    packages = (
        Package("kit-old", None),
        Package("kit-none", None),
        Package("kit-fast", None, (), "x"),
    )
    manifest = Manifest("3.12", "m", ("kit-old>=1", "kit-none", "kit-fast"), packages, None)
    rows = {choice.name: choice for choice in resolve(manifest)}
    assert rows["kit-old"].is_missing
    assert rows["kit-none"].is_missing
    assert "0.9 is installed; needed is >=1" in rows["kit-old"].row()
    assert rows["kit-fast"].source is Source.ABSENT
    assert rows["kit-fast"].row().endswith("x")


def test_what_decides_is_not_taken_for_the_machines(install: Install) -> None:
    """It lies on the path while it decides."""
    install("packaging", "99.0")
    assert sources(("packaging",), Package("packaging", "26.3")) == {"packaging": Source.KIT}


def test_a_manifest_is_read_as_it_was_written() -> None:
    packages = Package("a", "1.0", ("b>=1",)), Package("b", None, (), "slow")
    manifest = Manifest("3.12", "scientific", ("a",), packages, "libpython3.12.so.1.0")
    assert Manifest.parse(manifest.to_json()) == manifest


def test_spares_are_among_what_the_machine_has() -> None:
    for machine in MACHINES.values():
        assert machine.spares <= machine.has
    assert OPTIONAL.keys() <= MACHINES["scientific"].has


@pytest.mark.parametrize(
    ("name", "unread"),
    [
        ("plotly/package_data/plotly.min.js", False),
        ("plotly/package_data/widgetbundle.js", True),
        ("plotly/labextension/static/x.js", True),
        ("pytriton/tritonserver/python_backend_stubs/3.12/stub", False),
        ("pytriton/tritonserver/python_backend_stubs/3.8/stub", True),
        ("scipy/special/x.so", False),
        ("scipy/stats/x.so", True),
        ("optuna/tests/x.py", True),
    ],
)
def test_what_nobody_reads_stays_out(name: str, unread: bool) -> None:
    assert trim.is_unread(name, "3.12") is unread


def test_the_tables_of_icu_are_blanked_and_nothing_else(tmp_path: Path) -> None:
    names = b"\0.rodata\0.text\0"
    code, data = b"CODE" * 4, b"DATA" * 8
    head = bytearray(64)
    at = {"names": 64, "code": 64 + len(names)}
    at["data"] = at["code"] + len(code)
    table = at["data"] + len(data)
    struct.pack_into("<Q", head, 0x28, table)
    struct.pack_into("<HHH", head, 0x3A, 64, 4, 1)

    def section(name: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 0, 0)

    sections = bytes(64) + section(0, at["names"], len(names))
    sections += section(names.index(b".text"), at["code"], len(code))
    sections += section(names.index(b".rodata"), at["data"], len(data))
    file = tmp_path / "libicudata-1.so.70"
    file.write_bytes(bytes(head) + names + code + data + sections)
    trim.blank_icu_data(tmp_path)
    assert file.read_bytes() == bytes(head) + names + code + bytes(len(data)) + sections


def test_no_interpreter_is_found_where_the_program_is_none(tmp_path: Path) -> None:
    assert interpreter.find("3.12", tmp_path / "missing") is None
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no\n")
    program.chmod(0o755)
    assert interpreter.find("3.12", program) is None


def test_a_kit_for_another_python_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.check_python(Manifest("2.7", "scientific", (), (), None))
    assert ended.value.code == 3
    assert "the kit is for Python 2.7" in capsys.readouterr().err


def test_what_packages_do_not_agree_upon_is_missing(install: Install) -> None:
    """The machine's package cannot be replaced, and what is carried does not suit it."""
    install("kit-fixed", "1.0", "kit-proto>=7")
    install("kit-proto", "7.1")
    packages = (
        Package("kit-fixed", None),
        Package("kit-client", "1.0", ("kit-proto<7",)),
        Package("kit-proto", "6.33"),
    )
    found = sources(("kit-fixed", "kit-client"), *packages)
    assert found["kit-proto"] is Source.MISSING
    optional = Package("kit-fixed", None, (), "slower"), *packages[1:]
    assert sources(("kit-fixed", "kit-client"), *optional)["kit-proto"] is Source.KIT


def test_an_interrupt_is_handed_on_once_and_waited_for(tmp_path: Path) -> None:
    """As the terminal sends it: to the whole process group."""
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import signal, sys, time\n"
        "got = []\n"
        "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
        "print('ready', flush=True)\n"
        "while not got: time.sleep(0.01)\n"
        "time.sleep(0.5)\n"
        "print(len(got), flush=True)\n"
        "sys.exit(7)\n"
    )
    code = "import sys; from benchmarks.kit import run; sys.exit(run.run_stages(sys.argv[1:], {}))"
    command = [sys.executable, "-c", code, sys.executable, str(stage)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "1\n"
    assert process.returncode == 7
