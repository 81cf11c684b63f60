"""What Model Analyzer recommends is read from what it writes, of mixes and of ensembles."""

from pathlib import Path

import pytest

from benchmarks.peers import VARIANTS, read_table
from benchmarks.peers_together import _read, variants_of
from tuner.model.space import Candidate

HEAD = (
    "Model,Batch,Concurrency,Model Config Path,Instance Group,Max Batch Size,"
    "Satisfies Constraints,Throughput (infer/sec),p99 Latency (ms)\n"
)
MIX = (
    '"fast,slow","1,1","16,16","fast_config_default,slow_config_default","1:CPU,1:CPU","8,8",No,'
    '"465.0, [294.9,170.1]","92.4, [83.3,101.5]"\n'
    '"fast,slow","1,1","2,4","fast_config_0,slow_config_1","1:CPU,1:CPU","1,2",Yes,'
    '"170.1, [85.1,85.1]","39.9, [24.8,54.9]"\n'
    '"fast,slow","1,1","4,2","fast_config_1,slow_config_0","1:CPU,1:CPU","2,1",Yes,'
    '"187.9, [142.6,45.3]","58.6, [58.7,58.5]"\n'
)


def _written(folder: Path, rows: str, variants: dict[str, str]) -> Path:
    table = folder / "export/results/metrics-model-inference.csv"
    table.parent.mkdir(parents=True)
    table.write_text(HEAD + rows, encoding="utf-8")
    for name, text in variants.items():
        place = folder / VARIANTS / name
        place.mkdir(parents=True)
        (place / "config.pbtxt").write_text(text, encoding="utf-8")
    return folder


def _config(model: str, size: int, count: int, scheduler: str = "") -> str:
    group = f"instance_group [ {{ count: {count} kind: KIND_CPU }} ]"
    return f'name: "{model}"\nmax_batch_size: {size}\n{group}\n{scheduler}\n'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fast_config_0,slow_config_default", ["fast_config_0", "slow_config_default"]),
        ("both_config_3: one_config_2, other_config_1", ["one_config_2", "other_config_1"]),
    ],
)
def test_variants_are_those_of_the_models_that_have_settings(text: str, names: list[str]) -> None:
    assert variants_of(text) == names


def test_the_first_that_keeps_the_slas_is_recommended(tmp_path: Path) -> None:
    variants = {
        "fast_config_0": _config("fast", 1, 3),
        "slow_config_1": _config("slow", 2, 1, "dynamic_batching { }"),
    }

    found = _read(_written(tmp_path, MIX, variants))

    slow = found.part("slow")
    assert found.part("fast") == Candidate.of({"max_batch_size": 1, "instance_group.count": 3})
    assert (slow.get("max_batch_size"), slow.get("instance_group.count")) == (2, 1)


def test_where_nothing_keeps_the_slas_all_measurements_remain(tmp_path: Path) -> None:
    assert len(read_table(_written(tmp_path, MIX.replace("Yes", "No"), {}))) == 3
