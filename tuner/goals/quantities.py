"""Quantities that a probe's readings contain besides latencies, and how they are written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import tuner.units as units


class GpuReadings(Protocol):
    """``power`` is the mean in watts of each of ``devices`` GPUs; None if it is unknown."""

    @property
    def power(self) -> float | None: ...
    @property
    def devices(self) -> int | None: ...


class Readings(Protocol):
    """What goals ask of the record of one probe: ``tuner.records.results.ProbeRecord`` has it."""

    @property
    def n(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def mean(self) -> float | None: ...
    @property
    def latency(self) -> Mapping[str, float | None]: ...
    @property
    def latency_interval(self) -> Mapping[str, tuple[float, float | None]]: ...
    @property
    def gpu(self) -> GpuReadings | None: ...
    @property
    def host(self) -> object: ...
    @property
    def server(self) -> object: ...


@dataclass(frozen=True)
class Quantity:
    """Something that a probe's readings tell, in its base unit, with the ways to write it.

    ``static`` says that it hardly depends on the rate, so that a breach in any probe settles the
    candidate; of the others, a lower rate may keep the constraint. ``source`` names the readings.
    ``print`` is exact, ``show`` is for people.
    """

    static: bool
    source: str
    parse: Callable[[str], float]
    print: Callable[[float], str]
    show: Callable[[float], str]
    read: Callable[[Readings], float | None]


def _gpu(field: str) -> Callable[[Readings], float | None]:
    return lambda probe: getattr(probe.gpu, field, None)


def _host(field: str) -> Callable[[Readings], float | None]:
    return lambda probe: getattr(probe.host, field, None)


def _energy(probe: Readings) -> float | None:
    """Joules that the GPUs took for each good reply, also those that they idled away."""
    good = probe.n - probe.errors
    if probe.gpu is None or probe.gpu.power is None or good <= 0:
        return None
    return probe.gpu.power * (probe.gpu.devices or 1) * probe.seconds / good


def _show_size(size: float) -> str:
    return units.format_size(round(size))


QUANTITIES: dict[str, Quantity] = {
    "gpu_memory": Quantity(
        True, "GPU", units.parse_size, units.exact_size, _show_size, _gpu("memory")
    ),
    "gpu_utilisation": Quantity(
        False,
        "GPU",
        units.parse_share,
        units.exact_share,
        lambda share: f"{100 * share:.3g} %",
        _gpu("utilisation"),
    ),
    "gpu_power": Quantity(
        False,
        "GPU",
        units.parse_power,
        units.exact_power,
        lambda watts: f"{watts:.0f} W",
        _gpu("power"),
    ),
    "gpu_temperature": Quantity(
        False,
        "GPU",
        units.parse_temperature,
        units.exact_temperature,
        lambda celsius: f"{celsius:.0f} °C",
        _gpu("temperature"),
    ),
    "energy": Quantity(
        False, "GPU", units.parse_energy, units.exact_energy, units.format_energy, _energy
    ),
    "memory": Quantity(
        True, "host", units.parse_size, units.exact_size, _show_size, _host("memory")
    ),
    "cpu": Quantity(
        False, "host", units.parse_cores, units.exact_cores, units.format_cores, _host("cpu")
    ),
    "queue": Quantity(
        False,
        "server",
        units.parse_duration,
        units.exact_duration,
        units.format_duration,
        lambda probe: getattr(probe.server, "queue", None),
    ),
}
ALIASES = {"gpu_utilization": "gpu_utilisation"}
