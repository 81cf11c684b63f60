"""What a search looks like while it runs: a live view on a terminal, plain lines elsewhere."""

import math
import time
from collections import deque

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tuner.cli.output import plain, say
from tuner.deployments.subjects import Subject
from tuner.goals.objective import Objective
from tuner.goals.sla import Bound, Sla
from tuner.measurement.draft import Phase
from tuner.records.costs import describe_cost
from tuner.records.results import Evaluation, ProbeRecord, State, baseline, best
from tuner.records.run import Run
from tuner.report.search_wording import less_words
from tuner.report.wording import times, undisturbed_words
from tuner.text import printable
from tuner.units import format_clock, format_duration, format_rate

_ROWS = 12
"""Of the live table: with what stands above and below it, they fit a terminal of 24 lines."""
_VERBS = {
    "search": "trial",
    "measure": "trial",
    "confirm": "confirming trial",
    "again": "repeating trial",
}
_PURPOSES = {
    "unloaded": "one request at a time",
    "capacity": "probing",
    "measure": "probing",
    "proof": "probing",
}
_STATES = {
    State.BEATEN: "eliminated",
    State.INFEASIBLE: "misses SLA",
    State.FAILED: "failed",
}
_COLORS = {"met": "green", "violated": "red", "inconclusive": "yellow"}


class PlainView:
    """One line per event, for logs and pipes; ``quiet`` says nothing at all."""

    def __init__(self, console: Console, sla: Sla, quiet: bool = False) -> None:
        self._console = console
        self._sla = sla
        self._quiet = quiet
        self._began = time.monotonic()

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begins(self, run: Run, about: str, known: list[Evaluation], notes: list[str]) -> None:
        self._say(f"run {run.folder}" + (f": resumed, {_so_far(known)}" if known else ""))
        self._say(f"server {about}")
        for note in notes:
            self.noted(note)

    def noted(self, note: str) -> None:
        self._say(f"note: {note}")

    def launching(self, subject: Subject, phase: Phase) -> None:
        self._say(f"{_task(phase, subject)}: {subject.candidate}")

    def turning(self, subject: Subject, number: int) -> None:
        self._say(f"  round {number + 1}, trial {subject.trial}: {subject.candidate}")

    def leaving(self, subject: Subject) -> None:
        self._say(f"  {_name(subject)} leaves the confirmation: another is shown to be better")

    def verifying(self, subject: Subject, rate: float) -> None:
        self._say(f"verifying {_name(subject)} at {format_rate(rate)}")

    def probing(self, what: str, rate: float | None) -> None:
        pass

    def probed(self, record: ProbeRecord) -> None:
        self._say(f"  {describe_probe(record, self._sla)}")

    def evaluated(self, evaluation: Evaluation) -> None:
        self._say(f"  result of {_name(evaluation)}: {describe_result(evaluation)}")

    def search_ended(self, reason: str, confirms: bool) -> None:
        self._say(_ending(reason, confirms))

    def _say(self, text: str) -> None:
        if not self._quiet:
            clock = format_clock(time.monotonic() - self._began)
            say(self._console, f"[{clock}] {text}")


def _task(phase: Phase, subject: Subject) -> str:
    """Calibration serves all trials."""
    if phase == "calibrate":
        return "calibrating"
    return f"{_VERBS[phase]} {subject.trial}" + (" (baseline)" if subject.baseline else "")


def _name(subject: Subject | Evaluation) -> str:
    """A deployment's name in a comparison; a trial in a search."""
    return subject.deployment or f"trial {subject.trial}"


def _ending(reason: str, confirms: bool) -> str:
    return f"search ended: {reason}" + ("; confirming on fresh servers" if confirms else "")


def _so_far(known: list[Evaluation]) -> str:
    count = f"{len(known)} evaluation{'s' * (len(known) != 1)} on record"
    leader = best(known)
    return count + (f", best {leader.label}: {describe_result(leader)}" if leader else "")


class LiveView:
    """Phase and time left, the best so far against the baseline, the last candidates, and what is
    being done right now.
    """

    def __init__(
        self,
        console: Console,
        sla: Sla,
        title: str,
        budget: float | None,
        objective: Objective | None = None,
    ) -> None:
        """``budget`` is a search's time limit, in seconds."""
        self._objective = objective
        self._sla = sla
        self._title = title
        self._budget = budget
        self._began = time.monotonic()
        self._spent = 0.0
        self._run: Run | None = None
        self._rows: deque[Evaluation] = deque(maxlen=_ROWS)
        self._known: list[Evaluation] = []
        self._task = self._candidate = ""
        self._now = Text("starting")
        self._probe = Text("")
        self._about = ""
        self._notes: list[Text] = []
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begins(self, run: Run, about: str, known: list[Evaluation], notes: list[str]) -> None:
        resumed = f"   resumed, {len(known)} evaluations on record" if known else ""
        self._about = f"{about}   {run.folder}{resumed}"
        self._run = run
        before = run.time_budget() if known else None
        self._spent = sum(each.seconds for each in known) + (before.calibration if before else 0.0)
        for each in known:
            self.evaluated(each)
        for note in notes:
            self.noted(note)

    def noted(self, note: str) -> None:
        self._notes.append(Text(f"note: {printable(note)}", style="yellow"))

    def launching(self, subject: Subject, phase: Phase) -> None:
        self._task, self._candidate = _task(phase, subject), str(subject.candidate)
        self._happens("launching")
        self._probe = Text("")

    def turning(self, subject: Subject, number: int) -> None:
        self._task = f"confirming trial {subject.trial}, round {number + 1}"
        self._candidate = str(subject.candidate)

    def leaving(self, subject: Subject) -> None:
        pass  # the rounds show who is left

    def verifying(self, subject: Subject, rate: float) -> None:
        self._task, self._candidate = f"verifying {_name(subject)}", str(subject.candidate)

    def probing(self, what: str, rate: float | None) -> None:
        at = f" at {format_rate(rate)}" if rate is not None else ""
        self._happens(f"{_PURPOSES.get(what, what)}{at}")

    def _happens(self, what: str) -> None:
        """The candidate last: a narrow terminal cuts it."""
        self._now = Text(f"{self._task}, {what}: {self._candidate}", style="bold")

    def probed(self, record: ProbeRecord) -> None:
        self._probe = Text(
            printable(f"  last probe: {describe_probe(record, self._sla)}"),
            style=_COLORS[record.outcome],
        )

    def evaluated(self, evaluation: Evaluation) -> None:
        self._rows.append(evaluation)
        self._known.append(evaluation)

    def search_ended(self, reason: str, confirms: bool) -> None:
        self._about = _ending(reason, confirms)

    def _render(self) -> RenderableType:
        about = Text(printable(self._about), style="dim", no_wrap=True, overflow="ellipsis")
        lines = [self._head(), about, *self._notes]
        leader = best(self._known)
        if leader is not None:
            lines.append(self._leading(leader))
        for line in (self._now, self._probe):
            line.no_wrap, line.overflow = True, "ellipsis"
        table = [self._table(leader)] if self._rows else []
        return Group(*lines, *table, self._now, self._probe)

    def _head(self) -> Text:
        elapsed = time.monotonic() - self._began
        phase = self._run.clock.current if self._run is not None else "start"
        clock = f"   {phase or 'report'}   {format_clock(elapsed)}"
        if self._budget is not None:
            left = max(0.0, self._budget - self._spent - elapsed)
            clock += f", at most {format_clock(left)} left"
        return Text.assemble((self._title, "bold cyan"), clock)

    def _leading(self, leader: Evaluation) -> Text:
        gain = self._gain(leader)
        line = f"best so far: {self._amount(leader)}"
        if leader.baseline:
            line += ", the baseline"
        else:
            against = "than the baseline" if leader.cost is not None else "the baseline"
            line += f", {gain} {against}" * bool(gain) + f": {leader.label}"
        return Text(printable(line), style="green", no_wrap=True, overflow="ellipsis")

    def _table(self, leader: Evaluation | None) -> Table:
        table = Table(box=None, pad_edge=False, expand=True)
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column("candidate", ratio=1, no_wrap=True, overflow="ellipsis")
        amount = self._objective.title if self._objective else "capacity"
        for heading in (amount, "vs. baseline", f"{self._p} there"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self._rows:
            table.add_row(*self._cells(row), style="bold green" if row is leader else "")
        return table

    @property
    def _p(self) -> str:
        return self._sla.primary.name

    def _cells(self, row: Evaluation) -> list[str]:
        name = f"{row.trial}{'*' if row.phase == 'confirm' else ''}"
        label = plain(row.label) + (" (baseline)" if row.baseline else "")
        if row.state is not State.OK:
            return [name, label, _STATES[row.state], "", ""]
        at = row.at_capacity()
        shown = format_duration(at.latency.get(self._p)) if at else "-"
        return [name, label, self._amount(row), self._gain(row), shown]

    def _gain(self, row: Evaluation) -> str:
        """``1.9 ×``, or of a cost ``33 % less``; empty if there is nothing to compare with."""
        base = baseline(self._known)
        if base is None or not base.merit or not row.merit:
            return ""
        gain = row.merit / base.merit
        return times(gain) if row.cost is None else f"{less_words(gain)} less"

    def _amount(self, row: Evaluation) -> str:
        if row.cost is not None and self._objective is not None:
            return self._objective.show(row.cost.value)
        return format_rate(row.capacity)


def describe_probe(record: ProbeRecord, sla: Sla) -> str:
    """``412/s: p99 18.2 ms of 20 ms, met (1 of 823 late)``."""
    bound = _nearest_bound(record, sla)
    if record.rate is not None:
        load = format_rate(record.rate)
    else:
        load = f"concurrency {record.concurrency}: {format_rate(record.throughput)}"
    value = format_duration(record.latency.get(bound.name))
    text = f"{load}: {bound.name} {value} of {format_duration(bound.limit)}"
    if record.purpose == "unloaded":
        return f"{text}, p50 {format_duration(record.latency.get('p50'))}"
    text += f", {record.outcome} ({record.violations:,} of {record.n:,} late)"
    if record.undisturbed is not None and record.undisturbed.decides:
        text += f", {undisturbed_words(record)}"
    if record.client_limited:
        text += ", load generator behind schedule"
    if record.gpu is not None and record.gpu.throttled:
        text += f", GPU throttled ({', '.join(record.gpu.throttled)})"
    return text


def _nearest_bound(record: ProbeRecord, sla: Sla) -> Bound:
    """Of several models, that of which most is used up; else that on the highest percentile."""
    known = [b for b in sla.bounds if b.model and record.latency.get(b.name) is not None]
    if not known:
        return sla.primary
    return max(known, key=lambda bound: (record.latency[bound.name] or 0.0) / bound.limit)


def describe_result(evaluation: Evaluation) -> str:
    cost = evaluation.cost
    match evaluation.state:
        case State.OK if cost is not None:
            return describe_cost(cost)
        case State.INFEASIBLE if cost is not None and not evaluation.failure:
            return f"misses the SLA at {format_rate(cost.rate)}{_by(evaluation)}"
        case State.OK:
            return f"capacity {format_rate(evaluation.capacity)}{between(evaluation)}"
        case State.INFEASIBLE:
            if evaluation.failure:
                return evaluation.failure
            over = evaluation.bound_ratio
            asked = evaluation.verdict()
            if asked is not None and asked.purpose == "measure":
                return f"{format_rate(asked.rate)}: not shown to meet the SLA"
            if over is None or not math.isfinite(over):
                return "meets the SLA at no rate"
            return f"meets the SLA at no rate: at best {times(over)} the bound"
        case State.BEATEN:
            return f"eliminated: at most {format_rate(evaluation.high)}"
        case State.FAILED:
            cause = f", {evaluation.cause}" if evaluation.cause else ""
            return f"failed{cause}: {evaluation.failure}"


def _by(evaluation: Evaluation) -> str:
    """By how much it misses the bound; or which other constraint it breaks."""
    over = evaluation.bound_ratio
    if over is None or not math.isfinite(over):
        return ""
    if over > 1:
        return f": {times(over)} the bound"
    remedies = [p.remedy for p in evaluation.probes if p.outcome == "violated" and p.remedy]
    return f": {remedies[-1]}" if remedies else ""


def format_capacity(evaluation: Evaluation) -> str:
    """``412/s``; ``≥ 412/s`` where it is a lower bound."""
    is_least = evaluation.low is not None and evaluation.high is None
    sign = "≥ " if is_least else ""
    return sign + format_rate(evaluation.capacity)


def between(evaluation: Evaluation) -> str:
    """`` (95 %: 410/s to 450/s)``, as far as the interval is known."""
    if evaluation.low is None or evaluation.low == evaluation.high:
        return ""
    if evaluation.high is None:
        return " or more"
    return f" (95 %: {format_rate(evaluation.low)} to {format_rate(evaluation.high)})"
