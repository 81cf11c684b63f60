"""The compiled simulator against a plain one: the same numbers, to the last bit."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulator.reference import Reference
from tests.simulator.test_properties import Case, cases, limited


@given(st.one_of(cases(), limited()))
@settings(deadline=None, max_examples=200)
def test_both_simulators_agree_to_the_last_bit(case: Case) -> None:
    service = replace(case.service, accept=0.0, network=0.0)
    played = replace(case, service=service).play()
    plain = Reference(case.scheduling, service, case.seed)
    plain.play(case.times.tolist(), case.items.tolist())
    requests = plain.requests
    np.testing.assert_array_equal(played.started, [request.started for request in requests])
    np.testing.assert_array_equal(played.samples.done, [request.done for request in requests])
    np.testing.assert_array_equal(played.samples.ok, [request.ok for request in requests])
    np.testing.assert_array_equal(played.execution, [request.execution for request in requests])
    np.testing.assert_array_equal(played.sizes, plain.sizes)
    for execution, end in plain.ends.items():
        assert played.ends[execution] == end
