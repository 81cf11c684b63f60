"""The ``processing.py`` of a new model of texts: what is before it works, what is after it is the
user's to say.
"""

from collections.abc import Sequence
from typing import Any

TOKENS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""The model's inputs, and where tokenizers' encodings have them."""

_TEXT = '''"""From a text to the model's tensors, and from its outputs to an answer."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

# Tokens of a text, which is cut or padded to them: Triton joins only requests of one shape. The
# fewer they are, the more requests it serves.
LENGTH = {length}
INPUTS = {inputs}
PADDING = {padding}

Text = Annotated[str, Field(min_length=1, max_length=10_000)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Text


class Prediction(BaseModel):
    # FILL IN: what an answer says, such as a label and its confidence, in place of the outputs.
    outputs: dict[str, Any]


class TextProcessing:
    Request = Request
    Item = Text | Request
    Prediction = Prediction

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(LENGTH)
        self._tokenizer.enable_padding(length=LENGTH, **PADDING)

    def encode(self, items: Any) -> dict[str, np.ndarray]:
        texts = [item if isinstance(item, str) else item.text for item in items]
        encodings = self._tokenizer.encode_batch(texts)
        return {{
            name: np.array([getattr(each, part) for each in encodings], dtype=np.int64)
            for name, part in INPUTS.items()
        }}

    def decode(self, outputs: Any) -> list[Prediction]:
        # FILL IN: what the outputs mean. Each has the texts of a batch as its first dimension.
        rows = zip(*(outputs[name].tolist() for name in outputs), strict=True)
        return [Prediction(outputs=dict(zip(outputs, row, strict=True))) for row in rows]


def create(folder: Path, signature: Any) -> TextProcessing:
    return TextProcessing(folder)
'''


def processing_of(tokenizer: Any, inputs: Sequence[str], length: int) -> str:
    """For a tokenizer of transformers, whose file lies beside it as ``tokenizer.json``."""
    padding = {
        "direction": tokenizer.padding_side,
        "pad_id": tokenizer.pad_token_id or 0,  # without one, any will do: the mask leaves it out
        "pad_type_id": tokenizer.pad_token_type_id,
        "pad_token": tokenizer.pad_token or "",
    }
    chosen = {name: TOKENS[name] for name in inputs}
    return _TEXT.format(length=length, inputs=chosen, padding=padding)
