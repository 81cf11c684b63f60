"""The facts of one probe, as pages list them."""

from collections.abc import Iterator

from tuner.analysis.stalls import stalls_of
from tuner.records.results import Evaluation, GpuReading, ProbeRecord
from tuner.report.wording import NBSP, count, percent, undisturbed_words
from tuner.stats.stalls import merged
from tuner.units import format_cores, format_duration, format_number, format_rate, format_size


def probe_facts(probe: ProbeRecord, evaluation: Evaluation) -> list[tuple[str, str]]:
    late = f"{probe.violations:,} of {probe.n:,} ({percent(probe.violations / max(1, probe.n))})"
    latencies = ", ".join(_latency(probe, name) for name in probe.latency)
    return [
        ("phase", evaluation.phase),
        ("load", f"{probe.load}, {format_rate(probe.rate)} for {format_duration(probe.seconds)}"),
        *((("items per request", f"{probe.items:.3g}"),) if probe.items != 1 else ()),
        ("seed of the schedule", str(probe.seed)),
        ("late or failed", late),
        ("failed", count(probe.errors, "request")),
        ("verdict", f"{probe.outcome} at {percent(probe.confidence)}"),
        *_stall_facts(probe),
        ("latency (95 %)", latencies),
        ("throughput (95 %)", _served(probe)),
        ("client delay before sending (p99)", format_duration(probe.lateness_p99)),
        ("client CPU", _client_cores(probe)),
        *_host_facts(probe),
        *(_gpu_facts(probe.gpu) if probe.gpu is not None else ()),
    ]


def _stall_facts(probe: ProbeRecord) -> Iterator[tuple[str, str]]:
    """The machine's stalls, and the verdict without them."""
    for name, foreign in (("machine stalled", False), ("core used by others", True)):
        stalls = [s for s in stalls_of(probe) if (s.core is None) is foreign]
        stretches = [end - start for start, end in merged(stalls, longest=None)]
        if stretches:
            most = format_duration(max(stretches))
            yield name, f"{count(len(stretches), 'time')}, for up to {most}"
    if probe.undisturbed is not None:
        yield "verdict without stalls", undisturbed_words(probe)


def _latency(probe: ProbeRecord, name: str) -> str:
    """``p99 12 ms (11.2 ms to 12.9 ms)``, or ``(11.2 ms or more)``."""
    shown = f"{name} {format_duration(probe.latency[name])}"
    if name in probe.latency_interval:
        low, high = probe.latency_interval[name]
        end = "or more" if high is None else f"to {format_duration(high)}"
        shown += f" ({format_duration(low)} {end})"
    return shown.replace(" ", NBSP)


def _served(probe: ProbeRecord) -> str:
    if probe.throughput_interval is None:
        return format_rate(probe.throughput)
    low, high = probe.throughput_interval
    return f"{format_rate(probe.throughput)} ({format_rate(low)} to {format_rate(high)})"


def _client_cores(probe: ProbeRecord) -> str:
    if probe.host is not None and probe.host.client_cores is not None:
        return _cores(probe.host.client_cores)
    if probe.client_cpu is None or probe.seconds <= 0:
        return "-"
    return _cores(probe.client_cpu / probe.seconds)


def _cores(cores: float) -> str:
    return format_cores(cores).replace(" ", NBSP)


def _host_facts(probe: ProbeRecord) -> Iterator[tuple[str, str]]:
    """What is known of the server's processes and batches; what is not, is left out."""
    if probe.host is not None and probe.host.cpu is not None:
        yield "server CPU", _cores(probe.host.cpu)
    if probe.host is not None and probe.host.memory is not None:
        yield "server memory", format_size(probe.host.memory).replace(" ", NBSP)
    if probe.server is not None and probe.server.mean_batch is not None:
        yield "mean batch", format_number(probe.server.mean_batch)


def _gpu_facts(gpu: GpuReading) -> Iterator[tuple[str, str]]:
    """What is known of the GPU; what is not, is left out."""
    if gpu.devices is not None and gpu.devices > 1:
        yield "GPUs", f"{gpu.devices}; means over them"
    if gpu.utilisation is not None:
        yield "GPU busy", percent(gpu.utilisation)
    if gpu.memory is not None:
        yield "GPU memory", format_size(gpu.memory)
    if gpu.power is not None:
        yield "GPU power", f"{gpu.power:.0f}{NBSP}W"
    if gpu.clock is not None:
        yield "GPU clock", f"{gpu.clock:,.0f}{NBSP}MHz"
    if gpu.temperature is not None:
        yield "GPU temperature", f"{gpu.temperature:.0f}{NBSP}°C"
    if gpu.throttled:
        yield "GPU throttled", ", ".join(gpu.throttled)
    if gpu.others:
        yield "GPU shared with", ", ".join(gpu.others)
