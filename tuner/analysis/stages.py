"""Where the time of a request went, in stages that are the same for every deployment."""

import math
from collections.abc import Mapping

from tuner.analysis.breakdown import counts_the_same
from tuner.records.comparison import STAGES, Deployed
from tuner.records.results import ProbeRecord, ServerTimes

_OF_A_SERVICE = ("parsing", "tokenising", "queue", "inference", "serialisation")
StageSeconds = dict[str, float]
"""Seconds by the name of the stage."""


def stages_of(probe: ProbeRecord, deployed: Deployed) -> StageSeconds | None:
    """Seconds by names out of STAGES, in their order, which sum to the mean latency of the probe.

    A stage that a deployment does not have, or that nobody counted, is missing, and lies in "rest".
    None where there is no mean latency, where nothing was counted, or where what was counted was
    of clearly other requests than the client's (more than 5 % apart).

    - A service counts its own stages.
    - In front of Triton, the stage "inference" is the whole call: what Triton counted of it is
      "queue" and "inference", and what is left is "transport".
    - Of Triton alone, transport cannot be told from the client's network: both are "rest".

    Counts of two clocks may come to more than the client saw. They are then shrunk in proportion
    to what there is, Triton's to the call, all of them to the latency, and "rest" is 0: see
    ``excess``.
    """
    counted = _counted(probe, deployed)
    if counted is None or probe.mean is None or probe.client_wait is None:
        return None
    client = min(max(0.0, probe.client_wait), probe.mean)
    known = {"client": client, **_within(counted, probe.mean - client)}
    known["rest"] = max(0.0, probe.mean - sum(known.values()))
    return {name: known[name] for name in STAGES if name in known}


def excess(probe: ProbeRecord, deployed: Deployed) -> float:
    """Seconds by which what was counted exceeds what the client saw after it had sent; or 0."""
    counted = _counted(probe, deployed)
    if counted is None or probe.mean is None or probe.client_wait is None:
        return 0.0
    return max(0.0, sum(counted.values()) - (probe.mean - max(0.0, probe.client_wait)))


def overhead(stages: Mapping[str, float]) -> float:
    """Seconds outside inference."""
    return sum(seconds for name, seconds in stages.items() if name != "inference")


def _counted(probe: ProbeRecord, deployed: Deployed) -> StageSeconds | None:
    """What services and servers counted, all of it finite and not negative; None for nothing."""
    stages = probe.stages.seconds if probe.stages is not None else {}
    if probe.stages is not None and not counts_the_same(probe, probe.stages.requests):
        return None
    own = {name: stages[name] for name in _OF_A_SERVICE if name in stages}
    server = probe.server
    if deployed.kind in ("triton", "hybrid"):
        if server is None or not counts_the_same(probe, server.requests):
            return None
        if deployed.kind == "triton":
            own = _of_triton(server)
        elif "inference" not in own:
            return None
        else:
            own = _of_the_call(own, server)
    sound = all(math.isfinite(seconds) and seconds >= 0 for seconds in own.values())
    return own if own and sound else None


def _of_triton(server: ServerTimes) -> StageSeconds:
    return {"queue": server.queue, "inference": server.compute}


def _of_the_call(own: StageSeconds, server: ServerTimes) -> StageSeconds:
    call = own["inference"]
    inside = _within(_of_triton(server), call)
    return own | {
        "queue": own.get("queue", 0.0) + inside["queue"],
        "inference": inside["inference"],
        "transport": max(0.0, call - sum(inside.values())),
    }


def _within(parts: StageSeconds, most: float) -> StageSeconds:
    """The parts, shrunk in proportion where they come to more than ``most`` seconds."""
    total = sum(parts.values())
    share = max(0.0, most) / total if total > most else 1.0
    return {name: seconds * share for name, seconds in parts.items()}
