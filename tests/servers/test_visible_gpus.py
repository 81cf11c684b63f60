"""Every launcher says which GPUs of this machine its servers see."""

import pytest

from tuner.servers.attached import AttachedLauncher
from tuner.servers.base import Endpoints
from tuner.servers.docker import ContainerSpec, DockerLauncher
from tuner.servers.local import LocalLauncher


@pytest.mark.triton
@pytest.mark.usefixtures("embedded_triton")
class TestLocal:
    def test_all_are_seen_where_nothing_restricts_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        with LocalLauncher() as launcher:
            assert launcher.gpus() == "all"

    @pytest.mark.parametrize(
        ("value", "seen"), [("0,GPU-a1", "0,GPU-a1"), ("MIG-b2", "MIG-b2"), ("", "none")]
    )
    def test_the_environment_restricts_them(
        self, monkeypatch: pytest.MonkeyPatch, value: str, seen: str
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        with LocalLauncher() as launcher:
            assert launcher.gpus() == seen

    def test_the_servers_own_environment_goes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        with LocalLauncher(environment={"CUDA_VISIBLE_DEVICES": "1"}) as launcher:
            assert launcher.gpus() == "1"


@pytest.mark.docker
@pytest.mark.parametrize("gpus", ["none", "all", "GPU-a1"])
def test_a_container_sees_what_it_is_given(test_image: str, gpus: str) -> None:
    with DockerLauncher(ContainerSpec(image=test_image, gpus=gpus)) as launcher:
        assert launcher.gpus() == gpus


def test_those_of_a_running_server_are_not_known() -> None:
    with AttachedLauncher(Endpoints("localhost:8000")) as launcher:
        assert launcher.gpus() == "none"
