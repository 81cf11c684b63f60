import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import UsageError
from tuner.load.batches import BatchMix

relaxed = settings(deadline=None, max_examples=60)
MIXES = st.dictionaries(st.integers(1, 64), st.floats(0.01, 9), min_size=1, max_size=6)


def test_one_size() -> None:
    assert BatchMix.parse("1") == BatchMix()
    assert (BatchMix.parse(" 8 ").sizes, BatchMix.parse("8").mean) == ((8,), 8)


def test_sizes_without_shares_are_equally_frequent() -> None:
    assert BatchMix.parse("16,1,4").sizes == (1, 4, 16)
    assert BatchMix.parse("16,1,4").mean == pytest.approx(7)


def test_shares_are_weights() -> None:
    assert BatchMix.parse("1:0.7,4:0.2,16:0.1").mean == pytest.approx(3.1)
    assert BatchMix.parse("1:70, 4:20, 16:10") == BatchMix.parse("16:.1,1:.7,4:.2")


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "-1", "1.5", "x", "1,", "1:0", "1:-1", "1:x", "1:0.5,4", "4,4", "1:nan"),
        *("²", "٣", "9" * 5000, "4294967296", "1:" + "9" * 400, "1:0.0000000000000001,2:1"),
        *(",".join(map(str, range(1, 1002))), "1" + " " * 100_000 + "x", "1,00001"),
    ],
)
def test_what_does_not_parse(text: str) -> None:
    with pytest.raises(UsageError, match="--batch") as caught:
        BatchMix.parse(text)
    assert len(str(caught.value)) < 500


@given(MIXES, st.integers(1, 300), st.integers(0, 99))
@relaxed
def test_drawn_sizes_have_the_shares(weights: dict[int, float], count: int, seed: int) -> None:
    mix = BatchMix.parse(",".join(f"{size}:{weight:.6f}" for size, weight in weights.items()))
    drawn = mix.draw(count, np.random.default_rng(seed))
    assert len(drawn) == max(count, len(weights))
    assert set(drawn) == set(weights)
    for size, share in zip(mix.sizes, mix.shares, strict=True):
        assert abs(drawn.count(size) - share * count) < len(weights) + 1


def test_the_order_is_random_and_the_seed_decides_it() -> None:
    mix = BatchMix.parse("1,4")
    first, again, other = (mix.draw(64, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert first != sorted(first)
    assert sorted(first) == sorted(other)
