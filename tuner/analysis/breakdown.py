"""Where the time of a request went: the parts of the mean latency of one probe."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tuner.errors import ModelConfigError
from tuner.goals.constraints import Constraint
from tuner.model.config import parse_config
from tuner.records.results import Evaluation, HostReading, ProbeRecord, best
from tuner.stats.samples import Samples
from tuner.units import format_cores, format_number, format_rate, format_size

_OTHERS = 0.05
HIDDEN = (
    '"infer" is not the time on the card alone: the model keeps several batches in hand '
    "(parameters[pipeline]), and each also waits for the one before it."
)


@dataclass(frozen=True)
class Breakdown:
    """Parts of ``mean``, the mean latency of a probe's good replies; all in seconds.

    ``client`` passed between the intended and the actual send. ``queue``, ``input``, ``infer`` and
    ``output`` are what the server counted. ``rest`` is what is left: the network, the server's
    front end, and the client's way from the reply to the clock; None where the server counted
    clearly other requests than the client (more than 5 % apart), so that nothing can be
    subtracted. ``over`` is by how much the server's parts exceed what the client saw; then
    ``rest`` is 0.
    """

    mean: float
    client: float
    queue: float
    input: float
    infer: float
    output: float
    rest: float | None
    over: float = 0.0

    @property
    def parts(self) -> dict[str, float | None]:
        names = ("client", "queue", "input", "infer", "output", "rest")
        return {name: getattr(self, name) for name in names}


def break_down(probe: ProbeRecord, raw: Samples | None = None) -> Breakdown | None:
    """The parts of the probe's mean latency; None without the server's statistics or good replies.

    ``raw`` stands in for what records of older versions lack.
    """
    mean, wait = probe.mean, probe.client_wait
    if raw is not None and (mean is None or wait is None):
        mean, wait = raw.mean, raw.client_wait
    server = probe.server
    if server is None or mean is None or wait is None:
        return None
    counted = (server.queue, server.compute_input, server.compute_infer, server.compute_output)
    if not all(math.isfinite(value) and value >= 0 for value in (mean, *counted)):
        return None
    client = max(0.0, wait)
    left = mean - client - sum(counted)
    good = probe.n - probe.errors
    of_others = abs(server.requests - good) > _OTHERS * good
    rest, over = (None, 0.0) if of_others else (max(0.0, left), max(0.0, -left))
    return Breakdown(mean, client, *counted, rest=rest, over=over)


def hides_compute(config: str) -> bool:
    """Whether, with this config.pbtxt, the server's "infer" is not the time of the computation.

    A model of the Python backend that keeps several batches in hand (``parameters[pipeline]``)
    takes a batch before the last one is done: "infer" then counts its wait inside the model, too.
    """
    try:
        parsed = parse_config(config, "config.pbtxt")
    except ModelConfigError:
        return False
    depth = parsed.parameters["pipeline"].string_value if "pipeline" in parsed.parameters else ""
    return parsed.backend == "python" and depth.isdecimal() and int(depth) > 1


def representative(evaluation: Evaluation) -> ProbeRecord | None:
    """The probe that shows how it is to operate near capacity or, where nothing was met, the last
    one under load.
    """
    loaded = [probe for probe in evaluation.probes if probe.purpose != "unloaded"]
    return evaluation.at_capacity() or (loaded[-1] if loaded else None)


def lines(evaluations: list[Evaluation], constraints: Iterable[Constraint] = ()) -> Iterator[str]:
    """What a summary says: where the time of a measurement went, as far as it is known, and how a
    measurement or a search's winner stands to each of the ``constraints``.
    """
    measured = [e for e in evaluations if e.phase == "measure"]
    subject = measured[-1] if measured else best(evaluations)
    probe = representative(subject) if subject is not None else None
    if subject is None or probe is None:
        return
    if measured:
        words = " · ".join(filter(None, (_where(probe), _batch(probe), _used(probe.host))))
        if words:
            yield words
        if hides_compute(subject.config) and probe.server is not None:
            yield HIDDEN
    for constraint in constraints:
        yield constraint.describe(probe)


def _where(probe: ProbeRecord) -> str | None:
    """All parts with the same number of decimals, so that they add up."""
    found = break_down(probe)
    if found is None or found.mean <= 0:
        return None
    decimals = min(6, max(0, 2 - math.floor(math.log10(found.mean * 1000))))

    def ms(seconds: float) -> str:
        return f"{seconds * 1000:.{decimals}f}"

    known = ", ".join(f"{name} {ms(v)}" for name, v in found.parts.items() if v is not None)
    at = f" at {format_rate(probe.rate)}" if probe.rate is not None else ""
    words = f"where {ms(found.mean)} ms went{at}: {known} ms"
    if found.rest is None and probe.server is not None:
        return f"{words}; rest unknown: the server counted {probe.server.requests:,} requests"
    return f"{words}; the server counted {ms(found.over)} ms more" if found.over > 0 else words


def _batch(probe: ProbeRecord) -> str | None:
    mean = probe.server.mean_batch if probe.server is not None else None
    return None if mean is None else f"mean batch {format_number(mean)}"


def _used(host: HostReading | None) -> str | None:
    if host is None:
        return None
    words = (
        None if host.cpu is None else format_cores(host.cpu),
        None if host.memory is None else format_size(host.memory),
    )
    known = ", ".join(filter(None, words))
    return f"server {known}" if known else None
