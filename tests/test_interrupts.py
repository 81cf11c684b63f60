"""Which signals end a command, and how often."""

import subprocess
import sys

import pytest

SCRIPT = """
import signal, sys, time
from tuner.interrupts import hear_no_more, held_back, listen
listen()
for word in sys.argv[1:]:
    if word == "wait":
        time.sleep(0.35)
        continue
    if word == "held":
        try:
            with held_back():
                signal.raise_signal(signal.SIGINT)
                print("whole")
        except KeyboardInterrupt:
            print("heard")
        continue
    if word == "end":
        hear_no_more()
        continue
    try:
        signal.raise_signal(signal.Signals[word])
        print("ignored")
    except KeyboardInterrupt:
        print("heard")
"""
FAREWELL = """
import atexit, os, signal
from tuner.interrupts import hear_no_more, listen
listen()
hear_no_more()
atexit.register(os.kill, os.getpid(), signal.SIGINT)
"""


def came_of(script: str, *words: str, before: tuple[str, ...] = ()) -> list[str]:
    command = [
        "env",
        "--default-signal=INT,TERM,HUP",
        *before,
        sys.executable,
        "-c",
        script,
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_two_are_heard_and_no_further_one_disturbs_the_end(signal: str) -> None:
    apart = [each for _ in range(4) for each in (signal, "wait")]
    assert came_of(SCRIPT, *apart) == ["heard", "heard", "ignored", "ignored"]


def test_several_at_one_moment_are_one() -> None:
    """As of timeout, which signals a process and then its group."""
    assert came_of(SCRIPT, "SIGTERM", "SIGTERM", "wait", "SIGTERM") == ["heard", "ignored", "heard"]


def test_what_is_to_be_done_whole_is() -> None:
    assert came_of(SCRIPT, "held") == ["whole", "heard"]


def test_the_second_may_be_another_one() -> None:
    assert came_of(SCRIPT, "SIGINT", "wait", "SIGTERM", "wait", "SIGHUP") == [
        "heard",
        "heard",
        "ignored",
    ]


def test_none_is_heard_once_all_is_done() -> None:
    assert came_of(SCRIPT, "SIGINT", "end", "SIGINT", "SIGTERM") == ["heard", "ignored", "ignored"]
    assert came_of(FAREWELL) == []


def test_what_it_was_started_to_ignore_it_ignores() -> None:
    assert came_of(SCRIPT, "SIGHUP", "SIGINT", before=("nohup",)) == ["ignored", "heard"]
