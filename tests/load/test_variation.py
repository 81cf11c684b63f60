"""Made-up requests that do not repeat."""

import json

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from tests.load.test_inputs import NUMBERS, signature, x
from tests.load.test_target import back, split, tensors
from tuner.load.distinct import variation_of
from tuner.load.inputs import make_inputs
from tuner.load.target import Target, make_target
from tuner.load.transport import Transport
from tuner.load.variation import Varier
from tuner.model.signature import TensorSpec

MANY = 500


def target(protocol: Transport, *specs: TensorSpec) -> Target:
    pool = make_inputs(signature(*specs), {}, np.random.default_rng(0), count=3)
    return make_target(protocol, "127.0.0.1:1", "m", pool, batched=True)


def contents(protocol: Transport, message: bytes) -> dict[str, np.ndarray]:
    if protocol is Transport.HTTP:
        _, headers, body = split(message)
        length = int(headers["inference-header-content-length"])
        return tensors(json.loads(body[:length]), body[length:])
    request = service_pb2.ModelInferRequest.FromString(message)
    pairs = zip(request.inputs, request.raw_input_contents, strict=True)
    return {each.name: back(raw, each.datatype, list(each.shape)) for each, raw in pairs}


@pytest.mark.parametrize("protocol", Transport)
@pytest.mark.parametrize("datatype", [name for name in NUMBERS if name != "BF16"])
def test_numbers_stay_what_they_may_be(protocol: Transport, datatype: str) -> None:
    made = target(protocol, TensorSpec("y", "BYTES", (2,)), x(datatype, (40,)))
    variation = variation_of(made)
    assert variation.is_enough
    vary = Varier(variation, seed=1)
    seen = set()
    for index in range(MANY):
        message = vary(index, made.requests[index % 3])
        assert len(message) == len(made.requests[index % 3])
        found = contents(protocol, message)
        assert found["x"].shape == (1, 40)
        assert found["x"].min() >= 0
        assert found["x"].max() <= 1
        assert all(word.isdigit() for word in found["y"].ravel())
        seen.add((found["x"].tobytes(), found["y"].tobytes()))
    assert len(seen) == MANY


def test_a_share_of_requests_may_repeat() -> None:
    made = target(Transport.HTTP, x())
    vary = Varier(variation_of(made, 0.8), seed=1)
    repeated = sum(vary(0, made.requests[0]) == made.requests[0] for _ in range(1000))
    assert 750 <= repeated <= 850


@pytest.mark.parametrize("spec", [x("BOOL", (4,)), x("INT64", (20,)), x("BF16", (100,))])
def test_inputs_with_few_values_are_told(spec: TensorSpec) -> None:
    assert not variation_of(target(Transport.HTTP, spec)).is_enough


@pytest.mark.parametrize("spec", [x("INT64", (64,)), x("FP32", (4,)), x("FP16", (4,))])
def test_inputs_with_many_values_are_enough(spec: TensorSpec) -> None:
    assert variation_of(target(Transport.GRPC, spec)).is_enough
