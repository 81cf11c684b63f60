"""What README and pages say: commands that exist, links that lead somewhere, the field's words."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from tests.conftest import ROOT
from tests.prose import faults, faults_of_text
from tuner.cli.app import app
from tuner.deployments.own import OwnService
from tuner.experiment.model import Experiment
from tuner.model.space_file import parse_space
from tuner.records.results import Evaluation, ProbeRecord

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
UNLIMITED = ("docs/reference/", "docs/benchmarks.md")
MOST_WORDS = 1200


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(name), re.DOTALL | re.MULTILINE)


def prose(name: str) -> str:
    """Without code, and without the tables that benchmarks write."""
    text = re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!-- (?!end).*?<!-- end -->", "", text, flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_short(name: str) -> None:
    if not name.startswith(UNLIMITED):
        assert len(text_of(name).split()) <= MOST_WORDS


def test_the_readme_takes_a_few_minutes_at_most() -> None:
    assert len(text_of("README.md").split()) <= 650


def test_words_and_sentences_are_plain() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It keeps the promise.", "promise"),
        ("They were measured by turns", "by turns"),
        ("the the model", "stands twice"),
        ("what it optimises", "-ize"),
        ("Use `promise` and gpu_utilisation", ""),
        ("The SLA is met", ""),
    ],
)
def test_the_prose_check_finds_what_it_should(text: str, words: str) -> None:
    found = [str(fault) for fault in faults_of_text(text, "x")]
    assert (words in found[0]) if words else not found


def anchors(page: Path) -> set[str]:
    """As Python-Markdown makes them of headings."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", head.replace("`", "")).strip().lower() for head in heads]
    return {re.sub(r"[-\s]+", "-", head) for head in plain}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings(name: str) -> None:
    page = ROOT / name
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)(?:#([^)\s]*))?\)", prose(name)):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        is_generated = file.name == "cli.md"
        if anchor and not is_generated:
            assert anchor in anchors(file), f"{target}#{anchor}"


def documented_commands() -> Iterator[tuple[str, str]]:
    """Whole ``tuner`` commands of all shell examples, each with its page."""
    for name in NAMES:
        for block in blocks(name, "sh") + blocks(name, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.search(
                    r"(?:^|\s)(tuner (?:search|measure|compare|simulate|serve|report"
                    r"|export|doctor|list|remove)\b[^>|&]*)",
                    line,
                )
                if found:
                    yield name, found[1].strip()


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    command: Any = get_command(app)
    while getattr(command, "commands", None) and words:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize(("name", "line"), sorted(set(documented_commands())))
def test_documented_commands_parse(name: str, line: str) -> None:
    command, words = command_of(shlex.split(line, comments=True)[1:])
    with command.make_context(line, list(words), resilient_parsing=False):
        pass


def test_there_are_documented_commands() -> None:
    assert len(set(documented_commands())) > 40


def test_the_experiment_file_of_the_page_is_read() -> None:
    (text,) = [b for b in blocks("docs/reference/configuration.md", "yaml") if "launcher" in b]
    fields = yaml.safe_load(text)
    assert set(fields) <= set(Experiment.model_fields)
    Experiment.model_validate(fields)


@pytest.mark.parametrize("name", ["docs/guides/search-space.md", "docs/reference/search-spaces.md"])
def test_spaces_of_the_pages_are_read(name: str) -> None:
    for text in blocks(name, "yaml"):
        assert parse_space(text, name).parameters


def test_services_of_the_page_are_read() -> None:
    (text,) = [b for b in blocks("docs/guides/compare.md", "yaml") if "flask" in b]
    for fields in yaml.safe_load(text).values():
        OwnService.model_validate(fields)


@pytest.mark.parametrize("record", [Evaluation, ProbeRecord])
def test_the_page_of_records_names_every_field(record: Any) -> None:
    page = text_of("docs/reference/records.md")
    assert not [name for name in record.model_fields if f"`{name}`" not in page]


def test_fields_of_a_service_are_all_named() -> None:
    page = text_of("docs/reference/services.md")
    assert not [name for name in OwnService.model_fields if f"`{name}`" not in page]


def results(name: str) -> dict[str, Any]:
    found = json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))["rows"]
    assert isinstance(found, dict)
    return found


def test_figures_of_the_readme_are_those_of_the_result_files() -> None:
    whole = results("search_default.json")["emulated workloads, all"]
    peers = results("peers.json")
    ours, theirs = peers["tuner"], peers["Model Analyzer, quick"]
    cost = results("load/client_cost.json")
    cpu = {name: cost[f"{name}, http"]["cpu_us"]["median"] for name in ("tuner", "perf_analyzer")}
    rows = text_of("README.md")
    for said in (
        f"{whole['seconds']:.0f} s, three candidates measured",
        f"{100 * whole['quality']:.0f} % in the median, {100 * whole['quality_at_least']:.0f} % in",
        f"{ours['capacity'] / theirs['capacity']:.1f} times the capacity in "
        f"{ours['seconds']:.0f} s instead of {theirs['seconds']:.0f} s",
        f"{cpu['tuner']:.0f} µs; perf_analyzer takes {cpu['perf_analyzer']:.0f} µs",
    ):
        assert said in rows
    assert whole["trials"] == 3


def test_the_sampler_of_the_page_needs_no_more_than_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = (e for e in blocks("docs/guides/python.md", "python") if "Sampler" in e)
    shutil.copytree(ROOT / "reports/sample", tmp_path / "reports/RUN", symlinks=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"capacity_of": lambda candidate: float(len(str(candidate)))}
    exec(example, names)
    assert len(names["study"].trials) == 20
