"""What a comparison looks like while it runs: one line per event."""

from tuner.cli.view import PlainView
from tuner.deployments.subjects import Subject
from tuner.measurement.draft import Phase
from tuner.records.comparison import Swap
from tuner.units import format_duration, format_rate


class CompareView(PlainView):
    """As a search's, with the names of deployments."""

    def launching(self, subject: Subject, phase: Phase) -> None:
        if subject.deployment is None:
            super().launching(subject, phase)
        else:
            self._say(f"launching {subject.deployment}")

    def turning(self, subject: Subject, number: int) -> None:
        if subject.deployment is None:
            super().turning(subject, number)
        else:
            self._say(f"round {number + 1}: {subject.deployment}")

    def swapping(self, title: str, rate: float) -> None:
        self._say(f"replacing the model under load, at {format_rate(rate)}: {title}")

    def swapped(self, swap: Swap) -> None:
        if swap.failure is not None:
            self._say(f"  failed: {swap.failure.splitlines()[0]}")
            return
        lost = f"{swap.lost:,} of {swap.requests:,} requests lost"
        worst = format_duration(swap.worst)
        self._say(f"  by a {swap.how} in {format_duration(swap.seconds)}; {lost}, worst {worst}")
