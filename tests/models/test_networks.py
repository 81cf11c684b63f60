"""The networks of the PyTorch models, and how they are run, without a server and without a GPU."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.models.conftest import DIMS, PYTORCH_MODELS, ROOT, SMALL, imported

TINY_BERT = Path(__file__).parent / "tiny_bert"


@pytest.fixture(scope="module")
def torch():
    """Imported here: it takes seconds, and whoever only collects the tests needs none of it."""
    import torch

    return torch


def test_what_is_not_particular_to_a_network_is_one_code():
    for name in ("model.py", "execution.py"):
        texts = {(ROOT / model / "1" / name).read_text() for model in PYTORCH_MODELS}
        assert len(texts) == 1, f"{name} differs between {', '.join(PYTORCH_MODELS)}"


@pytest.mark.parametrize("saved_as", ["safetensors", "bin"])
def test_a_checkpoint_gives_the_logits_of_the_reference(tmp_path: Path, saved_as: str, torch):
    """The reference is Hugging Face's, see make_tiny_bert.py."""
    expected = np.load(TINY_BERT / "expected.npz")
    checkpoint = TINY_BERT
    if saved_as == "bin":
        from safetensors.torch import load_file

        checkpoint = tmp_path
        shutil.copy2(TINY_BERT / "config.json", checkpoint)
        torch.save(load_file(TINY_BERT / "model.safetensors"), checkpoint / "pytorch_model.bin")
    with imported("bert_base") as (network, execution), torch.inference_mode():
        weights = execution.read_weights(checkpoint)
        ours = network.build({"checkpoint": str(checkpoint)}, 2, weights).eval()
        logits = ours(torch.from_numpy(expected["ids"]), torch.from_numpy(expected["mask"]))
    np.testing.assert_allclose(logits.numpy(), expected["logits"], atol=1e-4, rtol=1e-4)


def test_bert_base_has_the_size_of_bert_base(torch):
    options = dict(layers="12", hidden="768", heads="12", intermediate="3072", vocabulary="21128")
    with imported("bert_base") as (network, _), torch.device("meta"):
        built = network.build(options, 2, None)
    # bert-base-chinese with a classifier of two labels
    assert sum(p.numel() for p in built.parameters()) == 102_269_186


def test_resnet50_has_torchvisions_size_and_names():
    with imported("resnet50") as (network, _):
        built = network.build({"blocks": "3,4,6,3", "width": "64"}, 1000, None)
    assert sum(p.numel() for p in built.parameters()) == 25_557_032
    names = set(built.state_dict())
    assert {"conv1.weight", "layer1.0.downsample.1.running_var", "layer4.2.bn3.bias"} <= names
    assert {"fc.weight", "layer3.5.conv2.weight"} <= names
    assert len(names) == 320


def test_images_are_normalised_as_imagenet_is(torch):
    with imported("resnet50") as (network, _), torch.inference_mode():
        built = network.build(SMALL["resnet50"], 2, None).eval()
        (images,) = network.example(2, DIMS["resnet50"], torch.Generator().manual_seed(3))
        seen = []
        built.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        built(images)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((images / 255 - mean) / deviation).permute(0, 3, 1, 2)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_weights(model, torch):
    with imported(model) as (network, _):
        first, second = (network.build(SMALL[model], 2, None) for _ in range(2))
        other = network.build({**SMALL[model], "seed": "1"}, 2, None)
    weights = [torch.cat([p.flatten() for p in n.parameters()]) for n in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_row_has_the_same_answer_in_any_batch(model, make_runner, torch):
    runner = make_runner(most=6)
    with imported(model) as (network, _):
        inputs = network.example(6, DIMS[model], torch.Generator().manual_seed(4))
    slot = runner.slot()
    alone = []
    for row in range(6):
        for room, x in zip(slot.inputs, inputs, strict=True):
            room[0] = x[row].numpy()
        alone.append(runner.run(slot, 1)[0].copy())
    for room, x in zip(slot.inputs, inputs, strict=True):
        room[:] = x.numpy()
    together = runner.run(slot, 6)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-4, rtol=1e-3)


def test_rows_left_of_an_earlier_batch_make_no_difference(model, make_runner, torch):
    runner = make_runner(most=4)
    with imported(model) as (network, _):
        inputs = network.example(4, DIMS[model], torch.Generator().manual_seed(5))
    slot, fresh = runner.slot(), runner.slot()
    for room, other, x in zip(slot.inputs, fresh.inputs, inputs, strict=True):
        room[:] = x.numpy()
        other[:2] = x[:2].numpy()
    runner.run(slot, 4)
    np.testing.assert_allclose(runner.run(slot, 2), runner.run(fresh, 2), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["bert_base"])  # the other takes a minute on a processor
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_is_held_against_eager(make_runner):
    runner, plain = make_runner(most=2, how="compiled"), make_runner(most=2)
    slot, other = runner.slot(), plain.slot()
    np.testing.assert_allclose(runner.run(slot, 2), plain.run(other, 2), atol=1e-5)


def test_an_execution_that_computes_something_else_does_not_start(make_runner, monkeypatch, torch):
    class Spoilt(torch.nn.Module):
        """Stands for a compiler that gets a layer wrong."""

        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def compile(self, **_):
            self.layer.weight.mul_(1.5)

    network = type(make_runner(most=1).network)
    monkeypatch.setattr(network, "regions", lambda self: [Spoilt(list(self.modules())[-1])])
    with pytest.raises(ValueError, match=r"a batch of 1 differs from eager by 0\.\d"):
        make_runner(most=1, how="compiled")


@pytest.mark.parametrize("how", ["cuda_graphs", "fast"])
def test_an_execution_that_is_not_to_be_had_is_refused(make_runner, how):
    with pytest.raises(ValueError, match=how):
        make_runner(most=1, how=how)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 17, 64, 128, 200])
def test_captured_batch_sizes_waste_little(most):
    with imported("bert_base") as (_, execution):
        sizes = execution.batch_sizes(most)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == most
    for rows in range(1, most + 1):
        captured = next(size for size in sizes if size >= rows)
        assert captured <= max(rows + 3, 1.3 * rows)


def test_ids_outside_the_vocabulary_are_found():
    with imported("bert_base") as (network, _):
        built = network.build(SMALL["bert_base"], 2, None)
    ids = np.array([[0, 119], [120, 0], [-1, 3]])
    assert built.illegal(ids, np.ones_like(ids)).tolist() == [False, True, True]
