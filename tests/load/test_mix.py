"""Mixes of requests to several models, and the target that sends them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import UsageError
from tuner.load.mix import Mix, mix_of_log, parse_rates
from tuner.load.replies import Expected, ExpectedOutput, check_of
from tuner.load.target import Target, Tensor, make_target, mixed
from tuner.load.transport import Transport

WEIGHTS = st.dictionaries(
    st.text("abcxyz_", min_size=1, max_size=5), st.integers(1, 50), min_size=1, max_size=6
)


@given(WEIGHTS, st.floats(0.1, 1e5))
def test_rates_of_a_mix_add_up_and_keep_their_ratios(weights: dict[str, int], rate: float) -> None:
    mix = Mix.parse(",".join(f"{model}={weight}" for model, weight in weights.items()))
    rates = mix.rates(rate)
    assert sum(rates.values()) == pytest.approx(rate)
    for model, weight in weights.items():
        assert rates[model] == pytest.approx(rate * weight / sum(weights.values()))
    assert Mix.parse(str(mix)).rates(rate) == pytest.approx(rates, rel=1e-4)


def test_what_is_held_keeps_its_rate_whatever_the_others_do() -> None:
    mix = Mix.parse("a=1,b=3,c=9").holding({"c": 200.0})
    assert mix.rates(40.0) == {"a": 10.0, "b": 30.0, "c": 200.0}
    assert mix.total(40.0) == 240.0
    kinds = mix.kinds(40.0, 50_000, np.random.default_rng(0))
    shares = np.bincount(kinds) / len(kinds)
    assert shares == pytest.approx([10 / 240, 30 / 240, 200 / 240], abs=0.01)
    with pytest.raises(UsageError, match="leaves no model"):
        Mix.parse("a=1").holding({"a": 1.0})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "is not valid"),
        ("a=", "is not valid"),
        ("a=x", "is not valid"),
        ("a=1,a=2", "names a twice"),
        ("a=0", "must be above zero"),
        ("a=-1,b=2", "must be above zero"),
        ("a=1e9", "is not valid"),
        ("a=99999999999", "must be above zero"),
        ("a=1,b=99999", "cannot be judged"),
        (",".join(f"m{i}=1" for i in range(33)), "more than 32"),
    ],
)
def test_what_is_no_mix_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Mix.parse(text)


def test_held_rates_are_parsed_with_their_own_words() -> None:
    assert parse_rates("a=200,b=1.5") == {"a": 200.0, "b": 1.5}
    with pytest.raises(UsageError, match=r"--hold .* write it like classifier=200"):
        parse_rates("a")


def test_the_shares_of_a_log_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("timestamp,model\n1,a\n2,b\n3,a\n4,a\n")
    assert mix_of_log(str(log)).shares == {"a": 0.75, "b": 0.25}
    log.write_text("timestamp,name\n1,a\n")
    with pytest.raises(UsageError, match="has no column model"):
        mix_of_log(str(log))
    log.write_text("model\n")
    with pytest.raises(UsageError, match="no request in it"):
        mix_of_log(str(log))
    with pytest.raises(UsageError, match="detector=1,classifier=5"):
        mix_of_log("detector")


def target(model: str, requests: int) -> Target:
    pool = [[Tensor("IN", "FP32", np.full((1, 2), i, np.float32))] for i in range(requests)]
    output = ExpectedOutput("OUT", "FP32", (2,), 4)
    expected = Expected((output,), (1,) * requests, tuple(range(requests)))
    return make_target(Transport.HTTP, "host:1", model, pool, True, expected=expected)


def test_a_mixed_target_sends_each_models_requests_in_turn() -> None:
    members = {"a": target("a", 2), "b": target("b", 3)}
    kinds = np.array([0, 1, 1, 0, 0, 1, 1])
    whole = mixed(members, kinds)
    assert whole.models == ("a", "b")
    a, b = members["a"].requests, members["b"].requests
    assert whole.requests == (a[0], b[0], b[1], a[1], a[0], b[2], b[0])
    part = whole.part((1, 3, 5))
    assert part.requests == (b[0], a[1], b[2])


def test_replies_of_a_mix_are_held_against_their_own_request() -> None:
    whole = mixed({"a": target("a", 2), "b": target("b", 3)}, np.array([0, 1, 1, 0]))
    check = check_of(whole.expected)
    assert check is not None

    def reply(identity: str) -> bytes:
        outputs = '"outputs":[{"name":"OUT","datatype":"FP32","shape":[1,2],'
        header = f'{{"id":"{identity}",{outputs}"parameters":{{"binary_data_size":8}}}}]}}'
        head = (
            "HTTP/1.1 200 OK\r\nInference-Header-Content-Length: "
            f"{len(header)}\r\nContent-Length: {len(header) + 8}\r\n\r\n"
        )
        return head.encode() + header.encode() + bytes(8)

    assert check.http_fault(2, reply("1")) is None
    assert check.http_fault(2, reply("0")) == "wrong reply: it belongs to another request"
    assert check.http_fault(6, reply("1")) is None  # the order repeats
