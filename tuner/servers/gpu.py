"""NVIDIA GPUs as NVML reports them: those of a server, the processes on them, and their readings.

Nothing here raises: a missing reading is None, and a Note tells the user about it. NVML's own
exceptions end in this file.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pynvml

from tuner.servers.container_spec import GPU_IDS
from tuner.servers.gpu_devices import Gpu, choose_gpus, list_gpus
from tuner.servers.settings import WATCH
from tuner.text import shortened
from tuner.units import format_size

_THROTTLES = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "thermal",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "hardware thermal",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
}
"""NVML's reasons for a lowered clock. Idling, chosen clocks and displays are no throttling."""

# Newer name first, older after it: drivers and nvidia-ml-py rename functions over the years.
_UTILISATION = ("nvmlDeviceGetUtilizationRates",)
_POWER = ("nvmlDeviceGetPowerUsage",)
_CLOCK = ("nvmlDeviceGetClockInfo",)
_TEMPERATURE = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
_REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
_PROCESSES = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")


@dataclass(frozen=True)
class Note:
    """A notice to the user, with a remedy."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


_SLICED = Note(
    "the GPU is partitioned (MIG): a slice's utilization and power cannot be read, and other "
    "slices share the card's power and clocks",
    "use a GPU without MIG for all readings",
)
_UNREAD = {
    "too old": ("driver {driver} is too old for", "update the driver"),
    "not permitted": ("not permitted", "give this user access (see NVIDIA's NVML documentation)"),
}
_START_FAILURES = {
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: Note(
        "the NVIDIA driver is installed, but not loaded",
        "load it with 'modprobe nvidia', or reboot",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: Note(
        "the NVIDIA driver was updated, but the old kernel module is still loaded", "reboot"
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: Note(
        "this user may not access the NVIDIA driver",
        "allow reading and writing of /dev/nvidiactl and /dev/nvidia0",
    ),
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: Note(
        "the NVIDIA driver is too old for GPU readings", "update the driver"
    ),
}


@dataclass(frozen=True)
class Sample:
    """One GPU at one moment, in the units of GpuReading; None for what is unknown."""

    utilisation: float | None
    memory: int | None
    power: float | None
    clock: float | None
    temperature: float | None
    throttled: tuple[str, ...]


SILENCE = Sample(None, None, None, None, None, ())
"""A GPU without any reading, such as one that was lost."""


class Gpus:
    """The GPUs of this machine that a server sees, ``visible`` as ``Launcher.gpus`` has it.

    NVML is in use from making it until close.
    """

    def __init__(self, visible: str) -> None:
        self.devices: tuple[Gpu, ...] = ()
        self.driver: str | None = None
        self._problem: Note | None = None
        self._unread: dict[str, str] = {}
        self._open = False
        if visible in ("none", "", "-1"):
            return
        try:
            pynvml.nvmlInit()
            self._open = True
            self.driver = pynvml.nvmlSystemGetDriverVersion()
            self.devices, unknown = choose_gpus(visible, list(list_gpus()))
        except pynvml.NVMLError as error:
            self._problem = _start_failure(error)
            return
        if unknown is not None:
            self._problem = Note(
                f"this machine has no GPU {shortened(unknown)}",
                f"choose from 'nvidia-smi -L': {GPU_IDS}",
            )
        for gpu in self.devices:
            self.sample(gpu)  # finds out what cannot be read

    def describe(self) -> dict[str, str]:
        """What a record needs: names, number, memory of each, driver; empty without a GPU."""
        if not self.devices:
            return {}
        memory = dict.fromkeys(format_size(g.memory) for g in self.devices if g.memory)
        return {
            "gpu": ", ".join(dict.fromkeys(g.name for g in self.devices)),
            "gpu_count": str(len(self.devices)),
            **({"gpu_memory": ", ".join(memory)} if memory else {}),
            "gpu_driver": str(self.driver),
        }

    def notes(self) -> list[Note]:
        """What limits readings or results: asked before a server is started."""
        in_use = [self._in_use(g) for g in self.devices if self._users(g) or self._hidden(g)]
        problems = [] if self._problem is None else [self._problem]
        sliced = [_SLICED] if any(g.is_slice for g in self.devices) else []
        return [*problems, *sliced, *self._unread_notes(), *in_use]

    def _unread_notes(self) -> Iterator[Note]:
        """Which readings the driver does not give, by reason."""
        for reason, (message, remedy) in _UNREAD.items():
            readings = [name for name, why in self._unread.items() if why == reason]
            if readings:
                problem = message.format(driver=self.driver)
                yield Note(f"GPU readings: {problem}: {', '.join(readings)}", remedy)

    def _in_use(self, gpu: Gpu) -> Note:
        hidden = f"unknown processes ({format_size(self._hidden(gpu))} of its memory)"
        who = ", ".join(self._users(gpu)) or hidden
        return Note(
            f"GPU {gpu.index} is in use by {who}, which affects measurements",
            "stop them, or choose other GPUs",
        )

    def users(self) -> frozenset[str]:
        """The processes that compute on the GPUs right now, as in ``python3 (pid 4711)``.

        In a container, those of other containers are often not seen.
        """
        return frozenset(user for gpu in self.devices for user in self._users(gpu))

    def names(self, pids: frozenset[int]) -> frozenset[str]:
        """These processes as ``users`` names them."""
        return frozenset(map(_describe_process, pids))

    def memory_of(self, gpu: Gpu, pids: frozenset[int]) -> int | None:
        """Bytes that these processes have on the GPU; None if that cannot be told."""
        processes = self._ask("processes", _PROCESSES, gpu.handle) or []
        sizes = [process.usedGpuMemory for process in processes if process.pid in pids]
        return sum(sizes) if sizes and None not in sizes else None

    def _users(self, gpu: Gpu) -> list[str]:
        processes = self._ask("processes", _PROCESSES, gpu.handle) or []
        return sorted(_describe_process(process.pid) for process in processes)

    def _hidden(self, gpu: Gpu) -> int:
        """Bytes in use where no process is seen; 0 if they are too few to mean anything."""
        used = None if self._users(gpu) else self._memory(gpu)
        return used if used is not None and used >= WATCH.hidden_memory else 0

    def sample(self, gpu: Gpu) -> Sample:
        """What can be read of the GPU now. Of a slice, utilization and power are not known."""
        rates = None if gpu.is_slice else self._ask("utilisation", _UTILISATION, gpu.handle)
        milliwatts = None if gpu.is_slice else self._ask("power", _POWER, gpu.handle)
        reasons = self._ask("throttling", _REASONS, gpu.card) or 0
        return Sample(
            utilisation=None if rates is None else rates.gpu / 100,  # NVML: per cent
            memory=self._memory(gpu),
            power=None if milliwatts is None else milliwatts / 1000,
            clock=self._ask("clock", _CLOCK, gpu.card, pynvml.NVML_CLOCK_SM),
            temperature=self._ask(
                "temperature", _TEMPERATURE, gpu.card, pynvml.NVML_TEMPERATURE_GPU
            ),
            throttled=tuple(name for bit, name in _THROTTLES.items() if reasons & bit),
        )

    def _memory(self, gpu: Gpu) -> int | None:
        """Bytes in use, without those that the driver keeps for itself where it tells them."""
        name = ("nvmlDeviceGetMemoryInfo",)
        info = self._ask("", name, gpu.handle, pynvml.nvmlMemory_v2)
        info = info or self._ask("memory", name, gpu.handle)
        return None if info is None else int(info.used)

    def _ask(self, reading: str, names: tuple[str, ...], handle: Any, *args: Any) -> Any:
        """The result of the first of these functions of NVML that exists; None if it fails.

        Where none exists, or this user may not call it, the ``reading`` is noted as unread.
        """
        reason = "too old"
        for name in names:
            try:
                return getattr(pynvml, name)(handle, *args)
            except (AttributeError, pynvml.NVMLError_FunctionNotFound):
                continue
            except pynvml.NVMLError_NoPermission:
                reason = "not permitted"
                break
            except pynvml.NVMLError:
                return None
        if reading:
            self._unread[reading] = reason
        return None

    def close(self) -> None:
        if self._open:
            self._open = False
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def __enter__(self) -> "Gpus":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start_failure(error: pynvml.NVMLError) -> Note | None:
    """Why there are no readings; None without a driver, since then there is no GPU to read."""
    if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return None
    other = Note(f"NVML failed: {error}", "check nvidia-smi, or reboot")
    return _START_FAILURES.get(error.value, other)


def _describe_process(pid: int) -> str:
    """The process as far as it can be seen from here: a container does not see its host's."""
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
