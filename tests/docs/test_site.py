"""What ``docs/_hooks`` make: tables out of the code, and the recording of the terminal."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT
from tuner.commands.options import (
    COMPARE_WITHOUT,
    CompareOptions,
    MeasureOptions,
    SearchOptions,
    SimulateOptions,
)
from tuner.experiment.model import Experiment
from tuner.experiment.options import option_of
from tuner.serving.settings import GatewaySettings

HOOKS = ROOT / "docs" / "_hooks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", HOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    pytest.importorskip("mkdocs")
    return load("reference")


def section(page: str, name: str) -> str:
    return page.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]


def test_the_page_of_commands_has_every_option_with_its_default(reference: ModuleType) -> None:
    search = section(reference.commands(), "tuner search")
    for name, field in Experiment.model_fields.items():
        option = option_of(field)
        if option is not None and not option.argument:
            flag = next(iter(option.flags), f"--{name.replace('_', '-')}")
            assert f"`{flag}" in search
    timeout = "Maximum duration of the search, including the confirmation."
    assert f"| `--timeout DURATION` | {timeout} | `3m` |" in search
    assert "`--sla-p99 DURATION`" in search


def test_a_command_has_what_it_takes_and_no_more(reference: ModuleType) -> None:
    page = reference.commands()
    assert "--constraint" in section(page, "tuner search")
    assert "constraints" in COMPARE_WITHOUT.names
    assert "--constraint" not in section(page, "tuner compare")
    assert "--search`, `--no-search" in section(page, "tuner compare")
    gateway = section(page, "tuner serve gateway")
    for name, field in GatewaySettings.model_fields.items():
        option = option_of(field)
        if option is not None and not option.argument:
            flag = next(iter(option.flags), f"--{name.replace('_', '-')}")
            assert f"`{flag}" in gateway


def test_the_page_of_the_configuration_has_every_field(reference: ModuleType) -> None:
    page = reference.configuration()
    assert not [name for name in Experiment.model_fields if f"| `{name}` |" not in page]
    assert "Option: `--constraint`." in page


@pytest.mark.parametrize(
    "model",
    [SearchOptions, MeasureOptions, CompareOptions, SimulateOptions],
    ids=lambda m: m.__name__,
)
def test_every_keyword_of_a_function_is_named(
    reference: ModuleType, model: type[SearchOptions]
) -> None:
    table = reference.options(model.__name__)
    assert not [name for name in model.model_fields if f"`{name}`" not in table]


def test_cells_hold_no_markup_of_the_terminal(reference: ModuleType) -> None:
    for page in (reference.commands(), reference.configuration()):
        assert "[dim]" not in page
        rows = [line for line in page.splitlines() if line.startswith("|")]
        assert {row.count(" | ") for row in rows} <= {2, 3}


def test_links_lead_to_where_the_site_has_their_files(reference: ModuleType) -> None:
    text = "[a](docs/guides/bounds.md#x) [b](CONTRIBUTING.md) [c](https://example.org)"
    moved = reference._with_links(text, "README.md", "index.md")
    assert moved == "[a](guides/bounds.md#x) [b](contributing.md) [c](https://example.org)"
    report = reference._with_links(
        "[r](../../reports/sample/report.html)", "docs/guides/x.md", "guides/x.md"
    )
    assert report == "[r](../reports/sample/report.html)"


def test_the_picture_is_that_of_the_page() -> None:
    recording = load("recording")
    page = recording.PAGE.read_text(encoding="utf-8")
    drawn = recording.draw(recording.recorded(page))
    picture = Path(recording.PICTURE).read_text(encoding="utf-8")
    assert drawn == picture, "run: python docs/_hooks/recording.py"


def test_the_recording_keeps_the_order_and_every_word() -> None:
    recording = load("recording")
    page = (
        "<!-- recording -->\n```\n[0:03] one\n[1:00]   2/s: p99 1 ms, met\n\n"
        + "word " * 40
        + "\n```\n"
    )
    lines = recording.recorded(page)
    seconds = [line.seconds for line in lines]
    assert seconds == sorted(seconds)
    assert " ".join(line.text for line in lines).split() == page.split("```")[1].split()
    assert 'class="good">met<' in recording.draw(lines)
