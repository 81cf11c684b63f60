"""A Triton Python-backend model with a known service time, standing in for a GPU.

A batch of b items takes ``base_us + per_item_us * b`` microseconds, asleep, so the processor
stays free and the real scheduler can be studied on a small machine. The share ``exclusive_share``
of that time is spent under a lock that all instances of the model share, as kernels share one GPU;
the rest (copies, pre- and post-processing) overlaps freely. ``OUTPUT`` equals ``INPUT``.

Parameters in ``config.pbtxt``: ``base_us`` and ``per_item_us``, both >= 0, and
``exclusive_share``, 0 to 1. Four more may be left out: ``jitter``, the coefficient of variation
by which a batch's time scatters (log-normally); ``most_items``: where instances times
max_batch_size is more than that, the model does not load, as on a GPU that is full;
``load_seconds``, which an instance takes to load; and ``shared_device``: 1 puts the model on the
device that all such models of its repository share, 0 on one of its own.
"""

import fcntl
import json
import math
import os
import random
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = config.get("parameters", {})
        self._base = _number(parameters, "base_us") * 1e-6
        self._per_item = _number(parameters, "per_item_us") * 1e-6
        self._exclusive = _number(parameters, "exclusive_share")
        if self._exclusive > 1:
            raise pb_utils.TritonModelException(
                f"exclusive_share is {self._exclusive}; it must lie between 0 and 1"
            )
        self._spread = math.sqrt(math.log1p(_number(parameters, "jitter", 0.0) ** 2))
        most = _number(parameters, "most_items", 0.0)
        count = sum(group.get("count", 1) for group in config["instance_group"])
        if most and count * config["max_batch_size"] > most:
            raise pb_utils.TritonModelException("out of memory: more items than most_items allows")
        _sleep(_number(parameters, "load_seconds", 0.0))
        self._device = _device(_number(parameters, "shared_device", 0.0))

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(r, "INPUT").as_numpy() for r in requests]
        service_time = self._base + self._per_item * sum(len(x) for x in inputs)
        service_time *= random.lognormvariate(-(self._spread**2) / 2, self._spread)
        _sleep(service_time * (1 - self._exclusive))
        fcntl.flock(self._device, fcntl.LOCK_EX)
        try:
            _sleep(service_time * self._exclusive)
        finally:
            fcntl.flock(self._device, fcntl.LOCK_UN)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", x)]) for x in inputs]

    def finalize(self):
        os.close(self._device)


def _device(shared):
    """What to lock: the repository's folder, or else this file. Either may be read-only."""
    if shared not in (0, 1):
        raise pb_utils.TritonModelException(f"shared_device is {shared:g}; it must be 0 or 1")
    file = Path(__file__).absolute()
    return os.open(file.parents[2] if shared else file, os.O_RDONLY)


def _number(parameters, key, otherwise=None):
    text = parameters.get(key, {}).get("string_value", otherwise)
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise pb_utils.TritonModelException(
            f"parameter {key} is {text!r}; give a number in config.pbtxt"
        ) from None
    if not value >= 0:
        raise pb_utils.TritonModelException(f"parameter {key} is {text}; it must be >= 0")
    return value


def _sleep(seconds):
    if seconds > 0:
        time.sleep(seconds)
