"""Small models as PyTorch and transformers write them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tuner.creation.pytorch import quiet

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "cat", "sat", "on", "mat", "good", "bad"]
POSITIONS = 32


class Scores(torch.nn.Module):
    """Two inputs of different types, and outputs with names, nested, and one that is none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, *, word: torch.Tensor) -> dict[str, Any]:
        scores = self.linear(x) * word
        return {"scores": scores, "rest": (scores.sum(1, keepdim=True), None)}


class Branching(torch.nn.Module):
    """A loop, which a trace would not keep."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.linear(x)
        for _ in range(x.shape[1]):
            scores = torch.relu(scores) + 0.5
        scores = scores * mask
        return scores, scores.sum(1)


class Scaled(torch.nn.Module):
    """Takes something else than tensors."""

    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        return x * scale


def save_exported(path: Path, model: torch.nn.Module, *example: Any) -> None:
    """With the sizes of the example."""
    with quiet():
        torch.export.save(torch.export.export(model.eval(), example), path)


def save_program(path: Path, most: int = 16) -> torch.nn.Module:
    model = Scores().eval()
    batch = torch.export.Dim("batch", max=most)
    example = {"x": torch.rand(2, 4), "word": torch.ones(2, 1, dtype=torch.int64)}
    shapes = {name: {0: batch} for name in example}
    with quiet():
        program = torch.export.export(model, (), example, dynamic_shapes=shapes)
        torch.export.save(program, path)
    return model


def save_script(path: Path, model: torch.nn.Module) -> Any:
    with quiet():
        script = torch.jit.script(model.eval())
        script.save(str(path))
    return script


def save_bert(folder: Path, kind: str = "BertForSequenceClassification", **settings: Any) -> Any:
    """Of random weights, with a tokenizer of a few words."""
    import transformers

    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=POSITIONS, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config)
    with quiet():
        transformers.utils.logging.disable_progress_bar()
        fast.save_pretrained(folder)
        model.save_pretrained(folder)
    return model.eval()
