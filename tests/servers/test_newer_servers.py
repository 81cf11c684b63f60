"""Flags that only newer servers have: they get them where they know them."""

from pathlib import Path

import pytest

from tuner.errors import ServerFailed
from tuner.servers.base import ServerSpec
from tuner.servers.local import LocalLauncher

FLAG = "--allow-client-shm"
PROGRAM = """#!/bin/sh
if [ "$1" = --help ]; then echo "Options: {known}"; exit 0; fi
echo "$@" > {file}
exit 1
"""


@pytest.mark.parametrize("maps_memory", [True, False])
@pytest.mark.parametrize("known", [f"{FLAG} <boolean>", "--model-repository"])
def test_shared_memory_is_allowed_where_it_is_used_and_has_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str, maps_memory: bool
) -> None:
    program, seen = tmp_path / "tritonserver", tmp_path / "arguments"
    program.write_text(PROGRAM.format(known=known, file=seen))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    spec = ServerSpec(tmp_path, "m", tmp_path / "log", 10.0, maps_memory=maps_memory)
    with LocalLauncher() as launcher, pytest.raises(ServerFailed), launcher.launch(spec):
        pass
    assert (f"{FLAG}=true" in seen.read_text()) is (maps_memory and known.startswith(FLAG))
