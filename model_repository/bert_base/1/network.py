"""BERT for sequence classification, of any size; by default BERT-base (Devlin et al., 2018)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Geometry:
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int = 512
    labels: int = 2
    epsilon: float = 1e-12


class Embeddings(nn.Module):
    def __init__(self, of: Geometry) -> None:
        super().__init__()
        self.words = nn.Embedding(of.vocabulary, of.hidden)
        self.positions = nn.Embedding(of.positions, of.hidden)
        self.segments = nn.Embedding(2, of.hidden)
        self.norm = nn.LayerNorm(of.hidden, of.epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.positions.weight[: ids.shape[1]] + self.segments.weight[0]
        return self.norm(self.words(ids) + places)


class Layer(nn.Module):
    """Attention and a feed-forward part, each followed by a sum and a normalisation."""

    def __init__(self, of: Geometry) -> None:
        super().__init__()
        self.heads = of.heads
        self.qkv = nn.Linear(of.hidden, 3 * of.hidden)
        self.out = nn.Linear(of.hidden, of.hidden)
        self.norm = nn.LayerNorm(of.hidden, of.epsilon)
        self.up = nn.Linear(of.hidden, of.intermediate)
        self.down = nn.Linear(of.intermediate, of.hidden)
        self.last_norm = nn.LayerNorm(of.hidden, of.epsilon)

    def forward(self, x: Tensor, hidden_places: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, hidden // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=hidden_places)
        attended = attended.transpose(1, 2).reshape(batch, length, hidden)
        x = self.norm(x + self.out(attended))
        return self.last_norm(x + self.down(functional.gelu(self.up(x))))


class Network(nn.Module):
    def __init__(self, of: Geometry) -> None:
        super().__init__()
        self.embeddings = Embeddings(of)
        self.layers = nn.ModuleList(Layer(of) for _ in range(of.layers))
        self.pooler = nn.Linear(of.hidden, of.hidden)
        self.classifier = nn.Linear(of.hidden, of.labels)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits [batch, labels] of ids and mask [batch, length]; mask is 0 where there is none."""
        x = self.embeddings(ids)
        # Added to the scores, not a mask of bool: a row that hides all of its ids stays a number.
        hidden = (mask == 0).to(x.dtype) * torch.finfo(x.dtype).min
        hidden = hidden[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        for layer in self.layers:
            x = layer(x, hidden)
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))

    def regions(self) -> list[nn.Module]:
        return list(self.layers)

    def illegal(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Which rows hold an id outside the vocabulary, where a GPU would stop for good: bool."""
        return ((ids < 0) | (ids >= self.embeddings.words.num_embeddings)).any(axis=1)


def build(options: dict[str, str], outputs: int, weights: dict[str, Tensor] | None) -> nn.Module:
    """The network that the model's parameters describe, or the checkpoint; with so many labels."""
    if weights is not None:
        network = Network(_saved_geometry(Path(options["checkpoint"]), outputs))
        network.load_state_dict(_renamed(weights))
        return network
    sizes = ("layers", "hidden", "heads", "intermediate", "vocabulary")
    torch.manual_seed(int(options.get("seed", "0")))
    return Network(Geometry(**{name: int(options[name]) for name in sizes}, labels=outputs))


def example(batch: int, dims: list[list[int]], generator: torch.Generator) -> list[Tensor]:
    """Random inputs, ids below 100; the mask hides some of each end."""
    length = dims[0][-1]
    ids = torch.randint(0, 100, (batch, length), generator=generator)
    lengths = torch.randint(1, length + 1, (batch, 1), generator=generator)
    return [ids, (torch.arange(length) < lengths).long()]


def _saved_geometry(checkpoint: Path, labels: int) -> Geometry:
    saved = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return Geometry(
        layers=saved["num_hidden_layers"],
        hidden=saved["hidden_size"],
        heads=saved["num_attention_heads"],
        intermediate=saved["intermediate_size"],
        vocabulary=saved["vocab_size"],
        positions=saved["max_position_embeddings"],
        labels=labels,
        epsilon=saved["layer_norm_eps"],
    )


_NAMES = {
    "embeddings.words": "bert.embeddings.word_embeddings",
    "embeddings.positions": "bert.embeddings.position_embeddings",
    "embeddings.segments": "bert.embeddings.token_type_embeddings",
    "embeddings.norm": "bert.embeddings.LayerNorm",
    "pooler": "bert.pooler.dense",
    "classifier": "classifier",
}
_LAYER_NAMES = {
    "out": "attention.output.dense",
    "norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "last_norm": "output.LayerNorm",
}


def _renamed(saved: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a BertForSequenceClassification under this network's names."""
    found = {}

    def take(here: str, there: str) -> None:
        for kind in ("weight", "bias"):
            if f"{there}.{kind}" in saved:
                found[f"{here}.{kind}"] = saved[f"{there}.{kind}"]

    for here, there in _NAMES.items():
        take(here, there)
    number = 0
    while any(name.startswith(f"bert.encoder.layer.{number}.") for name in saved):
        layer = f"bert.encoder.layer.{number}"
        for here, there in _LAYER_NAMES.items():
            take(f"layers.{number}.{here}", f"{layer}.{there}")
        for kind in ("weight", "bias"):
            parts = [f"{layer}.attention.self.{p}.{kind}" for p in ("query", "key", "value")]
            found[f"layers.{number}.qkv.{kind}"] = torch.cat([saved[part] for part in parts])
        number += 1
    return found
