"""Triton's ``onnxruntime`` backend, written as a Python-based backend for the embedded server.

The official container serves ``platform: "onnxruntime_onnx"`` with a backend in C++. This one takes
the same config.pbtxt: execution accelerators, ``optimization.graph.level``, and the parameters
``intra_op_thread_count``, ``inter_op_thread_count``, ``execution_mode``, ``enable_mem_arena`` and
``enable_mem_pattern``. All defaults are ONNX Runtime's own, as there.

Requests of one batch are joined along their first dimension, run once, and split again. Inputs and
outputs must be spelled out in config.pbtxt.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

_GRAPH_LEVELS = {
    "-1": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "1": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "2": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self._batched = config.get("max_batch_size", 0) > 0
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]
        self._strings = {
            entry["name"] for entry in config["input"] if entry["data_type"] == "TYPE_STRING"
        }
        filename = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / filename
        on_gpu = args["model_instance_kind"] == "GPU"
        providers = _providers(config, on_gpu, int(args["model_instance_device_id"]))
        self._session = ort.InferenceSession(str(path), _options(config), providers=providers)

    def execute(self, requests):
        feeds = [self._feed(request) for request in requests]
        if len(requests) == 1 or not self._batched:
            return [self._respond(self._run(feed)) for feed in feeds]
        sizes = [len(feed[self._inputs[0]]) for feed in feeds]
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        try:
            outputs = self._session.run(self._outputs, joined)
        except Exception as error:  # noqa: BLE001  a failed batch is reported, not raised
            return [_failure(error) for _ in requests]
        edges = np.cumsum(sizes)[:-1]
        parts = zip(*(np.split(output, edges) for output in outputs), strict=True)
        return [self._respond(part) for part in parts]

    def _feed(self, request):
        feed = {}
        for name in self._inputs:
            array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            feed[name] = (
                np.char.decode(array.astype(bytes)).astype(object)
                if (name in self._strings)
                else array
            )
        return feed

    def _run(self, feed):
        try:
            return self._session.run(self._outputs, feed)
        except Exception as error:  # noqa: BLE001  one bad request must not end the others
            return error

    def _respond(self, outputs):
        if isinstance(outputs, Exception):
            return _failure(outputs)
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(array))
            for name, array in zip(self._outputs, outputs, strict=True)
        ]
        return pb_utils.InferenceResponse(tensors)


def _failure(error):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"onnxruntime: {error}"))


def _options(config):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    level = str(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = _GRAPH_LEVELS.get(
        level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    options.intra_op_num_threads = int(_parameter(config, "intra_op_thread_count", 0))
    options.inter_op_num_threads = int(_parameter(config, "inter_op_thread_count", 0))
    if int(_parameter(config, "execution_mode", 0)) == 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = bool(int(_parameter(config, "enable_mem_arena", 1)))
    options.enable_mem_pattern = bool(int(_parameter(config, "enable_mem_pattern", 1)))
    return options


def _parameter(config, key, default):
    return config.get("parameters", {}).get(key, {}).get("string_value", default)


def _providers(config, on_gpu, device):
    """ONNX Runtime's execution providers for the accelerators that the configuration names."""
    available = ort.get_available_providers()
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    wanted = []
    if on_gpu:
        for accelerator in accelerators.get("gpu_execution_accelerator", []):
            if accelerator["name"] == "tensorrt":
                precision = accelerator.get("parameters", {}).get("precision_mode", "FP32")
                wanted.append(
                    (
                        "TensorrtExecutionProvider",
                        {"device_id": device, "trt_fp16_enable": precision == "FP16"},
                    )
                )
        wanted.append(("CUDAExecutionProvider", {"device_id": device}))
    else:
        names = {a["name"] for a in accelerators.get("cpu_execution_accelerator", [])}
        if "openvino" in names:
            wanted.append(("OpenVINOExecutionProvider", {}))
    usable = [(name, options) for name, options in wanted if name in available]
    return [*usable, ("CPUExecutionProvider", {})]
