import gc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.stats.samples import Samples

relaxed = settings(deadline=None, max_examples=50)


def make(intended: list[float], latency: list[float | None]) -> Samples:
    """None: no good reply."""
    start = np.array(intended, dtype=float)
    ok = np.array([each is not None for each in latency], dtype=bool)
    took = np.array([np.nan if each is None else each for each in latency], dtype=float)
    return Samples(start, start + 0.001, start + took, ok)


def test_latency_counts_from_the_intended_send() -> None:
    samples = Samples(
        np.array([1.0]), np.array([1.5]), np.array([1.6]), np.array([True], dtype=bool)
    )
    assert samples.latency == pytest.approx([0.6])
    assert samples.lateness == pytest.approx([0.5])


def test_a_failed_request_is_infinitely_late_even_if_it_was_answered() -> None:
    samples = Samples(np.zeros(2), np.zeros(2), np.array([0.01, 0.01]), np.array([True, False]))
    assert samples.latency.tolist() == [0.01, np.inf]
    assert samples.errors == 1


def test_a_request_that_was_never_sent_has_no_lateness() -> None:
    samples = Samples(
        np.zeros(2), np.array([0.1, np.nan]), np.array([0.2, np.nan]), np.array([True, False])
    )
    assert samples.lateness.tolist() == [0.1]
    assert samples.latency[1] == np.inf


def test_empty_samples_know_nothing() -> None:
    samples = Samples.empty()
    assert len(samples) == 0
    assert samples.errors == 0
    assert samples.span == 0.0
    assert samples.throughput is None
    assert len(samples.latency) == len(samples.lateness) == 0


def test_throughput_is_good_replies_until_the_last_one() -> None:
    samples = make([0.0, 1.0, 2.0, 3.0], [0.5, None, 0.5, 1.0])
    assert samples.throughput == pytest.approx(3 / 4.0)


def test_without_a_good_reply_there_is_no_throughput() -> None:
    assert make([0.0, 1.0], [None, None]).throughput is None


def test_between_keeps_what_was_planned_in_a_half_open_interval() -> None:
    samples = make([0.0, 1.0, 2.0, 3.0], [0.1, 0.2, 0.3, 0.4])
    middle = samples.between(1.0, 3.0)
    assert middle.intended.tolist() == [1.0, 2.0]
    assert middle.latency == pytest.approx([0.2, 0.3])


@given(st.lists(st.lists(st.floats(0, 100), max_size=20), min_size=1, max_size=5))
@relaxed
def test_merging_shards_keeps_every_request_in_the_order_of_its_plan(
    shards: list[list[float]],
) -> None:
    parts = [make(sorted(shard), [each / 7 for each in sorted(shard)]) for shard in shards]
    merged = Samples.merge(parts)
    assert merged.intended.tolist() == sorted(each for shard in shards for each in shard)
    assert merged.latency == pytest.approx(merged.intended / 7)


def test_saved_samples_load_as_they_were(tmp_path: Path) -> None:
    samples = make([0.0, 1.0, 2.0], [0.5, None, 0.25])
    samples.save(tmp_path / "probe.npz")
    loaded = Samples.load(tmp_path / "probe.npz")
    for name in ("intended", "sent", "done", "ok"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(samples, name))
    assert loaded.ok.dtype == np.bool_


def test_where_there_is_no_room_the_first_error_is_the_only_one() -> None:
    """Python would print an exception that is raised while a file is collected."""
    some = Samples(
        *(np.random.default_rng(0).random(10_000) for _ in range(3)), np.ones(10_000) > 0
    )
    with pytest.raises(OSError, match="No space left"):
        some.save(Path("/dev/full"))
    gc.collect()


def test_requests_to_several_models_are_told_apart_also_from_a_file(tmp_path: Path) -> None:
    times = np.arange(6, dtype=float)
    ok = np.ones(6, dtype=bool)
    one = Samples(times, times, times + 1, ok, np.array([0, 1, 0, 1, 1, 0]), ("a", "b"))
    other = Samples(times + 0.5, times, times + 2, ok, np.array([1, 1, 1, 1, 1, 1]), ("a", "b"))
    whole = Samples.merge([one, other])
    assert len(whole.of("a")) == 3
    assert whole.of("a").intended.tolist() == [0.0, 2.0, 5.0]
    assert len(whole.of("b")) == 9
    whole.save(tmp_path / "samples.npz")
    read = Samples.load(tmp_path / "samples.npz")
    assert read.models == ("a", "b")
    assert read.of("b").done.tolist() == whole.of("b").done.tolist()
    with pytest.raises(ValueError, match="not of several models"):
        whole.of("c")
