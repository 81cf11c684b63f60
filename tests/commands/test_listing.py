"""Runs as they are listed, and removed."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.manifests import make_manifest
from tests.search_records import realistic
from tuner.analysis.search_findings import SearchFindings
from tuner.commands.listing import chosen_runs, list_runs, remove_runs
from tuner.errors import RunError, StorageError, UsageError
from tuner.records.run import Run


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A finished search, one that was cut, and a damaged one."""
    shutil.copytree(ROOT / "reports" / "sample", tmp_path / "sample", symlinks=True)
    cut = Run.create(tmp_path / "cut", make_manifest(started="2020-01-01T10:00:00+00:00"))
    for each in realistic(None):
        cut.append(each)
    assert cut.lock()
    cut.unlock()
    damaged = Run.create(tmp_path / "damaged")
    damaged.experiment_file.write_text("kind: [")
    os.utime(damaged.experiment_file, (0, 0))
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "experiment.yaml").write_text("learning_rate: 0.1")
    os.utime(tmp_path / "others" / "experiment.yaml", (0, 0))
    (tmp_path / "no-run").mkdir()
    return tmp_path


def test_runs_are_listed_with_what_they_found(output: Path) -> None:
    listed = {each.folder.name: each for each in list_runs(output)}
    assert set(listed) == {"sample", "cut", "damaged"}
    assert [listed[n].state for n in ("sample", "cut", "damaged")] == [
        "finished",
        "unfinished",
        "damaged",
    ]
    sample = listed["sample"]
    assert (sample.kind, sample.model) == ("search", "text_classifier")
    assert sample.capacity is not None
    assert sample.gain is not None
    assert sample.gain > 1
    assert sample.size > 10_000
    assert list_runs(output)[1].folder.name == "cut", "the older one comes later"


def test_old_runs_are_removed_and_others_stay(output: Path) -> None:
    chosen = chosen_runs([], "365d", output)
    assert [each.folder.name for each in chosen] == ["cut"]
    remove_runs([each.folder for each in chosen])
    assert sorted(each.folder.name for each in list_runs(output)) == ["damaged", "sample"]


def test_a_run_at_work_stays_with_all_that_were_to_go(output: Path) -> None:
    other = Run(output / "cut")
    assert other.lock()
    assert next(e for e in list_runs(output) if e.folder.name == "cut").state == "running"
    assert chosen_runs([], "365d", output) == []
    with pytest.raises(StorageError, match="another tuner is at work"):
        remove_runs([output / "sample", output / "cut"])
    assert (output / "sample" / "experiment.yaml").exists()
    other.unlock()


def test_what_other_programs_wrote_is_never_removed(output: Path) -> None:
    assert [each.folder.name for each in chosen_runs([], "365d", output)] == ["cut"]
    with pytest.raises(RunError, match="is not a run folder"):
        remove_runs([output / "others"])
    assert (output / "others" / "experiment.yaml").exists()


def test_the_same_run_named_twice_is_one(output: Path) -> None:
    twice = [output / "cut", output / "sample" / ".." / "cut"]
    assert len(chosen_runs(twice, "1000.5d", output)) == 1


@pytest.mark.parametrize("text", ["soon", "d", "30", "1e999d"])
def test_an_age_that_is_none_is_refused(output: Path, text: str) -> None:
    with pytest.raises(UsageError, match="write it like 30d or 12h"):
        chosen_runs([], text, output)


def test_the_gain_is_that_of_the_report(output: Path) -> None:
    (sample,) = [each for each in list_runs(output) if each.folder.name == "sample"]
    assert sample.gain == SearchFindings.of(Run(output / "sample")).gain


def test_only_runs_are_removed(output: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        chosen_runs([output / "no-run"], None, output)
    with pytest.raises(UsageError, match="--older-than 30d"):
        chosen_runs([], None, output)
    assert list_runs(output / "nowhere") == []
