"""Texts to token numbers, a batch at a time. A text that is not UTF-8 fails its own request alone.

The parameter ``tokenizer`` of ``config.pbtxt`` is the path of a ``tokenizer.json`` that pads all
texts to one length; relative to the model's folder.
"""

import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

# Its own threads would take the cores of other instances; more instances do the same, as counted.
os.environ["TOKENIZERS_PARALLELISM"] = "false"


class TritonPythonModel:
    def initialize(self, args):
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise pb_utils.TritonModelException(
                f"text_tokenizer: {error}; pip install tokenizers for the server's Python"
            ) from error
        parameters = json.loads(args["model_config"])["parameters"]
        path = Path(args["model_repository"]) / parameters["tokenizer"]["string_value"]
        if not path.is_file():
            raise pb_utils.TritonModelException(
                f"text_tokenizer: there is no {path}; copy the folder text_classifier beside "
                "text_tokenizer, or name another file in the parameter tokenizer of config.pbtxt"
            )
        self._tokenizer = Tokenizer.from_file(str(path))

    def execute(self, requests):
        """One call of the tokenizer for all texts that can be read."""
        read = [_texts(request) for request in requests]
        found = self._tokenizer.encode_batch([text for texts in read for text in texts or ()])
        ids = np.array([each.ids for each in found], dtype=np.int64)
        mask = np.array([each.attention_mask for each in found], dtype=np.int64)
        answers, row = [], 0
        for texts in read:
            if texts is None:
                failure = pb_utils.TritonError("text is not UTF-8; encode it so")
                answers.append(pb_utils.InferenceResponse(error=failure))
                continue
            rows = slice(row, row + len(texts))
            tensors = (("input_ids", ids[rows]), ("attention_mask", mask[rows]))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor(*each) for each in tensors]))
            row += len(texts)
        return answers


def _texts(request):
    """None if one of them is not UTF-8."""
    raw = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
    try:
        return [each.decode() for each in raw.reshape(-1)]
    except UnicodeDecodeError:
        return None
