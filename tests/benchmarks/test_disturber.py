"""The process that takes a core now and then."""

import time

import psutil

from benchmarks.load.disturber import DisturberSettings, disturber

ALWAYS = DisturberSettings(busy_seconds=0.05, period_seconds=0.1, most_seconds=0.5)


def test_it_is_busy_for_its_share_and_ends_by_itself() -> None:
    own = psutil.Process()
    before = {child.pid for child in own.children()}
    with disturber(ALWAYS) as told:
        assert "50 ms every 0.1 s" in told
        (child,) = (each for each in own.children() if each.pid not in before)
        until = time.monotonic() + 20
        used = 0.0
        while child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            used = child.cpu_times().user
            time.sleep(0.02)
        assert child.status() == psutil.STATUS_ZOMBIE
        assert 0.02 < used < 0.6
    assert not psutil.pid_exists(child.pid)


def test_it_ends_with_what_it_disturbs() -> None:
    own = psutil.Process()
    before = {child.pid for child in own.children()}
    with disturber():
        (child,) = (each for each in own.children() if each.pid not in before)
    assert not psutil.pid_exists(child.pid)
