"""Which run a search goes on with."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.manifests import make_manifest
from tuner.commands.runs import begin_run, fresh_folder, resumable_search
from tuner.errors import StorageError
from tuner.records.manifest import Manifest
from tuner.records.run import Run


def test_a_finished_run_is_passed_over_and_left_as_it_was(tmp_path: Path) -> None:
    """Like the sample run, which a search in the checkout must not touch."""
    folder = tmp_path / "sample"
    shutil.copytree(ROOT / "reports" / "sample", folder, symlinks=True)
    before = sorted(path.name for path in folder.iterdir())
    manifest = Run(folder).manifest()
    assert resumable_search(tmp_path, None, manifest, manifest.experiment) is None
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_unfinished_run_of_the_same_identity_is_resumed(tmp_path: Path) -> None:
    manifest = make_manifest()
    made = Run.create(tmp_path / "one", manifest)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "experiment.yaml").write_text("kind: [")
    longer = make_manifest(timeout="10m", trials=50)
    found = resumable_search(tmp_path, None, longer, longer.experiment)
    assert found is not None
    assert found.folder == made.folder
    assert resumable_search(tmp_path, None, manifest, manifest.experiment) is None, "it is locked"
    with pytest.raises(StorageError, match="another tuner is at work"):
        resumable_search(tmp_path, "one", manifest, manifest.experiment)
    found.unlock()


@pytest.mark.parametrize("changes", [{"seed": 1}, {"sla": "p99<21ms"}, {"kind": "measure"}])
def test_a_run_of_another_identity_is_not(tmp_path: Path, changes: dict[str, object]) -> None:
    Run.create(tmp_path / "one", make_manifest())
    other = make_manifest(**changes)
    assert resumable_search(tmp_path, None, other, other.experiment) is None
    with pytest.raises(StorageError, match="holds another run"):
        resumable_search(tmp_path, "one", other, other.experiment)


def test_who_begins_at_the_same_moment_gets_another_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: fresh_folder(tmp_path, "m"), range(40)))
    assert len(set(made)) == 40
    assert all(folder.is_dir() for folder in made)


def test_where_no_folder_can_be_made_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another --output"):
        fresh_folder(tmp_path / "file", "m")


def test_a_run_is_locked_before_others_can_see_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest()
    describe = Run.describe

    def and_look(run: Run, given: Manifest) -> None:
        describe(run, given)
        assert resumable_search(tmp_path, None, manifest, manifest.experiment) is None

    monkeypatch.setattr(Run, "describe", and_look)
    begin_run(tmp_path / "one", manifest).unlock()
    found = resumable_search(tmp_path, None, manifest, manifest.experiment)
    assert found is not None
    found.unlock()
