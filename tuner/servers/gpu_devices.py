"""The GPUs of this machine and their MIG slices, as NVML lists them, and those of a server."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pynvml


@dataclass(frozen=True)
class Gpu:
    """A GPU, or one MIG slice of it. ``index`` is ``0``, or ``0:1`` for slice 1; memory in bytes.

    ``handle`` answers for the slice and ``card`` for the whole GPU; without MIG they are the same.
    """

    index: str
    name: str
    uuid: str
    memory: int | None
    handle: Any
    card: Any

    @property
    def is_slice(self) -> bool:
        return ":" in self.index


def list_gpus() -> Iterator[tuple[Gpu, list[Gpu]]]:
    """Each GPU in the order of its bus address, with its MIG slices."""
    for number in range(pynvml.nvmlDeviceGetCount()):
        with suppress(pynvml.NVMLError):  # one that is lost or not ours to use
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            yield _gpu(str(number), handle, handle), list(_slices(number, handle))


def _slices(number: int, card: Any) -> Iterator[Gpu]:
    try:
        if pynvml.nvmlDeviceGetMigMode(card)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(card)
    except pynvml.NVMLError:
        return
    for position in range(most):
        with suppress(pynvml.NVMLError):  # a position that no slice takes
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, position)
            yield _gpu(f"{number}:{position}", handle, card)


def _gpu(index: str, handle: Any, card: Any) -> Gpu:
    memory = None
    with suppress(pynvml.NVMLError):
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    name, uuid = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)
    return Gpu(index, name, uuid, memory, handle, card)


def choose_gpus(
    visible: str, cards: list[tuple[Gpu, list[Gpu]]]
) -> tuple[tuple[Gpu, ...], str | None]:
    """The GPUs that ``visible`` names, and the first id of it that names none: CUDA ignores what
    follows it, too. ``visible`` is as ``Launcher.gpus`` has it, ``cards`` as ``list_gpus``.

    Of a GPU that is split and not named by its slice, CUDA takes the first slice.
    """
    whole = {card.index: slices[0] if slices else card for card, slices in cards}
    if visible == "all":
        return tuple(whole.values()), None
    known = whole | {card.uuid: whole[card.index] for card, _ in cards}
    for _, slices in cards:
        known |= {key: part for part in slices for key in (part.index, part.uuid)}
    chosen: dict[str, Gpu] = {}
    for wanted in map(str.strip, visible.split(",")):
        if wanted == "-1":
            break
        uuids = [key for key in known if "-" in wanted and key.startswith(wanted)]  # may be cut
        gpu = known.get(wanted) or (known[uuids[0]] if uuids else None)
        if gpu is None:
            return tuple(chosen.values()), wanted
        chosen[gpu.index] = gpu
    return tuple(chosen.values()), None
