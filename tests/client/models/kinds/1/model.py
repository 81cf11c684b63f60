"""Gives back each input that came; a text that is ``fail`` makes it fail."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [_answer(request) for request in requests]


def _answer(request):
    outputs = []
    for name in ("TEXT", "BRAIN", "HALF", "FLAG"):
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is None:
            continue
        if name == "BRAIN":  # numpy has no such type
            outputs.append(pb_utils.Tensor.from_dlpack("BRAIN_OUT", tensor.to_dlpack()))
            continue
        array = tensor.as_numpy()
        if name == "TEXT" and b"fail" in array.ravel().tolist():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("it was told to fail"))
        outputs.append(pb_utils.Tensor(f"{name}_OUT", array))
    return pb_utils.InferenceResponse(outputs)
