"""What of a repository's files a copy or a container may get."""

import os
import tarfile
from pathlib import Path

import pytest

from tuner.model.files import copy_beside, copy_model, is_public, links_out, models_of
from tuner.servers.docker_repository import _pack


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One model, a secret beside the repository, and a model in a store elsewhere."""
    for place in ("repository/m", "store/stored"):
        (tmp_path / place / "1").mkdir(parents=True)
        (tmp_path / place / "config.pbtxt").write_text("")
        (tmp_path / place / "1" / "model.onnx").write_text("weights")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("secret")
    return tmp_path / "repository"


def packed(repository: Path, tmp_path: Path) -> set[str]:
    with (tmp_path / "archive").open("w+b") as file:
        _pack(repository, file)
        with tarfile.open(fileobj=file) as archive:
            return {each.name for each in archive if each.isfile()}


def test_a_link_to_a_model_is_one_and_a_link_to_anything_else_is_none(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "linked").symlink_to(tmp_path / "store" / "stored")
    (repository / "secrets").symlink_to(tmp_path / "secrets")
    (repository / "processes").symlink_to("/proc")
    assert set(models_of(repository)) == {"m", "linked"}
    assert packed(repository, tmp_path) == {
        f"{name}/{file}" for name in ("m", "linked") for file in ("config.pbtxt", "1/model.onnx")
    }


def test_files_beside_the_models_are_packed_unless_they_lie_elsewhere(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "words.txt").write_text("a b")
    (repository / "key").symlink_to(tmp_path / "secrets" / "key")
    (repository / ".hidden").write_text("")
    assert packed(repository, tmp_path) == {"m/config.pbtxt", "m/1/model.onnx", "words.txt"}


def test_what_a_link_in_a_model_leads_to_is_not_copied(repository: Path, tmp_path: Path) -> None:
    (repository / "m" / "1" / "key").symlink_to(tmp_path / "secrets" / "key")
    (repository / ".hidden").mkdir()
    (repository / ".hidden" / "key").symlink_to(tmp_path / "secrets" / "key")
    (repository / "m" / "1" / "folder").symlink_to(repository / ".hidden")
    assert [link.name for link in links_out(repository / "m")] == ["key"]
    assert packed(repository, tmp_path) == {"m/config.pbtxt", "m/1/model.onnx"}


def test_a_copy_keeps_the_links_that_lead_out_as_links(repository: Path, tmp_path: Path) -> None:
    model, copy = repository / "m", tmp_path / "copy"
    (model / "1" / "key").symlink_to(tmp_path / "secrets" / "key")
    (model / "1" / "same").symlink_to("model.onnx")
    copy_model(model, copy)
    assert (copy / "1" / "key").is_symlink()
    assert not (copy / "1" / "same").is_symlink()
    assert (copy / "1" / "same").read_text() == "weights"
    copy.rename(repository / "copy")
    assert packed(repository, tmp_path) == {
        "m/config.pbtxt",
        "m/1/model.onnx",
        "m/1/same",
        "copy/config.pbtxt",
        "copy/1/model.onnx",
        "copy/1/same",
    }


def test_what_models_read_beside_their_folders_is_copied_and_other_models_are_not(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "words.txt").write_text("a b")
    (repository / "shared" / "deep").mkdir(parents=True)
    (repository / "shared" / "deep" / "words.txt").write_text("c")
    (repository / ".hidden").write_text("")
    (repository / "other").symlink_to(tmp_path / "store" / "stored")
    (repository / "secrets").symlink_to(tmp_path / "secrets")
    (repository / "nowhere").symlink_to(tmp_path / "nowhere")
    target = tmp_path / "copy"
    target.mkdir()
    assert copy_beside(repository, {"m"}, target) == [repository / "other"]
    assert {each.name for each in target.iterdir()} == {"words.txt", "shared", "secrets"}
    assert (target / "shared" / "deep" / "words.txt").read_text() == "c"
    assert (target / "secrets").is_symlink()


def test_links_that_lead_round_in_a_circle_or_nowhere_do_no_harm(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "m" / "1" / "loop").symlink_to("loop")
    (repository / "m" / "1" / "none").symlink_to(tmp_path / "none")
    assert list(links_out(repository / "m")) == []
    assert is_public(repository)


def test_links_to_a_parent_are_not_followed(repository: Path, tmp_path: Path) -> None:
    for name in "abcdefgh":
        (repository / "m" / "1" / name).symlink_to("..")
    assert is_public(repository)
    assert packed(repository, tmp_path) == {"m/config.pbtxt", "m/1/model.onnx"}


@pytest.mark.parametrize("private", [".", "m", "m/1", "m/1/model.onnx"])
def test_one_private_file_makes_a_repository_private(repository: Path, private: str) -> None:
    assert is_public(repository)
    os.chmod(repository / private, 0o700 if (repository / private).is_dir() else 0o600)
    assert not is_public(repository)
