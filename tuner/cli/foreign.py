"""Long flags of Model Analyzer and perf_analyzer: taken where tuner has the same, or explained."""

from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

_SAME = {
    "--batch-sizes": "--batch",
    "--client-protocol": "--protocol",
    "--request-distribution": "--load",
    "--triton-docker-image": "--image",
    "--triton-grpc-endpoint": "--grpc-url",
    "--triton-http-endpoint": "--url",
    "--triton-launch-mode": "--launcher",
    "--latency-budget": "--sla-p99",
}
_OTHERWISE = {
    "--model-repository": "name the model's folder instead, as in: tuner search /models/detector",
    "--profile-models": "name the model's folder instead, as in: tuner search /models/detector",
    "--percentile": "the SLA has the percentile: --sla 'p95<20ms'",
    "--request-rate-range": "a search finds the rate; to judge one: tuner measure MODEL --rate 300",
    "--request-rate": "a search finds the rate; to judge one: tuner measure MODEL --rate 300",
    "--concurrency-range": "a search finds the rate; a closed loop is --load closed",
    "--concurrency": "a search finds the rate; a closed loop is --load closed",
    "--measurement-interval": "tuner ends each probe once it tells enough",
    "--run-config-search-mode": "--sampler chooses candidates; the default simulates all of them",
    "--run-config-search-max-instance-count": "write the values in a search space: --space FILE",
    "--run-config-search-max-model-batch-size": "write the values in a search space: --space FILE",
    "--output-model-repository-path": "the winner is in the run's folder; tuner export copies it",
    "--export-path": "--output is where runs are kept",
    "--checkpoint-directory": "the same command resumes a search that was interrupted",
    "--config-file": "tuner import FILE makes an experiment of a Model Analyzer configuration",
    "--triton-server-flags": "--server-arg, once for each flag",
    "--collect-metrics": "CPU, memory and GPU are read in each probe",
}
_LAUNCHERS = {"remote": "attached"}


class Command(TyperCommand):
    """Knows what users of other tools type."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {flag for parameter in self.params for flag in parameter.opts}
        for flag in (word.partition("=")[0] for word in args):
            if flag in _OTHERWISE and flag not in own:
                ctx.fail(f"{flag} is not an option of tuner: {_OTHERWISE[flag]}")
        return list(super().parse_args(ctx, list(_translated(args, own))))


def _translated(args: list[str], own: set[str]) -> Iterator[str]:
    """The arguments with flags that mean the same replaced, where the command has these."""
    pending = ""
    for word in args:
        flag, equals, value = word.partition("=")
        same = _SAME.get(flag, "")
        if same in own and flag not in own:
            pending = "" if equals else same
            yield f"{same}={_value(same, value)}" if equals else same
        else:
            yield _value(pending, word) if pending else word
            pending = ""


def _value(flag: str, text: str) -> str:
    """In tuner's form: a latency budget is in milliseconds."""
    if flag == "--sla-p99" and text.isdecimal():
        return f"{text}ms"
    return _LAUNCHERS.get(text, text) if flag == "--launcher" else text
