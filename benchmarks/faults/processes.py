"""Processes that are killed or stopped."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from benchmarks.faults.fault import (
    ANY,
    AT_WORK,
    KILLED,
    MISSING,
    OK,
    ROUND,
    TRIAL,
    Fault,
    Scene,
    Strike,
)

_EFFECT_SECONDS = 100.0
"""For a failure to be seen: a first inference may take 60 s."""
NO_ANSWER = "did not answer|no reply arrived|answers no request|stopped answering|not healthy"
"""What is said of a server that hangs."""


def killed(*roles: str) -> Strike:
    """SIGKILL to one process of each role at once; the command itself is ``tuner``."""

    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        for target in [_target(scene, role) for role in roles]:
            with contextlib.suppress(psutil.NoSuchProcess):
                target.kill()
        yield

    return strike


def _target(scene: Scene, role: str) -> psutil.Process:
    if role == "tuner":
        return psutil.Process(scene.command.pid)
    return scene.command.await_process(role)


def stopped(role: str, until: Callable[[Scene], bool] = lambda _: True) -> Strike:
    """SIGSTOP to a process, which nobody continues. The command goes on until it was noticed."""

    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        _suspend(scene.command.await_process(role))
        await_effect(scene, until)
        yield

    return strike


def has_failed(scene: Scene) -> bool:
    """Whether an evaluation is on record as failed."""
    place = scene.place
    found = [each for run in place.runs for each in place.evaluations(run)]
    return any(each["state"] == "failed" for each in found)


def await_effect(scene: Scene, until: Callable[[Scene], bool]) -> None:
    """Until something is seen, or the command ends."""
    deadline = time.monotonic() + _EFFECT_SECONDS
    while not scene.command.is_over and not until(scene):
        if time.monotonic() > deadline:
            scene.seen.append(f"nothing was noticed within {_EFFECT_SECONDS:g} s")
            return
        time.sleep(0.05)


def _suspend(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()


@contextmanager
def _paused(scene: Scene) -> Iterator[None]:
    """All of tuner stands still for a while, as after Ctrl-Z or on a laptop that was closed; longer
    than anything is waited for, at times.
    """
    seconds = scene.rng.choice((1.0, 5.0, 20.0))
    scene.command.send(signal.SIGSTOP, to_group=True)
    time.sleep(seconds)
    scene.command.send(signal.SIGCONT, to_group=True)
    yield


@contextmanager
def _stopped_and_killed(scene: Scene) -> Iterator[None]:
    """What would see the end of tuner cannot: it is stopped when tuner is killed."""
    for role in ("server", "stub", "worker", "meter"):
        for each in scene.command.find(role):
            _suspend(each)
    scene.command.send(signal.SIGKILL)
    yield


PROCESSES = (
    Fault("tuner-killed", "kill -9 of tuner", killed("tuner"), ANY, (KILLED,)),
    Fault(
        "tuner-and-server-killed",
        "kill -9 of tuner and its server at once",
        killed("tuner", "server"),
        codes=(KILLED,),
    ),
    Fault(
        "worker-killed",
        "kill -9 of a load process",
        killed("worker"),
        (AT_WORK, TRIAL),
        (MISSING,),
        "load process 0 died",
    ),
    Fault(
        "server-killed",
        "kill -9 of the server",
        killed("server"),
        causes=("died",),
        why="SIGKILL",
    ),
    Fault(
        "stub-killed",
        "kill -9 of the process that runs the model",
        killed("stub"),
        causes=("died", "timed out", None),
        why="(?i)stub|no answer|did not answer repository/.*/load",
        limit=90.0,
    ),
    Fault("meter-killed", "kill -9 of the hiccup meter", killed("meter"), (AT_WORK, TRIAL)),
    Fault(
        "gateway-killed",
        "kill -9 of the gateway, in a comparison",
        killed("gateway"),
        (ROUND,),
        (MISSING, OK),
        "(?i)no deployment|nothing|no .* could be",
        causes=("died",),
        why="SIGKILL",
        kind="compare",
    ),
    Fault(
        "server-stopped",
        "SIGSTOP to the server",
        stopped("server", has_failed),
        causes=("died", "timed out", None),
        why=NO_ANSWER,
        fails=True,
        trials=4,
        limit=120.0,
    ),
    Fault(
        "stub-stopped",
        "SIGSTOP to the process that runs the model",
        stopped("stub", has_failed),
        causes=("died", "timed out", None),
        why=NO_ANSWER,
        limit=120.0,
    ),
    Fault(
        "worker-stopped",
        "SIGSTOP to a load process",
        stopped("worker"),
        (AT_WORK, TRIAL),
        (MISSING,),
        "load process.* (does not respond|does not start)",
        limit=150.0,  # one that is stopped before it has started is given 120 s
    ),
    Fault("paused", "SIGSTOP to all of tuner, SIGCONT up to 20 s later", _paused, (AT_WORK, TRIAL)),
    Fault(
        "stopped-and-killed",
        "SIGSTOP to all that tuner started, and kill -9 of tuner",
        _stopped_and_killed,
        (AT_WORK, TRIAL),
        (KILLED,),
    ),
)
