"""Scores to the likeliest label and its probability (softmax), a batch at a time.

The parameter ``labels`` of ``config.pbtxt`` is the path of a file with one label a line; relative
to the model's folder.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / config["parameters"]["labels"]["string_value"]
        if not path.is_file():
            raise pb_utils.TritonModelException(
                f"text_label: there is no {path}; copy the folder text_classifier beside "
                "text_label, or name another file in the parameter labels of config.pbtxt"
            )
        labels = path.read_text(encoding="utf-8").split()
        scores = int(config["input"][0]["dims"][-1])
        if len(labels) != scores:
            raise pb_utils.TritonModelException(
                f"text_label: {path} has {len(labels)} labels for {scores} scores; give as many"
            )
        self._labels = np.array([label.encode() for label in labels], dtype=np.object_)

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(each, "logits").as_numpy() for each in requests]
        scores = np.concatenate(inputs).astype(np.float64)
        best = scores.argmax(axis=1)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = (powers.max(axis=1) / powers.sum(axis=1)).astype(np.float32)
        answers, row = [], 0
        for each in inputs:
            rows = slice(row, row + len(each))
            label = pb_utils.Tensor("label", self._labels[best[rows], np.newaxis])
            probability = pb_utils.Tensor("probability", shares[rows, np.newaxis])
            answers.append(pb_utils.InferenceResponse([label, probability]))
            row += len(each)
        return answers
