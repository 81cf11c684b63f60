"""When servers of several candidates may run at once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tuner.deployments.triton import Inputs, TritonDeployment
from tuner.load.target import Protocol
from tuner.servers.base import Launcher

GIB = 2**30


@dataclass
class Card:
    memory: int | None


@dataclass
class Cards:
    devices: list[Card] = field(default_factory=list)


class Starts(Launcher):
    def __init__(self, several: bool) -> None:
        self._several = several

    def starts_several(self) -> bool:
        return self._several

    def launch(self, spec: Any) -> Any:
        raise NotImplementedError

    def gpus(self) -> str:
        return "all"

    def describe(self) -> dict[str, str]:
        return {}

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("cards", "memory", "several", "expected"),
    [
        ([], [None, None], True, True),
        ([], [None, None], False, False),
        ([80], [20, 20, 20], True, True),
        ([80], [20, 20, 30], True, False),
        ([80, 24], [10, 11], True, False),
        ([80], [20, None], True, False),
        ([None], [20, 20], True, False),
        ([80], [20, 20], False, False),
    ],
    ids=[
        "no card",
        "one server at a time",
        "room",
        "no room",
        "no room on the smaller card",
        "a candidate of which nothing is known",
        "a card of which nothing is known",
        "one server at a time on a card",
    ],
)
def test_servers_run_side_by_side_where_there_is_room(
    cards: list[int | None], memory: list[int | None], several: bool, expected: bool
) -> None:
    gpus: Any = Cards([Card(size and size * GIB) for size in cards])
    launcher = Starts(several)
    deployment = TritonDeployment(launcher, Path("m"), None, Protocol.HTTP, Inputs(), gpus=gpus)
    needed = [size and size * GIB for size in memory]
    assert deployment.runs_side_by_side(needed) is expected
