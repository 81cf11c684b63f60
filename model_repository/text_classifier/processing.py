"""From a text to the model's tensors, and from its scores to a label."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

LENGTH = 128


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is blank; send at least one character that can be seen")
    return text


Text = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_not_blank)]


class Request(BaseModel):
    """``max_length`` cuts the text after so many tokens; the first one stands before the text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Text = Field(examples=["房间很干净，服务员也很热情，下次还会来住。"])
    max_length: int = Field(default=LENGTH, ge=1, le=LENGTH, strict=True)


class Prediction(BaseModel):
    """``confidence`` is the label's probability, 0 to 1, as the model takes it to be."""

    model_config = ConfigDict(frozen=True)

    label: str
    confidence: float


class TextProcessing:
    Request = Request
    Item = Text | Request
    Prediction = Prediction

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._labels = (folder / "labels.txt").read_text(encoding="utf-8").split()

    def encode(self, items: Any) -> dict[str, np.ndarray]:
        texts = [item if isinstance(item, str) else item.text for item in items]
        if len(texts) == 1:  # encode_batch wakes threads, which costs more than one text does
            encodings = [self._tokenizer.encode(texts[0])]
        else:
            encodings = self._tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in encodings], dtype=np.int64)
        mask = np.array([each.attention_mask for each in encodings], dtype=np.int64)
        for row, item in enumerate(items):
            if not isinstance(item, str) and item.max_length < LENGTH:
                ids[row, item.max_length :] = mask[row, item.max_length :] = 0
        return {"input_ids": ids, "attention_mask": mask}

    def decode(self, outputs: Any) -> list[Prediction]:
        scores = np.asarray(outputs["logits"], dtype=np.float64)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        return [
            Prediction(label=self._labels[label], confidence=float(share[label]))
            for label, share in zip(best, shares, strict=True)
        ]


def create(folder: Path, signature: Any) -> TextProcessing:
    return TextProcessing(folder)
