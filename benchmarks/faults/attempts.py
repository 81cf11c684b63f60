"""One fault done once: a search is started, struck, waited for, and started again."""

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults import judging
from benchmarks.faults.fault import CALIBRATING, OK, TRIAL, Fault, Moment, Scene
from benchmarks.faults.place import COMPARE, LOCAL, Place
from benchmarks.faults.session import Ended, Missed, Session

_TRIES = 4
"""Moments that are tried: a command may end before the one that was drawn."""
_AGAIN_SECONDS = 120.0
"""For the next start, which sweeps, measures a candidate and reports."""
_FRESH = 0.25
"""Of the searches that may be killed at any time: those that start anew and calibrate."""


@dataclass(frozen=True)
class Attempt:
    """What came of it: trials that were ``lost`` or measured twice, ``wrong`` reasons and exit
    codes, what was ``left`` after the next start, and what ``hung``. It took so many ``seconds``
    from the fault to the end of the command.
    """

    lost: tuple[str, ...]
    wrong: tuple[str, ...]
    left: tuple[str, ...]
    hung: tuple[str, ...]
    seconds: float

    @property
    def findings(self) -> tuple[str, ...]:
        return (*self.lost, *self.wrong, *self.left, *self.hung)


def begun_search(folder: Path, launcher: tuple[str, ...] = LOCAL) -> Place:
    """A search that was killed with its first two evaluations on record."""
    place = Place(folder, launcher)
    place.furnish()
    session = place.start(trials=6)
    try:
        while len(place.lines()) < 2:
            session.sleep(0.1)
    finally:
        place.close()
    return place


def attempt(fault: Fault, seed: int, folder: Path, begun: Place, further: int = 1) -> Attempt:
    """Do it in this folder, which is removed, to a search that goes on from the one that was
    ``begun``. The next start measures so many ``further`` candidates.
    """
    rng = random.Random(f"{fault.name} {seed}")
    for _ in range(_TRIES):
        try:
            return _attempt(fault, rng, folder, begun, further)
        except Missed as missed:
            said = str(missed)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    raise Missed(f"{fault.name}: the command ended before each of {_TRIES} moments:\n{said}")


def _attempt(fault: Fault, rng: random.Random, folder: Path, begun: Place, further: int) -> Attempt:
    place = Place(folder, fault.launcher)
    moment = rng.choice(fault.moments) if fault.moments else None
    with ExitStack() as stack:
        stack.enter_context(fault.setting(place))
        stack.callback(place.close)
        place.furnish()
        moment = _begin(fault, place, moment, rng, begun)
        scene = Scene(place, rng)
        with _struck(fault, scene, moment):
            known = place.lines()
            ended = scene.command.finish(max(1.0, scene.at + fault.limit - time.monotonic()))
        hung = judging.hung("the command", ended)
        wrong = [
            *scene.seen,
            *judging.wrong_end(fault, ended),
            *judging.wrong_reasons(fault, place),
        ]
        if ended.code != OK:
            again = _next_start(fault, place, further)
            hung += judging.hung("the next start", again)
            wrong += judging.wrong_next_start(fault, again)
        lost = judging.lost(place, known)
        left = judging.left(fault, place)
        return Attempt(tuple(lost), tuple(wrong), tuple(left), tuple(hung), ended.at - scene.at)


def _begin(
    fault: Fault, place: Place, moment: Moment | None, rng: random.Random, begun: Place
) -> Moment | None:
    """Have the records of the search to go on with, unless it is to calibrate; then the moment may
    be within the calibration.
    """
    is_fresh = fault.kind != "search" or (len(fault.moments) > 1 and rng.random() < _FRESH)
    if not is_fresh:
        place.go_on_from(begun)
        return moment
    if fault.kind == "search":
        place.sampler = "simulation"
        return CALIBRATING if moment is TRIAL else moment
    return moment


def _start(fault: Fault, place: Place, trials: int) -> Session:
    if fault.kind == "compare":
        return place.run(*COMPARE, *fault.words)
    return place.start(trials, *fault.words)


@contextmanager
def _struck(fault: Fault, scene: Scene, moment: Moment | None) -> Iterator[None]:
    """The command runs, and the fault has been done to it."""
    if moment is not None:
        scene.session = _start(fault, scene.place, fault.trials)
        moment.wait(scene.session, scene.rng)
    scene.at = time.monotonic()
    with fault.strike(scene):
        if scene.session is None:
            scene.session = _start(fault, scene.place, fault.trials)
        yield


def _next_start(fault: Fault, place: Place, further: int) -> Ended:
    """The same command, for so many candidates more than there are on record."""
    counts = [len(place.evaluations(run)) for run in place.runs]
    again = _start(fault, place, max(1, max(counts, default=0) + further))
    return again.finish(_AGAIN_SECONDS)
