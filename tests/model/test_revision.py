"""A model as it was at a revision: on real git repositories."""

import subprocess
from pathlib import Path

import pytest

from tuner.errors import RepositoryError
from tuner.model.revision import RevisionMissing, check_out, commit_of

CONFIG = 'name: "m" max_batch_size: {} backend: "python"'


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "a change")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with a model, whose weights git ignores, and a vocabulary beside it."""
    folder = tmp_path / "project"
    model = folder / "serving" / "models" / "m"
    (model / "1").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("*.bin\n__pycache__/\n")
    (folder / "README.md").write_text("not a model")
    (model / "config.pbtxt").write_text(CONFIG.format(4))
    (model / "1" / "model.py").write_text("old")
    (model / "1" / "weights.bin").write_text("weights")
    (model.parent / "words.txt").write_text("old words")
    commit(folder)
    return folder


@pytest.fixture
def model(project: Path) -> Path:
    return project / "serving" / "models" / "m"


def test_the_files_are_those_of_then_and_the_working_tree_stays_as_it_is(
    project: Path, model: Path, tmp_path: Path
) -> None:
    before = git(project, "rev-parse", "HEAD")
    (model / "config.pbtxt").write_text(CONFIG.format(8))
    (model / "1" / "model.py").write_text("new, not committed")
    (model.parent / "words.txt").write_text("new words")
    status = git(project, "status", "--porcelain")
    old, unkept = check_out(model, before, tmp_path / "old")
    assert old.name == "m"
    assert (old / "config.pbtxt").read_text() == CONFIG.format(4)
    assert (old / "1" / "model.py").read_text() == "old"
    assert (old.parent / "words.txt").read_text() == "old words", "what it reads beside its folder"
    assert (old / "1" / "weights.bin").read_text() == "weights"
    assert unkept == ["serving/models/m/1/weights.bin"]
    assert git(project, "status", "--porcelain") == status
    assert git(project, "worktree", "list").count("\n") == 0


def test_a_whole_repository_can_be_checked_out(project: Path, model: Path, tmp_path: Path) -> None:
    old, _ = check_out(model.parent, git(project, "rev-parse", "HEAD"), tmp_path / "old")
    assert old.name == "models"
    assert (old / "m" / "config.pbtxt").is_file()
    assert not (old.parent / "README.md").exists()


def test_revisions_are_what_git_takes_for_one(project: Path, model: Path) -> None:
    head = git(project, "rev-parse", "HEAD")
    git(project, "tag", "v1")
    for name in ("HEAD", "main", "v1", head[:10], "HEAD^{commit}"):
        assert commit_of(model, name) == head
    for name in ("nonsense", "--help", "", "HEAD~5", "-n"):
        assert commit_of(model, name) is None


def test_a_folder_outside_of_git_has_no_revisions(tmp_path: Path) -> None:
    assert commit_of(tmp_path, "HEAD") is None


def test_a_model_that_was_not_there_yet_is_missing(project: Path, tmp_path: Path) -> None:
    first = git(project, "rev-parse", "HEAD")
    other = project / "serving" / "models" / "new"
    other.mkdir()
    (other / "config.pbtxt").write_text("")
    with pytest.raises(RevisionMissing, match="serving/models/new is not in"):
        check_out(other, first, tmp_path / "old")


def test_a_pointer_of_git_lfs_is_no_model(project: Path, model: Path, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    (model / "1" / "model.onnx").write_text(pointer)
    with pytest.raises(RepositoryError, match=r"model\.onnx of .* is kept by Git LFS"):
        check_out(model, commit(project), tmp_path / "old")


def test_files_that_dvc_keeps_have_to_be_the_same(
    project: Path, model: Path, tmp_path: Path
) -> None:
    beside = model / "1" / "weights.bin.dvc"
    beside.write_text("md5: 1")
    head = commit(project)
    check_out(model, head, tmp_path / "same")
    beside.write_text("md5: 2")
    with pytest.raises(RepositoryError, match=r"weights\.bin is kept by DVC, and was another"):
        check_out(model, head, tmp_path / "old")


def test_odd_names_and_links_survive(project: Path, model: Path, tmp_path: Path) -> None:
    (model / "1" / "größe\n1.txt").write_text("x")
    (model / "1" / "link.txt").symlink_to("größe\n1.txt")
    old, _ = check_out(model, commit(project), tmp_path / "old")
    assert (old / "1" / "größe\n1.txt").read_text() == "x"
    assert (old / "1" / "link.txt").read_text() == "x"
