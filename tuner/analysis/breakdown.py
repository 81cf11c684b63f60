"""Where the time of a request went: the parts of the mean latency of one probe."""

import math
from dataclasses import dataclass

from tuner.errors import ModelConfigError
from tuner.model.config import parse_config
from tuner.records.results import Evaluation, ProbeRecord
from tuner.stats.samples import Samples


@dataclass(frozen=True)
class CountSettings:
    """When the server counted other requests than the client sent."""

    share: float = 0.05
    """Share of the good replies. The statistics are read a moment before and after the probe, and
    a few requests fall between; more than that are somebody else's."""
    few: int = 2
    """Requests that may differ in any case: of 20 requests 5 % would be a single one."""


COUNTS = CountSettings()


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
    of_others = not counts_the_same(probe, server.requests)
    rest, over = (None, 0.0) if of_others else (max(0.0, left), max(0.0, -left))
    return Breakdown(mean, client, *counted, rest=rest, over=over)


def counts_the_same(probe: ProbeRecord, requests: int) -> bool:
    """Whether a server that counted so many requests counted those of the probe, and no others."""
    good = probe.n - probe.errors
    return abs(requests - good) <= max(COUNTS.few, COUNTS.share * good)


def hides_compute(config: str) -> bool:
    """Whether, with this config.pbtxt, the server's "infer" is not the time of the computation.

    A model of the Python backend that keeps several batches in hand (``parameters[pipeline]``)
    takes a batch before the last one is done: "infer" then counts its wait inside the model, too.
    """
    try:
        parsed = parse_config(config, "config.pbtxt")
    except ModelConfigError:  # also of several models, whose parts are told one by one
        return False
    depth = parsed.parameters["pipeline"].string_value if "pipeline" in parsed.parameters else ""
    return parsed.backend == "python" and depth.isdecimal() and int(depth) > 1


def representative(evaluation: Evaluation) -> ProbeRecord | None:
    """The probe that shows how it is to operate near capacity or, where nothing was met, the last
    one under load.
    """
    loaded = [probe for probe in evaluation.probes if probe.purpose != "unloaded"]
    return evaluation.at_capacity() or (loaded[-1] if loaded else None)
