"""Where the embedded server does not run, tuner says so and what to use instead."""

import sys

import pytest

from tuner.commands.doctor import examine
from tuner.errors import LauncherUnavailable
from tuner.servers import choose, embedded, local


@pytest.fixture
def python_313(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    monkeypatch.setattr(local.shutil, "which", lambda _: None)
    monkeypatch.setattr(choose, "_docker_has", lambda _: False)


def test_python_313_has_no_embedded_server(python_313: None) -> None:
    assert not local.is_available()
    with pytest.raises(LauncherUnavailable, match=r"needs Python 3\.11 or 3\.12; use --launcher"):
        choose.choose("auto", "image", None)


def test_the_doctor_says_so(python_313: None) -> None:
    (finding,) = [each for each in examine("image") if each.name == "embedded Triton"]
    assert not finding.there
    assert "needs Python 3.11 or 3.12" in finding.remedy


def test_other_pythons_are_told_what_to_install() -> None:
    assert embedded.remedy() == "pip install 'triton-tuner[local]'"
