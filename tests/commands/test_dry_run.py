"""A plan tells what cannot work before anything is started."""

import pytest

from tuner.commands.dry_run import describe_plan
from tuner.commands.plan import Plan
from tuner.experiment.resolve import resolve


def told(timeout: str, confirm: str = "sequential") -> str:
    options = {"model": "emulated_gpu", "sla": "p99<20ms", "timeout": timeout, "confirm": confirm}
    options |= {"launcher": "attached", "url": "localhost:8000", "gpus": "none"}
    return "\n".join(text for _, text in describe_plan(Plan.of(resolve(options, None))))


def test_a_time_limit_that_leaves_no_time_to_confirm_is_told() -> None:
    assert "0:02 is reserved for it" in told("5s")
    assert "give --timeout 75s or more, or --confirm none" in told("74s")


@pytest.mark.parametrize(("timeout", "confirm"), [("75s", "sequential"), ("5s", "none")])
def test_one_that_fits_is_not(timeout: str, confirm: str) -> None:
    assert "too short" not in told(timeout, confirm)
