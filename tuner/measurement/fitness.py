"""Whether the machine is quiet enough for an SLA, seen while the first server starts and warms up
and, where that is too short to tell, between the first probes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tuner.goals.sla import Sla
from tuner.load.hiccups import HiccupMeter
from tuner.stats.stalls import unfitness


@dataclass(frozen=True)
class FitnessSettings:
    least_seconds: float = 1.0
    """Before anything is said: a launch takes at least as long."""
    most_seconds: float = 60.0
    """After that nothing more is said: the report tells what the machine did to the probes."""


SETTINGS = FitnessSettings()


class Fitness:
    """Tells ``note``, once, that the machine stalls too often for the SLA."""

    def __init__(self, meter: HiccupMeter | None, sla: Sla, note: Callable[[str], None]) -> None:
        self._meter, self._sla, self._note = meter, sla, note

    def check(self) -> None:
        """With all that was seen since the meter began; it takes no time."""
        meter = self._meter
        if meter is None or not meter.watches:
            return
        seconds = time.monotonic() - meter.began
        if not SETTINGS.least_seconds <= seconds <= SETTINGS.most_seconds:
            return
        stalls = meter.stalls(meter.began)
        for bound in self._sla.bounds:
            unfit = unfitness(stalls, seconds, bound.limit, bound.budget)
            if unfit is not None:
                from tuner.report.wording import unfit_sentence  # pages and figures come with it

                self._note(unfit_sentence(unfit, bound))
                self._meter = None
                return
