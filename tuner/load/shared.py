"""Inputs and outputs of requests in POSIX shared memory, in place of the socket."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import TracebackType

from tuner.errors import StorageError
from tuner.load.target import Placement, Slot, Tensor
from tuner.scratch import owned_name
from tuner.units import format_size

_ALIGNMENT = 64  # bytes of a cache line
_SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Region:
    """What a server needs to map it: a name for requests, the key of shm_open, and bytes."""

    name: str
    key: str
    size: int


class SharedTensors:
    """One region with the inputs of all requests of a pool, and one with a slot for each request's
    outputs.

    Both are gone when the context is left; where this process is killed, Python's resource tracker
    removes them. Requests that are outstanding at the same time and are the same of the pool share
    a slot: who measures does not read what is in it.
    """

    def __init__(self, pool: list[list[Tensor]], outputs: list[Mapping[str, int | None]]) -> None:
        """``outputs`` has an entry per request: bytes to reserve by output, None for one that is
        to come inline.
        """
        self._memory: list[SharedMemory] = []
        self.regions: list[Region] = []
        contents = [[tensor.raw() for tensor in inputs] for inputs in pool]
        inputs = _Layout("inputs")
        places = [tuple(inputs.add(len(raw)) for raw in raws) for raws in contents]
        results = _Layout("outputs")
        slots = [
            tuple(
                (name, None if size is None else results.add(size)) for name, size in sizes.items()
            )
            for sizes in outputs
        ]
        self.placements = [Placement(*both) for both in zip(places, slots, strict=True)]
        try:
            buffer = self._create(inputs).buf
            assert buffer is not None
            for raws, where in zip(contents, places, strict=True):
                for raw, slot in zip(raws, where, strict=True):
                    buffer[slot.offset : slot.offset + slot.size] = raw
            if results.size:
                self._create(results)
        except BaseException:
            self.close()
            raise

    def _create(self, layout: "_Layout") -> SharedMemory:
        size = max(1, layout.size)
        try:
            memory = SharedMemory(layout.name, create=True, size=size)
            self._memory.append(memory)
            with (_SHM / layout.name).open("r+b") as file:  # else a full disk is a SIGBUS later
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise StorageError(
                f"no room for {format_size(size)} in {_SHM}: {error.strerror}; "
                "enlarge it, or use --shared-memory none"
            ) from error
        self.regions.append(Region(layout.name, f"/{layout.name}", size))
        return memory

    def close(self) -> None:
        for memory in self._memory:
            memory.close()
            memory.unlink()
        self._memory = []

    def __enter__(self) -> "SharedTensors":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


class _Layout:
    """Places one after the other in a region that is yet to be made."""

    def __init__(self, what: str) -> None:
        self.name = owned_name(what)
        self.size = 0

    def add(self, size: int) -> Slot:
        slot = Slot(self.name, self.size, size)
        self.size += -(-size // _ALIGNMENT) * _ALIGNMENT
        return slot
