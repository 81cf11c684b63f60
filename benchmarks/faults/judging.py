"""What came of a fault, held against what may."""

import re
import time
from collections import Counter

from benchmarks.faults import leftovers
from benchmarks.faults.containers import left_containers
from benchmarks.faults.fault import OK, Fault
from benchmarks.faults.place import Place
from benchmarks.faults.session import Ended

_SETTLING_SECONDS = 3.0
"""For processes that were killed to go."""
_SHOWN = 300


def lost(place: Place, known: list[str]) -> list[str]:
    """Records that were there when it happened and are not any more, and what was measured twice:
    one candidate, or two that go by one number.
    """
    after = Counter(place.lines())
    found = [f"lost: {line[:_SHOWN]}" for line in known if not after[line]]
    for run in place.runs:
        searched = [each for each in place.evaluations(run) if each["phase"] == "search"]
        for what in ("settings", "trial"):
            counts = Counter(str(each[what]) for each in searched)
            found += [f"twice: {what} {each}" for each, count in counts.items() if count > 1]
    return found


def hung(what: str, ended: Ended) -> list[str]:
    """That it went on for longer than it may, with what it said last."""
    return [f"{what} hung: {ended.said[-_SHOWN:]}"] if ended.code is None else []


def wrong_end(fault: Fault, ended: Ended) -> list[str]:
    """A code or words that are not those of the fault."""
    found = []
    if ended.code is not None and ended.code not in fault.codes:
        found.append(f"exit code {ended.code}: {ended.said[-_SHOWN:]}")
    if "Traceback" in ended.said:
        found.append(f"a traceback: {ended.said[-3 * _SHOWN :]}")
    if ended.code in fault.codes and ended.code != OK and not re.search(fault.says, ended.said):
        found.append(f"it does not say {fault.says!r}: {ended.said[-_SHOWN:]}")
    return found


def wrong_reasons(fault: Fault, place: Place) -> list[str]:
    """Failures of evaluations for another cause or in other words; or none where there has to be
    one.
    """
    evaluations = [each for run in place.runs for each in place.evaluations(run)]
    failed = [each for each in evaluations if each["state"] == "failed"]
    found = [
        f"failed, cause {each['cause']}: {str(each['failure'])[:_SHOWN]}"
        for each in failed
        if each["cause"] not in fault.causes or not re.search(fault.why, str(each["failure"]))
    ]
    if fault.fails and not failed:
        found.append("no evaluation failed")
    return found


def wrong_next_start(fault: Fault, ended: Ended) -> list[str]:
    """The same command goes on to its end once nothing is broken any more."""
    allowed = fault.codes if fault.kind == "compare" else (OK,)
    if ended.code is None or (ended.code in allowed and "Traceback" not in ended.said):
        return []
    return [f"the next start: exit code {ended.code}: {ended.said[-_SHOWN:]}"]


def left(fault: Fault, place: Place) -> list[str]:
    """What the commands left, once those that were killed had time to go."""
    pids = [session.pid for session in place.sessions]
    deadline = time.monotonic() + _SETTLING_SECONDS
    while True:
        found = leftovers.left(place.folder, place.temporary, place.runs, pids)
        found += left_containers(pids) if "docker" in fault.needs else []
        if not found or time.monotonic() > deadline:
            return [f"left: {each}" for each in found]
        time.sleep(0.1)
