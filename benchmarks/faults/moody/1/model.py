"""A model that sleeps ``base_us`` for each batch, and does what the file ``mood`` says."""

import json
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils

_MOOD = Path(__file__).with_name("mood")
_SLOWER = 10


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._seconds = float(parameters["base_us"]["string_value"]) * 1e-6
        _hang_while("load hangs")

    def execute(self, requests):
        if _mood() == "inference fails":
            raise pb_utils.TritonModelException("the weights are gone")
        _hang_while("inference hangs")
        time.sleep(self._seconds * (_SLOWER if _mood() == "inference is slow" else 1))
        inputs = [pb_utils.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]) for x in inputs]

    def finalize(self):
        _hang_while("stop hangs")


def _mood():
    try:
        return _MOOD.read_text(encoding="utf-8")
    except OSError:
        return ""


def _hang_while(mood):
    while _mood() == mood:
        time.sleep(0.05)
