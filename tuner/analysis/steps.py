"""Where the time of a request goes in a pipeline, and which of its steps is the bottleneck."""

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.records.manifest import RecordedStep
from tuner.records.results import ProbeRecord, StepReading


@dataclass(frozen=True)
class StepUse:
    """One composing model over a probe. ``calls`` are its requests for each request of the
    pipeline; ``queue`` and ``compute`` are mean seconds of one call. ``utilization`` is the share
    of the time in which its instances computed: executions x mean execution time / (instances x
    duration). ``mean_batch`` is None if the server does not tell the sizes of batches.
    """

    model: str
    instances: int
    calls: float
    queue: float
    compute: float
    utilization: float
    mean_batch: float | None

    @property
    def seconds(self) -> float:
        """What the step takes of a request of the pipeline, all its calls together."""
        return self.calls * (self.queue + self.compute)


def step_uses(probe: ProbeRecord) -> list[StepUse]:
    """In the order of the pipeline; those that counted nothing are left out. A model that others
    use as well, at the same time, counts their requests, too.
    """
    answered = probe.n - probe.errors
    if not answered or not probe.seconds:
        return []
    uses = (_use(step, answered, probe.seconds) for step in probe.steps)
    return [use for use in uses if use is not None]


def bottleneck(uses: list[StepUse]) -> StepUse | None:
    """The step whose instances are the busiest: its queue grows first as the rate rises."""
    return max(uses, key=lambda use: use.utilization, default=None)


@dataclass(frozen=True)
class Span:
    """A call of a step, which comes ``start`` seconds after its request came in, waits for
    ``queue`` and computes for ``compute`` seconds; means.
    """

    model: str
    start: float
    queue: float
    compute: float

    @property
    def end(self) -> float:
        return self.start + self.queue + self.compute


def waterfall(probe: ProbeRecord, steps: Sequence[RecordedStep]) -> list[Span]:
    """When each step of a pipeline waits and computes, in the mean: one begins once those that it
    reads from are done. A fork joins at the later mean, which is less than the mean of the later.
    Empty if a step counted nothing.
    """
    uses = {use.model: use for use in step_uses(probe)}
    if any(step.model not in uses for step in steps):
        return []
    spans: list[Span] = []
    for step in steps:
        use = uses[step.model]
        start = max((spans[before].end for before in step.after), default=0.0)
        spans.append(Span(step.model, start, use.queue, use.compute))
    return spans


def _use(step: StepReading, answered: int, seconds: float) -> StepUse | None:
    server = step.server
    if server is None:
        return None
    busy = sum(number * server.batch_seconds[size] for size, number in server.batches.items())
    if not server.batches:
        busy = server.executions * server.compute
    return StepUse(
        step.model,
        step.instances,
        server.requests / answered,
        server.queue,
        server.compute,
        busy / (step.instances * seconds),
        server.mean_batch,
    )
