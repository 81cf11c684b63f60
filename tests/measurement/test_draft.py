"""What a draft says of a load generator that could not keep up."""

import os

import numpy as np
import pytest

from tests.search_records import probe
from tuner.deployments.subjects import Subject
from tuner.measurement.capacity import Capacity
from tuner.measurement.draft import Draft
from tuner.records.results import HostReading


@pytest.mark.parametrize(
    ("share", "expected", "other"),
    [
        (0.95, "because the machine is busy", "--workers"),
        (0.3, "raise --workers", "busy"),
        (None, "raise --workers", "busy"),
    ],
)
def test_more_load_processes_only_if_cores_are_free(
    share: float | None, expected: str, other: str
) -> None:
    draft = Draft(Subject(0), "search", "", np.random.default_rng(0))
    draft.capacity = Capacity(None, client_limited=True)
    cores = len(os.sched_getaffinity(0))
    server = None if share is None else share * cores - 0.1
    host = HostReading(cpu=server, memory=None, client_cores=0.1)
    draft.probes = [probe({}, 100.0, 0, client_limited=True, host=host)[0]]
    failure = draft.evaluation().failure
    assert failure is not None
    assert expected in failure
    assert other not in failure
