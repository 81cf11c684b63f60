"""The model repository in containers: mounted read-only, or copied into a volume."""

import contextlib
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from docker.errors import NotFound
from docker.types import Mount

from tuner.errors import RepositoryError
from tuner.model.files import files_beside, is_inside, links_out, models_of
from tuner.servers.docker_engine import OWNER_LABEL, engine_errors, fresh_name

MODELS = "/models"
"""Where servers find the repository."""


class RepositoryMounts:
    """Mounts for containers of this ``image``. With ``copies``, each repository is copied once into
    a volume that carries the ``owner`` as its label and that every user may read, until ``close``.
    """

    def __init__(self, client: Any, image: str, owner: str, copies: bool) -> None:
        self.copies = copies
        self._client = client
        self._image = image
        self._labels = {OWNER_LABEL: owner}
        self._volumes: dict[Path, str] = {}

    def mounts(self, repository: Path, model: str, private: bool = False) -> list[Mount]:
        """What a server of the model needs, by a copy where its files are ``private``;
        RepositoryError if files of the model would be missing in the container.
        """
        try:
            return self._mounts(repository, model, private)
        except OSError as error:
            raise RepositoryError(f"cannot read {repository}: {error.strerror}") from error

    def _mounts(self, repository: Path, model: str, private: bool) -> list[Mount]:
        for link in links_out(repository / model):
            raise RepositoryError(
                f"{link} points outside of the repository, to {link.resolve()}, which containers "
                "cannot see: replace it by the file itself, or by a hard link"
            )
        if not (self.copies or private):
            places = models_of(repository)
            if all(place.is_relative_to(repository) for place in places.values()):
                return [Mount(MODELS, str(repository), type="bind", read_only=True)]
            places |= {file.name: file for file in files_beside(repository)}
            return [
                Mount(f"{MODELS}/{name}", str(place), type="bind", read_only=True)
                for name, place in places.items()
            ]
        if repository not in self._volumes:
            volume = fresh_name()
            try:
                self._fill(volume, repository)
            except BaseException:
                self._remove(volume)
                raise
            self._volumes[repository] = volume
        return [Mount(MODELS, self._volumes[repository], type="volume", read_only=True)]

    def close(self) -> None:
        with engine_errors("cannot remove a volume"):
            while self._volumes:
                self._remove(self._volumes.popitem()[1])

    def _fill(self, volume: str, repository: Path) -> None:
        """Copy the repository into a new volume, through a container that is never started."""
        self._client.volumes.create(volume, labels=self._labels)
        carrier = self._client.containers.create(
            self._image,
            ["true"],
            name=f"{volume}-copy",
            labels=self._labels,
            mounts=[Mount(MODELS, volume, type="volume")],
        )
        try:
            with tempfile.TemporaryFile() as archive:
                _pack(repository, archive)
                carrier.put_archive(MODELS, archive)
        finally:
            carrier.remove(force=True)

    def _remove(self, volume: str) -> None:
        with contextlib.suppress(NotFound):
            self._client.volumes.get(volume).remove(force=True)


def _public(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o111 else 0o644
    return entry


def _pack(repository: Path, archive: Any) -> None:
    """Write a tar archive of the repository's models, and of files beside them, that every user may
    read. Links are followed, but for those that lead out of the repository.
    """

    models = models_of(repository)

    def readable(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name, _, inside = entry.name.partition("/")
        path = models[name] / inside
        if inside and not is_inside(path, repository / name):
            return None
        if inside and Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(path)):
            return None  # a link to a folder that it lies in
        return _public(entry)

    try:
        with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
            for name, place in models.items():
                tar.add(place, arcname=name, filter=readable)
            for file in files_beside(repository):
                tar.add(file, arcname=file.name, filter=_public)
        archive.seek(0)
    except OSError as error:
        raise RepositoryError(f"cannot copy the model repository {repository}: {error}") from error
