"""Makes tests/models/tiny_bert: a checkpoint as Hugging Face saves it, and what it answers.

Needs `pip install transformers`; run it again only where the checkpoint is to change.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

FOLDER = Path(__file__).parent / "tiny_bert"


def main() -> None:
    torch.manual_seed(1)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=99,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=24,
            max_position_embeddings=30,
            initializer_range=0.5,  # so that every weight makes a difference
        )
    ).eval()
    model.save_pretrained(FOLDER)
    ids = torch.randint(0, 99, (5, 24))
    mask = (torch.arange(24) < torch.tensor([[24], [17], [9], [2], [1]])).long()
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask).logits
    np.savez(FOLDER / "expected.npz", ids=ids, mask=mask, logits=logits)


if __name__ == "__main__":
    main()
